"""EM with exact Gaussian denoisers finds the law of the data from coordinates hidden at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import Gaussian, fit_gaussian, gaussian_from_covariance
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.methods.em import complete
from jaxdiff.operators import Measurement

D, COUNT, SIGMA_Y = 3, 4000, 0.2
MEAN = np.array([0.4, -0.3, 0.1])
COV = np.array([[0.5, 0.35, -0.1], [0.35, 0.4, 0.05], [-0.1, 0.05, 0.3]])
LAW = gaussian_from_covariance(MEAN, COV)
GRID = karras_schedule(32, sigma_min=0.01, sigma_max=20.0)
FAMILY = operators.build("pixel_mask", (D,), p=0.4)


def _batch(count=COUNT, sigma_y=SIGMA_Y):
    drawn = FAMILY.draw(jax.random.split(jax.random.key(1), count))
    y = drawn(LAW.sample(jax.random.key(2), count))
    y = drawn.restrict(y + sigma_y * jax.random.normal(jax.random.key(3), y.shape))
    return Measurement(y=y, params=drawn.params, sigma_y=jnp.full((count,), sigma_y))


@jax.jit
def _draw(gaussian, batch, key):
    return complete(gaussian.denoiser, FAMILY, batch, key, GRID, cg_steps=D)


@jax.jit
def _posterior_mean(gaussian, batch, key):
    """The mutated E-step: one step from very far is the posterior mean."""
    return complete(gaussian.denoiser, FAMILY, batch, key, np.array([200.0, 0.0]), cg_steps=D)


def _learn(e_step, laps):
    batch = _batch()
    gaussian = Gaussian(jnp.zeros(D), jnp.eye(D), jnp.ones(D), jnp.asarray(0.0))
    for lap in range(laps):
        completed = e_step(gaussian, batch, jax.random.fold_in(jax.random.key(4), lap))
        gaussian = fit_gaussian(completed, "empirical")
    return np.asarray(gaussian.mean), np.asarray(gaussian.covariance())


def test_em_converges_to_the_law_of_the_data():
    """Pairs are seen together in 36 % of 4000: standard errors of about 0.02; four of them."""
    mean, cov = _learn(_draw, 30)
    np.testing.assert_allclose(mean, MEAN, atol=0.06)
    np.testing.assert_allclose(cov, COV, atol=0.08)


def test_the_law_of_the_data_is_a_fixed_point_of_draws_and_not_of_means():
    batch = _batch()
    drawn = np.asarray(_draw(LAW, batch, jax.random.key(5)))
    np.testing.assert_allclose(drawn.mean(axis=0), MEAN, atol=0.04)
    np.testing.assert_allclose(np.cov(drawn.T), COV, atol=0.04)
    _, shrunk = _learn(_posterior_mean, 30)
    assert np.trace(shrunk) < 0.75 * np.trace(COV)


def test_a_draw_is_the_law_given_y():
    """Coordinate 1 alone seen: mean and covariance of 4000 draws against the closed form."""
    batch = Measurement(
        y=jnp.tile(jnp.array([[jnp.nan, 0.5, jnp.nan]]), (COUNT, 1)),  # what is hidden does not matter
        params={"mask": jnp.tile(jnp.array([[False, True, False]]), (COUNT, 1))},
        sigma_y=jnp.full((COUNT,), SIGMA_Y),
    )
    gain = COV[:, 1] / (COV[1, 1] + SIGMA_Y**2)
    mean, cov = MEAN + gain * (0.5 - MEAN[1]), COV - np.outer(gain, COV[1])
    drawn = np.asarray(_draw(LAW, batch, jax.random.key(6)))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), cov, atol=0.05)
    np.testing.assert_allclose(_posterior_mean(LAW, batch, jax.random.key(6))[0], mean, atol=0.01)


@pytest.mark.parametrize("method", [pytest.param("euler", marks=pytest.mark.slow), "heun"])
def test_a_draw_depends_on_its_row_and_not_on_its_company(method):
    batch, rows, grid = _batch(8), jnp.arange(8) + 5, GRID[::8]
    picked = jnp.array([6, 2])

    def run(batch, rows, seed=0):
        return complete(LAW.denoiser, FAMILY, batch, jax.random.key(seed), grid, D, rows, method)

    whole = run(batch, rows)
    part = run(jax.tree.map(lambda leaf: leaf[picked], batch), rows[picked])
    np.testing.assert_allclose(part, whole[picked], atol=1e-4)
    assert float(jnp.max(jnp.abs(run(batch, rows, seed=1) - whole))) > 0.1
    assert float(jnp.max(jnp.abs(run(batch, rows + 1) - whole))) > 0.1


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rows of shape"):
        complete(LAW.denoiser, FAMILY, _batch(8), jax.random.key(0), GRID, rows=jnp.arange(3))
