"""Samplers with exact denoisers: order, moments, mixture weights, churn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.gaussian import fit_gaussian, gaussian_from_covariance
from jaxdiff.diffusion.mixture import GaussianMixture
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.sampling.samplers import Churn, sample

COV = np.array([[0.5, 0.3, 0.0], [0.3, 0.4, -0.1], [0.0, -0.1, 0.05]])
MEAN = np.array([0.3, -0.2, 0.1])
GAUSSIAN = gaussian_from_covariance(MEAN, COV)


def _flow(x, start, end):
    """The probability-flow ODE of a Gaussian: each eigendirection scales by the ratio of deviations."""
    eigenvalues, basis = np.linalg.eigh(COV)
    ratio = np.sqrt((eigenvalues + end**2) / (eigenvalues + start**2))
    return MEAN + (np.asarray(x, np.float64) - MEAN) @ (basis * ratio) @ basis.T


@pytest.mark.parametrize("method,order", [("euler", 1), ("heun", 2)])
def test_order_of_convergence(method, order):
    x = MEAN + 3.0 * np.random.default_rng(0).normal(size=(32, 3))
    errors = []
    for steps in (12, 24, 48):
        grid = karras_schedule(steps, 0.05, 3.0)[:-1]
        end = sample(GAUSSIAN.denoiser, jnp.asarray(x, jnp.float32), grid, method=method)
        errors.append(np.abs(np.asarray(end) - _flow(x, 3.0, 0.05)).max())
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(slopes - order) < 0.35), (errors, slopes)


def test_heun_recovers_mean_and_covariance():
    grid = karras_schedule(80)
    x = 80.0 * jax.random.normal(jax.random.key(0), (4000, 3))
    end = np.asarray(jax.jit(lambda x: sample(GAUSSIAN.denoiser, x, grid))(x), np.float64)
    np.testing.assert_allclose(end, _flow(x, 80.0, 0.0), atol=0.02)
    error = np.sqrt(np.outer(np.diag(COV), np.diag(COV)) + COV**2) / np.sqrt(4000)
    assert np.all(np.abs(np.cov(end.T) - COV) < 4 * error)
    assert np.all(np.abs(end.mean(axis=0) - MEAN) < 4 * np.sqrt(np.diag(COV) / 4000))


def test_low_rank_images_keep_their_shape_and_their_law():
    data = 0.3 * np.random.default_rng(0).normal(size=(20, 4, 4, 1))
    gaussian = fit_gaussian(data, rank=3)
    x = 80.0 * jax.random.normal(jax.random.key(1), (2000, 4, 4, 1))
    end = jax.jit(lambda x: sample(gaussian.denoiser, x, karras_schedule(64)))(x)
    assert end.shape == x.shape
    trace = np.trace(gaussian.covariance())
    np.testing.assert_allclose(np.var(np.asarray(end), axis=0).sum(), trace, rtol=0.03)


@pytest.mark.parametrize("churn", (None, Churn(10.0)))
def test_mixture_weights(churn):
    weights = np.array([0.15, 0.35, 0.5])
    means = jnp.array([[1.0, 1.0], [-1.0, 0.5], [0.0, -1.0]])
    mixture = GaussianMixture(
        jnp.asarray(weights, jnp.float32), means, jnp.tile(0.02 * jnp.eye(2), (3, 1, 1))
    )
    n = 8000
    x = 80.0 * jax.random.normal(jax.random.key(2), (n, 2))
    run = jax.jit(lambda x: sample(mixture.denoiser, x, karras_schedule(40), jax.random.key(3), churn=churn))
    end = run(x)
    counts = np.bincount(np.argmin(((end[:, None] - means) ** 2).sum(-1), axis=1), minlength=3) / n
    assert np.all(np.abs(counts - weights) < 4 * np.sqrt(weights * (1 - weights) / n)), counts


def _churned_covariance(s_noise, n=20_000):
    """Covariance after a strongly churned run from sigma = 2 to 0.2, started in the exact law."""
    key_data, key_noise, key_churn = jax.random.split(jax.random.key(4), 3)
    x = GAUSSIAN.sample(key_data, n) + 2.0 * jax.random.normal(key_noise, (n, 3))
    grid = karras_schedule(60, 0.2, 2.0)[:-1]
    run = jax.jit(lambda x: sample(GAUSSIAN.denoiser, x, grid, key_churn, churn=Churn(20.0, s_noise=s_noise)))
    return np.cov(np.asarray(run(x)).T)


def test_churn_keeps_the_law_and_s_noise_breaks_it():
    expected = COV + 0.04 * np.eye(3)
    error = np.sqrt(np.outer(np.diag(expected), np.diag(expected)) + expected**2) / np.sqrt(20_000)
    assert np.all(np.abs(_churned_covariance(1.0) - expected) < 4 * error + 0.002)
    assert np.trace(_churned_covariance(1.2)) > np.trace(expected) + 10 * error.max()


def test_churn_acts_inside_its_range_and_through_its_key():
    x = jax.random.normal(jax.random.key(5), (4, 3))
    grid = karras_schedule(6, 0.1, 2.0)
    plain = sample(GAUSSIAN.denoiser, x, grid)

    @partial(jax.jit, static_argnums=0)
    def run(churn, seed):
        return sample(GAUSSIAN.denoiser, x, grid, jax.random.key(seed), churn=churn)

    np.testing.assert_allclose(run(Churn(30.0, s_min=5.0), 0), plain, atol=1e-6)
    first = run(Churn(30.0), 0)
    np.testing.assert_array_equal(first, run(Churn(30.0), 0))
    assert np.abs(first - run(Churn(30.0), 1)).max() > 0.01
    # gamma is capped at sqrt(2) - 1: beyond, a larger s_churn changes nothing.
    np.testing.assert_allclose(first, run(Churn(1e6), 0), atol=1e-6)


@pytest.mark.parametrize("method,evaluations", [("heun", 9), ("euler", 5)])
def test_number_and_levels_of_evaluations(method, evaluations):
    seen = []

    def denoiser(x, sigma):
        jax.debug.callback(lambda s: seen.append(float(s)), sigma[0], ordered=True)
        return jnp.zeros_like(x)

    grid = karras_schedule(5, 0.1, 2.0)
    sample(denoiser, jnp.ones((2, 3)), grid, method=method).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == evaluations and min(seen) > 0
    expected = grid[:1].tolist() + np.repeat(grid[1:-1], 2 if method == "heun" else 1).tolist()
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_last_step_to_zero_is_the_denoiser():
    x = jax.random.normal(jax.random.key(6), (5, 3))
    np.testing.assert_allclose(
        sample(GAUSSIAN.denoiser, x, np.array([0.7, 0.0])), GAUSSIAN.denoiser(x, jnp.full(5, 0.7)), atol=1e-6
    )


def test_trajectory_passes_through_every_level():
    x = MEAN + 3.0 * jax.random.normal(jax.random.key(7), (8, 3))
    grid = karras_schedule(60, 0.05, 3.0)
    path = sample(GAUSSIAN.denoiser, x, grid, return_trajectory=True)
    assert path.shape == (61, 8, 3)
    np.testing.assert_array_equal(path[0], x)
    np.testing.assert_array_equal(path[-1], sample(GAUSSIAN.denoiser, x, grid))
    for i in (0, 20, 59):
        np.testing.assert_allclose(path[i], _flow(x, 3.0, grid[i]), atol=0.01)


def test_bad_arguments_are_named():
    x = jnp.ones((2, 3))
    run = lambda grid, *args, **more: sample(GAUSSIAN.denoiser, x, grid, *args, **more)  # noqa: E731
    grid = karras_schedule(4)
    with pytest.raises(ValueError, match="unknown sampler 'huen'; did you mean 'heun'"):
        run(grid, method="huen")
    with pytest.raises(ValueError, match="strictly decreasing"):
        run(grid[::-1])
    with pytest.raises(ValueError, match="strictly decreasing"):
        run(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="at least two levels"):
        run(np.array([1.0]))
    with pytest.raises(ValueError, match="needs a key"):
        run(grid, churn=Churn(1.0))
    with pytest.raises(ValueError, match="s_min <= s_max"):
        run(grid, jax.random.key(0), churn=Churn(1.0, 2.0, 1.0))
    with pytest.raises(ValueError, match="compile time"):
        jax.jit(run)(jnp.asarray(grid))
    with pytest.raises(ValueError, match="must be a batch"):
        sample(GAUSSIAN.denoiser, jnp.ones(3), grid)
