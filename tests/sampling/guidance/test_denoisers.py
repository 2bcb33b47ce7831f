"""PiGDM is exact for isotropic Gaussian data and every operator; elsewhere its error is known. MMPS: test_posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import expand
from jaxdiff.evaluation.restoration_law import Mixture, condition, matrix_of
from jaxdiff.sampling.guidance import ambient_dps, dps, mmps, one_step, pigdm
from jaxdiff.sampling.restore import restore

SHAPE, D, BATCH, S, SIGMA_Y = (4, 4, 1), 16, 2, 0.6, 0.2
MEAN = np.linspace(-0.4, 0.4, D)
CASES = {
    "mask": ("mask", {"hidden_box": {"top": 1, "left": 1, "height": 2, "width": 3}}),
    "pooling": ("avg_pool", {"factor": 2}),
    "blur": ("gaussian_blur", {"std": 0.7}),
    "codes": ("sensing", {"measurements": 6, "matrices": 2}),
}


def _law(cov):
    return gaussian_from_covariance(MEAN.reshape(SHAPE), cov)


def _given(cov, operator, row, x, sigma, y):
    """E[X | X + sigma Z = x, y] of N(MEAN, cov), in float64: two measurements, one after the other."""
    one = operator.replace(params=jax.tree.map(lambda leaf: leaf[row : row + 1], operator.params))
    law = condition(
        Mixture(np.ones(1), MEAN[None], cov[None]), np.eye(D), np.asarray(x, float).ravel(), sigma
    )
    return condition(law, matrix_of(one), np.asarray(y, float).ravel(), SIGMA_Y).moments()[0]


@pytest.mark.parametrize("case", CASES)
def test_pigdm_is_exact_for_isotropic_data(case):
    name, args = CASES[case]
    operator = operators.build(name, SHAPE, **args).draw(jax.random.split(jax.random.key(1), BATCH))
    cov = S**2 * np.eye(D)
    law = _law(cov)
    sigma_y = jnp.full(BATCH, SIGMA_Y)
    x0, y = law.sample(jax.random.key(0), BATCH), operator(law.sample(jax.random.key(2), BATCH))

    @jax.jit
    def run(x, sigma):
        return pigdm(law.denoiser, operator, y, sigma_y, sigma_data=S)(x, sigma)

    for level in (0.1, 1.0, 20.0):
        x = x0 + level * jax.random.normal(jax.random.key(3), x0.shape)
        found = np.asarray(run(x, jnp.full(BATCH, level))).reshape(BATCH, D)
        for row in range(BATCH):
            expected = _given(cov, operator, row, x[row], level, y[row])
            np.testing.assert_allclose(found[row], expected, atol=2e-3)
            assert (
                np.abs(expected - np.asarray(law.denoiser(x, jnp.full(BATCH, level)))[row].ravel()).max()
                > 0.01
            )


def test_pigdm_is_biased_for_correlated_data_and_mmps_is_not():
    place = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(D, 2)
    cov = S**2 * np.exp(-np.linalg.norm(place[:, None] - place[None], axis=-1) / 3)
    law, operator = _law(cov), operators.build("avg_pool", SHAPE, factor=2)
    y, level = operator(law.sample(jax.random.key(2), 1)), 1.0
    x = law.sample(jax.random.key(0), 1) + level * jax.random.normal(jax.random.key(3), (1, *SHAPE))
    expected = _given(cov, operator, 0, x[0], level, y[0])
    sigma, sigma_y = jnp.full(1, level), jnp.full(1, SIGMA_Y)

    def error(build, **settings):
        found = jax.jit(build(law.denoiser, operator, y, sigma_y, **settings))(x, sigma)
        moved = expected - np.asarray(law.denoiser(x, sigma)).ravel()
        return np.linalg.norm(np.asarray(found).ravel() - expected) / np.linalg.norm(moved)

    assert error(mmps, cg_steps=8) < 5e-3
    assert error(pigdm, sigma_data=S) > 0.2


def test_pigdm_follows_y_too_much_where_data_vary_more_than_it_thinks():
    """All seen without noise: of y - D, a direction of variance v takes v (s^2 + sigma^2) / (s^2 (v + sigma^2))."""
    variances, level = np.array([2.0, 1.0, 0.5]) * S**2, 0.8
    law = gaussian_from_covariance(np.zeros(3), np.diag(variances))
    operator, x, y = operators.build("identity", (3,)), jnp.ones((1, 3)), 2 * jnp.ones((1, 3))
    sigma = jnp.full(1, level)
    denoised = np.asarray(law.denoiser(x, sigma))
    found = pigdm(law.denoiser, operator, y, jnp.zeros(1), sigma_data=S)(x, sigma)
    taken = variances * (S**2 + level**2) / (S**2 * (variances + level**2))
    np.testing.assert_allclose((np.asarray(found) - denoised) / (2 - denoised), taken[None], rtol=1e-4)
    assert taken[0] > 1.2 > 1 > 0.8 > taken[2]


def test_one_step():
    """With the posterior denoiser it is E[X | y] for Gaussian data; with A^+ y one call of D."""
    cov = S**2 * (0.5 * np.eye(D) + 0.5)
    law, operator = _law(cov), operators.build("avg_pool", SHAPE, factor=2)
    y, sigma_y = operator(law.sample(jax.random.key(2), 1)), jnp.full(1, SIGMA_Y)
    keys, grid = jax.random.split(jax.random.key(0), 1), np.array([200.0, 1.0, 0.0])
    prior = Mixture(np.ones(1), MEAN[None], cov[None])
    expected = condition(prior, matrix_of(operator), np.asarray(y, float).ravel(), SIGMA_Y).moments()[0]
    found = restore("one_step", law.denoiser, operator, y, sigma_y, keys, grid, start="posterior", cg_steps=8)
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, atol=0.02)
    assert np.abs(expected - MEAN).max() > 0.1
    step = one_step(law.denoiser, operator, y, sigma_y, sigma=0.4)
    np.testing.assert_array_equal(
        step(jnp.zeros((1, *SHAPE)), jnp.ones(()), jnp.zeros(()), keys),
        law.denoiser(operator.pinv(y), jnp.full(1, 0.4)),
    )


def test_gradients_are_rematerialised():
    """Mutation: `jax.vjp` of the denoiser itself, without `jax.checkpoint`, fails for each of the four."""
    operator = operators.build("identity", (2,))
    y, sigma_y, keys = jnp.zeros((1, 2)), jnp.ones(1), jax.random.split(jax.random.key(0), 1)
    levels = (jnp.float32(1.0), jnp.float32(0.5))

    def denoiser(x, sigma):
        return jnp.sin(x) / (1 + expand(sigma, x) ** 2)

    def told(x, sigma, _further):
        return denoiser(x, sigma)

    further = operators.build("pixel_mask", (2,), p=0.5).draw(keys)
    traced = {
        "mmps": jax.make_jaxpr(mmps(denoiser, operator, y, sigma_y))(y, sigma_y),
        "pigdm": jax.make_jaxpr(pigdm(denoiser, operator, y, sigma_y))(y, sigma_y),
        "dps": jax.make_jaxpr(dps(denoiser, operator, y, sigma_y))(y, *levels, keys),
        "ambient_dps": jax.make_jaxpr(ambient_dps(told, operator, y, sigma_y, further=further))(
            y, *levels, keys
        ),
    }
    for name, jaxpr in traced.items():
        assert "remat" in str(jaxpr) or "checkpoint" in str(jaxpr), name
