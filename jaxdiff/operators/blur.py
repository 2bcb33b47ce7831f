"""Blur: A A^T is not a multiple of a projector, so that no single noise level fits the view."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators.linear import LinearOperator, image_size, make

BOUNDARIES = ("periodic", "zero")
RADIUS_IN_STD = 4.0


def gaussian_blur(in_shape: tuple[int, ...], std: float, boundary: str = "periodic") -> LinearOperator:
    """Convolution with a Gaussian of `std` pixels, sum 1, cut off at 4 std: (H, W, C) -> (H, W, C), c = None.

    Args:
        in_shape: (H, W, C).
        std: standard deviation of the kernel in pixels.
        boundary: 'periodic', or 'zero': the image is 0 outside its frame.

    Raises:
        ValueError: std is not positive, or the boundary is unknown.
    """
    image_size("gaussian_blur", in_shape)
    if not std > 0:
        raise ValueError(f"gaussian_blur: std must be positive, got {std}")
    if boundary not in BOUNDARIES:
        raise ValueError(f"gaussian_blur: boundary is one of {', '.join(BOUNDARIES)}; got '{boundary}'")
    return make("gaussian_blur", in_shape, _gaussian_blur, {"std": float(std), "boundary": boundary})


def _gaussian_blur(params, x: jax.Array, std: float, boundary: str) -> jax.Array:
    rows = jnp.asarray(_blur_matrix(x.shape[0], std, boundary), x.dtype)
    columns = jnp.asarray(_blur_matrix(x.shape[1], std, boundary), x.dtype)
    return jnp.einsum("ij,jkc,lk->ilc", rows, x, columns)


def _blur_matrix(size: int, std: float, boundary: str) -> np.ndarray:
    """(size, size) matrix of the one-dimensional convolution."""
    radius = math.ceil(RADIUS_IN_STD * std)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / std) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    for offset, weight in zip(offsets, kernel, strict=True):
        targets = np.arange(size) + offset
        inside = np.ones(size, bool) if boundary == "periodic" else (targets >= 0) & (targets < size)
        np.add.at(matrix, (np.arange(size)[inside], targets[inside] % size), weight)
    return matrix
