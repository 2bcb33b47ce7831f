"""Draws of X given y follow its closed form, and EM finds mean and covariance from corrupted data alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import fit_gaussian, gaussian_from_covariance
from jaxdiff.diffusion.gaussian_em import Chunk, covariance_product, fit_gaussian_em, posterior_draws

D, COUNT = 4, 6000
MEAN = np.array([0.5, -0.3, 0.2, 0.0])
LOADING = np.array([[0.8, 0.0], [0.7, 0.3], [0.2, 0.6], [-0.3, 0.5]])
COV = LOADING @ LOADING.T + 0.05 * np.eye(D)
LAW = gaussian_from_covariance(MEAN, COV)


def _keys(count, seed=1):
    return jax.random.split(jax.random.key(seed), count)


def _chunks(operator, sigma_y, count=COUNT, parts=2):
    """Measurements of draws of LAW, in equal chunks."""
    chunks = []
    for part in range(parts):
        size = count // parts
        drawn = operator.draw(_keys(size, 10 + part))
        x = LAW.sample(jax.random.key(20 + part), size)
        y = drawn(x)
        y = drawn.restrict(y + sigma_y * jax.random.normal(jax.random.key(30 + part), y.shape))
        chunks.append(Chunk(drawn, y, jnp.full((size,), sigma_y)))
    return chunks


def test_covariance_product():
    x = jax.random.normal(jax.random.key(0), (5, D))
    np.testing.assert_allclose(covariance_product(LAW, x), np.asarray(x) @ COV, atol=1e-6)


@pytest.mark.parametrize("sigma_y", [0.0, 0.4])
def test_draws_follow_the_law_given_y(sigma_y):
    """Coordinates 0 and 2 are seen; the mean of a pair is exact, the covariance that of 8000 draws."""
    operator = operators.build("mask", (D,), mask=[1, 0, 1, 0])
    y = jnp.tile(jnp.array([[0.9, jnp.nan, -0.4, jnp.nan]]), (4000, 1))  # what is hidden does not matter
    draws = posterior_draws(
        LAW, Chunk(operator, y, jnp.full((4000,), sigma_y)), jax.random.key(2), cg_steps=6
    )
    assert draws.shape == (2, 4000, D)
    a = np.eye(D)[[0, 2]]
    gain = COV @ a.T @ np.linalg.inv(a @ COV @ a.T + sigma_y**2 * np.eye(2))
    mean, cov = MEAN + gain @ (np.array([0.9, -0.4]) - a @ MEAN), COV - gain @ a @ COV
    np.testing.assert_allclose(draws.mean(axis=0), np.tile(mean, (4000, 1)), atol=1e-4)
    np.testing.assert_allclose(np.cov(np.asarray(draws[0]).T), cov, atol=0.02)
    if sigma_y > 0:
        assert np.abs(cov - (COV - COV @ a.T @ np.linalg.pinv(a @ COV @ a.T) @ a @ COV)).max() > 0.05


@pytest.mark.parametrize("name,args,sigma_y", [("pixel_mask", {"p": 0.6}, 0.05), ("identity", {}, 0.6)])
def test_em_recovers_mean_and_covariance(name, args, sigma_y):
    """60 % of the values missing, or noise as large as the data.

    Tolerance: the pairs of coordinates that are seen together are 16 % of 6000, so an entry of the covariance
    has a standard error of about sqrt(2) 0.6 / sqrt(960) = 0.03; four of them, and half of that for the mean.
    """
    chunks = _chunks(operators.build(name, (D,), **args), sigma_y)
    fitted = fit_gaussian_em(chunks, 40, jax.random.key(3), rank=2, cg_steps=6)
    zero_filled = fit_gaussian(np.concatenate([chunk.y for chunk in chunks]), "ppca", 2)
    mean_error, error = np.abs(fitted.mean - MEAN).max(), np.abs(fitted.covariance() - COV).max()
    assert mean_error < 0.06 and error < 0.12, (mean_error, error)
    assert np.abs(zero_filled.covariance() - COV).max() > 2 * 0.12
    if name == "pixel_mask":
        assert np.abs(zero_filled.mean - MEAN).max() > 0.25


@pytest.mark.slow
def test_em_on_pooled_images_keeps_what_pooling_sees():
    """The covariance of 2 x 2 means is identified, whatever the start says of the rest."""
    shape = (4, 4, 1)
    rng = np.random.default_rng(0)
    law = gaussian_from_covariance(np.zeros(shape), np.cov(rng.normal(size=(16, 40)) * 0.5))
    operator = operators.build("avg_pool", shape, factor=2)
    x = law.sample(jax.random.key(4), 4000)
    chunks = [Chunk(operator, operator(x), jnp.zeros(4000))]
    fitted = fit_gaussian_em(chunks, 6, jax.random.key(5), method="empirical", cg_steps=8)
    pooled = np.cov(np.asarray(operator(fitted.sample(jax.random.key(6), 40_000))).reshape(-1, 4).T)
    np.testing.assert_allclose(pooled, np.cov(np.asarray(operator(x)).reshape(-1, 4).T), atol=0.006)


def test_the_same_key_gives_the_same_fit():
    chunks = _chunks(operators.build("pixel_mask", (D,), p=0.5), 0.0, count=64)
    first, second = (
        fit_gaussian_em(given, 2, jax.random.key(0), rank=2, cg_steps=6)
        for given in (chunks, [tuple(chunk) for chunk in chunks])
    )
    np.testing.assert_array_equal(first.covariance(), second.covariance())


def test_what_cannot_be_fitted_is_refused():
    chunks = _chunks(operators.build("pixel_mask", (D,), p=0.5), 0.0, count=64)
    with pytest.raises(ValueError, match="laps must be at least 1"):
        fit_gaussian_em(chunks, 0, jax.random.key(0))
    with pytest.raises(ValueError, match="not an iterator"):
        fit_gaussian_em(iter(chunks), 2, jax.random.key(0))
    with pytest.raises(ValueError, match="no measurements"):
        fit_gaussian_em([], 2, jax.random.key(0))
    with pytest.raises(ValueError, match="fit_gaussian"):
        fit_gaussian_em(chunks, 1, jax.random.key(0), method="pca", cg_steps=4)
