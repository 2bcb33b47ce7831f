"""The closed forms against each other, SciPy quadrature and known figures."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import multivariate_normal

from jaxdiff.evaluation import theory

PAIR = [np.eye(2)[:1], np.eye(2)[1:]]


def _pair(rho):
    return np.array([[1.0, rho], [rho, 1.0]])


@pytest.mark.parametrize("rho", (-0.6, 0.3, 0.95))
@pytest.mark.parametrize("sigma", (0.01, 1.0, 5.0))
def test_pair_residual_is_the_dense_formula(rho, sigma):
    composed = theory.view_precision(_pair(rho), PAIR, sigma)
    np.testing.assert_allclose(composed, np.eye(2) / (1 + sigma**2))
    power = theory.residual_power(_pair(rho), composed, sigma)
    np.testing.assert_allclose(theory.pair_residual_power(rho, sigma), power, rtol=1e-8)
    x = np.array([[0.4, -1.0], [2.0, 0.1]])
    expected = -x @ (np.linalg.inv(_pair(rho) + sigma**2 * np.eye(2)) - composed)
    got = theory.pair_residual(rho, jnp.asarray(x, jnp.float32), jnp.full(2, sigma))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rho", (0.3, 0.8))
def test_the_budget_of_the_pair_is_its_total_correlation(rho):
    integral, _ = quad(lambda v: theory.pair_residual_power(rho, np.sqrt(v)) / 2, 0, np.inf)
    np.testing.assert_allclose(integral, -0.5 * np.log(1 - rho**2), rtol=1e-6)
    np.testing.assert_allclose(theory.gaussian_total_correlation(_pair(rho), [[0], [1]]), integral, rtol=1e-6)


def test_the_budget_holds_for_views_of_several_values():
    factor = np.random.default_rng(0).normal(size=(4, 4))
    cov = factor @ factor.T + 0.3 * np.eye(4)
    views = [np.eye(4)[:1], np.eye(4)[1:]]

    def integrand(variance):
        composed = theory.view_precision(cov, views, np.sqrt(variance))
        return theory.residual_power(cov, composed, np.sqrt(variance)) / 2

    blocks = [[0], [1, 2, 3]]
    np.testing.assert_allclose(
        quad(integrand, 0, np.inf)[0], theory.gaussian_total_correlation(cov, blocks), rtol=1e-5
    )


def test_overlapping_views_of_the_autoregression():
    cov = 0.8 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    views = [np.eye(3)[:2], np.eye(3)[1:]]
    relative = {
        average: 25 * theory.residual_power(cov, theory.view_precision(cov, views, 5.0, average), 5.0)
        for average in (False, True)
    }
    assert round(relative[False], 3) == 0.963
    assert round(relative[True], 4) == 0.0015


def test_relative_entropy_of_gaussians():
    mean_p, cov_p = np.array([0.1, -0.3]), np.array([[0.5, 0.2], [0.2, 0.4]])
    mean_q, cov_q = np.zeros(2), 0.7 * np.eye(2)
    noise = 0.3**2 * np.eye(2)
    p, q = multivariate_normal(mean_p, cov_p + noise), multivariate_normal(mean_q, cov_q + noise)
    density = lambda y, x: p.pdf([x, y]) * (p.logpdf([x, y]) - q.logpdf([x, y]))  # noqa: E731
    integral, _ = dblquad(density, -6, 6, -6, 6, epsabs=1e-6)
    np.testing.assert_allclose(theory.gaussian_kl(mean_p, cov_p, mean_q, cov_q, 0.3), integral, atol=1e-5)
    assert abs(theory.gaussian_kl(mean_p, cov_p, mean_p, cov_p)) < 1e-12


@pytest.mark.parametrize("rho,figure", [(0.5, 0.13079), (0.9, 0.49452)])
def test_total_correlation_of_the_mixture(rho, figure):
    assert round(theory.mixture_total_correlation(rho), 5) == figure
    weights, means, covs = theory.sign_mixture(rho)
    one = lambda x: (multivariate_normal(2, 0.25).pdf(x) + multivariate_normal(-2, 0.25).pdf(x)) / 2  # noqa: E731
    grid = np.linspace(-5, 5, 801)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    joint = sum(
        w * multivariate_normal(m, c).pdf(points) for w, m, c in zip(weights, means, covs, strict=True)
    )
    product = np.outer(one(grid), one(grid))
    entropy = np.sum(joint * np.log(joint / product)) * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(entropy, figure, atol=1e-5)


def test_hermite_points_integrate_polynomials():
    points, weights = theory.hermite_points(2, 5)
    np.testing.assert_allclose(weights @ (points[:, 0] ** 4 * points[:, 1] ** 2), 3.0)
