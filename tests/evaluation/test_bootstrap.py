"""Bootstrap intervals: coverage on a known law, pairing, seeds."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxdiff.evaluation.bootstrap import bootstrap_mean, paired_difference


def test_coverage_on_normal_data():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        interval = bootstrap_mean(rng.normal(1.0, 2.0, size=60), trial, level=0.9, n_resamples=500)
        hits += interval["low"] < 1.0 < interval["high"]
    assert 0.84 < hits / 300 < 0.95  # 0.9 with a standard error of 0.017


def test_width_is_that_of_the_normal_approximation_and_grows_with_the_level():
    values = np.random.default_rng(1).normal(3.0, 1.0, size=400)
    for level in (0.5, 0.95):
        interval = bootstrap_mean(values, 0, level, n_resamples=10_000)
        half = norm.ppf((1 + level) / 2) * values.std() / 20
        np.testing.assert_allclose(interval["high"] - interval["mean"], half, rtol=0.06)
        np.testing.assert_allclose(interval["mean"] - interval["low"], half, rtol=0.06)
        assert interval["mean"] == values.mean()


def test_pairing_removes_what_is_shared():
    rng = np.random.default_rng(2)
    shared = 10 * rng.normal(size=200)
    a, b = shared + 0.3 + 0.1 * rng.normal(size=200), shared
    paired = paired_difference(a, b, 0)
    assert 0.25 < paired["low"] < 0.3 < paired["high"] < 0.35
    assert paired_difference(b, b, 0) == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert bootstrap_mean(a, 0)["high"] - bootstrap_mean(a, 0)["low"] > 1


def test_same_seed_same_interval():
    values = np.random.default_rng(3).normal(size=50)
    assert bootstrap_mean(values, 7) == bootstrap_mean(values, 7)
    assert bootstrap_mean(values, 7) != bootstrap_mean(values, 8)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least two values"):
        bootstrap_mean(np.ones(1), 0)
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        bootstrap_mean(np.array([1.0, np.nan, 2.0]), 0)
    with pytest.raises(ValueError, match="0.95, not 95"):
        bootstrap_mean(np.ones(3), 0, level=95)
    with pytest.raises(ValueError, match="same images twice"):
        paired_difference(np.ones(3), np.ones(4), 0)
