"""A mixture of low-rank Gaussians from partial measurements: exact likelihoods, a fixed point that is known, no lap
that loses, and dependence that no Gaussian can see."""

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jaxdiff.diffusion.gaussian import fit_gaussian
from jaxdiff.diffusion.ppca_mixture import (
    Lifted,
    PPCAMixture,
    em_lap,
    expected,
    fit_ppca_mixture,
    log_joint,
    log_likelihood,
    log_ratio,
)

D, R = 6, 2
RNG = np.random.default_rng(0)
LAW = PPCAMixture(
    np.array([0.3, 0.7]), RNG.normal(size=(2, D)), RNG.normal(size=(2, R, D)), np.array([0.2, 0.05])
)
# Coordinates 0 to 2, the others, and averages of neighbours: A A^T = c I.
MATRICES = {
    "first": np.eye(D)[:3],
    "second": np.eye(D)[3:],
    "averages": np.kron(np.eye(3), np.array([[0.5, 0.5]])),
    "whole": np.eye(D),
}


def draws(law, count, seed):
    rng = np.random.default_rng(seed)
    k = rng.choice(len(law.weights), size=count, p=law.weights)
    z, e = rng.normal(size=(count, law.loadings.shape[1])), rng.normal(size=(count, D))
    return law.means[k] + np.einsum("nr,nrd->nd", z, law.loadings[k]) + np.sqrt(law.variances[k])[:, None] * e


def seen(name, x):
    """A^+ A x, as `Lifted`."""
    matrix = MATRICES[name]
    projector = np.linalg.pinv(matrix) @ matrix
    return Lifted(lambda images: images @ projector, x @ projector, len(matrix))


def covariance(law, k):
    return law.loadings[k].T @ law.loadings[k] + law.variances[k] * np.eye(D)


def dense_log_joint(name, x):
    """log w_k N(y; A m_k, A S_k A^T), y = A x in orthonormal coordinates."""
    matrix = MATRICES[name] / np.linalg.norm(MATRICES[name], axis=1, keepdims=True)
    terms = [
        np.atleast_1d(
            multivariate_normal(matrix @ LAW.means[k], matrix @ covariance(LAW, k) @ matrix.T).logpdf(
                x @ matrix.T
            )
        )
        for k in range(2)
    ]
    return np.log(LAW.weights) + np.stack(terms, axis=1)


@pytest.mark.parametrize("name", MATRICES)
def test_the_likelihood_is_that_of_the_view(name):
    x = draws(LAW, 7, 1)
    np.testing.assert_allclose(log_joint(LAW, seen(name, x)), dense_log_joint(name, x), rtol=1e-9)


def test_the_expected_image_is_the_posterior_mean():
    x = draws(LAW, 5, 2)
    terms = dense_log_joint("first", x)
    shares = np.exp(terms - logsumexp(terms, axis=1, keepdims=True))
    means = []
    for k in range(2):
        s = covariance(LAW, k)
        gain = s[3:, :3] @ np.linalg.inv(s[:3, :3])
        means.append(LAW.means[k, 3:] + (x[:, :3] - LAW.means[k, :3]) @ gain.T)
    found = expected(LAW, seen("first", x))
    np.testing.assert_allclose(found[:, :3], x[:, :3], rtol=1e-12)
    np.testing.assert_allclose(found[:, 3:], np.einsum("nk,knd->nd", shares, np.stack(means)), rtol=1e-8)


def test_the_ratio_is_that_of_all_pairs():
    x, y = draws(LAW, 4, 3), draws(LAW, 5, 4)
    found = log_ratio(LAW, seen("first", x), seen("second", y))
    assert found.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            both = np.concatenate([x[i, :3], y[j, 3:]])[None]
            parts = (
                ("whole", both, 1),
                ("first", x[i][None], -1),
                ("second", y[j][None], -1),
            )
            expected_ratio = sum(
                sign * logsumexp(dense_log_joint(name, value)) for name, value, sign in parts
            )
            np.testing.assert_allclose(found[i, j], expected_ratio, rtol=1e-8)


def test_of_whole_images_one_component_is_probabilistic_pca():
    x = draws(dataclasses.replace(LAW, weights=np.array([1.0, 0.0])), 400, 5)
    law = fit_ppca_mixture([seen("whole", x)], 1, R, 400, seed=0, prior=0.0)
    exact = fit_gaussian(x, "ppca", R)
    np.testing.assert_allclose(law.means[0], x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(covariance(law, 0), np.asarray(exact.covariance()), atol=2e-4)


def objective(law, views, prior):
    """log of likelihood times the prior N(0, s^2 / prior) of the loadings."""
    squares = np.sum(law.loadings**2, axis=(1, 2)) / law.variances
    of_prior = -0.5 * np.sum(prior * squares + R * D * np.log(law.variances) * (prior > 0))
    return log_likelihood(law, views) + of_prior


@pytest.mark.parametrize("prior", [0.0, 25.0])
def test_no_lap_loses_and_the_last_is_at_the_top(prior):
    views = [seen(name, draws(LAW, 60, 10 + i)) for i, name in enumerate(MATRICES)]
    law = fit_ppca_mixture(views, 3, R, 1, seed=1, prior=prior)
    values = []
    for _ in range(12):
        values.append(objective(law, views, prior))
        law = em_lap(law, views, prior)
    assert (np.diff(values) > -1e-8).all() and values[-1] - values[0] > 1.0
    for _ in range(400):
        law = em_lap(law, views, prior)
    top = objective(law, views, prior)
    for name in ("means", "loadings", "variances"):
        for scale in (0.98, 1.02):
            moved = dataclasses.replace(law, **{name: scale * getattr(law, name)})
            assert objective(moved, views, prior) < top


def test_halves_averages_and_whole_images_teach_one_law():
    """Nearer to the true covariance than that of the whole images alone."""
    true = PPCAMixture(np.ones(1), LAW.means[:1], LAW.loadings[:1], LAW.variances[:1])
    counts = {"first": 1500, "second": 1500, "averages": 1500, "whole": 600}
    drawn = {name: draws(true, n, 20 + i) for i, (name, n) in enumerate(counts.items())}
    law = fit_ppca_mixture([seen(name, x) for name, x in drawn.items()], 1, R, 100, seed=2, prior=0.0)
    error = np.abs(covariance(law, 0) - covariance(true, 0)).max()
    alone = np.abs(np.cov(drawn["whole"].T) - covariance(true, 0)).max()
    assert error < 0.15 < alone


def kinds(count, seed):
    """Four kinds of images of which the halves do not correlate: x at +-1 or +-3, y at +-1, by kind."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=count)
    x, y = np.array([-3.0, -1.0, 1.0, 3.0])[kind], np.array([1.0, -1.0, -1.0, 1.0])[kind]
    images = np.repeat(np.stack([x, y], axis=1), 3, axis=1) + 0.3 * rng.normal(size=(count, D))
    return images, kind


def test_a_mixture_sees_what_no_gaussian_can():
    tops, of_top = kinds(150, 30)
    bottoms, of_bottom = kinds(150, 31)
    views = [seen("first", tops), seen("second", bottoms), seen("whole", kinds(80, 32)[0])]
    same = np.isin(of_top, (0, 3))[:, None] == np.isin(of_bottom, (0, 3))
    agreed = {}
    for components in (1, 8):
        ratio = log_ratio(fit_ppca_mixture(views, components, 1, 30, seed=3, prior=10.0), *views[:2])
        agreed[components] = np.mean((ratio > 0) == same)
    assert agreed[8] > 0.85 and agreed[1] < 0.65


def test_operations_are_counted_and_a_component_without_members_stays():
    views = [seen("first", draws(LAW, 50, 40))]
    done = []
    law = fit_ppca_mixture(views, 2, R, 3, seed=4, prior=10.0, progress=done.append)
    assert done == [1, 2, 3, 4, 5, 6]
    assert law.flops == 6 * D * (R + 1) * 50 * (3 + 2 * (1 + 3))
    far = dataclasses.replace(law, means=law.means + np.array([[0.0], [1e4]]))
    after = em_lap(far, views)
    np.testing.assert_array_equal(after.means[1], far.means[1])
    assert np.isfinite(log_likelihood(after, views))


def test_bad_settings_are_named():
    views = [seen("whole", draws(LAW, 5, 50))]
    for name in ("components", "rank", "laps"):
        settings = {"components": 1, "rank": 1, "laps": 1, name: 0}
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            fit_ppca_mixture(views, seed=0, prior=0.0, **settings)
    with pytest.raises(ValueError, match="prior must not be negative"):
        fit_ppca_mixture(views, 1, 1, 1, seed=0, prior=-1.0)
    with pytest.raises(ValueError, match="6 components of 5 measurements"):
        fit_ppca_mixture(views, 6, 1, 1, seed=0, prior=0.0)
