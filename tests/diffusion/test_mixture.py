"""Gaussian mixtures against SciPy's densities, autodiff and the single Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.mixture import GaussianMixture

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[1.0, -1.0, 0.0], [-1.0, 0.5, 0.5], [0.2, 0.2, -2.0]])
COVS = np.stack(
    [np.diag([0.3, 0.1, 0.2]), 0.2 * np.eye(3) + 0.1, np.array([[0.5, 0.2, 0], [0.2, 0.3, 0], [0, 0, 0.01]])]
)
MIXTURE = GaussianMixture(*(jnp.asarray(v, jnp.float32) for v in (WEIGHTS, MEANS, COVS)))
LOG_PROB, RESPONSIBILITIES, DENOISE, SCORE = map(
    jax.jit, (MIXTURE.log_prob, MIXTURE.responsibilities, MIXTURE.denoiser, MIXTURE.score)
)
GRADIENT = jax.jit(jax.grad(lambda x, sigma: MIXTURE.log_prob(x, sigma).sum()))


def _points(sigma, n=16):
    rng = np.random.default_rng(0)
    return (np.repeat(MEANS, n, axis=0) + (0.5 + sigma) * rng.normal(size=(3 * n, 3))).astype(np.float32)


@pytest.mark.parametrize("sigma", (0.002, 0.3, 2.0, 80.0))
def test_density_denoiser_and_score(sigma):
    x = _points(sigma)
    s = jnp.full(len(x), sigma, jnp.float32)
    eye = np.float64(np.float32(sigma)) ** 2 * np.eye(3)
    logs = np.stack(
        [
            np.log(w) + multivariate_normal(m, c + eye).logpdf(x)
            for w, m, c in zip(WEIGHTS, MEANS, COVS, strict=True)
        ],
        1,
    )
    np.testing.assert_allclose(LOG_PROB(x, s), logsumexp(logs, axis=1), rtol=1e-4, atol=1e-3)
    posterior = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    np.testing.assert_allclose(RESPONSIBILITIES(x, s), posterior, atol=1e-3)
    parts = np.stack([m + (x - m) @ np.linalg.solve(c + eye, c) for m, c in zip(MEANS, COVS, strict=True)], 1)
    expected = np.einsum("bk,bkd->bd", posterior, parts)
    np.testing.assert_allclose(DENOISE(x, s), expected, atol=1e-3)
    gradient = GRADIENT(x, s)
    np.testing.assert_allclose(SCORE(x, s), gradient, rtol=1e-3, atol=1e-4 * float(jnp.abs(gradient).max()))


def test_one_component_is_the_gaussian_whatever_the_example_shape():
    cov = COVS[1]
    gaussian = gaussian_from_covariance(MEANS[0].reshape(1, 3, 1), cov)
    single = GaussianMixture(
        jnp.ones(1), jnp.asarray(MEANS[:1], jnp.float32), jnp.asarray(cov[None], jnp.float32)
    )
    x = jnp.asarray(_points(1.0)).reshape(-1, 1, 3, 1)
    sigma = jnp.linspace(0.01, 3.0, len(x))
    both = jax.jit(lambda model, x, s: (model.denoiser(x, s), model.log_prob(x, s)))
    got, expected = both(single, x, sigma), both(gaussian, x, sigma)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=1e-5)


def test_samples_have_the_weights_and_the_moments():
    n = 40_000
    draws = np.asarray(jax.jit(MIXTURE.sample, static_argnums=1)(jax.random.key(0), n))
    counts = np.asarray(RESPONSIBILITIES(draws, jnp.full(n, 1e-3))).mean(axis=0)
    assert np.all(np.abs(counts - WEIGHTS) < 5 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / n))
    mean = WEIGHTS @ MEANS
    cov = np.einsum("k,kij->ij", WEIGHTS, COVS) + (WEIGHTS * (MEANS - mean).T) @ (MEANS - mean)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(cov) / n))
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.03)


def test_refuses_examples_of_another_size():
    with pytest.raises(ValueError, match="over 3 values"):
        MIXTURE.score(jnp.zeros((2, 4)), jnp.ones(2))
