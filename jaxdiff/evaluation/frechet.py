"""The Frechet distance of two sets of features, each taken for a Gaussian.

    FD = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)                                            (1)

With S1 = A1^T A1, S2 = A2^T A2 the last trace is the sum of the singular values of A1 A2^T: no root of a
product, no complex numbers, and no special case for a singular covariance. The factors A come from the
eigendecompositions in float64; eigenvalues below what rounding can resolve are zero.

Two finite sets of one law are not at distance zero. To first order in 1/n, for Gaussian features with
covariance S and eigenvalues l,

    E FD = (1/n1 + 1/n2) [tr S + 1/2 sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j)]                         (2)

Sources: (1) Dowson and Landau 1982, used with Inception features as FID by Heusel et al. 2017
(arXiv 1706.08500). (2) is derived here: the Bures distance is 1/2 sum_ij dS_ij^2 / (l_i + l_j) to second
order, and Var dS_ij = (1/n1 + 1/n2) l_i l_j (1 + [i = j]).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d), divided by count - 1, both float64, of `count` feature vectors."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance of features (n, d), in float64.

    Raises:
        ValueError: fewer than two vectors, another shape, or values that are not finite.
    """
    features = checked_features(features, "moments")
    return Moments(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)), len(features))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Equation 1. Never negative; 0 to rounding (1e-12 of the traces) for equal moments.

    Raises:
        ValueError: the dimensions differ, values are not finite, or a covariance is not symmetric positive
            semi-definite beyond rounding.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"frechet_distance: features of dimension {first.mean.size} and {second.mean.size}; both sets must "
            "come from the same extractor"
        )
    factors = [_factor(m) for m in (first, second)]
    overlap = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * overlap
    difference = np.asarray(first.mean, np.float64) - second.mean
    return max(0.0, float(difference @ difference + spread))


def expected_noise(covariance: np.ndarray, count_1: int, count_2: int | None = None) -> float:
    """E FD of two independent sets of the same Gaussian law, equation 2; of one set if count_2 is None.

    The distance that a perfect generator would be given, on average. First order in d / count: of use where
    the counts are several times the dimension (below that it is too large).

    Args:
        covariance: of the features, (d, d).
        count_1, count_2: sizes of the sets; None for a law known exactly.

    Raises:
        ValueError: a count is not positive.
    """
    if count_1 < 1 or (count_2 is not None and count_2 < 1):
        raise ValueError(f"expected_noise: counts must be at least 1, got {count_1}, {count_2}")
    l = np.maximum(np.linalg.eigvalsh(np.asarray(covariance, np.float64)), 0.0)  # noqa: E741
    sums = l[:, None] + l
    pairs = np.outer(l, l) * (1 + np.eye(len(l))) / np.where(sums > 0, sums, 1.0)
    return float((1 / count_1 + (0 if count_2 is None else 1 / count_2)) * (l.sum() + pairs.sum() / 2))


def half_split_noise(
    features: np.ndarray, seed: int, repeats: int = 20, progress: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """The distance between random halves of one set: below it, nothing can be told apart with as many images.

    Args:
        features: (n, d), n >= 4.
        seed: of the divisions.
        repeats: divisions.
        progress: progress(done, total) after each.

    Returns:
        {'mean', 'std', 'low', 'high', 'count'}: over the divisions, low and high the least and the largest,
        count the size of a half.

    Raises:
        ValueError: fewer than four vectors, or fewer than two repeats.
    """
    features = checked_features(features, "half_split_noise")
    half = len(features) // 2
    if half < 2 or repeats < 2:
        raise ValueError(
            f"half_split_noise needs at least 4 features and 2 repeats, got {len(features)}, {repeats}"
        )
    rng, distances = np.random.default_rng(seed), []
    for done in range(1, repeats + 1):
        order = rng.permutation(len(features))
        pair = moments(features[order[:half]]), moments(features[order[half : 2 * half]])
        distances.append(frechet_distance(*pair))
        if progress is not None:
            progress(done, repeats)
    summary = {"mean": np.mean(distances), "std": np.std(distances, ddof=1)}
    summary |= {"low": min(distances), "high": max(distances), "count": half}
    return {name: float(value) for name, value in summary.items()}


def checked_features(features: np.ndarray, where: str, least: int = 2) -> np.ndarray:
    """`features` as float64 (n, d).

    Raises:
        ValueError: another shape, fewer than `least` vectors, or values that are not finite.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < least or features.shape[1] == 0:
        raise ValueError(f"{where} needs features (n, d) with n >= {least}; got shape {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{where}: {np.sum(~np.isfinite(features))} feature values are not finite")
    return features


def _factor(law: Moments) -> np.ndarray:
    """A (r, d) with A^T A = S, r the numerical rank."""
    covariance, d = np.asarray(law.covariance, np.float64), np.size(law.mean)
    if covariance.shape != (d, d):
        raise ValueError(f"frechet_distance: a mean of {d} values with a covariance {covariance.shape}")
    if not (np.isfinite(covariance).all() and np.isfinite(law.mean).all()):
        raise ValueError("frechet_distance: the mean or the covariance is not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-8 * np.abs(covariance).max(initial=0.0)):
        raise ValueError("frechet_distance: a covariance is not symmetric")
    eigenvalues, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    top = max(float(eigenvalues[-1]), 0.0)
    if (
        eigenvalues[0] < -1e-6 * top
    ):  # float32 statistics are this exact; more is an error of whoever made them
        raise ValueError(
            "frechet_distance: a covariance is not positive semi-definite: its smallest eigenvalue is "
            f"{eigenvalues[0]:.3g}, its largest {top:.3g}"
        )
    kept = eigenvalues > d * np.finfo(np.float64).eps * top
    return np.sqrt(eigenvalues[kept])[:, None] * vectors[:, kept].T
