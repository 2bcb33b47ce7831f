"""The noise levels that count as the nats do."""

import jax
import numpy as np
import pytest

from jaxdiff.diffusion.noise import NatsNoise, edm_weight


@pytest.mark.parametrize("sigma_data", [0.3, 1.0])
def test_edm_weighted_mean_is_the_integral_of_the_nats(sigma_data):
    """E w(sigma) l(sigma) is proportional to int l / sigma^2 d ln sigma, with the same factor for every l."""
    low, high, count = 0.02, 20.0, 4096
    sigma = np.asarray(
        NatsNoise(low, high, sigma_data, 0.0).sample_sigma(jax.random.key(0), count), np.float64
    )
    grid = np.geomspace(low, high, 20_001)
    factors = []
    for scale in (0.05, 0.5, 5.0):
        mean = np.mean(edm_weight(sigma, sigma_data) * sigma**2 * scale**2 / (sigma**2 + scale**2))
        factors.append(mean / np.trapezoid(scale**2 / (grid**2 + scale**2), np.log(grid)))
    np.testing.assert_allclose(factors, factors[0], rtol=2e-3)


def test_spread_is_the_share_that_is_uniform_in_ln_sigma():
    low, high = 0.01, 80.0
    sigma = np.asarray(NatsNoise(low, high, 0.5, spread=0.5).sample_sigma(jax.random.key(1), 4000))
    assert low <= sigma.min() and sigma.max() <= high
    above = np.mean(sigma > 8.0)  # a quarter of the range; the nats have almost nothing there
    assert above == pytest.approx(0.5 * np.log(10) / np.log(8000), abs=2e-3)


def test_draws_are_stratified_and_in_no_order():
    """With spread 1, one draw lies in each n-th of ln sigma, and the rows of a batch are not sorted by it."""
    sigma = np.asarray(NatsNoise(0.1, 10.0, 0.5, spread=1.0).sample_sigma(jax.random.key(2), 64))
    shares = np.floor(64 * np.log(sigma / 0.1) / np.log(100) - 1e-4).astype(int)
    assert len(np.unique(np.clip(shares, 0, 63))) >= 62  # rounding may move one at an edge
    assert np.abs(np.corrcoef(np.arange(64), np.log(sigma))[0, 1]) < 0.5


def test_one_level():
    sigma = NatsNoise(0.7, 0.7, 0.5).sample_sigma(jax.random.key(0), 5)
    np.testing.assert_allclose(sigma, 0.7, rtol=1e-5)
