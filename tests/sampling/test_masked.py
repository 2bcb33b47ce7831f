"""Samplers of a denoiser that is told what it may see, against closed forms of Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.methods.ambient import through_members
from jaxdiff.sampling import fixed_mask, member, multi_mask_guidance, sample

COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
DUST = operators.build("pixel_mask", (3,), p=0.5)
PATTERNS = jnp.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 0]], bool)
MEMBERS = DUST.with_params({"mask": PATTERNS})


def exact(x, sigma, operator):
    """E[X | m x_sigma] of N(0, COVARIANCE), example by example."""

    def one(x, sigma, mask):
        m = mask.astype(x.dtype)
        seen = m[:, None] * (COVARIANCE + sigma**2 * jnp.eye(3)) * m + jnp.diag(1 - m)
        return jnp.asarray(COVARIANCE, x.dtype) @ (m * jnp.linalg.solve(seen, m * x))

    return jax.vmap(one)(x, sigma, operator.params["mask"])


def points(n=12):
    return 1.5 * jax.random.normal(jax.random.key(0), (n, 3)), jnp.full(n, 0.6)


def test_each_value_is_the_mean_over_the_masks_that_show_it():
    x, sigma = points()
    answers = np.stack([exact(x, sigma, member(MEMBERS, k, 12)) for k in range(4)])
    seen = np.asarray(PATTERNS, np.float32)[:, None]
    expected = (answers * seen).sum(axis=0) / seen.sum(axis=0)
    got = through_members(exact, MEMBERS)(x, sigma)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(got - answers.mean(axis=0)).max() > 0.05  # not the mean over all masks


def test_what_no_mask_shows_is_the_mean_of_all_answers():
    x, sigma = points()
    two = DUST.with_params({"mask": PATTERNS[jnp.array([0, 3])]})  # the third value is never seen
    answers = np.stack([exact(x, sigma, member(two, k, 12)) for k in range(2)])
    np.testing.assert_allclose(
        through_members(exact, two)(x, sigma)[:, 2], answers.mean(axis=0)[:, 2], atol=1e-5
    )


def test_members_that_hide_nothing_give_the_posterior_mean():
    x, sigma = points()
    got = through_members(exact, DUST.with_params({"mask": jnp.ones((2, 3), bool)}))(x, sigma)
    expected = np.asarray(x) @ np.linalg.inv(COVARIANCE + 0.36 * np.eye(3)) @ COVARIANCE
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_fixed_mask_samples_what_the_mask_shows_right_and_the_rest_as_its_mean():
    """The seen values have the law of the data; a hidden one is the regression on them, without its own spread."""
    mask = member(MEMBERS, 0, 20_000)
    noise = jax.random.normal(jax.random.key(1), (20_000, 3))
    sigmas = karras_schedule(40, 0.01, 40.0)
    drawn = np.asarray(sample(fixed_mask(exact, mask), sigmas[0] * noise, sigmas))
    np.testing.assert_allclose(np.cov(drawn.T)[:2, :2], COVARIANCE[:2, :2], atol=0.06)
    regression = COVARIANCE[2, :2] @ np.linalg.inv(COVARIANCE[:2, :2])
    np.testing.assert_allclose(drawn[:, 2], drawn[:, :2] @ regression, atol=0.05)


def test_guidance_is_the_gradient_of_the_disagreement():
    x, sigma = points()
    first, others = member(MEMBERS, 0, 12), [member(MEMBERS, k, 12) for k in (1, 2)]
    got = multi_mask_guidance(exact, first, others, 0.3)(x, sigma)
    here = np.asarray(exact(x, sigma, first))
    gap = here - np.mean([exact(x, sigma, other) for other in others], axis=0)
    slope = np.asarray(
        jax.jacfwd(lambda u: exact(u[None], sigma[:1], member(MEMBERS, 0, 1))[0])(jnp.zeros(3))
    )
    np.testing.assert_allclose(got, here - 0.3 * gap @ slope, atol=1e-4)
    same = multi_mask_guidance(exact, first, others, 0.0)(x, sigma)
    np.testing.assert_allclose(same, here, atol=1e-6)


@pytest.mark.slow
def test_cover_shows_every_value_as_often_as_any_other():
    for name, args in (("pixel_mask", {"p": 0.6}), ("pixel_mask", {"p": 0.95}), ("scan_lines", {"p": 0.6})):
        family = operators.build(name, (12, 10, 1), **args)
        seen = np.asarray(family.cover(8, 0.1).params["mask"]).sum(axis=0)
        assert seen.min() == seen.max() >= 1
        assert seen.max() == max(1, round((1 - args["p"]) * 0.9 * 8))
    half = np.asarray(
        operators.build("pixel_mask", (12, 10, 1), p=0.6).cover(8, 0.1, shown=0.5).params["mask"]
    )
    assert (half.sum(axis=0) == 4).all()
    with pytest.raises(ValueError, match="shown"):
        operators.build("box_mask", (12, 10, 1), size=4).cover(8, 0.1, shown=0.5)
    box = operators.build("box_mask", (12, 10, 1), size=4).cover(6, 0.1)
    assert box.params["mask"].shape == (6, 12, 10, 1)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="scale"):
        multi_mask_guidance(exact, MEMBERS, [MEMBERS], -1.0)
    with pytest.raises(ValueError, match="at least one"):
        multi_mask_guidance(exact, MEMBERS, [], 1.0)
