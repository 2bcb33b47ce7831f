"""The low-rank Gaussian against dense float64 formulas, autodiff and scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from jaxdiff.diffusion.gaussian import fit_gaussian, gaussian_from_covariance

SIGMAS = (0.002, 0.1, 1.0, 80.0)
# The Gaussian is an argument: one compilation per shape, not one per test.
DENOISE = jax.jit(lambda gaussian, x, sigma: gaussian.denoiser(x, sigma))
SCORE = jax.jit(lambda gaussian, x, sigma: gaussian.score(x, sigma))
LOG_PROB = jax.jit(lambda gaussian, x, sigma: gaussian.log_prob(x, sigma))
GRADIENT = jax.jit(jax.grad(lambda x, gaussian, sigma: gaussian.log_prob(x, sigma).sum()))


def _data(n=30, shape=(4, 3, 2), seed=0):
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    return (0.3 * rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)).reshape(n, *shape) - 0.2


def _dense(gaussian):
    """Mean and covariance in float64, from the parts."""
    u, eig, floor = (
        np.asarray(v, np.float64) for v in (gaussian.basis, gaussian.eigenvalues, gaussian.floor)
    )
    return np.asarray(gaussian.mean, np.float64).ravel(), (u * (eig - floor)) @ u.T + floor * np.eye(len(u))


def _noisy(gaussian, sigma, n=7, seed=1):
    mean, cov = _dense(gaussian)
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(mean, cov + sigma**2 * np.eye(len(mean)), size=n)
    return x.reshape(n, *gaussian.mean.shape).astype(np.float32)


@pytest.mark.parametrize("method,sigma", itertools.product(("ledoit_wolf", "ppca"), SIGMAS))
def test_denoiser_score_and_density_match_dense_formulas(method, sigma):
    gaussian = fit_gaussian(_data(), method, rank=5)
    x = _noisy(gaussian, sigma)
    s = jnp.full(len(x), sigma, jnp.float32)
    mean, cov = _dense(gaussian)
    centered = x.reshape(len(x), -1).astype(np.float64) - mean
    total = cov + np.float64(np.float32(sigma)) ** 2 * np.eye(len(mean))
    score = -np.linalg.solve(total, centered.T).T
    expected = mean + centered @ np.linalg.solve(total, cov)

    got = np.asarray(DENOISE(gaussian, x, s)).reshape(len(x), -1)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    scale = np.abs(score).max()
    np.testing.assert_allclose(
        np.asarray(SCORE(gaussian, x, s)).reshape(len(x), -1) / scale, score / scale, atol=2e-4
    )
    log_prob = multivariate_normal(mean, total).logpdf(x.reshape(len(x), -1))
    np.testing.assert_allclose(LOG_PROB(gaussian, x, s), log_prob, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_gradient_of_the_density_and_matches_the_denoiser(sigma):
    gaussian = fit_gaussian(_data())
    x = jnp.asarray(_noisy(gaussian, sigma))
    s = jnp.full(len(x), sigma, jnp.float32)
    gradient = GRADIENT(x, gaussian, s)
    score = SCORE(gaussian, x, s)
    np.testing.assert_allclose(gradient, score, rtol=1e-4, atol=1e-5 * float(jnp.abs(score).max()))
    np.testing.assert_allclose(DENOISE(gaussian, x, s), x + sigma**2 * score, rtol=1e-4, atol=5e-5)


def test_zero_noise_gives_back_points_of_the_support():
    data = _data(n=6)
    gaussian = fit_gaussian(data, "empirical")
    denoised = gaussian.denoiser(jnp.asarray(data, jnp.float32), jnp.zeros(6))
    np.testing.assert_allclose(denoised, data, atol=1e-5)
    np.testing.assert_allclose(
        fit_gaussian(data).denoiser(jnp.ones((2, 4, 3, 2)), jnp.zeros(2)), 1.0, atol=1e-5
    )


@pytest.mark.parametrize("n", (9, 200))
def test_ledoit_wolf_is_scikit_learns(n):
    data = _data(n=n)
    expected = LedoitWolf().fit(data.reshape(n, -1))
    gaussian = fit_gaussian(data, "ledoit_wolf")
    assert gaussian.basis.shape[1] == min(n - 1, 24)
    np.testing.assert_allclose(gaussian.covariance(), expected.covariance_, atol=1e-6)
    np.testing.assert_allclose(gaussian.mean.ravel(), expected.location_, atol=1e-6)


def test_ppca_is_scikit_learns_when_there_are_enough_examples_and_keeps_the_trace_when_not():
    data = _data(n=300)
    pca = PCA(n_components=7).fit(data.reshape(300, -1))
    gaussian = fit_gaussian(data, "ppca", rank=7)
    np.testing.assert_allclose(gaussian.covariance(), pca.get_covariance() * 299 / 300, atol=1e-5)
    few = _data(n=10)
    trace = np.trace(fit_gaussian(few, "ppca", rank=4).covariance())
    np.testing.assert_allclose(trace, np.var(few.reshape(10, -1), axis=0).sum(), rtol=1e-5)


def test_truncation_keeps_trace_and_leading_variances():
    full, cut = fit_gaussian(_data()), fit_gaussian(_data(), rank=4)
    assert cut.basis.shape == (24, 4)
    np.testing.assert_allclose(cut.eigenvalues, full.eigenvalues[:4], rtol=1e-6)
    np.testing.assert_allclose(np.trace(cut.covariance()), np.trace(full.covariance()), rtol=1e-5)


def test_from_covariance_round_trip_and_compactness():
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(8, 3))
    cov = factor @ factor.T + 0.5 * np.eye(8)
    gaussian = gaussian_from_covariance(np.arange(8.0).reshape(2, 4), cov)
    assert gaussian.basis.shape == (8, 3)
    np.testing.assert_allclose(gaussian.covariance(), cov, atol=1e-5)


def test_isotropic_gaussian_has_no_basis_and_still_works():
    gaussian = gaussian_from_covariance(np.ones(5), 0.25 * np.eye(5))
    assert gaussian.basis.shape == (5, 0)
    np.testing.assert_allclose(gaussian.denoiser(jnp.full((2, 5), 3.0), jnp.full(2, 0.5)), 2.0, rtol=1e-6)
    assert gaussian.marginal(lambda x: x[:, :2], 1.0, (2,)).basis.shape == (2, 0)


def _pool(x):
    return x.reshape(len(x), 2, 2, 3, 2).mean(axis=2)


VIEWS = {
    "pool": (_pool, 0.5, (2, 3, 2)),
    "crop": (lambda x: x[:, 1:3, :2], 1.0, (2, 2, 2)),
    "tiny crop": (lambda x: x[:, :1, :1], 1.0, (1, 1, 2)),
    "weighted gray": (lambda x: 0.6 * x[..., :1] + 0.3 * x[..., 1:], 0.45, (4, 3, 1)),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("rank", (3, None))
def test_marginal_is_the_law_of_the_view(view, rank):
    forward, c, shape = VIEWS[view]
    gaussian = fit_gaussian(_data(), rank=rank)
    marginal = gaussian.marginal(forward, c, shape)
    matrix = np.asarray(forward(np.eye(24).reshape(24, 4, 3, 2))).reshape(24, -1).T
    mean, cov = _dense(gaussian)
    np.testing.assert_allclose(matrix @ matrix.T, c * np.eye(len(matrix)), atol=1e-12)
    assert marginal.mean.shape == shape
    np.testing.assert_allclose(marginal.mean.ravel(), matrix @ mean, atol=1e-6)
    np.testing.assert_allclose(marginal.covariance(), matrix @ cov @ matrix.T, atol=1e-6)


def test_marginal_of_a_zero_filled_mask_denoises_exactly_on_visible_pixels():
    mask = (np.arange(24).reshape(4, 3, 2) % 3 > 0).astype(np.float32)
    gaussian = fit_gaussian(_data())
    marginal = gaussian.marginal(lambda x: mask * x, 1.0, (4, 3, 2))
    visible = mask.ravel() > 0
    mean, cov = _dense(gaussian)
    y = mask * _noisy(gaussian, 0.7)
    block = cov[np.ix_(visible, visible)]
    gain = np.linalg.solve(block + 0.49 * np.eye(visible.sum()), block)
    expected = mean[visible] + (y.reshape(len(y), -1)[:, visible] - mean[visible]) @ gain
    got = np.asarray(marginal.denoiser(y, jnp.full(len(y), 0.7))).reshape(len(y), -1)
    np.testing.assert_allclose(got[:, visible], expected, atol=1e-5)
    np.testing.assert_allclose(got[:, ~visible], 0.0, atol=1e-7)


def test_samples_have_the_mean_and_the_covariance():
    gaussian = fit_gaussian(_data(shape=(3, 2)), rank=2)
    draws = np.asarray(gaussian.sample(jax.random.key(0), 40_000)).reshape(-1, 6)
    mean, cov = _dense(gaussian)
    error = np.sqrt(np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 200  # standard error of a covariance
    assert np.all(np.abs(np.cov(draws.T) - cov) < 5 * error)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(cov)) / 200)


def test_bad_arguments_are_named():
    data = _data()
    with pytest.raises(ValueError, match="did you mean 'ledoit_wolf'"):
        fit_gaussian(data, "ledoit_wolff")
    with pytest.raises(ValueError, match="at least two examples"):
        fit_gaussian(data[:1])
    with pytest.raises(ValueError, match="not finite"):
        fit_gaussian(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match=r"rank must lie in \[1, 24\]"):
        fit_gaussian(data, rank=25)
    with pytest.raises(ValueError, match="positive semi-definite"):
        gaussian_from_covariance(np.zeros(2), np.diag([1.0, -1.0]))
    gaussian = fit_gaussian(data)
    with pytest.raises(ValueError, match="A A\\^T = c I"):
        gaussian.marginal(lambda x: x, None, (4, 3, 2))
    with pytest.raises(ValueError, match="expected out_shape"):
        gaussian.marginal(lambda x: x, 1.0, (2, 3, 2))
    with pytest.raises(ValueError, match="one sigma per example"):
        gaussian.denoiser(jnp.zeros((2, 4, 3, 2)), jnp.zeros(()))
    with pytest.raises(ValueError, match=r"shape \(4, 3, 2\)"):
        gaussian.denoiser(jnp.zeros((2, 24)), jnp.zeros(2))
