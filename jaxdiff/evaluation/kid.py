"""Kernel inception distance: the squared maximum mean discrepancy of two sets of features, unbiased.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(x, y) = (x.y / d + 1)^3

estimated by the U-statistic: the means over x, x' and over y, y' leave out an x with itself. Its expectation
is MMD^2 whatever the number of features, so values from different numbers of images can be compared; it may
be negative. Over disjoint subsets the estimates are independent, and their spread gives the standard error.

Source: Binkowski et al. 2018 (arXiv 1801.01401); U-statistic: Gretton et al. 2012, equation 3; disjoint
blocks: Zaremba et al. 2013.
"""

from __future__ import annotations

import numpy as np

from jaxdiff.evaluation.frechet import checked_features

LARGEST_SUBSET = 1000
SUBSETS = 10


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of MMD^2 from all pairs of x (n, d) and y (m, d), n, m >= 2.

    Raises:
        ValueError: another shape, another dimension, fewer than two vectors, values that are not finite.
    """
    x, y = _checked(x, y)
    n, m = len(x), len(y)
    within_x, within_y = (float(k.sum() - np.trace(k)) for k in (_kernel(x, x), _kernel(y, y)))
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * float(_kernel(x, y).mean())


def kernel_distance(
    x: np.ndarray, y: np.ndarray, seed: int, subsets: int | None = None, subset_size: int | None = None
) -> dict[str, float]:
    """KID: the mean of `polynomial_mmd` over disjoint random subsets, and its standard error.

    Args:
        x, y: features (n, d), (m, d).
        seed: of the subsets.
        subsets: how many, at most; None: as many as there are.
        subset_size: features of each set in a subset; None: a tenth of the smaller set, at most 1000. The
            expectation does not depend on it.

    Returns:
        {'mean', 'standard_error', 'subsets', 'subset_size'}.

    Raises:
        ValueError: as `polynomial_mmd`, or there are not two disjoint subsets of this size.
    """
    x, y = _checked(x, y)
    least = min(len(x), len(y))
    size = min(LARGEST_SUBSET, max(2, least // SUBSETS)) if subset_size is None else subset_size
    available = least // size if size >= 2 else 0
    if available < 2:
        raise ValueError(
            f"kernel_distance: {least} features give no two disjoint subsets of {size} (each needs 2 or more)"
        )
    count = available if subsets is None else min(available, subsets)
    if count < 2:
        raise ValueError(f"kernel_distance: a standard error needs at least 2 subsets, got {subsets}")
    rng = np.random.default_rng(seed)
    rows_x, rows_y = (rng.permutation(len(v))[: count * size].reshape(count, size) for v in (x, y))
    values = [polynomial_mmd(x[i], y[j]) for i, j in zip(rows_x, rows_y, strict=True)]
    return {
        "mean": float(np.mean(values)),
        "standard_error": float(np.std(values, ddof=1) / np.sqrt(count)),
        "subsets": count,
        "subset_size": size,
    }


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked_features(x, "kernel_distance"), checked_features(y, "kernel_distance")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"kernel_distance: features of dimension {x.shape[1]} and {y.shape[1]}")
    return x, y
