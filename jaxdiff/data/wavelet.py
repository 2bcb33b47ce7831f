"""L1-wavelet reconstruction, the classical compressed sensing that learnt priors are compared with.

    x^ = argmin_x 1/2 |A x - y|^2 + weight |W x|_1

by FISTA (Beck and Teboulle 2009, SIAM J. Imaging Sciences 2(1)) with step 1, for operators with |A| <= 1; W is an
orthonormal wavelet transform (PyWavelets), |.|_1 sums the magnitudes of complex coefficients, and the coarsest level is
not shrunk (Lustig, Donoho and Pauly 2007).
"""

from functools import partial

import jax
import numpy as np

from jaxdiff.data.extras import require
from jaxdiff.operators import LinearOperator, Measurement

WAVELET = "db4"
CHUNK = 64


def shrink_wavelets(z: np.ndarray, weight: float, wavelet: str = WAVELET) -> np.ndarray:
    """The proximal map of weight |W x|_1 at complex images (n, H, W), periodic at their edges."""
    pywt = require("pywt", "L1-wavelet reconstruction")
    coefficients = pywt.wavedec2(
        z, wavelet, mode="periodization", axes=(-2, -1), level=_levels(pywt, z, wavelet)
    )
    shrunk = [coefficients[0]]
    for details in coefficients[1:]:
        shrunk.append(tuple(_soft(band, weight) for band in details))
    return pywt.waverec2(shrunk, wavelet, mode="periodization", axes=(-2, -1))[
        ..., : z.shape[-2], : z.shape[-1]
    ]


def wavelet_reconstruction(
    measured: Measurement, operator: LinearOperator, weight: float, steps: int = 60, wavelet: str = WAVELET
) -> np.ndarray:
    """x^ of complex images, float32 (n, H, W, 2).

    Args:
        measured: y and parameters.
        operator: A with |A| <= 1, of images (H, W, 2).
        weight: of the coefficients' size, in the units of the image.
        steps: of FISTA.
        wavelet: name in PyWavelets.

    Raises:
        ValueError: images that are not complex, a negative weight, or no steps.
    """
    if operator.in_shape[-1] != 2 or len(operator.in_shape) != 3:
        raise ValueError(f"wavelet_reconstruction: complex images (H, W, 2), got {operator.in_shape}")
    if not weight >= 0 or steps < 1:
        raise ValueError(f"wavelet_reconstruction: weight >= 0 and steps >= 1, got {weight} and {steps}")
    parts, size = [], min(CHUNK, len(measured.y))
    for start in range(0, len(measured.y), size):
        rows = np.minimum(np.arange(start, start + size), len(measured.y) - 1)  # one program for all chunks
        part = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], measured)
        bound = operator.with_params(part.params)
        gradient = partial(_gradient, bound, np.asarray(part.y, np.float32))
        x = np.asarray(_adjoint(bound, np.asarray(part.y, np.float32)))
        ahead, momentum = x, 1.0
        for _ in range(steps):
            z = ahead - np.asarray(gradient(ahead))
            shrunk = shrink_wavelets(z[..., 0] + 1j * z[..., 1], weight, wavelet)
            new = np.stack([shrunk.real, shrunk.imag], axis=-1).astype(np.float32)
            later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + np.float32((momentum - 1) / later) * (new - x)
            x, momentum = new, later
        parts.append(x[: len(measured.y) - start])
    return np.concatenate(parts)


_adjoint = jax.jit(lambda operator, y: operator.adjoint(y))


@jax.jit
def _gradient(operator, y, x):
    return operator.adjoint(operator(x) - y)


def _soft(values, weight):
    size = np.abs(values)
    return values * np.maximum(1 - weight / np.maximum(size, 1e-30), 0)


def _levels(pywt, z, wavelet):
    """Down to 8 pixels, and at least once."""
    return max(
        1, min(int(np.log2(min(z.shape[-2:]) / 8)), pywt.dwt_max_level(min(z.shape[-2:]), wavelet) + 2)
    )
