"""Blurs: A A^T is not a multiple of a projector, so that no single noise level fits the view."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators.linear import LinearOperator, image_size, make

BOUNDARIES = ("periodic", "zero")
RADIUS_IN_STD = 4.0
SAMPLES_PER_PIXEL = 64  # even: halves of a pixel fall between two samples


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
    _check_boundary("gaussian_blur", boundary)
    args = {"std": float(std), "boundary": boundary}
    return make("gaussian_blur", in_shape, _gaussian_blur, args, convolution=boundary == "periodic")


def motion_blur(
    in_shape: tuple[int, ...], length: float, angle: float = 0.0, boundary: str = "periodic"
) -> LinearOperator:
    """Mean over a straight path of `length` pixels: (H, W, C) -> (H, W, C), c = None.

        (A x)(s) = integral over t in [-1/2, 1/2] of x(s + t (length - 1) (cos angle, sin angle)),

    with x between the pixels by bilinear interpolation, so that the kernel is an antialiased line with sum 1,
    centred on its pixel; length 1 is the identity.

    Args:
        in_shape: (H, W, C).
        length: pixels that the path touches when it runs along a row, 1 or more.
        angle: direction in degrees, anticlockwise from the horizontal (45: from lower left to upper right).
        boundary: 'periodic', or 'zero': the image is 0 outside its frame.

    Raises:
        ValueError: the length is below 1, the angle is not finite, or the boundary is unknown.
    """
    image_size("motion_blur", in_shape)
    if not 1 <= length < math.inf:
        raise ValueError(f"motion_blur: length is in pixels, 1 or more; got {length}, nearest valid: 1")
    if not math.isfinite(angle):
        raise ValueError(f"motion_blur: angle is in degrees, such as 45; got {angle}")
    _check_boundary("motion_blur", boundary)
    args = {"length": float(length), "angle": float(angle), "boundary": boundary}
    return make("motion_blur", in_shape, _motion_blur, args, convolution=boundary == "periodic")


def _check_boundary(name, boundary):
    if boundary not in BOUNDARIES:
        raise ValueError(f"{name}: boundary is one of {', '.join(BOUNDARIES)}; got '{boundary}'")


def _motion_blur(params, x: jax.Array, length: float, angle: float, boundary: str) -> jax.Array:
    kernel = _line(length, angle)
    radius = kernel.shape[0] // 2
    x = jnp.pad(
        x,
        ((radius, radius), (radius, radius), (0, 0)),
        mode="wrap" if boundary == "periodic" else "constant",
    )
    kernel = jnp.asarray(kernel[..., None], x.dtype)
    return jax.scipy.signal.convolve(x, kernel, mode="valid", method="direct", precision="highest")


def _line(length: float, angle: float) -> np.ndarray:
    """(2 r + 1, 2 r + 1) kernel: samples along the path, each split over its four nearest pixels."""
    reach = (length - 1) / 2
    radius = math.ceil(reach)
    count = max(1, math.ceil(length - 1) * SAMPLES_PER_PIXEL)
    along = ((np.arange(count) + 0.5) / count * 2 - 1) * reach
    # Rows are counted downwards, so that an anticlockwise path starts upwards with a minus.
    rows, columns = -along * math.sin(math.radians(angle)), along * math.cos(math.radians(angle))
    grid = np.arange(-radius, radius + 1)
    row_weights = np.maximum(0.0, 1.0 - np.abs(grid[:, None] - rows))
    column_weights = np.maximum(0.0, 1.0 - np.abs(grid[:, None] - columns))
    kernel = row_weights @ column_weights.T
    return kernel / kernel.sum()


def _gaussian_blur(params, x: jax.Array, std: float, boundary: str) -> jax.Array:
    rows = jnp.asarray(_blur_matrix(x.shape[0], std, boundary), x.dtype)
    columns = jnp.asarray(_blur_matrix(x.shape[1], std, boundary), x.dtype)
    return jnp.einsum("ij,jkc,lk->ilc", rows, x, columns, precision="highest")


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
