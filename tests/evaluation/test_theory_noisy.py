"""What a noisy example is worth: Fisher information against limits and SciPy, maximum likelihood against the bound."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxdiff.evaluation import mixture_fit, noisy_worth, theory_rows
from jaxdiff.evaluation.noisy_worth import Pair


def test_information_is_that_of_the_density():
    weights, means, std, sigma = np.array([0.2, 0.5, 0.3]), np.array([-2.0, 0.3, 1.5]), 0.6, 0.8
    scale = np.hypot(std, sigma)

    def density(x, theta):
        return sum(
            w * norm.pdf(x, m, scale)
            for w, m in zip([*theta[3:], 1 - sum(theta[3:])], theta[:3], strict=True)
        )

    theta, h = np.array([*means, *weights[:2]]), 1e-5
    expected = np.empty((5, 5))
    for i in range(5):
        for j in range(i, 5):

            def integrand(x, i=i, j=j):
                slopes = [
                    (density(x, theta + h * np.eye(5)[k]) - density(x, theta - h * np.eye(5)[k])) / (2 * h)
                    for k in (i, j)
                ]
                return slopes[0] * slopes[1] / density(x, theta)

            grid = np.linspace(-10, 10, 801)
            expected[i, j] = expected[j, i] = integrand(grid).sum() * (grid[1] - grid[0])
    root = noisy_worth.information_root(weights, means, std, sigma)
    np.testing.assert_allclose(root.T @ root, expected, rtol=1e-5, atol=1e-7)


def test_one_gaussian():
    root = noisy_worth.information_root([1.0], [0.3], 0.5, 2.0)
    np.testing.assert_allclose(root.T @ root, [[1 / 4.25]], rtol=1e-9)
    np.testing.assert_allclose(noisy_worth.least_information(1, 2.0), 1 / 5, rtol=1e-9)


@pytest.mark.parametrize("separation,sigma", [(6.0, 2.0), (2.0, 0.5)])
def test_the_worth_for_the_mean_is_that_of_the_sample_mean(separation, sigma):
    between = separation**2 / 4
    expected = (1 + between) / (1 + sigma**2 + between)
    np.testing.assert_allclose(noisy_worth.worth(Pair(separation), sigma)[0], expected, rtol=1e-6)


def test_components_far_apart_are_two_gaussians_with_labels():
    _, separation, weight = noisy_worth.worth(Pair(40.0, 0.3), 1.5)
    np.testing.assert_allclose([separation, weight], [1 / 3.25, 1.0], rtol=1e-6)


def test_the_first_moments_that_change_decide_for_large_noise():
    gap, sigma = 3.0, 200.0
    v = 1 + sigma**2
    # d mu_1 = 1; d mu_2 / d gap = gap / 2; d mu_3 / d weight = -gap^3 / 2: information d mu_j^2 / (j! v^j)
    expected = [v, 2 * v**2 / (gap / 2) ** 2, 6 * v**3 / (gap**3 / 2) ** 2]
    found = noisy_worth.variances(noisy_worth.pair_root(Pair(gap), sigma))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_rates_are_powers_not_exponentials():
    for pair, rates in ((Pair(4.0), noisy_worth.RATES), (Pair(4.0, 0.3), (2, 6, 6))):
        slopes = [
            noisy_worth.log_slope(lambda s, pair=pair: noisy_worth.worth(pair, s), at) for at in (150, 300)
        ]
        np.testing.assert_allclose(slopes, [rates, rates], atol=0.02)
    beside = noisy_worth.log_slope(lambda s: noisy_worth.marginal_worth(Pair(4.0), s), 150.0)
    np.testing.assert_allclose(beside[[0, 2]], 2, atol=0.02)


@pytest.mark.parametrize("components", (1, 2, 3))
def test_the_worst_direction_of_more_components(components):
    slope = noisy_worth.log_slope(lambda s: noisy_worth.least_information(components, s), 100.0)
    np.testing.assert_allclose(slope, 4 * components - 2, atol=0.02)


@pytest.mark.parametrize("pair", (Pair(6.0), Pair(2.0, 0.3)))
def test_clean_and_noisy_examples_help_each_other(pair):
    for sigma in (0.5, 2.0, 6.0):
        apart = 0.1 + 0.9 * noisy_worth.worth(pair, sigma)
        assert np.all(noisy_worth.mixed_size(pair, sigma, 0.1) >= apart - 1e-9)
    assert noisy_worth.mixed_size(Pair(6.0), 4.0, 0.1)[2] > 0.3 > 2 * (0.1 + 0.9 * 0.0431)
    limit = 0.1 + 0.9 * noisy_worth.marginal_worth(pair, 300.0)
    np.testing.assert_allclose(noisy_worth.mixed_size(pair, 300.0, 0.1), limit, rtol=1e-5)


def test_slopes_of_the_bins():
    theta, edges, h = np.array([[0.2, 2.5, 0.35]]), np.linspace(-6, 6, 40), 1e-6
    p, slope = mixture_fit.probabilities(edges, 1.7, theta)
    np.testing.assert_allclose(p.sum(), 1.0)
    for i in range(3):
        up, down = (mixture_fit.probabilities(edges, 1.7, theta + s * h * np.eye(3)[i])[0] for s in (1, -1))
        np.testing.assert_allclose(slope[:, i], (up - down) / (2 * h), atol=1e-8)


@pytest.mark.parametrize("pair,sigma", [(Pair(6.0), 0.0), (Pair(2.0), 0.0), (Pair(6.0), 4.0)])
def test_binning_loses_next_to_nothing(pair, sigma):
    data = mixture_fit.draw(pair, sigma, 1000, 1, np.random.default_rng(0))
    p, slope = (
        value[0] for value in mixture_fit.probabilities(data.edges, data.variance, pair.theta()[None])
    )
    binned = np.diag(np.linalg.inv((slope / np.maximum(p, 1e-300)) @ slope.T))
    exact = noisy_worth.variances(noisy_worth.pair_root(pair, sigma))
    assert np.all((binned / exact > 0.99999) & (binned / exact < 1.003))


def test_the_start_knows_the_truth_from_enough_examples_only():
    pair = Pair(3.0, 0.35)
    data = mixture_fit.draw(pair, 1.0, 10**12, 3, np.random.default_rng(0))
    np.testing.assert_allclose(mixture_fit.moment_estimate(data), np.tile(pair.theta(), (3, 1)), atol=1e-3)


@pytest.mark.parametrize("pair,sigma,share", [(Pair(6.0), 2.0, 0.0), (Pair(2.5, 0.4), 1.0, 0.2)])
def test_maximum_likelihood_reaches_the_bound(pair, sigma, share):
    error, se = mixture_fit.error_per_example(pair, sigma, share, 300, 0.01, np.random.default_rng(0))
    bound = noisy_worth.variances(noisy_worth.joint_root(pair, sigma, share))
    assert np.all(np.abs(error / bound - 1) < 4 * se) and np.all(se < 0.12)


def test_the_wrong_noise_level_in_the_likelihood_does_not(monkeypatch):
    right = mixture_fit.draw
    wrong = lambda *args, **options: right(*args, **options)._replace(variance=4.8)  # noqa: E731
    monkeypatch.setattr(mixture_fit, "draw", wrong)
    error, se = mixture_fit.error_per_example(Pair(6.0), 2.0, 0.0, 100, 0.01, np.random.default_rng(0))
    bound = noisy_worth.variances(noisy_worth.pair_root(Pair(6.0), 2.0))
    assert (error / bound - 1)[1] > 4 * se[1]


def test_too_few_examples_for_the_noise_are_named():
    data = mixture_fit.draw(Pair(1.0), 4.0, 50, 200, np.random.default_rng(0))
    with pytest.raises(ValueError, match="data sets did not converge; too few examples"):
        mixture_fit.maximum_likelihood([data], steps=20)


def test_rates_are_fitted_with_their_errors():
    sigmas = np.array([2.0, 4.0, 8.0])
    np.testing.assert_allclose(mixture_fit.fit_rate(sigmas, 3 * sigmas**-4.0)[0], 4.0)
    rng = np.random.default_rng(0)
    noisy = sigmas**-4.0 * (1 + 0.05 * rng.normal(size=(2000, 3)))
    found = np.array([mixture_fit.fit_rate(sigmas, row, 0.05 * row) for row in noisy])
    np.testing.assert_allclose(found[:, 0].std(), found[:, 1].mean(), rtol=0.06)


def test_every_row_is_within_its_tolerance():
    seen = []
    found = mixture_fit.measure_pair(Pair(6.0), (1.0, 2.0, 4.0), 0.1, 60, 0.01, 0, lambda: seen.append(1))
    rows = theory_rows.worth_rows([found], components=2)
    assert [row["quantity"] for row in rows if not row["ok"]] == []
    assert len(seen) == 7 and len(rows) == 6 + 3 + 3 + 2
    curves = theory_rows.worth_curves(found, points=4)
    at = noisy_worth.worth(Pair(6.0), curves["sigma"][-1])
    np.testing.assert_allclose([curves["alone"][name][-1] for name in noisy_worth.NAMES], at)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"pair": Pair(0.0)}, "separation > 0"),
        ({"sigmas": (0.0, 1.0)}, "positive noise levels"),
        ({"clean_share": 1.0}, "0 < clean_share < 1"),
        ({"precision": 0.5}, "precision <= 0.1"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    options = {
        "pair": Pair(2.0),
        "sigmas": (1.0,),
        "clean_share": 0.1,
        "sets": 2,
        "precision": 0.01,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        mixture_fit.measure_pair(**(options | changes))
