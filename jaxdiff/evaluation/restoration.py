"""How near a restored image is to the truth: PSNR, SSIM and NRMSE, with intervals over images.

    NRMSE = |x^ - x| / |x|,   PSNR = 10 log10(range^2 / mean (x^ - x)^2)

and SSIM as Wang et al. 2004: a Gaussian window of 1.5 pixels cut off at 3.5 of them, population covariance, K
= (0.01, 0.03), the mean over the image without its outermost 5 pixels and over channels (scikit-image is the
judge in the tests). Complex images are compared by their magnitude, as is usual for MRI.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from jaxdiff.evaluation.bootstrap import bootstrap_mean

WINDOW_STD = 1.5
TRUNCATE = 3.5
MARGIN = 5  # int(TRUNCATE * WINDOW_STD + 0.5): where the window reaches over the edge


def magnitude(x: np.ndarray) -> np.ndarray:
    """(n, H, W, 2) real and imaginary part -> (n, H, W, 1), sqrt(re^2 + im^2)."""
    x = np.asarray(x, np.float64)
    if x.ndim != 4 or x.shape[-1] != 2:
        raise ValueError(f"magnitude: complex images are (n, H, W, 2), got {x.shape}")
    return np.sqrt(np.sum(np.square(x), axis=-1, keepdims=True))


def nrmse(truth: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """|x^ - x| / |x| of every image, (n,); images (n, ...).

    Raises:
        ValueError: shapes differ, no images, or values that are not finite; an image of the truth that is all 0.
    """
    truth, restored = _pair("nrmse", truth, restored)
    norms = _rms(truth)
    if (norms == 0).any():
        raise ValueError(f"nrmse: image {int(np.argmin(norms))} of the truth is 0 everywhere")
    return _rms(restored - truth) / norms


def psnr(truth: np.ndarray, restored: np.ndarray, data_range: float | np.ndarray = 2.0) -> np.ndarray:
    """10 log10(range^2 / mean squared error) of every image in dB, (n,); infinite where nothing differs.

    Args:
        truth, restored: (n, ...).
        data_range: largest less smallest value that an image can have, one number or (n,); 2 for [-1, 1].

    Raises:
        ValueError: as `nrmse`, or a range that is not positive.
    """
    truth, restored = _pair("psnr", truth, restored)
    data_range = _ranges("psnr", data_range, len(truth))
    with np.errstate(divide="ignore"):
        return 20 * np.log10(data_range / _rms(restored - truth))


def ssim(truth: np.ndarray, restored: np.ndarray, data_range: float | np.ndarray = 2.0) -> np.ndarray:
    """Structural similarity of every image, (n,); 1 for equal images.

    Args:
        truth, restored: (n, H, W, C), both sides above 10 pixels.
        data_range: as of `psnr`.

    Raises:
        ValueError: as `psnr`, or images smaller than the window.
    """
    truth, restored = _pair("ssim", truth, restored)
    if truth.ndim != 4 or min(truth.shape[1:3]) <= 2 * MARGIN:
        raise ValueError(
            f"ssim: images must be (n, H, W, C) of more than 10 pixels a side, got {truth.shape}"
        )
    data_range = _ranges("ssim", data_range, len(truth)).reshape(-1, 1, 1, 1)

    def window(values):
        return gaussian_filter(values, (0, WINDOW_STD, WINDOW_STD, 0), truncate=TRUNCATE)

    mean_a, mean_b = window(truth), window(restored)
    var_a, var_b = window(truth**2) - mean_a**2, window(restored**2) - mean_b**2
    covariance = window(truth * restored) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    map_ = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    map_ /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return map_[:, MARGIN:-MARGIN, MARGIN:-MARGIN].mean(axis=(1, 2, 3))


def restoration_scores(
    truth: np.ndarray,
    restored: np.ndarray,
    data_range: float | np.ndarray | None = None,
    names: Sequence[str] = ("nrmse", "ssim", "psnr"),
) -> dict[str, np.ndarray]:
    """Scores by name, (n,) each; of the magnitudes where images have two channels.

    Args:
        truth, restored: (n, H, W, C).
        data_range: as of `psnr`; None: 2 for images in [-1, 1], the largest magnitude of each true image for complex.
        names: which of 'nrmse', 'ssim' and 'psnr'.
    """
    if np.shape(truth)[-1] == 2:
        truth, restored = magnitude(truth), magnitude(restored)
        data_range = truth.max(axis=(1, 2, 3)) if data_range is None else data_range
    data_range = 2.0 if data_range is None else data_range
    table = {
        "nrmse": lambda: nrmse(truth, restored),
        "ssim": lambda: ssim(truth, restored, data_range),
        "psnr": lambda: psnr(truth, restored, data_range),
    }
    return {name: table[name]() for name in names}


def intervals(
    scores: dict[str, np.ndarray], seed: int, level: float = 0.95, n_resamples: int = 2000
) -> dict[str, dict[str, float]]:
    """{score: {'mean', 'low', 'high'}} over images (`bootstrap_mean`)."""
    return {name: bootstrap_mean(values, seed, level, n_resamples) for name, values in scores.items()}


def _rms(x):
    return np.sqrt(np.mean(np.square(x).reshape(len(x), -1), axis=1))


def _pair(name, truth, restored):
    truth, restored = np.asarray(truth, np.float64), np.asarray(restored, np.float64)
    if truth.shape != restored.shape or truth.ndim < 2 or not truth.size:
        raise ValueError(f"{name}: needs the same images twice, got {truth.shape} and {restored.shape}")
    for which, values in (("truth", truth), ("restored", restored)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: {np.count_nonzero(~np.isfinite(values))} values of '{which}' are not finite"
            )
    return truth, restored


def _ranges(name, data_range, n):
    data_range = np.broadcast_to(np.asarray(data_range, np.float64), (n,))
    if not (data_range > 0).all():
        raise ValueError(f"{name}: data_range must be positive, got {data_range.min()}")
    return data_range
