"""Which example of a batch may train a denoiser at which noise level.

An example with measurement noise sigma_y is usable above sigma_y, an example with other damage above its
sigma_min, a crop below its sigma_max. The noise level is drawn first; an example that cannot be used there
gives its place to one of the batch that can (Daras et al. 2025, arXiv 2411.02780 and Ambient Diffusion Omni).
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.operators.measurement import Measurement


def least_usable(sigma_y, max_gain: float, c: float = 1.0):
    """sigma_y sqrt(max_gain / (c (max_gain - 1))): from there on sigma^2 / (sigma^2 - sigma_y^2 / c) <= max_gain.

    Raises:
      ValueError: max_gain <= 1.
    """
    if not max_gain > 1:
        raise ValueError(f"max_gain bounds sigma^2 / (sigma^2 - sigma_y^2) and must exceed 1, got {max_gain}")
    return sigma_y * (max_gain / (c * (max_gain - 1))) ** 0.5


def usable_range(batch: Measurement, max_gain: float = 4.0, c: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """The noise levels at which each example may be used: lower (B,), upper (B,).

    sigma^2 / (sigma^2 - sigma_y^2 / c) <= max_gain bounds what the estimate of a noisy measurement is amplified
    by: lower = sigma_y sqrt(max_gain / (c (max_gain - 1))), at least the example's own sigma_min.

    Raises:
      ValueError: max_gain <= 1.
    """
    lower = least_usable(batch.sigma_y, max_gain, c)
    if batch.sigma_min is not None:
        lower = jnp.maximum(lower, batch.sigma_min)
    upper = jnp.full_like(lower, jnp.inf) if batch.sigma_max is None else batch.sigma_max
    return lower, upper


def assign(
    key: jax.Array, noise: NoiseDistribution, lower: jax.Array, upper: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A noise level for every place of a batch, and the example that takes the place: sigma (B,), index (B,).

    sigma follows `noise`. The place keeps its own example where that is usable; else an example of the batch
    that is, drawn uniformly; where the batch has none, the place's own at a level of its own range.
    """
    sigma_key, choice_key, own_key = jax.random.split(key, 3)
    count = lower.shape[0]
    sigma = noise.sample_sigma(sigma_key, count)
    usable = (lower[None, :] <= sigma[:, None]) & (sigma[:, None] <= upper[None, :])
    other = jax.random.categorical(choice_key, jnp.where(usable, 0.0, -jnp.inf), axis=1)
    own = jnp.arange(count)
    some = jnp.any(usable, axis=1)
    index = jnp.where(jnp.diagonal(usable) | ~some, own, other)
    return jnp.where(some, sigma, noise.sample_between(own_key, lower, upper)), index


def take(batch: Measurement, index: jax.Array) -> Measurement:
    """The examples `index` of a batch, everything that belongs to them included."""
    return jax.tree.map(lambda leaf: leaf[index], batch)
