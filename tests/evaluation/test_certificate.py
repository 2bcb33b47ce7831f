"""The certificate against closed-form relative entropies, and its common random numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.gaussian import fit_gaussian, gaussian_from_covariance
from jaxdiff.evaluation.certificate import (
    band_contributions,
    candidate_errors,
    candidate_gram,
    denoising_errors,
    nats,
)
from jaxdiff.evaluation.theory import gaussian_kl

SHAPE = (2, 3, 1)
SIGMAS = np.geomspace(0.05, 20.0, 41)
RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(6, 6))
COV = 0.1 * FACTOR @ FACTOR.T + 0.05 * np.eye(6)
MEAN = 0.2 * RNG.normal(size=6)
WRONG_MEAN, WRONG_COV = MEAN + 0.1, 0.3 * np.eye(6) + 0.05
TRUTH = gaussian_from_covariance(MEAN.reshape(SHAPE), COV)
WRONG = gaussian_from_covariance(WRONG_MEAN.reshape(SHAPE), WRONG_COV)
IMAGES = RNG.multivariate_normal(MEAN, COV, size=600).reshape(600, *SHAPE).astype(np.float32)


def _apply(gaussian, x, sigma):
    return gaussian.denoiser(x, sigma)


def _mixed(params, x, sigma):
    weights, gaussians = params
    return jnp.tensordot(weights, _both(gaussians, x, sigma), 1)


def _both(gaussians, x, sigma):
    return jnp.stack([gaussian.denoiser(x, sigma) for gaussian in gaussians])


def test_certificate_is_the_difference_in_relative_entropy():
    errors = denoising_errors(_apply, TRUTH, IMAGES, SIGMAS, seed=0)
    wrong = denoising_errors(_apply, WRONG, IMAGES, SIGMAS, seed=0)
    gains = nats(wrong, errors, SIGMAS)
    exact = gaussian_kl(MEAN, COV, WRONG_MEAN, WRONG_COV, 0.05) - gaussian_kl(
        MEAN, COV, WRONG_MEAN, WRONG_COV, 20.0
    )
    standard_error = gains.std() / np.sqrt(len(gains))
    assert exact > 1.0 and standard_error < 0.1 * exact  # so that a factor of two or a wrong power fails
    assert abs(gains.mean() - exact) < 4 * standard_error
    np.testing.assert_allclose(band_contributions(wrong, errors, SIGMAS).sum(axis=1), gains)
    np.testing.assert_allclose(nats(errors, wrong, SIGMAS), -gains)


def test_trapezoid_in_log_sigma_is_exact_for_a_linear_integrand():
    # [l_ref - l] / sigma^2 = 3 + 2 ln sigma on an uneven grid.
    sigmas = np.array([0.1, 0.15, 0.5, 4.0, 5.0])
    log = np.log(sigmas)
    difference = ((3 + 2 * log) * sigmas**2)[None]
    expected = 3 * (log[-1] - log[0]) + log[-1] ** 2 - log[0] ** 2
    np.testing.assert_allclose(nats(difference, np.zeros_like(difference), sigmas), expected)


def test_error_of_the_exact_denoiser_is_the_posterior_variance():
    errors = denoising_errors(_apply, TRUTH, IMAGES, [0.3], seed=1)[:, 0]
    exact = np.trace(COV @ np.linalg.inv(COV + 0.09 * np.eye(6))) * 0.09
    assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(len(errors))


def test_the_noise_depends_on_seed_image_and_level_only():
    # The identity's error is sigma^2 |z|^2: it shows the noise.
    def identity(params, x, sigma):
        return x

    def shown(images, seed=3, batch_size=7):
        return denoising_errors(identity, (), images, [0.5, 1.0, 2.0], seed, batch_size) / [0.25, 1.0, 4.0]

    noise = shown(IMAGES[:20])
    np.testing.assert_allclose(shown(IMAGES[:20] * 0.5), noise, rtol=1e-4)
    np.testing.assert_allclose(shown(IMAGES[:13]), noise[:13], rtol=1e-4)
    assert len(np.unique(noise.round(4))) == noise.size
    assert np.abs(shown(IMAGES[:20], seed=4) - noise).min() > 1e-6


@pytest.mark.parametrize("batch_size", (1, 7, 20, 64))
def test_the_result_does_not_depend_on_the_batch_size(batch_size):
    images = IMAGES[:20]
    reference = denoising_errors(_apply, TRUTH, images, SIGMAS[::10], 5, batch_size=20)
    got = denoising_errors(_apply, TRUTH, images, SIGMAS[::10], 5, batch_size=batch_size)
    assert got.shape == (20, 5)
    np.testing.assert_allclose(got, reference, rtol=1e-4)


def test_one_trace_for_all_batches_levels_and_parameters():
    traces = []

    def counted(gaussian, x, sigma):
        traces.append(x.shape)
        return gaussian.denoiser(x, sigma)

    seen = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    denoising_errors(counted, TRUTH, IMAGES[:23], SIGMAS[:3], 0, batch_size=10, progress=progress)
    first = len(traces)  # the check of the shape, and one compilation
    denoising_errors(counted, TRUTH.replace(mean=TRUTH.mean + 1), IMAGES[:20], SIGMAS[:2], 1, batch_size=10)
    assert set(traces) == {(10, *SHAPE)} and first == len(traces) == 2
    assert seen == [(i, 9) for i in range(1, 10)]


def test_candidates_are_evaluated_on_the_same_noise():
    images, sigmas = IMAGES[:50], SIGMAS[::20]
    errors = candidate_errors(_both, (TRUTH, WRONG), images, sigmas, 0, batch_size=16)
    assert errors.shape == (2, 50, 3)
    for k, gaussian in enumerate((TRUTH, WRONG)):
        alone = denoising_errors(_apply, gaussian, images, sigmas, 0)
        np.testing.assert_allclose(errors[k], alone, rtol=1e-4)


def test_gram_gives_the_error_of_every_combination():
    images, sigmas = IMAGES[:50], SIGMAS[::20]
    gram = candidate_gram(_both, (TRUTH, WRONG), images, sigmas, 0, batch_size=16)
    assert gram.shape == (3, 2, 2)
    for weights in ([1.0, 0.0], [0.3, 0.7]):
        params = (jnp.array(weights, jnp.float32), (TRUTH, WRONG))
        expected = denoising_errors(_mixed, params, images, sigmas, 0).mean(axis=0)
        np.testing.assert_allclose(np.einsum("k,skl,l->s", weights, gram, weights), expected, rtol=1e-4)


def test_a_fitted_gaussian_is_nearer_than_an_isotropic_one_on_images():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(60, 4, 4, 1)) * np.linspace(0.05, 1.0, 4)[:, None, None]
    fitted = fit_gaussian(images[:30])
    flat = gaussian_from_covariance(np.zeros((4, 4, 1)), images.var() * np.eye(16))
    sigmas = np.geomspace(0.05, 10, 9)
    errors, reference = (denoising_errors(_apply, g, images[30:], sigmas, 0) for g in (fitted, flat))
    assert nats(reference, errors, sigmas).mean() > 1


def test_bad_arguments_are_named():
    run = lambda apply, images=IMAGES[:4], sigmas=(1.0,), **more: denoising_errors(  # noqa: E731
        apply, TRUTH, images, sigmas, 0, **more
    )
    with pytest.raises(ValueError, match=r"apply returns shape \(4, 3\), expected \(4, 2, 3, 1\)"):
        run(lambda params, x, sigma: jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"expected \(K, 4, 2, 3, 1\)"):
        candidate_gram(_apply, TRUTH, IMAGES[:4], [1.0], 0)
    with pytest.raises(ValueError, match="positive noise levels"):
        run(_apply, sigmas=[0.0, 1.0])
    with pytest.raises(ValueError, match="needs images"):
        run(_apply, images=IMAGES[:0])
    with pytest.raises(ValueError, match="batch_size"):
        run(_apply, batch_size=0)
    with pytest.raises(ValueError, match="plain function"):
        run(_Unhashable())
    errors = np.ones((3, 2))
    with pytest.raises(ValueError, match="increasing sigmas"):
        nats(errors, errors, [2.0, 1.0])
    with pytest.raises(ValueError, match=r"errors must be \(N, S\)"):
        nats(errors, errors[:2], [1.0, 2.0])


class _Unhashable:
    __hash__ = None

    def __call__(self, params, x, sigma):
        return x
