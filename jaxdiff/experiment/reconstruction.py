"""Ways to reconstruct an image from its undersampled k-space, by name.

Each is a function (prior, settings) -> way, and a way one of (operator, measured, key) -> Reconstruction for a batch,
its operator with the parameters of that batch. A further one is a further entry of `WITHOUT_MODEL` or `WITH_MODEL`; one
that draws from the posterior gives the mean of its draws and their standard deviation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.wavelet import wavelet_reconstruction
from jaxdiff.experiment.checks import ConfigError, choose
from jaxdiff.experiment.learners import masked_view_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import ViewPlan
from jaxdiff.methods.ambient import back_project
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
    sigma = settings.sigma

    @jax.jit
    def estimate(parts, operator, y, key):
        white = jax.random.normal(key, (len(y), *operator.in_shape), y.dtype)
        # The network's own input, as in training: y is known, and x is not.
        denoise = masked_view_denoiser(prior.view, parts, back_projected=True)
        noisy = operator.restrict(y + sigma * operator(white))
        return denoise(back_project(operator, noisy), jnp.full(len(y), sigma, y.dtype), operator)

    return lambda operator, measured, key: Reconstruction(estimate(prior.parts, operator, measured.y, key))


WITHOUT_MODEL: dict[str, Callable[..., Way]] = {"zero_filled": zero_filled, "wavelet": wavelet}
WITH_MODEL: dict[str, Callable[..., Way]] = {"one_step": one_step}
NEEDS_MASK = ("one_step",)  # for networks that are told what they see


def methods_for(prior: Prior | None, asked: tuple[str, ...]) -> list[str]:
    """Those of the methods asked for that a model can do, or that need none."""
    table = WITHOUT_MODEL if prior is None else WITH_MODEL
    return [
        name for name in asked if name in table and (prior is None or prior.ambient or name not in NEEDS_MASK)
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
