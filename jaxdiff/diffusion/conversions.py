"""Changes of variable: other parameterizations and other processes, at the boundary of the one used inside.

1. A process is x_t = alpha x_0 + s eps. Variance exploding ('ve'): alpha = 1, s = sigma. Variance preserving
   ('vp'): alpha^2 + s^2 = 1. Flow matching ('flow'): alpha + s = 1, s = t.
2. All are one process in other coordinates: x_ve = x_t / alpha at sigma = s / alpha.
3. What a network may predict is the posterior mean of a linear combination q = a x_0 + b eps:

       'denoised' x_0    'eps' eps    'score' -eps / s    'v' alpha eps - s x_0    'velocity' eps - x_0

   Together with x_t = alpha x_0 + s eps it fixes E[x_0] and E[eps], and so every other quantity.

Sources: Karras et al. 2022 (EDM); Salimans and Ho 2022 ('v'); Lipman et al. 2023 ('velocity').
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.registry import lookup

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]

# Coefficients (a, b) of q = a x_0 + b eps.
_QUANTITIES = {
    "denoised": lambda alpha, s: (jnp.ones_like(s), jnp.zeros_like(s)),
    "eps": lambda alpha, s: (jnp.zeros_like(s), jnp.ones_like(s)),
    "score": lambda alpha, s: (jnp.zeros_like(s), -1 / s),
    "v": lambda alpha, s: (-s, alpha),
    "velocity": lambda alpha, s: (-jnp.ones_like(s), jnp.ones_like(s)),
}

# alpha as a function of s, and s as a function of sigma = s / alpha.
_PROCESSES = {
    "ve": (jnp.ones_like, lambda sigma: sigma),
    "vp": (lambda s: jnp.sqrt((1 - s) * (1 + s)), lambda sigma: sigma * jax.lax.rsqrt(1 + sigma**2)),
    "flow": (lambda s: 1 - s, lambda sigma: sigma / (1 + sigma)),
}


def convert(
    value: jax.Array, x: jax.Array, alpha: jax.Array, s: jax.Array, source: str, target: str
) -> jax.Array:
    """The prediction `target` that goes with the prediction `value` of kind `source`.

    Args:
        value: (B, ...), a posterior mean given x.
        x: the noisy x_t = alpha x_0 + s eps, (B, ...), in the coordinates of the process.
        alpha, s: (B,), positive.
        source, target: 'denoised', 'eps', 'score', 'v' or 'velocity'.

    Raises:
        ValueError: for an unknown kind, with the nearest valid one.
    """
    from_kind = lookup(_QUANTITIES, source, "prediction")
    to_kind = lookup(_QUANTITIES, target, "prediction")
    if source == target:
        return value
    a, b = (expand(c, x) for c in from_kind(alpha, s))
    to_a, to_b = (expand(c, x) for c in to_kind(alpha, s))
    alpha, s = expand(alpha, x), expand(s, x)
    determinant = alpha * b - s * a
    denoised = (b * x - s * value) / determinant
    eps = (alpha * value - a * x) / determinant
    return to_a * denoised + to_b * eps


def denoiser_to_score(denoised: jax.Array, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """score = (D - x) / sigma^2, for x = x_0 + sigma eps."""
    return (denoised - x) / expand(sigma, x) ** 2


def score_to_denoiser(score: jax.Array, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """D = x + sigma^2 score (Tweedie's formula), for x = x_0 + sigma eps."""
    return x + expand(sigma, x) ** 2 * score


def denoiser_from(predict: Denoiser, kind: str, process: str) -> Denoiser:
    """Wrap a model of another parameterization and process as a denoiser D(x, sigma).

    Args:
        predict: predict(x_t, s), with x_t (B, ...) in the coordinates of the process, s (B,) its noise level.
        kind: what it predicts (see `convert`).
        process: 've', 'vp' or 'flow'; for 'flow', s is the time t.
    """
    alpha_of, s_of = lookup(_PROCESSES, process, "process")
    lookup(_QUANTITIES, kind, "prediction")

    def denoiser(x: jax.Array, sigma: jax.Array) -> jax.Array:
        s = s_of(sigma)
        alpha = s / sigma if process != "ve" else alpha_of(s)  # 1 - s would cancel at large sigma
        x_t = expand(alpha, x) * x
        return convert(predict(x_t, s), x_t, alpha, s, kind, "denoised")

    return denoiser


def prediction_from(denoiser: Denoiser, kind: str, process: str) -> Denoiser:
    """The inverse of `denoiser_from`: predict(x_t, s) of this kind, from a denoiser D(x, sigma)."""
    alpha_of, _ = lookup(_PROCESSES, process, "process")
    lookup(_QUANTITIES, kind, "prediction")

    def predict(x_t: jax.Array, s: jax.Array) -> jax.Array:
        alpha = alpha_of(s)
        denoised = denoiser(x_t / expand(alpha, x_t), s / alpha)
        return convert(denoised, x_t, alpha, s, "denoised", kind)

    return predict
