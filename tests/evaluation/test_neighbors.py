"""Nearest neighbors against all distances in float64."""

import numpy as np
import pytest

from jaxdiff.evaluation.neighbors import nearest_neighbors

RNG = np.random.default_rng(0)
DATA = RNG.uniform(-1, 1, size=(40, 3, 3, 2)).astype(np.float32)


def test_distances_and_indices():
    samples = RNG.uniform(-1, 1, size=(7, 3, 3, 2)).astype(np.float32)
    found = nearest_neighbors(samples, DATA, k=3)
    distance = np.sqrt(((samples[:, None].astype(np.float64) - DATA) ** 2).sum(axis=(2, 3, 4)))
    np.testing.assert_array_equal(found.indices, np.argsort(distance, axis=1)[:, :3])
    np.testing.assert_allclose(found.distances, np.sort(distance, axis=1)[:, :3], rtol=1e-5)


def test_a_copy_is_found():
    found = nearest_neighbors(DATA[[5, 31]], DATA)
    assert found.indices.tolist() == [[5], [31]]
    np.testing.assert_allclose(found.distances, 0, atol=1e-3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="cannot be compared"):
        nearest_neighbors(DATA[:, :2], DATA)
    with pytest.raises(ValueError, match=r"k must lie in \[1, 40\]"):
        nearest_neighbors(DATA, DATA, k=41)
