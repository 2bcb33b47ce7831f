"""What is fitted on tuning images: moments, scores and weights against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.composition import View, band_edges
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.experiment import tuning

LAW = gaussian_from_covariance(np.zeros(4), np.diag([2.0, 1.0, 0.5, 0.1]))
SIGMAS = band_edges(0.1, 3.0, 5)


def tuning_set(images=500, draws=2):
    clean = LAW.sample(jax.random.key(0), images)
    return tuning.make_tuning_set(clean, SIGMAS, draws, jax.random.key(1))


def test_noise_has_the_bands_level_and_draws_are_antithetic():
    tuned = tuning_set()
    noise = (tuned.noisy - tuned.clean) / SIGMAS[:, None, None]
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 1.0, atol=0.05)
    np.testing.assert_allclose(noise[:, 0::2], -noise[:, 1::2], atol=1e-5)
    assert float(jnp.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05  # bands are independent


def test_a_view_sees_sigma_sqrt_c():
    images = jax.random.normal(jax.random.key(0), (100, 4, 4, 1))
    tuned = tuning.make_tuning_set(images, SIGMAS, 2, jax.random.key(1))
    seen = tuning.in_view(tuned, operators.build("avg_pool", (4, 4, 1), factor=2))
    np.testing.assert_allclose(seen.sigmas, SIGMAS / 2)
    spread = (seen.noisy - seen.clean).std(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(spread, SIGMAS / 2, rtol=0.1)


def test_score_of_the_exact_denoiser_is_the_integral_of_its_error():
    variances = np.array([2.0, 1.0, 0.5, 0.1])
    errors = np.array([np.sum(variances * s**2 / (variances + s**2)) for s in SIGMAS])
    expected = -np.trapezoid(errors / SIGMAS**2, np.log(SIGMAS))
    assert float(tuning.score(LAW.denoiser, tuning_set(4000))) == pytest.approx(expected, rel=0.02)
    worse = tuning.score(lambda x, s: LAW.denoiser(x, 1.5 * s), tuning_set(4000))
    assert float(worse) < 1.05 * expected


def test_a_band_that_the_gate_closes_does_not_count_against_a_network():
    tuned = tuning_set()
    reference = tuning.by_band(LAW.denoiser, tuned)
    alone = tuning.score(LAW.denoiser, tuned)

    def bad(x, sigma):  # errs away from the truth: its best gate is 0
        return LAW.denoiser(x, sigma) + 3.0 * jnp.sin(17 * x)

    assert float(tuning.score(bad, tuned)) < 1.5 * float(alone)
    assert float(tuning.score(bad, tuned, reference)) == pytest.approx(float(alone), rel=0.01)


def test_gram_diagonal_is_the_mean_squared_error():
    tuned = tuning_set()

    def candidates(x, sigma):
        return jnp.stack([LAW.denoiser(x, sigma), x])

    gram = tuning.gram(candidates, tuned)
    errors = tuning.squared_errors(tuning.by_band(LAW.denoiser, tuned), tuned)
    np.testing.assert_allclose(gram[:, 0, 0], errors, rtol=1e-4)
    np.testing.assert_allclose(gram[:, 1, 1], 4 * SIGMAS**2, rtol=0.1)
    np.testing.assert_allclose(gram[:, 0, 1], gram[:, 1, 0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "inverse_error", "fitted"])
def test_fusion_weights_trust_the_better_view(kind):
    tuned = tuning_set(200)
    operator = operators.build("coordinates", (4,), indices=(0, 1))
    law = LAW.marginal(operator, 1.0, (2,))
    good = View(operator, law.denoiser, law)
    bad = View(operator, lambda v, s: law.denoiser(v, s) + jnp.sin(9 * v), law)
    weights = tuning.fit_fusion([good, bad], LAW, tuned, [2, 2], kind, 0.5, 4).values
    if kind == "uniform":
        np.testing.assert_array_equal(weights, 1.0)
    else:
        # At the largest sigma both know little, and the order may be decided by the draws.
        assert np.all(weights[:-1, 0] > weights[:-1, 1])
