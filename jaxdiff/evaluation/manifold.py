"""Precision, recall, density and coverage: which of two sets of features lies where the other one is.

B_k(x; X) is the ball around x whose radius is the distance to its k-th nearest neighbor in X without x
itself. For n real features X and m generated ones Y,

    precision = share of Y in any B_k(x; X)              are the samples like real ones?
    recall    = share of X in any B_k(y; Y)              are all real ones like some sample?
    density   = 1 / (k m) sum_y sum_x [y in B_k(x; X)]   precision by counting: outliers of X weigh less
    coverage  = share of X whose ball holds any y        recall by balls of X: outliers of Y weigh nothing

Expected for Y of the same law as X: density 1, and coverage 1 - prod_{i=1..k} (n - i) / (n + m - i), near
1 - 2^-k for n = m. Density may exceed 1. Recall and precision depend on n and m: compare equal numbers.

Sources: Kynkaanniemi et al. 2019 (arXiv 1904.06991), k = 3; Naeem et al. 2020 (arXiv 2002.09797), k = 5.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from jaxdiff.evaluation.frechet import checked_features


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> dict[str, float]:
    """Improved precision and recall of features (n, d), (m, d): {'precision', 'recall'}, each in [0, 1].

    Raises:
        ValueError: other shapes, values that are not finite, or k not in [1, min(n, m) - 1].
    """
    real, generated = _checked(real, generated, k, both=True)
    inside_real = _members(generated, real, radii(real, k))
    inside_generated = _members(real, generated, radii(generated, k))
    return {"precision": float(np.mean(inside_real > 0)), "recall": float(np.mean(inside_generated > 0))}


def density_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> dict[str, float]:
    """Density and coverage of features (n, d), (m, d): {'density', 'coverage'}; coverage in [0, 1].

    Raises:
        ValueError: other shapes, values that are not finite, or k not in [1, n - 1].
    """
    real, generated = _checked(real, generated, k, both=False)
    radius = radii(real, k)
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(generated).kneighbors(real)[0][:, 0]
    inside = _members(generated, real, radius)
    return {"density": float(inside.mean() / k), "coverage": float(np.mean(nearest <= radius))}


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """E coverage where both sets are of the same continuous law: 1 - prod_{i=1..k} (n - i) / (n + m - i).

    A real x is missed if its k nearest among the n - 1 + m others are all real (Naeem et al. 2020, lemma 2).
    """
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """Distance of each of (n, d) to its k-th nearest neighbor among the others, (n,)."""
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features)
    return search.kneighbors()[0][:, -1]  # without an argument a point is not its own neighbor


def _members(points: np.ndarray, centers: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """In how many of the balls each point lies, (len(points),)."""
    blocks = pairwise_distances_chunked(
        points, centers, reduce_func=lambda block, start: np.sum(block <= radius, axis=1)
    )
    return np.concatenate(list(blocks))


def _checked(real, generated, k, both) -> tuple[np.ndarray, np.ndarray]:
    real = checked_features(real, "precision_recall" if both else "density_coverage")
    generated = checked_features(generated, "precision_recall" if both else "density_coverage", least=1)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(f"features of dimension {real.shape[1]} and {generated.shape[1]} cannot be compared")
    least = min(len(real), len(generated)) if both else len(real)
    if not 1 <= k < least:
        raise ValueError(f"k must lie in [1, {least - 1}], one less than the number of features; got {k}")
    return real, generated
