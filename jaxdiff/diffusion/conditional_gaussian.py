"""Gaussian data of which a view is known exactly: X ~ N(m, S) given A X = v.

mean(v) = m + K (v - A m),   K = S A^T (A S A^T)^+,   cov = S - K A S
E[X | X + sigma Z = x, A X = v] = mean(v) + cov (cov + sigma^2 I)^-1 (x - mean(v))
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdiff.diffusion.gaussian import Gaussian, gaussian_from_covariance

MAX_VALUES = 4096  # the covariance given the view is a dense matrix


@struct.dataclass
class ConditionalGaussian:
    """N(m, S) given a view; a pytree.

    Attributes:
        mean: m, of the shape of one example.
        gain: K, (d, k).
        view_mean: A m, of the shape of one view.
        centered: N(0, S - K A S).
    """

    mean: jax.Array
    gain: jax.Array
    view_mean: jax.Array
    centered: Gaussian

    def denoiser(self, x: jax.Array, sigma: jax.Array, view: jax.Array) -> jax.Array:
        """E[X | X + sigma Z = x, A X = view] for x (B, ...), sigma (B,), view (B, ...)."""
        moved = (view - self.view_mean).reshape(view.shape[0], -1) @ self.gain.T
        mean = self.mean + moved.reshape(x.shape)
        return mean + self.centered.denoiser(x - mean, sigma)


def condition_on_view(
    gaussian: Gaussian, matrix: np.ndarray, view_shape: tuple[int, ...]
) -> ConditionalGaussian:
    """The law of X given A X, computed on the host in float64.

    Args:
        gaussian: N(m, S).
        matrix: A as a dense matrix, (k, d).
        view_shape: shape of one view.

    Raises:
        ValueError: the matrix does not fit, or d is above `MAX_VALUES`.
    """
    shape, d = tuple(gaussian.mean.shape), int(np.prod(gaussian.mean.shape))
    if matrix.shape != (int(np.prod(view_shape)), d):
        raise ValueError(
            f"condition_on_view: matrix {matrix.shape} for {d} values and a view {tuple(view_shape)}"
        )
    if d > MAX_VALUES:
        raise ValueError(f"condition_on_view: {d} values; the dense covariance is for {MAX_VALUES} at most")
    s, a = np.asarray(gaussian.covariance(), np.float64), np.asarray(matrix, np.float64)
    gain = np.linalg.lstsq(a @ s @ a.T, a @ s, rcond=1e-10)[0].T
    rest = s - gain @ a @ s
    rest = (rest + rest.T) / 2
    # Rounding leaves directions that the view fixes with variances of about -1e-9; they are zero.
    values, basis = np.linalg.eigh(rest)
    rest = (basis * np.maximum(values, 0.0)) @ basis.T
    mean = np.asarray(gaussian.mean, np.float64)
    return ConditionalGaussian(
        mean=gaussian.mean,
        gain=jnp.asarray(gain, jnp.float32),
        view_mean=jnp.asarray((a @ mean.reshape(-1)).reshape(view_shape), jnp.float32),
        centered=gaussian_from_covariance(np.zeros(shape), rest),
    )
