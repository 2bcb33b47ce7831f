"""Embeddings of the noise level and of a class label: (B,) numbers to (B, width) vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LOWEST_FREQUENCY = 1 / 16
HIGHEST_FREQUENCY = 8.0


def fourier_features(c_noise: jax.Array, size: int) -> jax.Array:
    """cos and sin of 2 pi f c_noise, f in geometric progression from 1/16 to 8: (B,) -> (B, size).

    The range fits c_noise = ln(sigma) / 4, about -1.5 to 1.1: the slowest wave is monotone over it and the
    fastest resolves a factor 1.6 in sigma (Karras et al. 2022, arXiv 2206.00364, use random frequencies).

    Raises:
        ValueError: `size` is odd.
    """
    if size % 2:
        raise ValueError(f"fourier_features: size must be even, half cosines and half sines; got {size}")
    frequencies = np.geomspace(LOWEST_FREQUENCY, HIGHEST_FREQUENCY, size // 2)
    angles = 2 * jnp.pi * c_noise.astype(jnp.float32)[:, None] * frequencies.astype(np.float32)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ConditionEmbedding(nn.Module):
    """One vector for the noise level and the optional label, from which every block takes scale and shift.

    Attributes:
        width: size of the vector.
        num_classes: number of classes, or None where there are no labels. Label -1 stands for "not known".
        features: number of Fourier features of c_noise.
        dtype: dtype of the computation.
    """

    width: int
    num_classes: int | None = None
    features: int = 32
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, c_noise: jax.Array, label: jax.Array | None = None) -> jax.Array:
        """c_noise (B,), label (B,) int or None; returns (B, width)."""
        hidden = nn.Dense(self.width, dtype=self.dtype)(fourier_features(c_noise, self.features))
        if self.num_classes is not None:
            table = nn.Embed(self.num_classes, self.width, dtype=self.dtype)
            label = jnp.full(c_noise.shape, -1) if label is None else label
            hidden += jnp.where(label[:, None] >= 0, table(jnp.maximum(label, 0)), 0)
        return nn.silu(nn.Dense(self.width, dtype=self.dtype)(nn.silu(hidden)))
