"""Noise levels of the variance-exploding process: X_sigma = X + sigma Z, Z ~ N(0, I).

How they are drawn in training, weighted in the loss, and spaced in sampling (Karras et al. 2022, EDM).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def expand(sigma: jax.Array, x: jax.Array) -> jax.Array:
    """Reshape one number per example, (B,), to (B, 1, 1, ...) so that it broadcasts against `x` (B, ...).

    Raises:
        ValueError: if `sigma` is not of shape (B,).
    """
    if sigma.shape != x.shape[:1]:
        raise ValueError(
            f"sigma has shape {tuple(sigma.shape)}, but x of shape {tuple(x.shape)} needs one sigma per "
            f"example: {tuple(x.shape[:1])}"
        )
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - 1))


class NoiseDistribution(NamedTuple):
    """Log-normal training noise: ln sigma ~ N(P_mean, P_std^2) (EDM, Table 1)."""

    P_mean: float = -1.2
    P_std: float = 1.2

    def sample_sigma(self, key: jax.Array, n: int) -> jax.Array:
        """Draw `n` noise levels, (n,) float32."""
        return jnp.exp(self.P_mean + self.P_std * jax.random.normal(key, (n,), jnp.float32))

    def sample_between(self, key: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
        """Noise levels of this law conditioned on lower <= sigma <= upper, each (B,); (B,) float32.

        lower may be 0 and upper infinite. Where the law has (almost) no mass between the two, or P_std = 0 puts
        it elsewhere, the end that is nearer to the law.
        """
        std = max(self.P_std, 1e-6)
        low, high = ((jnp.log(jnp.maximum(end, 1e-30)) - self.P_mean) / std for end in (lower, upper))
        # Beyond 5 standard deviations float32 has no quantiles left: the nearest end is what the law would give.
        draw = jax.random.truncated_normal(key, jnp.clip(low, -5.0, 4.9), jnp.clip(high, -4.9, 5.0))
        return jnp.clip(jnp.exp(self.P_mean + std * draw), lower, upper)


class NatsNoise(NamedTuple):
    """Training noise by what the certificate counts, on [sigma_min, sigma_max].

    With EDM's weight 1 / c_out^2, c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2), the density

        p(ln sigma) ~ sigma_data^2 / (sigma^2 + sigma_data^2)

    makes the weighted loss proportional to int l(sigma) / sigma^2 d ln sigma: the nats. Its distribution function
    is ln c_out up to constants, so that ln c_out is drawn uniformly. A share of the draws, `spread`, is uniform
    in ln sigma instead: large sigmas carry no nats, but samplers start there. The draws of a batch are
    stratified (one in each of n equal shares of probability; Kingma et al. 2021, "Variational diffusion
    models", appendix I.1).
    """

    sigma_min: float
    sigma_max: float
    sigma_data: float
    spread: float = 0.25

    def sample_sigma(self, key: jax.Array, n: int) -> jax.Array:
        """Draw `n` noise levels, (n,) float32, in no particular order."""
        place_key, order_key = jax.random.split(key)
        places = (jnp.arange(n) + jax.random.uniform(place_key, (n,))) / n
        places = jax.random.permutation(order_key, places)
        low, high = np.log(self.sigma_min), np.log(self.sigma_max)
        below = places < self.spread
        even = jnp.exp(low + (high - low) * places / max(self.spread, 1e-6))

        def log_c_out(sigma):
            return -0.5 * np.log1p((self.sigma_data / sigma) ** 2)

        start, end = log_c_out(self.sigma_min), log_c_out(self.sigma_max)
        c = start + (end - start) * (places - self.spread) / max(1 - self.spread, 1e-6)
        # sigma / sqrt(sigma^2 + sigma_data^2) = e^c, solved for sigma.
        c = jnp.clip(c, start, end)
        by_nats = self.sigma_data * jnp.exp(c) / jnp.sqrt(-jnp.expm1(2 * c))
        return jnp.clip(jnp.where(below, even, by_nats), self.sigma_min, self.sigma_max)


def edm_weight(sigma: jax.Array, sigma_data: float) -> jax.Array:
    """Loss weight (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2 (EDM, Table 1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def reverse_step(now, after, eta=1.0):
    """Scales of one step of the reverse process, x_after = D + (down / now) (x_now - D) + up z, z ~ N(0, I).

        up = eta (after / now) sqrt(now^2 - after^2),    down = sqrt(after^2 - up^2)

    eta = 0 adds no noise: down = after, which is DDIM, and Euler's step in sigma. eta = 1 is the ancestral step: the
    law of X_after given X_now = x_now and X = D. For every eta the noise of x_after has standard deviation `after`
    if that of x_now has `now` and D = X.

    Args:
        now, after: 0 <= after <= now, 0 < now; numbers or arrays (NumPy or JAX) of one shape.
        eta: between 0 and 1.

    Returns:
        (down, up). Source: Song et al. 2021 (DDIM, arXiv 2010.02502), equations 12 and 16, at sigma = s / alpha.
    """
    ratio = after / now
    up = eta * ratio * ((now - after) * (now + after)) ** 0.5
    # sqrt(after^2 - up^2), without the cancellation.
    return ratio * ((1 - eta**2) * now**2 + eta**2 * after**2) ** 0.5, up


def karras_schedule(
    num_steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    to_zero: bool = True,
) -> np.ndarray:
    """Sampling grid sigma_i = (smax^(1/rho) + i/(n-1) (smin^(1/rho) - smax^(1/rho)))^rho, then 0.

    A denoiser is not asked below `sigma_min` either way: the step to 0 is D(x, sigma_min).

    Args:
        num_steps: steps of the sampler.
        sigma_min, sigma_max, rho: the formula's, with n = num_steps (num_steps + 1 where the 0 is left out).
        to_zero: whether 0 follows sigma_min; without it a sampler returns its state at sigma_min, noise included.

    Returns:
        (num_steps + 1,) float32 on the host (a sampler's steps are known before it is compiled), strictly
        decreasing from `sigma_max` through `sigma_min` to 0, or to `sigma_min`.
        Source: EDM, eq. 5.

    Raises:
        ValueError: if `num_steps` < 2, `rho` <= 0 or not 0 < sigma_min < sigma_max.
    """
    if num_steps < 2:
        raise ValueError(f"karras_schedule needs num_steps >= 2, got {num_steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"karras_schedule needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    if rho <= 0:
        raise ValueError(f"karras_schedule needs rho > 0, got {rho}")
    levels = num_steps if to_zero else num_steps + 1
    ramp = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), levels)  # float64, on the host
    return np.append(ramp**rho, [0.0] * to_zero).astype(np.float32)
