"""Sliced Wasserstein-2 distance, in pixels: no network, no neighbors.

    SW_2^2 = E_theta W_2^2(theta.X, theta.Y),   theta uniform on the unit sphere
    W_2^2 of two sets of numbers = int_0^1 (F^-1(u) - G^-1(u))^2 du

F^-1 and G^-1 are steps, so the integral is a finite sum, exact for sets of different sizes too. For two
Gaussians N(m, S), N(m + v, S) in d dimensions SW_2^2 = |v|^2 / d.

Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures".
"""

from __future__ import annotations

import numpy as np

CHUNK_VALUES = 2**23  # projected values held at once


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, seed: int, projections: int = 512) -> float:
    """SW_2 = sqrt(mean over projections of W_2^2) of two sets of images, in the units of their values.

    Args:
        x, y: (n, ...), (m, ...) of one example shape; images in [-1, 1].
        seed: of the directions; the same seed gives the same directions whatever the images.
        projections: directions. For a pure shift, the least favorable case, the relative standard error is
            1/sqrt(2 projections).

    Raises:
        ValueError: the example shapes differ, a set is empty, values are not finite, or projections < 1.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim < 2 or x.shape[1:] != y.shape[1:] or len(x) == 0 or len(y) == 0:
        raise ValueError(f"sliced_wasserstein needs two sets of one example shape, got {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("sliced_wasserstein: some values are not finite")
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections}")
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    directions = np.random.default_rng(seed).standard_normal((projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    chunk = max(1, CHUNK_VALUES // (len(x) + len(y)))
    squares = [
        squared_wasserstein_1d(x @ directions[i : i + chunk].T, y @ directions[i : i + chunk].T)
        for i in range(0, projections, chunk)
    ]
    return float(np.sqrt(np.concatenate(squares).mean()))


def squared_wasserstein_1d(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """W_2^2 between the columns of x (n, p) and y (m, p), exact for any n, m: (p,)."""
    n, m = len(x), len(y)
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    if n == m:
        return np.mean((x - y) ** 2, axis=0)
    # In units of 1 / (n m) all steps of both quantile functions are integers.
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    widths = np.diff(edges) / (n * m)
    return widths @ (x[edges[:-1] // m] - y[edges[:-1] // n]) ** 2
