"""The exact denoiser of a finite data set: what a network that memorizes its training set would compute.

D(x, sigma) = sum_i x_i softmax_i(-|x - x_i|^2 / (2 sigma^2))
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.noise import expand


def empirical_denoiser(data: np.ndarray, chunk: int = 256) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Make the denoiser of the empirical distribution of `data`.

    Distances are sums of squared differences (not the expanded square, which in float32 loses the nearest
    neighbor at small sigma), taken `chunk` data points at a time with a running softmax.

    Args:
        data: (n, ...) examples in [-1, 1].
        chunk: data points per step; memory is at most B * chunk * d floats.

    Returns:
        D(x, sigma) for x (B, ...), sigma (B,) > 0.

    Raises:
        ValueError: if `data` is empty or `chunk` < 1.
    """
    data = np.asarray(data, np.float32)
    if data.ndim < 2 or len(data) == 0:
        raise ValueError(f"empirical_denoiser needs examples of shape (n, ...), got {data.shape}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    n, chunk = len(data), min(chunk, len(data))
    padding = -n % chunk
    flat = np.pad(data.reshape(n, -1), ((0, padding), (0, 0)))
    chunks = jnp.asarray(flat.reshape(-1, chunk, flat.shape[1]))
    offsets = jnp.asarray(np.where(np.arange(n + padding) < n, 0.0, -np.inf).reshape(-1, chunk), jnp.float32)

    def denoiser(x: jax.Array, sigma: jax.Array) -> jax.Array:
        expand(sigma, x)  # checks the shape of sigma
        points = x.reshape(x.shape[0], -1)

        def add_chunk(carry, inputs):
            top, total, mean = carry
            examples, offset = inputs
            distance = jnp.sum((points[:, None] - examples) ** 2, axis=-1)
            logits = offset - distance / (2 * sigma[:, None] ** 2)
            new_top = jnp.maximum(top, logits.max(axis=1))
            old = jnp.exp(top - new_top)
            weights = jnp.exp(logits - new_top[:, None])
            total = total * old + weights.sum(axis=1)
            added = jnp.matmul(weights, examples, precision=jax.lax.Precision.HIGHEST)
            return (new_top, total, mean * old[:, None] + added), None

        start = (jnp.full(len(x), -jnp.inf), jnp.zeros(len(x)), jnp.zeros_like(points))
        (_, total, mean), _ = jax.lax.scan(add_chunk, start, (chunks, offsets))
        return (mean / total[:, None]).reshape(x.shape)

    return denoiser
