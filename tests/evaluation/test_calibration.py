"""The stated probability of the interval is the true one for exact draws, and is missed by draws that are too sure."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.evaluation.calibration import coverage, credible_interval, posterior_mean, posterior_std

EXAMPLES, NUMBERS = 200, 50


def draws_of(count, scale=1.0, seed=0):
    """Draws and truths of N(m, 1), m another for each number; the draws `scale` times as wide."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(EXAMPLES, NUMBERS))
    draws = centre + scale * rng.normal(size=(count, EXAMPLES, NUMBERS))
    return jnp.asarray(draws), jnp.asarray(centre + rng.normal(size=(EXAMPLES, NUMBERS)))


@pytest.mark.parametrize(
    "count, level, stated", [(19, 0.9, 0.9), (9, 0.6, 0.6), (2, 0.9, 1 / 3), (16, 0.9, 15 / 17)]
)
def test_exact_draws_cover_as_stated(count, level, stated):
    draws, truth = draws_of(count)
    interval = credible_interval(draws, level)
    assert interval.stated == pytest.approx(stated)
    found = np.asarray(coverage(interval, truth))
    assert found.shape == (EXAMPLES,)
    assert found.mean() == pytest.approx(
        stated, abs=4 * (stated * (1 - stated) / found.size / NUMBERS) ** 0.5
    )


def test_draws_that_are_too_sure_or_too_vague_are_told():
    for scale, low, high in ((0.5, 0.5, 0.75), (2.0, 0.97, 1.0)):
        draws, truth = draws_of(19, scale)
        assert low < float(coverage(credible_interval(draws, 0.9), truth).mean()) < high


def test_moments():
    draws = jnp.asarray([[[1.0, 2.0]], [[3.0, 2.0]], [[5.0, 2.0]]])
    np.testing.assert_allclose(posterior_mean(draws), [[3.0, 2.0]])
    np.testing.assert_allclose(posterior_std(draws), [[2.0, 0.0]])


def test_a_number_that_is_known_exactly_is_covered():
    interval = credible_interval(jnp.ones((5, 1, 1)), 0.5)
    assert float(coverage(interval, jnp.ones((1, 1)))[0]) == 1.0


def test_what_makes_no_sense_is_refused():
    one = jnp.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="at least 2 draws"):
        posterior_std(one)
    with pytest.raises(ValueError, match="at least 2 draws"):
        credible_interval(one)
    with pytest.raises(ValueError, match="probability"):
        credible_interval(jnp.zeros((5, 2)), 90)
