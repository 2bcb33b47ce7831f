"""Sliced Wasserstein: exact in one dimension for any sizes, closed forms in more."""

import numpy as np
import pytest

from jaxdiff.evaluation.sliced import sliced_wasserstein, squared_wasserstein_1d


def _by_repetition(x, y):
    """Unequal sizes made equal by repeating every point."""
    n, m = len(x), len(y)
    x, y = np.sort(np.repeat(x, m)), np.sort(np.repeat(y, n))
    return np.mean((x - y) ** 2)


@pytest.mark.parametrize("n, m", [(1, 1), (5, 5), (4, 6), (7, 3), (1, 9), (12, 35)])
def test_one_dimension_is_exact(n, m):
    rng = np.random.default_rng(n * 100 + m)
    x, y = rng.standard_normal((n, 3)), 0.5 + 2 * rng.standard_normal((m, 3))
    expected = [_by_repetition(a, b) for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(squared_wasserstein_1d(x, y), expected, rtol=1e-12)


def test_by_hand():
    assert squared_wasserstein_1d(np.array([[0.0]]), np.array([[1.0], [3.0]]))[0] == pytest.approx(5)
    assert sliced_wasserstein(np.array([[0.0], [2.0]]), np.array([[3.0], [1.0]]), 0) == pytest.approx(1)


def test_a_shift_is_its_length_over_the_root_of_the_dimension():
    """x and x + v: every projection is shifted by theta.v, E (theta.v)^2 = |v|^2 / d, whatever x."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((50, 4, 4, 1)), rng.standard_normal((4, 4, 1))
    found = sliced_wasserstein(x, x + v, seed=0, projections=20_000)
    assert found == pytest.approx(np.linalg.norm(v) / 4, rel=4 / np.sqrt(2 * 20_000))


def test_shifted_gaussians():
    rng = np.random.default_rng(1)
    d, n = 8, 20_000
    v = np.full(d, 0.7)
    found = sliced_wasserstein(rng.standard_normal((n, d)), v + rng.standard_normal((n - 5000, d)), 0, 300)
    assert found == pytest.approx(np.linalg.norm(v) / np.sqrt(d), rel=0.12)  # 3 / sqrt(2 projections)
    same = sliced_wasserstein(rng.standard_normal((n, d)), rng.standard_normal((n, d)), 0, 100)
    assert same < 0.03


def test_scaled_gaussians():
    """W_2 of N(0, 1) and N(0, 4) is 1 along every direction."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((20_000, 5)), 2 * rng.standard_normal((20_000, 5))
    assert sliced_wasserstein(x, y, 0, 200) == pytest.approx(1, rel=0.03)


def test_seed_and_bad_input():
    x, y = np.eye(4), 1 - np.eye(4)
    assert sliced_wasserstein(x, y, 3) == sliced_wasserstein(x, y, 3) != sliced_wasserstein(x, y, 4)
    assert sliced_wasserstein(x, x, 0) == 0
    with pytest.raises(ValueError, match="one example shape"):
        sliced_wasserstein(x, np.eye(3), 0)
    with pytest.raises(ValueError, match="projections must be at least 1"):
        sliced_wasserstein(x, y, 0, projections=0)
    with pytest.raises(ValueError, match="not finite"):
        sliced_wasserstein(x, np.full((4, 4), np.nan), 0)
