"""Ways to reconstruct an image from its undersampled k-space, by name.

Each is a function (prior, settings) -> way, and a way one of (operator, measured, key) -> Reconstruction for a batch,
its operator with the parameters of that batch. A further one is a further entry of `WITHOUT_MODEL` or `WITH_MODEL`; one
that draws from the posterior gives the mean of its draws and their standard deviation:

    ambient_dps   networks that are told what they see; A~ as in training, drawn once for each image, its coil maps
                  those of the measurement
    dps, mmps     networks of whole images; dps takes the steps that ambient_dps does
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.wavelet import wavelet_reconstruction
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.checks import ConfigError, choose
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import ViewPlan
from jaxdiff.experiment.priors import filled_batches, posterior, told_estimate, view_prior
from jaxdiff.operators import LinearOperator, Measurement


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

    @jax.jit
    def estimate(parts, operator, y, sigma_y, key):
        white = jax.random.normal(key, (len(y), *operator.in_shape), y.dtype)
        return told_estimate(
            view_prior(prior.view, parts), parts, operator, y, sigma_y, white, settings.sigma
        )

    return lambda operator, measured, key: Reconstruction(
        estimate(prior.parts, operator, measured.y, measured.sigma_y, key)
    )


def _summary(draws: jax.Array) -> Reconstruction:
    """Of draws (S, B, H, W, 2): their mean, and the spread of the magnitude, 0 for a single draw."""
    size = jnp.sqrt(jnp.sum(jnp.square(draws), axis=-1, keepdims=True))
    return Reconstruction(draws.mean(axis=0), size.std(axis=0, ddof=min(1, len(draws) - 1)))


def _draws(method: str, *names: str, **fixed: Any) -> Callable[[Prior, Any], Way]:
    """Draws by the guidance `method`, with these of the settings, and with what is fixed."""

    def way(prior, settings):
        options = settings.posterior
        sigmas = karras_schedule(options.steps, options.sigma_min, options.sigma_max, options.rho)
        given = {name: options[name] for name in names} | fixed

        @jax.jit
        def summary(parts, operator, y, sigma_y, key):
            draw_key, told_key = jax.random.split(key)
            keys = jax.random.split(draw_key, (options.draws, len(y)))
            told_keys = tuple(
                jax.random.split(k, len(y)) for k in (told_key, jax.random.fold_in(told_key, 1))
            )
            model = view_prior(prior.view, parts)
            draws = posterior(model, method, operator, y, sigma_y, keys, sigmas, parts, told_keys, **given)
            return _summary(draws)

        return lambda operator, measured, key: summary(
            prior.parts, operator, measured.y, measured.sigma_y, key
        )

    return way


WITHOUT_MODEL: dict[str, Callable[..., Way]] = {"zero_filled": zero_filled, "wavelet": wavelet}
WITH_MODEL: dict[str, Callable[..., Way]] = {
    "one_step": one_step,
    "ambient_dps": _draws("ambient_dps", "norm", "scale"),
    # The step of `ambient_dps`, so that what differs is the prior.
    "dps": _draws("dps", "norm", "scale", eta=0.0, process="ve"),
    "mmps": _draws("mmps", "cg_steps"),
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
    for number, (rows, part) in enumerate(filled_batches(measured, batch)):
        found = way(operator.with_params(part.params), part, jax.random.fold_in(key, number))
        parts.append(jax.tree.map(lambda leaf, kept=count - rows[0]: np.asarray(leaf)[:kept], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
