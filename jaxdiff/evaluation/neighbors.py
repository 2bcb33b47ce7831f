"""Nearest training neighbors of samples in pixel space: the first look for memorization."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors


class Neighbors(NamedTuple):
    """Both (n, k), nearest first: Euclidean distances, and indices into the data searched."""

    distances: np.ndarray
    indices: np.ndarray


def nearest_neighbors(samples: np.ndarray, data: np.ndarray, k: int = 1) -> Neighbors:
    """The k nearest examples of `data` for each sample, by the Euclidean distance over all values.

    Compare with the distances of held-out images to the same data: samples much nearer than those are copies.

    Args:
        samples: (n, ...) in [-1, 1].
        data: (m, ...) of the same example shape, m >= k.

    Raises:
        ValueError: if the example shapes differ or k is not in [1, m].
    """
    samples, data = np.asarray(samples), np.asarray(data)
    if samples.shape[1:] != data.shape[1:]:
        raise ValueError(
            f"samples of shape {samples.shape[1:]} cannot be compared with data of {data.shape[1:]}"
        )
    if not 1 <= k <= len(data):
        raise ValueError(f"k must lie in [1, {len(data)}], the number of examples searched; got {k}")
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(data.reshape(len(data), -1))
    return Neighbors(*search.kneighbors(samples.reshape(len(samples), -1)))
