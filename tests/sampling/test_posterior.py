"""The posterior denoiser is exact for Gaussian data, and sampling with it gives the law of X given y."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.sampling import Churn, posterior_denoiser, sample

SHAPE, D, BATCH = (4, 4, 1), 16, 6


def _law():
    """Smooth images: covariance falling with the distance of the pixels, and a mean that is not zero."""
    place = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(D, 2)
    distance = np.linalg.norm(place[:, None] - place[None], axis=-1)
    return gaussian_from_covariance(np.linspace(-0.4, 0.4, D).reshape(SHAPE), 0.3 * np.exp(-distance / 3))


LAW = _law()
MEAN, COV = np.asarray(LAW.mean, np.float64).ravel(), np.asarray(LAW.covariance(), np.float64)
CASES = {
    "noise": ("identity", {}, 0.4),
    "pooling": ("avg_pool", {"factor": 2}, 0.0),
    "noisy pooling": ("avg_pool", {"factor": 2}, 0.3),
    "blur": ("gaussian_blur", {"std": 0.7}, 0.2),
    "mask": ("pixel_mask", {"p": 0.6}, 0.0),
    "noisy mask": ("pixel_mask", {"p": 0.6}, 0.3),
}


def _build(case, batch=BATCH, same=False):
    """The operator with its masks drawn, one for each example or one for all, and sigma_y (B,)."""
    name, args, sigma_y = CASES[case]
    seeds = jnp.zeros(batch, int) if same else jnp.arange(batch)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(seeds)
    return operators.build(name, SHAPE, **args).draw(keys), jnp.full((batch,), sigma_y)


def _matrix(operator, row):
    """A of one example of a batch, (out, D), from its columns."""
    one = operator.replace(params=jax.tree.map(lambda leaf: leaf[row][None].repeat(D, 0), operator.params))
    return np.asarray(one(jnp.eye(D).reshape(D, *SHAPE)), np.float64).reshape(D, -1).T


def _condition(mean, cov, a, y, sigma_y):
    """Mean and covariance of X given y = A X + sigma_y n, for X ~ N(mean, cov), in float64."""
    inner = a @ cov @ a.T + sigma_y**2 * np.eye(len(a))
    gain = cov @ a.T @ np.linalg.pinv(inner, rcond=1e-10, hermitian=True)
    return mean + gain @ (y - a @ mean), cov - gain @ a @ cov


@pytest.mark.parametrize("case", CASES)
def test_exact_for_gaussian_data(case):
    operator, sigma_y = _build(case)
    key_x, key_y, key_noise = jax.random.split(jax.random.key(0), 3)
    y = operator(LAW.sample(key_y, BATCH))
    y = operator.restrict(y + sigma_y[0] * jax.random.normal(key_y, y.shape))
    run = jax.jit(
        lambda x, s, sigma_y: posterior_denoiser(LAW.denoiser, operator, y, sigma_y, cg_steps=24)(x, s)
    )
    for level in (0.1, 1.0, 20.0):
        x = LAW.sample(key_x, BATCH) + level * jax.random.normal(key_noise, (BATCH, *SHAPE))
        sigma = jnp.full((BATCH,), level)
        got = np.asarray(run(x, sigma, sigma_y)).reshape(BATCH, D)
        for row in range(BATCH):
            denoised, left = _condition(MEAN, COV, np.eye(D), np.asarray(x[row], np.float64).ravel(), level)
            a, y_row = _matrix(operator, row), np.asarray(y[row], np.float64).ravel()
            expected, _ = _condition(denoised, left, a, y_row, float(sigma_y[0]))
            np.testing.assert_allclose(got[row], expected, atol=3e-3)
        # The oracle's own mutation: another noise of y is far outside the tolerance.
        other = np.asarray(run(x, sigma, sigma_y + 0.3)).reshape(BATCH, D)
        assert np.abs(other - got).max() > 0.015


@pytest.mark.parametrize("case", CASES)
def test_the_sampler_gives_the_law_given_y(case):
    """With affine denoisers the deterministic sampler is affine: its slope gives the covariance exactly."""
    operator, sigma_y = _build(case, D + 1, same=True)
    y = operator(jnp.tile(LAW.sample(jax.random.key(4), 1), (D + 1, 1, 1, 1)))
    points = np.concatenate([np.zeros((1, D)), np.eye(D)]).reshape(D + 1, *SHAPE)
    posterior = posterior_denoiser(LAW.denoiser, operator, y, sigma_y, cg_steps=24)
    grid = karras_schedule(64)
    run = jax.jit(lambda x: sample(posterior, x, grid))
    end = np.asarray(run(80.0 * jnp.asarray(points, jnp.float32)), np.float64).reshape(D + 1, D)
    mean, cov = _condition(
        MEAN, COV, _matrix(operator, 0), np.asarray(y[0], np.float64).ravel(), float(sigma_y[0])
    )
    slope = (end[1:] - end[0]).T
    np.testing.assert_allclose(end[0], mean, atol=0.01)
    np.testing.assert_allclose(slope @ slope.T, cov, atol=0.006)
    assert np.abs(cov - COV).max() > 0.05  # y says something


def test_the_churned_sampler_gives_the_law_given_y():
    count = 4000
    operator, sigma_y = _build("noisy mask", count, same=True)
    y = operator(jnp.tile(LAW.sample(jax.random.key(4), 1), (count, 1, 1, 1)))
    posterior = posterior_denoiser(LAW.denoiser, operator, y, sigma_y, cg_steps=8)
    grid = karras_schedule(32, sigma_min=0.01, sigma_max=20.0)
    start = 20.0 * jax.random.normal(jax.random.key(5), (count, *SHAPE))
    run = jax.jit(lambda x: sample(posterior, x, grid, jax.random.key(6), churn=Churn(8.0)))
    end = np.asarray(run(start), np.float64).reshape(count, D)
    mean, cov = _condition(
        MEAN, COV, _matrix(operator, 0), np.asarray(y[0], np.float64).ravel(), float(sigma_y[0])
    )
    np.testing.assert_allclose(end.mean(axis=0), mean, atol=0.03)  # 4 standard errors, and the steps' own
    np.testing.assert_allclose(np.cov(end.T), cov, atol=0.03)


def test_what_y_holds_where_it_is_hidden_does_not_matter():
    operator, sigma_y = _build("noisy mask")
    y = operator(LAW.sample(jax.random.key(0), BATCH))
    poisoned = jnp.where(operator.reached(BATCH), y, jnp.nan)
    x, sigma = LAW.sample(jax.random.key(1), BATCH), jnp.full((BATCH,), 0.5)
    clean = posterior_denoiser(LAW.denoiser, operator, y, sigma_y)(x, sigma)
    np.testing.assert_array_equal(
        posterior_denoiser(LAW.denoiser, operator, poisoned, sigma_y)(x, sigma), clean
    )


def test_a_jacobian_that_is_not_symmetric_does_not_lead_away_from_y():
    """What a network may have: noiseless y is met at least as well as without it, whatever the steps."""
    jacobian = jnp.asarray(np.random.default_rng(0).normal(size=(D, D)) / 4, jnp.float32)
    operator, sigma_y = _build("mask")
    y = operator(LAW.sample(jax.random.key(0), BATCH))
    x, sigma = LAW.sample(jax.random.key(1), BATCH), jnp.full((BATCH,), 1.0)

    def denoiser(x, sigma):
        return (x.reshape(-1, D) @ jacobian.T).reshape(x.shape)

    def distance(x0):
        return jnp.linalg.norm((operator(x0) - y).reshape(BATCH, D), axis=1)

    for steps in (2, 5, 8):
        posterior = posterior_denoiser(denoiser, operator, y, sigma_y, steps)
        assert bool(jnp.all(distance(posterior(x, sigma)) < 1.001 * distance(denoiser(x, sigma))))


def test_what_does_not_fit_is_refused():
    operator, sigma_y = _build("pooling")
    y = jnp.zeros((BATCH, 2, 2, 1))
    with pytest.raises(ValueError, match="cg_steps"):
        posterior_denoiser(LAW.denoiser, operator, y, sigma_y, cg_steps=0)
    with pytest.raises(ValueError, match="one sigma per example"):
        posterior_denoiser(LAW.denoiser, operator, y, jnp.zeros(2))
    with pytest.raises(ValueError, match="y must have shape"):
        posterior_denoiser(LAW.denoiser, operator, jnp.zeros((BATCH, 4, 4, 1)), sigma_y)
