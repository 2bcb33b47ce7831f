"""Restoration and degradation: deterministic sampling of any forward process, linear or not.

One step from time t to s < t: restore x_t, find the noise that leads from the restored image back to x_t, and
degrade the restored image with that noise, but to s only:

    x^ = R(x_t, t),    solve F_t(x^, eps) = x_t for eps,    x_s = F_s(x^, eps)                              (1)

A forward process can be given by its mean and scale, x_t = mean(x_0, t) + scale(t) z (`step_from_mean_and_scale`):

    x_s = mean(x^, s) + (scale(s) / scale(t)) (x_t - mean(x^, t))                                          (2)

or by drift and diffusion, dx = f(x, t) dt + g(t) dw (`step_from_drift_and_diffusion`). Its F_u(x^, eps) is the path
from x^ on which the noise has one direction eps and a growing size,

    dx/du = f(x, u) + (g(u)^2 / (2 scale(u))) eps,    eps = -scale(t) score(x_t, t)                        (3)

Going back along this path to where it starts gives x^, and going on from there to s gives x_s: together, going back
along it from t to s. At u = t its velocity is f - g^2 score / 2, that of the probability flow, for *every* scale > 0
and every drift, so the error of a step of length h is O(h^2). For a linear drift f = a(u) x and with scale^2 the
variance of x_u given x_0, x^ is E[X_0 | x_t] and (3) is (2).

What (2) tends to with many steps is a flow that has the law of x_t at every time (the probability flow, where the
process is a diffusion), if mean(x^, u) = E[mean(X_0, u) | x_t] for the u between s and t:

* mean(., u) affine (VE, VP, blur, masks): x^ = E[X_0 | x_t] is right; with mean = a(u) x it is DDIM.
* otherwise E[X_0 | x_t] leaves a bias that no number of steps removes: the mean of a mean is not the mean of the means.
  For mean = a(u) m(x), m^-1(E[m(X_0) | x_t]) is right.

Sources: Chen, Daras and Dimakis 2023 (arXiv 2303.03384), who show that a step of the probability flow is a restoration
and a degradation with noise that points back, both over a short time; (3), with restoration all the way, is derived
here. Song et al. 2021 (DDIM, arXiv 2010.02502).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.noise import expand

# Times are (B,), one number per example; images (B, ...).
Restore = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t, t) -> x^
Step = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (x_t, t, s) -> x_s


def step_from_maps(
    restore: Restore,
    degrade: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    noise: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> Step:
    """Step (1), of a process whose noise need not be added: (x_t, t, s) -> x_s.

    Args:
        restore: R, (x_t, t) -> x^.
        degrade: F, (x^, eps, t) -> x_t.
        noise: its inverse in eps, (x^, x_t, t) -> eps.
    """

    def step(x, t, s):
        restored = restore(x, t)
        return degrade(restored, noise(restored, x, t), s)

    return step


def step_from_mean_and_scale(
    restore: Restore,
    mean: Callable[[jax.Array, jax.Array], jax.Array],
    scale: Callable[[jax.Array], jax.Array],
) -> Step:
    """Step (2), of x_t = mean(x_0, t) + scale(t) z: (x_t, t, s) -> x_s.

    Args:
        restore: (x_t, t) -> x^, such as E[X_0 | x_t]; in the variance-exploding process the denoiser D.
        mean: (x_0, t) -> mean of x_t, linear in x_0 or not.
        scale: t (B,) -> (B,), positive but perhaps at the last time.
    """

    def degrade(restored, eps, t):
        return mean(restored, t) + expand(scale(t), eps) * eps

    def noise(restored, x, t):
        return (x - mean(restored, t)) / expand(scale(t), x)

    return step_from_maps(restore, degrade, noise)


def step_from_drift_and_diffusion(
    score: Callable[[jax.Array, jax.Array], jax.Array],
    drift: Callable[[jax.Array, jax.Array], jax.Array],
    diffusion: Callable[[jax.Array], jax.Array],
    scale: Callable[[jax.Array], jax.Array],
    substeps: int = 1,
) -> Step:
    """Step (3), of dx = f(x, t) dt + g(t) dw: (x_t, t, s) -> x_s, with one evaluation of the score.

    The path is followed by the classical Runge-Kutta method, which asks for f and g, not for the score. It needs
    scale(s) > 0: where the scale ends at 0, end a little above.

    Args:
        score: (x_t, t) -> grad log p_t.
        drift: f, (x, t) -> of the shape of x.
        diffusion: g, t (B,) -> (B,).
        scale: t (B,) -> (B,), positive: how far the noise has spread x_t. Of a linear process the standard deviation of
            x_t given x_0, which makes the step DDIM's; of another, anything that grows like it.
        substeps: Runge-Kutta steps from t to s.

    Raises:
        ValueError: substeps < 1.
    """
    if substeps < 1:
        raise ValueError(f"step_from_drift_and_diffusion: substeps must be at least 1, got {substeps}")

    def step(x, t, s):
        eps = -expand(scale(t), x) * score(x, t)

        def velocity(x, u):
            return drift(x, u) + expand(jnp.square(diffusion(u)) / (2 * scale(u)), x) * eps

        def substep(x, k):
            u, width = t + (s - t) * k / substeps, (s - t) / substeps
            h = expand(width, x)
            first = velocity(x, u)
            second = velocity(x + h / 2 * first, u + width / 2)
            third = velocity(x + h / 2 * second, u + width / 2)
            fourth = velocity(x + h * third, u + width)
            return x + h / 6 * (first + 2 * second + 2 * third + fourth), None

        x, _ = jax.lax.scan(substep, x, jnp.arange(substeps))
        return x

    return step


def restoration_degradation(
    step: Step, x_init: jax.Array, times: np.ndarray, return_trajectory: bool = False
) -> jax.Array:
    """Take `step` from time to time, from `x_init` at times[0] down to times[-1].

    Args:
        step: (x_t, t, s) -> x_s, such as `step_from_mean_and_scale` makes.
        x_init: (B, ...), distributed as the forward process is at times[0].
        times: (S + 1,), strictly decreasing, known before compilation; one restoration for each step.
        return_trajectory: return x at every time instead, (S + 1, B, ...), `x_init` first.

    Raises:
        ValueError: times that do not decrease, are not finite or not known; an x_init that is no batch.
    """
    if isinstance(times, jax.core.Tracer):
        raise ValueError("restoration_degradation: times must be known at compile time")
    times = np.asarray(times, np.float64)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"restoration_degradation: needs at least two times, (S + 1,); got {times.shape}")
    if not (np.isfinite(times).all() and np.all(np.diff(times) < 0)):
        raise ValueError(
            f"restoration_degradation: times must be finite and strictly decreasing; got {times}"
        )
    if x_init.ndim < 2:
        raise ValueError(
            f"restoration_degradation: x_init must be a batch (B, ...), got shape {tuple(x_init.shape)}"
        )
    count = x_init.shape[0]

    def advance(x, pair):
        t, s = (jnp.full(count, time, x.dtype) for time in pair)
        x = step(x, t, s)
        return x, (x if return_trajectory else None)

    grid = jnp.asarray(times, x_init.dtype)
    x, path = jax.lax.scan(advance, x_init, (grid[:-1], grid[1:]))
    return jnp.concatenate([x_init[None], path]) if return_trajectory else x
