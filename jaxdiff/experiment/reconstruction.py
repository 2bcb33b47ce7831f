"""Ways to reconstruct an image from its undersampled k-space, by name.

Each is a function (prior, settings) -> way, and a way one of (operator, measured, key) -> Reconstruction for a batch,
its operator with the parameters of that batch. A further one is a further entry of `WITHOUT_MODEL` or `WITH_MODEL`; one
that draws from the posterior gives the mean of its draws and their standard deviation:

    ambient_dps   networks that are told what they see; A~ as in training, drawn once for each image, its coil maps
                  those of the measurement
    dps, mmps     networks of whole images
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.wavelet import wavelet_reconstruction
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.checks import ConfigError, choose
from jaxdiff.experiment.learners import learnt_denoiser, masked_view_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import ViewPlan
from jaxdiff.methods.ambient import back_project
from jaxdiff.operators import LinearOperator, Measurement
from jaxdiff.sampling import posterior_draws


class Reconstruction(NamedTuple):
    """Restored images (B, H, W, 2), and the standard deviation of their draws' magnitude (B, H, W, 1), or None."""

    mean: np.ndarray
    sd: np.ndarray | None = None


class Prior(NamedTuple):
    """A trained model: the view that it was learnt from, and its arrays."""

    view: ViewPlan
    parts: Parts

    @property
    def ambient(self) -> bool:
        """Whether the network is told what it sees."""
        return self.view.method == "ambient"


Way = Callable[[LinearOperator, Measurement, jax.Array], Reconstruction]


def zero_filled(prior: Prior | None, settings: Any) -> Way:
    """A^H y."""
    adjoint = jax.jit(lambda operator, y: operator.adjoint(y))
    return lambda operator, measured, key: Reconstruction(adjoint(operator, measured.y))


def wavelet(prior: Prior | None, settings: Any) -> Way:
    """L1-wavelet reconstruction; see `data.wavelet`."""
    options = settings.wavelet.to_dict()
    name = options.pop("name")
    return lambda operator, measured, key: Reconstruction(
        wavelet_reconstruction(measured, operator, wavelet=name, **options)
    )


def one_step(prior: Prior, settings: Any) -> Way:
    """E[X | A x_sigma, A] at a small sigma, one evaluation of a network that is told what it sees."""
    sigma = settings.sigma

    @jax.jit
    def estimate(parts, operator, y, key):
        white = jax.random.normal(key, (len(y), *operator.in_shape), y.dtype)
        # The network's own input, as in training: y is known, and x is not.
        denoise = masked_view_denoiser(prior.view, parts, back_projected=True)
        noisy = operator.restrict(y + sigma * operator(white))
        return denoise(back_project(operator, noisy), jnp.full(len(y), sigma, y.dtype), operator)

    return lambda operator, measured, key: Reconstruction(estimate(prior.parts, operator, measured.y, key))


def _summary(draws: jax.Array) -> Reconstruction:
    """Of draws (S, B, H, W, 2): their mean, and the spread of the magnitude, 0 for a single draw."""
    size = jnp.sqrt(jnp.sum(jnp.square(draws), axis=-1, keepdims=True))
    return Reconstruction(draws.mean(axis=0), size.std(axis=0, ddof=min(1, len(draws) - 1)))


def _posterior(prior: Prior, settings: Any, method: str, denoiser: Callable, further: Callable) -> Way:
    """Draws by the guidance `method`; `denoiser(parts)` is its prior, `further(parts, operator, key)` its settings."""
    options = settings.posterior
    sigmas = karras_schedule(options.steps, options.sigma_min, options.sigma_max, options.rho)

    @jax.jit
    def summary(parts, operator, y, sigma_y, key):
        draw_key, further_key = jax.random.split(key)
        keys = jax.random.split(draw_key, (options.draws, len(y)))
        given = further(parts, operator, further_key)
        return _summary(posterior_draws(method, denoiser(parts), operator, y, sigma_y, keys, sigmas, **given))

    return lambda operator, measured, key: summary(prior.parts, operator, measured.y, measured.sigma_y, key)


def ambient_dps(prior: Prior, settings: Any) -> Way:
    """Draws by Ambient DPS from a network that is told what it sees."""
    options = settings.posterior

    def further(parts, operator, key):
        family, count = parts.operators[prior.view.name], len(operator.params["lines"])
        drawn = family.draw(jax.random.split(key, count))
        kept = drawn.further_corrupt(jax.random.split(jax.random.fold_in(key, 1), count), prior.view.delta)
        # The coils are those that measured: only the lines are the prior's.
        told = family.with_params({**operator.params, "lines": kept.params["lines"]})
        return {"norm": options.norm, "scale": options.scale, "further": told}

    return _posterior(
        prior, settings, "ambient_dps", lambda parts: masked_view_denoiser(prior.view, parts), further
    )


def _of_whole_images(method: str, *names: str) -> Callable[[Prior, Any], Way]:
    """Draws by the guidance `method` from a network of whole images, with these of the settings."""

    def way(prior, settings):
        given = {name: settings.posterior[name] for name in names}
        return _posterior(
            prior, settings, method, lambda parts: learnt_denoiser(prior.view, parts), lambda *_: given
        )

    return way


WITHOUT_MODEL: dict[str, Callable[..., Way]] = {"zero_filled": zero_filled, "wavelet": wavelet}
WITH_MODEL: dict[str, Callable[..., Way]] = {
    "one_step": one_step,
    "ambient_dps": ambient_dps,
    "dps": _of_whole_images("dps", "norm", "scale"),
    "mmps": _of_whole_images("mmps", "cg_steps"),
}
NEEDS_MASK = (
    "one_step",
    "ambient_dps",
)  # for networks that are told what they see, the others for those that are not


def methods_for(prior: Prior | None, asked: tuple[str, ...]) -> list[str]:
    """Those of the methods asked for that a model can do, or that need none."""
    table = WITHOUT_MODEL if prior is None else WITH_MODEL
    return [
        name for name in asked if name in table and (prior is None or prior.ambient == (name in NEEDS_MASK))
    ]


def check_methods(asked: tuple[str, ...]) -> None:
    """Raises ConfigError, with the nearest, where a method is unknown or none is asked for."""
    if not asked:
        raise ConfigError("config.crosstable.methods is empty")
    for index, name in enumerate(asked):
        choose(f"crosstable.methods[{index}]", name, {**WITHOUT_MODEL, **WITH_MODEL})


def reconstruct(
    name: str,
    prior: Prior | None,
    operator: LinearOperator,
    measured: Measurement,
    settings: Any,
    batch: int,
    key: jax.Array,
) -> Reconstruction:
    """All the images of `measured` by the method `name`, in batches of one size."""
    way = {**WITHOUT_MODEL, **WITH_MODEL}[name](prior, settings)
    count, parts = len(measured.y), []
    for number, start in enumerate(range(0, count, batch)):
        rows = np.minimum(np.arange(start, start + batch), count - 1)  # one program: the last is filled up
        part = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], measured)
        found = way(operator.with_params(part.params), part, jax.random.fold_in(key, number))
        parts.append(jax.tree.map(lambda leaf, start=start: np.asarray(leaf)[: count - start], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
