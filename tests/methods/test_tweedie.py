"""Noisy and mixed data: the minimiser is the posterior mean of clean data, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.methods import tweedie
from jaxdiff.methods.ranges import assign, usable_range
from jaxdiff.operators import Measurement
from tests.methods.linear_family import Linear, batch_of, minimise, one_level

SIGMA, COUNT = 0.7, 80_000
LAW = gaussian_from_covariance(np.array([0.3, -0.4]), np.array([[1.0, 0.8], [0.8, 1.0]]))


def noisy_data(sigma_y):
    """LAW measured with noise sigma_y, a number or (COUNT,)."""
    x = LAW.sample(jax.random.key(2), COUNT)
    sigma_y = jnp.broadcast_to(jnp.asarray(sigma_y, jnp.float32), (COUNT,))
    return batch_of(x + sigma_y[:, None] * jax.random.normal(jax.random.key(3), x.shape), sigma_y=sigma_y)


def points():
    return 2 * jax.random.normal(jax.random.key(5), (20, 2)), jnp.full((20,), SIGMA)


def worst(method, batch):
    x, sigma = points()
    return float(
        jnp.max(jnp.abs(method.denoiser(minimise(method, batch))(x, sigma) - LAW.denoiser(x, sigma)))
    )


@pytest.mark.parametrize("weighting", ["unit", "exact"])
@pytest.mark.parametrize("mix", [pytest.param("noisy", marks=pytest.mark.slow), "mixed"])
def test_gives_the_posterior_mean_of_clean_data(weighting, mix):
    sigma_y = 0.5 if mix == "noisy" else jnp.where(jnp.arange(COUNT) % 3 == 0, 0.0, 0.5)
    method = tweedie(Linear(2), one_level(SIGMA), 1.0, weighting)
    assert worst(method, noisy_data(sigma_y)) < 0.04


def test_noisy_data_taken_for_clean_give_another_answer():
    batch = noisy_data(0.5)
    method = tweedie(Linear(2), one_level(SIGMA), 1.0)
    assert worst(method, batch.replace(sigma_y=jnp.zeros(COUNT))) > 0.15


def test_the_two_weightings_differ_where_the_data_mix():
    """The exact weight is that of clean data: a noisy and a clean example of the same x_sigma count alike."""
    batch = jax.tree.map(lambda leaf: leaf[:500], noisy_data(0.5))
    params = tweedie(Linear(2), one_level(SIGMA), 1.0).init(jax.random.key(0), batch)
    unit, exact = (
        float(tweedie(Linear(2), one_level(SIGMA), 1.0, w).loss(params, batch, jax.random.key(1))[0])
        for w in ("unit", "exact")
    )
    assert exact / unit == pytest.approx((1 - (0.5 / SIGMA) ** 2) ** -2, rel=1e-4)


def test_data_that_cannot_be_used_give_their_place_to_data_that_can():
    sigma_y = jnp.where(jnp.arange(4000) % 2 == 0, 0.0, 0.5)
    batch = Measurement(y=jnp.zeros((4000, 2)), params=None, sigma_y=sigma_y)
    noise = NoiseDistribution(-1.2, 1.2)
    sigma, index = assign(jax.random.key(0), noise, *usable_range(batch, 4.0))
    assert bool(jnp.all(sigma >= sigma_y[index] * (4 / 3) ** 0.5))
    # The law of sigma is untouched, and an example that can be used keeps its place.
    logs = (jnp.log(sigma) + 1.2) / 1.2
    assert abs(float(logs.mean())) < 0.06 and abs(float(logs.std()) - 1) < 0.05
    kept = sigma >= sigma_y * (4 / 3) ** 0.5
    np.testing.assert_array_equal(index[kept], np.arange(4000)[kept])
    # Who takes the empty places: many different ones.
    assert len(np.unique(index[~kept])) > 500


def test_where_a_batch_has_nothing_for_a_level_the_level_moves():
    batch = Measurement(y=jnp.zeros((500, 2)), params=None, sigma_y=jnp.full(500, 0.5))
    sigma, index = assign(jax.random.key(0), NoiseDistribution(-1.2, 1.2), *usable_range(batch, 4.0))
    assert bool(jnp.all(sigma >= 0.5 * (4 / 3) ** 0.5 - 1e-6))
    np.testing.assert_array_equal(index, np.arange(500))
    assert float(sigma.max()) > 1.0 and bool(jnp.all(jnp.isfinite(sigma)))


@pytest.mark.slow
def test_examples_with_other_damage_are_used_between_their_two_levels_only():
    batch = Measurement(
        y=jnp.zeros((2000, 2)),
        params=None,
        sigma_y=jnp.zeros(2000),
        sigma_min=jnp.where(jnp.arange(2000) % 3 == 0, 0.4, 0.0),
        sigma_max=jnp.where(jnp.arange(2000) % 3 == 1, 0.2, jnp.inf),
    )
    lower, upper = usable_range(batch)
    sigma, index = assign(jax.random.key(0), NoiseDistribution(-1.2, 1.2), lower, upper)
    assert bool(jnp.all((sigma >= lower[index]) & (sigma <= upper[index])))


def test_noise_levels_beyond_the_law_are_clamped_and_finite():
    noise = NoiseDistribution(-1.2, 1.2)
    for lower, upper in ((1e4, jnp.inf), (0.0, 1e-6), (0.3, 0.3)):
        sigma = noise.sample_between(jax.random.key(0), jnp.full(9, lower), jnp.full(9, upper))
        assert bool(jnp.all(jnp.isfinite(sigma) & (sigma >= lower) & (sigma <= upper)))


def test_levels_between_bounds_follow_the_conditioned_law():
    noise = NoiseDistribution(-1.0, 0.8)
    all_of_it = noise.sample_sigma(jax.random.key(0), 200_000)
    inside = np.log(all_of_it[(all_of_it > 0.3) & (all_of_it < 0.9)])
    drawn = np.log(noise.sample_between(jax.random.key(1), jnp.full(100_000, 0.3), jnp.full(100_000, 0.9)))
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, q) == pytest.approx(np.quantile(inside, q), abs=0.01)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="unknown weighting 'exakt'.*exact"):
        tweedie(Linear(2), one_level(SIGMA), 1.0, "exakt")
    with pytest.raises(ValueError, match="max_gain"):
        usable_range(noisy_data(0.5), 1.0)
