"""KID: unbiased exactly, by enumeration of every possible sample of small discrete laws."""

from itertools import product

import numpy as np
import pytest

from jaxdiff.evaluation.kid import kernel_distance, polynomial_mmd

POINTS = np.array([[0.5, -1.0], [1.0, 0.0], [-0.3, 0.8]])
P, Q = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])


def _population(p, q):
    kernel = (POINTS @ POINTS.T / 2 + 1) ** 3
    return p @ kernel @ p + q @ kernel @ q - 2 * p @ kernel @ q


def _expectation(estimate, p, q, n, m):
    """E estimate(x, y) over all samples of n and m points."""
    total = 0.0
    for chosen in product(range(3), repeat=n + m):
        x, y = list(chosen[:n]), list(chosen[n:])
        total += np.prod(p[x]) * np.prod(q[y]) * estimate(POINTS[x], POINTS[y])
    return total


@pytest.mark.parametrize("n, m", [(2, 2), (3, 2)])
def test_unbiased(n, m):
    assert _expectation(polynomial_mmd, P, Q, n, m) == pytest.approx(_population(P, Q), rel=1e-12)
    assert _expectation(polynomial_mmd, P, P, n, m) == pytest.approx(0, abs=1e-13)


def test_the_biased_estimate_fails_the_same_check():
    def with_itself(x, y):
        k = [(a @ b.T / 2 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
        return k[0].mean() + k[1].mean() - 2 * k[2].mean()

    assert _expectation(with_itself, P, P, 2, 2) > 0.1


def test_gaussians_in_closed_form():
    """In one dimension E k(x, y) = sum_j C(3, j) E x^j E y^j: MMD^2 sums squared differences of moments."""
    rng = np.random.default_rng(0)
    shift = 0.5
    values = [
        polynomial_mmd(rng.standard_normal((100, 1)), shift + rng.standard_normal((100, 1)))
        for _ in range(400)
    ]
    moments = (shift, shift**2, 3 * shift + shift**3)  # E y^j - E x^j
    expected = 3 * moments[0] ** 2 + 3 * moments[1] ** 2 + moments[2] ** 2
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / 20)


def test_the_standard_error_is_the_spread_of_repeated_estimates():
    rng = np.random.default_rng(1)
    found = [
        kernel_distance(rng.standard_normal((200, 3)), 0.4 + rng.standard_normal((240, 3)), seed)
        for seed in range(200)
    ]
    assert (found[0]["subsets"], found[0]["subset_size"]) == (10, 20)
    spread = np.std([f["mean"] for f in found])
    stated = np.sqrt(np.mean([f["standard_error"] ** 2 for f in found]))
    assert stated == pytest.approx(spread, rel=0.2)


def test_the_size_of_a_subset_does_not_move_the_mean():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((4000, 2)), 0.3 + rng.standard_normal((4000, 2))
    small, large = (kernel_distance(x, y, 0, subset_size=size) for size in (20, 400))
    error = np.hypot(small["standard_error"], large["standard_error"])
    assert abs(small["mean"] - large["mean"]) < 4 * error
    assert kernel_distance(x, y, 0, subsets=5, subset_size=100)["subsets"] == 5


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="dimension 2 and 3"):
        polynomial_mmd(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="no two disjoint subsets of 6"):
        kernel_distance(np.zeros((10, 2)), np.zeros((10, 2)), 0, subset_size=6)
    with pytest.raises(ValueError, match="at least 2 subsets"):
        kernel_distance(np.zeros((10, 2)), np.zeros((10, 2)), 0, subsets=1)
    with pytest.raises(ValueError, match="not finite"):
        polynomial_mmd(np.full((3, 2), np.nan), np.zeros((3, 2)))
