"""Draws by replacement: exact for independent parts, faithful to y always, biased where the docstring says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.sampling.replacement import replacement_draw

COUNT = 20_000
GRID = karras_schedule(480, 0.01, 40.0)
MEAN = np.array([0.3, -0.4])


def draws(covariance, denoiser=None, y=1.1, grid=GRID):
    law = gaussian_from_covariance(MEAN, np.asarray(covariance))
    first = operators.build("coordinates", (2,), indices=(0,))
    values = jnp.full((COUNT, 1), y)
    draw = jax.jit(lambda y: replacement_draw(denoiser or law.denoiser, first, y, jax.random.key(0), grid))
    return np.asarray(draw(values)), law


def test_what_is_seen_is_y():
    found, _ = draws([[1.0, 0.7], [0.7, 1.0]])
    np.testing.assert_allclose(found[:, 0], 1.1, atol=1e-5)


def test_independent_parts_are_drawn_exactly():
    found, _ = draws([[1.0, 0.0], [0.0, 0.49]])
    assert found[:, 1].mean() == pytest.approx(-0.4, abs=4 * 0.7 / COUNT**0.5)
    assert found[:, 1].std() == pytest.approx(0.7, rel=0.03)


def test_the_spread_that_few_steps_lose_shrinks_with_their_number():
    lost = [
        0.7 - draws([[1.0, 0.0], [0.0, 0.49]], grid=karras_schedule(s, 0.01, 40.0))[0][:, 1].std()
        for s in (60, 240)
    ]
    assert 0.03 < lost[0] < 0.07 and lost[1] == pytest.approx(lost[0] / 4, rel=0.5)


@pytest.mark.slow
def test_the_bias_for_correlated_parts_is_known():
    """The exact posterior is N(-0.4 + 0.7 (1.1 - 0.3), 0.51): replacement stops short of it, and spreads more."""
    found, _ = draws([[1.0, 0.7], [0.7, 1.0]])
    exact_mean, exact_std = -0.4 + 0.7 * 0.8, 0.51**0.5
    assert -0.4 + 0.5 * 0.7 * 0.8 < found[:, 1].mean() < exact_mean
    assert 1.05 * exact_std < found[:, 1].std() < 1.2 * exact_std
    # The mutation: a denoiser that knows nothing of the correlation does not follow y at all.
    blind = gaussian_from_covariance(MEAN, np.eye(2)).denoiser
    assert abs(draws([[1.0, 0.7], [0.7, 1.0]], blind)[0][:, 1].mean() + 0.4) < 0.03


def test_a_draw_depends_on_its_row_alone():
    law = gaussian_from_covariance(MEAN, np.eye(2))
    first = operators.build("coordinates", (2,), indices=(0,))
    y, grid = jnp.ones((6, 1)), karras_schedule(5)
    whole = replacement_draw(law.denoiser, first, y, jax.random.key(1), grid)
    part = replacement_draw(law.denoiser, first, y[:2], jax.random.key(1), grid, jnp.array([4, 2]))
    np.testing.assert_allclose(part, whole[jnp.array([4, 2])], atol=1e-6)


def test_averages_are_met_too():
    shape = (4, 4, 1)
    pool = operators.build("avg_pool", shape, factor=2)
    law = gaussian_from_covariance(np.zeros(shape), np.eye(16))
    y = jax.random.normal(jax.random.key(2), (5, 2, 2, 1))
    found = replacement_draw(law.denoiser, pool, y, jax.random.key(3), karras_schedule(10))
    np.testing.assert_allclose(pool(found), y, atol=1e-5)


def test_operators_without_a_constant_are_refused():
    blur = operators.build("gaussian_blur", (8, 8, 1), std=1.0)
    with pytest.raises(ValueError, match="posterior denoiser"):
        replacement_draw(lambda x, s: x, blur, jnp.zeros((1, 8, 8, 1)), jax.random.key(0), GRID)
