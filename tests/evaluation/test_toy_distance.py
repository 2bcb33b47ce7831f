"""Quadrature against closed forms; sample distances against densities they were drawn from, and were not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import norm

from jaxdiff.diffusion.mixture import GaussianMixture
from jaxdiff.evaluation.toy_distance import (
    cell_probabilities,
    density_distances,
    make_grid,
    sample_distances,
)

LINE = make_grid([-9], [9], 2000)


def _normal(mean, std):
    return lambda x: norm.logpdf(x[:, 0], mean, std)


def _mixture(rho, spread=0.5):
    """Peaks at (+-2, +-2); P(same sign) = (1 + rho) / 2. Its total correlation is known (docs/design.md)."""
    means = jnp.array([[2.0, 2.0], [-2.0, -2.0], [2.0, -2.0], [-2.0, 2.0]])
    weights = jnp.array([1 + rho, 1 + rho, 1 - rho, 1 - rho]) / 4
    return GaussianMixture(weights, means, jnp.tile(spread**2 * jnp.eye(2), (4, 1, 1)))


def _log(mixture):
    return lambda x: np.asarray(mixture.log_prob(jnp.asarray(x, jnp.float32), jnp.zeros(len(x))))


def test_two_gaussians():
    """KL = log(s2/s1) + (s1^2 + d^2) / (2 s2^2) - 1/2; TV of a shift by d is erf(d / (2 sqrt(2) s))."""
    found = density_distances(_normal(0.3, 0.7), _normal(-0.2, 1.1), LINE)
    expected = np.log(1.1 / 0.7) + (0.7**2 + 0.5**2) / (2 * 1.1**2) - 0.5
    assert found["kl"] == pytest.approx(expected, rel=1e-9)
    shifted = density_distances(_normal(0.4, 0.8), _normal(-0.4, 0.8), LINE)
    assert shifted["tv"] == pytest.approx(erf(0.8 / (2 * np.sqrt(2) * 0.8)), rel=1e-5)
    assert density_distances(_normal(0, 1), _normal(0, 1), LINE) == {"kl": 0, "tv": 0}
    # KL is not symmetric: the other order is another number
    back = density_distances(_normal(-0.2, 1.1), _normal(0.3, 0.7), LINE)["kl"]
    assert back == pytest.approx(np.log(0.7 / 1.1) + (1.1**2 + 0.5**2) / (2 * 0.7**2) - 0.5, rel=1e-9)


def test_the_total_correlation_of_a_mixture():
    """KL(p || product of marginals): 0.13079, 0.49452 nats; TV is rho / 2, as the peaks do not overlap."""
    grid = make_grid([-5, -5], [5, 5], 200)
    for rho, nats in ((0.5, 0.13079), (0.9, 0.49452)):
        found = density_distances(_log(_mixture(rho)), _log(_mixture(0.0)), grid)
        assert found["kl"] == pytest.approx(nats, abs=2e-5)
        assert found["tv"] == pytest.approx(rho / 2, abs=1e-3)


def test_cells_integrate_the_density():
    grid = make_grid([-2], [2], 8)
    expected = np.diff(norm.cdf(np.linspace(-2, 2, 9)))
    np.testing.assert_allclose(cell_probabilities(_normal(0, 1), grid, 64), expected, rtol=1e-4)
    square = make_grid([-3, -4], [3, 4], 6)
    got = cell_probabilities(lambda x: norm.logpdf(x).sum(axis=1), square, 32).reshape(6, 6)
    expected = np.outer(*(np.diff(norm.cdf(np.linspace(-a, a, 7))) for a in (3, 4)))
    np.testing.assert_allclose(got, expected, rtol=2e-3)


def test_exact_samples_get_the_stated_noise():
    rng, grid = np.random.default_rng(0), make_grid([-3], [3], 20)
    runs = [sample_distances(rng.standard_normal((4000, 1)), _normal(0, 1), grid) for _ in range(200)]
    for name in ("kl", "tv"):
        values = np.array([run[name] for run in runs])
        assert values.mean() == pytest.approx(runs[0][f"{name}_noise"], rel=0.06)


def test_wrong_samples_are_told():
    """Samples of N(0.5, 1) against N(0, 1): KL is 1/8 less what the cells lose, TV erf(0.5 / (2 sqrt 2))."""
    rng, grid = np.random.default_rng(1), make_grid([-4], [4.5], 60)
    found = sample_distances(0.5 + rng.standard_normal((100_000, 1)), _normal(0, 1), grid)
    assert found["kl"] == pytest.approx(0.125, abs=0.004)
    assert found["tv"] == pytest.approx(erf(0.5 / (2 * np.sqrt(2))), abs=0.006)
    mixture = _mixture(0.9)
    draws = np.asarray(_mixture(0.0).sample(jax.random.key(0), 50_000))
    wrong = sample_distances(draws, _log(mixture), make_grid([-5, -5], [5, 5], 25), subdivide=8)
    right = sample_distances(
        np.asarray(mixture.sample(jax.random.key(1), 50_000)),
        _log(mixture),
        make_grid([-5, -5], [5, 5], 25),
        8,
    )
    assert wrong["tv"] == pytest.approx(0.45, abs=0.02)
    assert right["kl"] < 2 * right["kl_noise"] < 0.1 < wrong["kl"]


def test_what_falls_outside_the_box_is_counted():
    """A box that holds half of the mass: the outside is one cell like any other."""
    half = norm.ppf(0.75)
    grid = make_grid([-half], [half], 10)
    far = np.full((1000, 1), 5.0)
    found = sample_distances(far, _normal(0, 1), grid)
    assert found["tv"] == pytest.approx(0.5, abs=1e-3)
    assert found["kl"] == pytest.approx(np.log(2), abs=1e-2)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="q integrates to 0.5"):
        density_distances(_normal(0, 1), lambda x: norm.logpdf(x[:, 0]) + np.log(0.5), LINE)
    with pytest.raises(ValueError, match="p integrates to 0.68"):
        density_distances(_normal(0, 1), _normal(0, 1), make_grid([-1], [1], 100))
    with pytest.raises(ValueError, match="low < high"):
        make_grid([1], [0], 5)
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        make_grid([0] * 3, [1] * 3, 5)
    with pytest.raises(ValueError, match=r"finite samples \(n, 1\)"):
        sample_distances(np.zeros((5, 2)), _normal(0, 1), LINE)
    with pytest.raises(ValueError, match="no mass"):
        uniform = lambda x: np.where(np.abs(x[:, 0]) < 1, -np.log(2), -np.inf)  # noqa: E731
        sample_distances(np.full((3, 1), 2.5), uniform, make_grid([-3], [3], 6))
    with pytest.raises(ValueError, match="must map points"):
        density_distances(lambda x: x, _normal(0, 1), LINE)
