"""DPS's gradient steps, DDRM without noise, RePaint's bias and its cure, Ambient DPS's missing spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import expand, karras_schedule
from jaxdiff.evaluation.restoration_law import Mixture, masked_denoiser
from jaxdiff.sampling import restore
from jaxdiff.sampling.guidance import ambient_dps, dps

MEAN = np.array([0.3, -0.4])
CORRELATED = np.array([[1.0, 0.7], [0.7, 1.0]])
Y = 1.1


def curved(x, sigma):
    """A denoiser that is not linear."""
    return jnp.sin(x) / (1 + expand(sigma, x) ** 2)


def gradient_of(norm, x, y, now):
    def misfit(x):
        size = jnp.sum(jnp.square(y - curved(x, jnp.full(len(x), now))), axis=1)
        return jnp.sum(jnp.sqrt(size) if norm == "plain" else size)

    return jax.grad(misfit)(x)


@pytest.mark.parametrize("norm", ["plain", "squared"])
def test_dps_steps_against_the_gradient_of_the_norm_that_was_chosen(norm):
    """In the coordinates of Ambient DPS; and in the paper's, written down there and carried back."""
    operator, now, after, scale = operators.build("identity", (3,)), 0.8, 0.5, 0.3
    x, y = jax.random.normal(jax.random.key(0), (2, 4, 3))
    keys = jax.random.split(jax.random.key(1), 4)
    gradient = gradient_of(norm, x, y, now)
    denoised = curved(x, jnp.full(4, now))
    plain_step = denoised + after / now * (x - denoised)
    settings = {"norm": norm, "scale": scale, "eta": 0.0}

    def step(**others):
        taken = dps(curved, operator, y, jnp.zeros(4), **settings, **others)
        return taken(x, jnp.float32(now), jnp.float32(after), keys)

    np.testing.assert_allclose(step(process="ve"), plain_step - scale * gradient, atol=1e-5)
    root, root_after = np.sqrt(1 + now**2), np.sqrt(1 + after**2)
    preserving = plain_step / root_after - scale * (gradient * root)  # d x / d x_vp = root
    np.testing.assert_allclose(step(process="vp"), preserving * root_after, atol=1e-5)


def test_dps_at_an_exact_match_has_no_gradient_and_no_nan():
    operator, x = operators.build("identity", (3,)), jnp.ones((1, 3))
    y = curved(x, jnp.full(1, 0.8))
    step = dps(curved, operator, y, jnp.zeros(1), norm="plain", eta=0.0)
    found = step(x, jnp.float32(0.8), jnp.float32(0.5), jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(found, y + 0.5 / 0.8 * (x - y), atol=1e-6)


def run(method, covariance, count, steps, **settings):
    """Draws (count, 2) of N(MEAN, covariance) given its first number, without noise."""
    law = gaussian_from_covariance(MEAN, np.asarray(covariance))
    first = operators.build("coordinates", (2,), indices=(0,))
    y, none, grid = jnp.full((count, 1), Y), jnp.zeros(count), karras_schedule(steps, 0.01, 40.0)
    draw = jax.jit(lambda keys: restore(method, law.denoiser, first, y, none, keys, grid, **settings))
    return np.asarray(draw(jax.random.split(jax.random.key(0), count)), np.float64)


def test_ddrm_is_exact_for_independent_parts_without_noise():
    """... with eta = 0; the published eta leaves the unseen part too narrow, more so with more steps."""
    count = 8000
    found = run("ddrm", np.diag([1.0, 0.49]), count, 200, eta=0.0)
    np.testing.assert_allclose(found[:, 0], Y, atol=1e-5)
    assert found[:, 1].mean() == pytest.approx(-0.4, abs=4 * 0.7 / count**0.5)
    assert found[:, 1].std() == pytest.approx(0.7, rel=0.05)
    published = run("ddrm", np.diag([1.0, 0.49]), count, 200)
    np.testing.assert_allclose(published[:, 0], Y, atol=1e-5)
    assert 0.4 < published[:, 1].std() / 0.7 < 0.9


def repaint_recursion(resamples, steps):
    """Mean and covariance of RePaint's draws of the correlated pair: every draw is affine."""
    grid = np.asarray(karras_schedule(steps, 0.01, 40.0), np.float64)
    mean, cov = np.zeros(2), grid[0] ** 2 * np.eye(2)
    for now, after in zip(grid[:-1], grid[1:], strict=True):
        slope = CORRELATED @ np.linalg.inv(CORRELATED + now**2 * np.eye(2))
        up = after * np.sqrt(max(1 - after**2 / now**2, 0))
        keep = np.sqrt(max(after**2 - up**2, 0)) / now
        moved = (1 - keep) * slope + keep * np.eye(2)
        for _ in range(resamples):
            lower = moved @ mean + (1 - keep) * (MEAN - slope @ MEAN)
            left = moved @ cov @ moved.T + up**2 * np.eye(2)
            lower, left = np.array([Y, lower[1]]), np.diag([after**2, left[1, 1]])
            mean, cov = lower, left + (now**2 - after**2) * np.eye(2)
        mean, cov = lower, left  # the last draw of a level does not go back
    return mean, cov


@pytest.mark.parametrize("resamples, missing", [(1, 0.247), (3, 0.109), (10, 0.034)])
def test_repaint_follows_y_the_more_the_more_often_it_goes_back(resamples, missing):
    """The exact mean is 0.16; one draw a level is replacement, and ten still stop short of it."""
    count = 8000
    mean, cov = repaint_recursion(resamples, 60)
    assert 0.16 - mean[1] == pytest.approx(missing, abs=2e-3)
    found = run("repaint", CORRELATED, count, 60, resamples=resamples)
    np.testing.assert_allclose(found[:, 0], Y, atol=1e-5)
    assert found[:, 1].mean() == pytest.approx(mean[1], abs=4 * (cov[1, 1] / count) ** 0.5)
    assert found[:, 1].std() == pytest.approx(cov[1, 1] ** 0.5, rel=4 / (2 * count) ** 0.5)


def test_ambient_dps_has_no_spread_where_its_mask_hides():
    """A~ hides the second number, y sees the first: the draws lie on the line E[X_2 | X_1]."""
    count, operator = 500, operators.build("coordinates", (2,), indices=(0,))
    prior = Mixture(np.ones(1), MEAN[None], CORRELATED[None])
    seen = np.array([True, False])
    further = operators.build("pixel_mask", (2,), p=0.1).replace(params={"mask": jnp.tile(seen, (count, 1))})
    y, sigma_y, grid = jnp.full((count, 1), Y), jnp.full(count, 0.5), karras_schedule(60, 0.01, 40.0)

    @jax.jit
    def draw(keys):
        denoise = masked_denoiser(prior, seen)
        return restore("ambient_dps", denoise, operator, y, sigma_y, keys, grid, further=further, scale=0.05)

    found = np.asarray(draw(jax.random.split(jax.random.key(0), count)), np.float64)
    line = MEAN[1] + 0.7 * (found[:, 0] - MEAN[0])
    # The last step moves the first number by the scale, and the second no more. Exactly, the spread about the line is
    # a standard deviation of 0.71.
    assert np.abs(found[:, 1] - line).max() < 0.7 * 0.05 + 0.001
    assert 0.3 < found[:, 0].mean() < 1.2 and found[:, 0].std() > 0.05


def test_ambient_dps_is_dps_on_the_masked_denoiser():
    operator = operators.build("identity", (2,))
    further = operators.build("pixel_mask", (2,), p=0.1).replace(params={"mask": jnp.array([[True, False]])})
    x, y, keys = jnp.ones((1, 2)), jnp.zeros((1, 2)), jax.random.split(jax.random.key(0), 1)
    levels = jnp.float32(0.8), jnp.float32(0.5)

    def masked(x, sigma, mask):
        return curved(mask(x), sigma)

    found = ambient_dps(masked, operator, y, jnp.zeros(1), further=further, scale=0.2)(x, *levels, keys)
    same = dps(
        lambda x, sigma: curved(further(x), sigma),
        operator,
        y,
        jnp.zeros(1),
        scale=0.2,
        eta=0.0,
        process="ve",
    )(x, *levels, keys)
    np.testing.assert_allclose(found, same, atol=1e-6)
    assert float(found[0, 1]) == pytest.approx(0.5 / 0.8)  # what A~ hides is only carried along
