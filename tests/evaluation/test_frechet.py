"""The Frechet distance against SciPy's matrix root, closed forms, and the noise between halves of one set."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from jaxdiff.evaluation.frechet import (
    Moments,
    expected_noise,
    frechet_distance,
    half_split_noise,
    moments,
)

RNG = np.random.default_rng(0)


def _features(n, d, scale=1.0, shift=0.0, rng=RNG):
    mixing = np.random.default_rng(d).standard_normal((d, d)) / np.sqrt(d)
    return scale * rng.standard_normal((n, d)) @ mixing + shift


def test_agrees_with_scipys_root():
    first, second = moments(_features(300, 12)), moments(_features(200, 12, 1.7, 0.3))
    root = sqrtm(first.covariance @ second.covariance).real
    expected = np.sum((first.mean - second.mean) ** 2) + np.trace(
        first.covariance + second.covariance - 2 * root
    )
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-8)
    assert moments(_features(300, 12)).covariance.dtype == np.float64


def test_commuting_covariances_have_a_closed_form():
    a, b = np.array([4.0, 1.0, 0.0]), np.array([1.0, 9.0, 0.0])
    first, second = Moments(np.array([0.0, 0.0, 2.0]), np.diag(a), 9), Moments(np.zeros(3), np.diag(b), 9)
    expected = 4 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-12)


def test_identical_sets_give_zero_singular_or_not():
    for n in (400, 5):  # 5 vectors in 40 dimensions: rank 4
        law = moments(_features(n, 40))
        assert frechet_distance(law, law) < 1e-11 * np.trace(law.covariance)


def test_singular_covariances_are_exact():
    """Rank one each, at an angle: the overlap is |cos| times both lengths, to more than 1e-8."""
    u = np.zeros(50)
    u[0] = 1
    v = np.zeros(50)
    v[:2] = 0.6, 0.8
    first, second = Moments(np.zeros(50), 4 * np.outer(u, u), 9), Moments(np.zeros(50), 9 * np.outer(v, v), 9)
    assert frechet_distance(first, second) == pytest.approx(4 + 9 - 2 * 2 * 3 * 0.6, abs=1e-12)
    orthogonal = Moments(np.zeros(50), np.diag(np.arange(50) == 7).astype(float), 9)
    assert frechet_distance(first, orthogonal) == pytest.approx(5, abs=1e-12)


def test_expected_noise_is_what_halves_of_one_set_get():
    features = _features(4000, 8)
    law = moments(features)
    found = half_split_noise(features, seed=1, repeats=40)
    # Halves drawn without replacement differ by as much as two independent sets of their size.
    expected = expected_noise(law.covariance, 2000, 2000)
    assert found["count"] == 2000
    assert found["mean"] == pytest.approx(expected, abs=5 * found["std"] / np.sqrt(40))
    assert found["low"] < expected < found["high"]
    # the mutation: the means alone explain less than what is found
    means_only = (1 / 2000 + 1 / 2000) * np.trace(law.covariance)
    assert found["mean"] - means_only > 5 * found["std"] / np.sqrt(40)


def test_expected_noise_in_one_dimension():
    """E (m1 - m2)^2 + E (s1 - s2)^2 = (1/n1 + 1/n2) (v + v / 2) to first order."""
    assert expected_noise(np.array([[3.0]]), 100, 300) == pytest.approx((1 / 100 + 1 / 300) * 4.5)
    assert expected_noise(np.array([[3.0]]), 100) == pytest.approx(0.045)
    assert expected_noise(np.zeros((2, 2)), 10, 10) == 0


def test_bad_input_is_named():
    good = moments(_features(20, 3))
    with pytest.raises(ValueError, match="dimension 3 and 4"):
        frechet_distance(good, moments(_features(20, 4)))
    with pytest.raises(ValueError, match="not positive semi-definite"):
        frechet_distance(good, good._replace(covariance=np.diag([1.0, 1.0, -0.1])))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(good, good._replace(mean=np.array([0, np.nan, 0])))
    with pytest.raises(ValueError, match="not symmetric"):
        frechet_distance(good, good._replace(covariance=np.triu(np.ones((3, 3)))))
    with pytest.raises(ValueError, match="1 feature values are not finite"):
        moments(np.array([[1.0], [np.inf]]))
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        moments(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least 4 features"):
        half_split_noise(np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match="counts must be at least 1"):
        expected_noise(np.eye(2), 0)
