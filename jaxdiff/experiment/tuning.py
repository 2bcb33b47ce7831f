"""What is fitted on the clean tuning images: early stopping, fusion weights, stacking.

All three look at the same noisy versions of the tuning images, made once: `draws` noise draws per image and
band.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import composition
from jaxdiff.composition import BandTable
from jaxdiff.composition.lifting import view_sigma
from jaxdiff.composition.weights import fitted_weights, inverse_error_weights
from jaxdiff.diffusion.noise import expand
from jaxdiff.training.watch import NonFiniteLoss


class TuningSet(NamedTuple):
    """Noisy tuning images: `noisy` (S, M, ...), their clean images `clean` (M, ...), noise levels `sigmas` (S,)."""

    noisy: jax.Array
    clean: jax.Array
    sigmas: jax.Array


def make_tuning_set(clean: jax.Array, sigmas: np.ndarray, draws: int, key: jax.Array) -> TuningSet:
    """`draws` antithetic noise draws of every image in every band (M = images * draws)."""
    clean = jnp.repeat(jnp.asarray(clean), draws, axis=0)
    sigmas = jnp.asarray(sigmas)
    noise = jax.random.normal(key, (len(sigmas), *clean.shape), clean.dtype)
    # The second of two draws mirrors the first: their mean has no error of first order in the noise.
    sign = jnp.where(jnp.arange(len(clean)) % 2, -1.0, 1.0)
    noise = jnp.where(expand(sign, clean) < 0, -jnp.roll(noise, 1, axis=1), noise)
    return TuningSet(clean + sigmas.reshape(-1, *[1] * clean.ndim) * noise, clean, sigmas)


def in_view(tuning: TuningSet, operator) -> TuningSet:
    """The tuning set as a view sees it: A x in noise sigma sqrt(c)."""
    noisy = jax.vmap(operator)(tuning.noisy)
    return TuningSet(noisy, operator(tuning.clean), tuning.sigmas * operator.c**0.5)


def above(tuning: TuningSet, low: float) -> TuningSet | None:
    """The bands with sigma >= low; None where there are fewer than two."""
    kept = np.asarray(tuning.sigmas) >= low
    if kept.sum() < 2:
        return None
    return TuningSet(tuning.noisy[kept], tuning.clean, tuning.sigmas[kept])


def by_band(function: Callable[[jax.Array, jax.Array], jax.Array], tuning: TuningSet) -> jax.Array:
    """function(x, sigma) on every band, stacked: (S, ...); one band at a time bounds the memory."""

    def band(item):
        noisy, sigma = item
        return function(noisy, jnp.full(noisy.shape[:1], sigma))

    return jax.lax.map(band, (tuning.noisy, tuning.sigmas))


def squared_errors(denoised: jax.Array, tuning: TuningSet) -> jax.Array:
    """Mean over the images of the squared error of `denoised` (S, M, ...), (S,)."""
    error = denoised - tuning.clean
    return jnp.sum(jnp.square(error), axis=tuple(range(2, error.ndim))).mean(axis=1)


def band_widths(sigmas: jax.Array) -> jax.Array:
    """Trapezoid weights in ln sigma, (S,)."""
    logs = jnp.log(sigmas)
    steps = jnp.diff(logs)
    return jnp.concatenate([steps[:1], steps[1:] + steps[:-1], steps[-1:]]) / 2


def score(denoiser, tuning: TuningSet, reference: jax.Array | None = None) -> jax.Array:
    """Tuning score of a denoiser: minus the integral of its error, in nats, so that every band counts by
    what it is worth.

    The EDM-weighted loss does not see the small sigmas that carry the nats; l / sigma^2 in ln sigma does.
    With `reference` (S, M, ...), another denoiser's output, each band counts after the best gate between the
    two: a network is not stopped early for a band that its gate will close.
    """
    denoised = by_band(denoiser, tuning)
    if reference is not None:
        axes = tuple(range(1, denoised.ndim))
        rho = denoised - reference
        gain = jnp.sum((tuning.clean - reference) * rho, axis=axes)
        gate = jnp.clip(gain / jnp.maximum(jnp.sum(jnp.square(rho), axis=axes), 1e-30), 0.0, 1.0)
        denoised = reference + gate.reshape(-1, *[1] * (denoised.ndim - 1)) * rho
    errors = squared_errors(denoised, tuning)
    return -jnp.sum(band_widths(tuning.sigmas) * errors / jnp.square(tuning.sigmas))


def gram(candidates, tuning: TuningSet) -> jax.Array:
    """Error Gram matrices E<e_k, e_l> of (x, sigma) -> (K, B, ...) in every band, (S, K, K)."""

    def band(item):
        noisy, sigma = item
        errors = candidates(noisy, jnp.full(noisy.shape[:1], sigma)) - tuning.clean
        flat = errors.reshape(*errors.shape[:2], -1)
        return jnp.einsum("kmd,lmd->kl", flat, flat, precision="highest") / flat.shape[1]

    return jax.lax.map(band, (tuning.noisy, tuning.sigmas))


def require_finite(values: np.ndarray, what: str) -> np.ndarray:
    """`values`.

    Raises:
      NonFiniteLoss: a denoiser that diverged gives no numbers on the tuning images.
    """
    if not np.isfinite(values).all():
        raise NonFiniteLoss(
            f"{what}: a denoiser's errors on the tuning images are not finite: its training diverged. Try a lower "
            "train.lr or train.clip > 0, in another --workdir"
        )
    return values


def fit_fusion(
    views, gaussian, tuning: TuningSet, ranks, kind: str, smooth: float, cg_steps: int
) -> BandTable:
    """The weights w_i(sigma) of the fusion: 'uniform', 'inverse_error' or 'fitted' (see composition.weights)."""
    sigmas = np.asarray(tuning.sigmas)
    if kind == "uniform" or len(views) == 1:
        return BandTable(sigmas, np.ones((len(sigmas), len(views)), np.float32))

    @jax.jit
    def outputs(tuning):
        denoised = [
            by_band(lambda x, s, view=view: view.denoiser(view.operator(x), view_sigma(view, s)), tuning)
            for view in views
        ]
        lifted = [
            jax.vmap(lambda d, view=view: view.operator.pinv(d - view.operator(tuning.clean)))(d)
            for view, d in zip(views, denoised, strict=True)
        ]
        errors = [jnp.sum(jnp.square(e), axis=tuple(range(2, e.ndim))).mean(axis=1) for e in lifted]
        return denoised, by_band(gaussian.denoiser, tuning), jnp.stack(errors, axis=1)

    denoised, start, errors = outputs(tuning)
    errors = require_finite(np.asarray(errors), "the fusion of the views")
    weights = inverse_error_weights(errors, ranks, sigmas, smooth)
    if kind == "inverse_error":
        return weights
    scale = jnp.sum(jnp.square(start - tuning.clean), axis=tuple(range(1, start.ndim))) / start.shape[1]

    def loss(values):
        def band(item):
            noisy, sigma, start, row, denoised = item
            at = jnp.full(noisy.shape[:1], sigma)
            rows = jnp.broadcast_to(row, (len(noisy), len(views)))
            fused = composition.fuse(views, noisy, at, start, rows, denoised, cg_steps)
            return jnp.sum(jnp.square(fused - tuning.clean)) / len(noisy)

        return jax.lax.map(band, (tuning.noisy, tuning.sigmas, start, values, denoised)) / scale

    return fitted_weights(loss, weights, smooth)
