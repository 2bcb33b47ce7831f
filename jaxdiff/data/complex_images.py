"""Complex images as two channels, and the scale they are brought to.

Magnitudes are divided by the 99th percentile of the image's own low-resolution copy, made of the central
lines of k-space alone. Those lines are in every measurement, whatever its acceleration, so that the scale of
an undersampled example is known from that example, and is the same for all accelerations. Most magnitudes are
then in [0, 1], the brightest somewhat above, real and imaginary part in about [-1.3, 1.3]; 0 is air.
"""

import numpy as np

PERCENTILE = 99.0
CENTER = 1 / 16  # as of the operators: the share of the lines that is always measured
AXES = (-2, -1)


def fft(z: np.ndarray) -> np.ndarray:
    """Centred orthonormal transform of the last two axes."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(z, axes=AXES), norm="ortho"), axes=AXES)


def inverse_fft(z: np.ndarray) -> np.ndarray:
    """Its inverse."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(z, axes=AXES), norm="ortho"), axes=AXES)


def central_scale(image: np.ndarray) -> float:
    """99th percentile of the magnitude of what the central columns of k-space alone show of a complex image (H, W).

    Raises:
        ValueError: the image is 0 everywhere, or not finite.
    """
    if not np.isfinite(image).all() or not np.any(image):
        raise ValueError("the image is 0 everywhere or has values that are not finite")
    width = image.shape[-1]
    count = max(1, round(CENTER * width))
    first = width // 2 - count // 2
    k_space = np.zeros_like(image)
    k_space[:, first : first + count] = fft(image)[:, first : first + count]
    return float(np.percentile(np.abs(inverse_fft(k_space)), PERCENTILE))


def as_channels(z: np.ndarray) -> np.ndarray:
    """(...) complex -> (..., 2) float32."""
    return np.stack([z.real, z.imag], axis=-1).astype(np.float32)
