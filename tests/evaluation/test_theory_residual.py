"""The parallel law: closed forms against dense formulas, measured fits against closed forms, and mutations."""

import numpy as np
import pytest
from scipy.integrate import quad

from jaxdiff.evaluation import residual_theory, theory, theory_rows


def dense(rho, sigma, width):
    """(B, Sigma, W) of the module's docstring, from matrices."""
    covariance = residual_theory.block_covariance(rho, width)
    noisy = covariance + sigma**2 * np.eye(2 * width)
    halves = [np.eye(2 * width)[:width], np.eye(2 * width)[width:]]
    residual = theory.view_precision(covariance, halves, sigma) - np.linalg.inv(noisy)
    return residual, noisy, covariance - covariance @ np.linalg.solve(noisy, covariance)


@pytest.mark.parametrize("rho,sigma,width", [(0.3, 1.0, 1), (0.8, 0.4, 3)])
def test_closed_forms_are_the_dense_formulas(rho, sigma, width):
    residual, noisy, posterior = dense(rho, sigma, width)
    p = 2 * width
    np.testing.assert_allclose(
        residual_theory.views_power(rho, sigma, width), np.trace(residual @ noisy @ residual.T)
    )
    expected = np.trace(posterior) / sigma**4 * p / (40 - p - 1)
    np.testing.assert_allclose(residual_theory.scratch_power(rho, sigma, 40, width), expected)
    budget, _ = quad(lambda v: residual_theory.views_power(rho, np.sqrt(v), width) / 2, 0, np.inf)
    np.testing.assert_allclose(residual_theory.views_nats(rho, width), budget, rtol=1e-6)
    full, summed = residual_theory.score_matrices(rho, width, [sigma])
    np.testing.assert_allclose((full - summed)[0], residual, atol=2e-5)


@pytest.mark.parametrize("rho", (0.01, 0.5))
def test_slope_in_the_correlation(rho):
    h, sigma = 1e-5, 0.7
    up, down = (np.log(residual_theory.views_power(rho * np.exp(s * h), sigma)) for s in (1, -1))
    k = rho / (1 + sigma**2)
    np.testing.assert_allclose((up - down) / (2 * h), 2 / (1 - k**2), rtol=1e-6)


@pytest.mark.parametrize("views,scratch", [(1.0, 1.0), (0.02, 3.0), (5.0, 0.1)])
def test_the_law_is_the_least_error_of_a_constant(views, scratch):
    a = np.linspace(0, 1, 20001)
    risk = (1 - a) ** 2 * views + a**2 * scratch
    np.testing.assert_allclose(residual_theory.parallel(views, scratch), risk.min(), rtol=1e-6)
    np.testing.assert_allclose(a[risk.argmin()], views / (views + scratch), atol=1e-4)


@pytest.mark.parametrize("rho,n,width", [(0.6, 40, 2)])
def test_fits_have_the_exact_errors(rho, n, width):
    rng = np.random.default_rng(0)
    cell = residual_theory.measure_fits(residual_theory.linear_model(rho, 0.8, width), n, 2000, rng)
    for name in ("scratch", "shrunk"):
        assert abs(cell[name]["mean"] - cell[name]["exact"]) < 4 * cell[name]["se"]
        assert cell[name]["se"] < 0.03 * cell[name]["mean"]
    # what a constant cannot do and what it can
    assert cell["shrunk"]["mean"] < cell["scratch"]["mean"]
    assert cell["shrunk"]["mean"] < residual_theory.views_power(rho, 0.8, width)


def test_every_noise_draw_to_leading_order():
    model = residual_theory.linear_model(0.5, 1.0, 2)
    cell = residual_theory.measure_fits(model, 1000, 400, np.random.default_rng(1))
    for name in ("all_draws", "all_draws_shrunk"):
        assert abs(cell[name]["mean"] / cell[name]["exact"] - 1) < 0.06
    assert cell["all_draws"]["mean"] < cell["scratch"]["mean"]


def test_ridge_with_one_price_is_the_law_for_small_correlation():
    rng, model = np.random.default_rng(2), residual_theory.linear_model(0.1, 1.0, 1)
    for n in (32, 400):
        cell = residual_theory.measure_fits(model, n, 1000, rng)
        ratio, error = (cell["ridge"][key] / cell["shrunk"]["exact"] for key in ("mean", "se"))
        assert abs(ratio - 1) < 4 * error + 0.02


def dial(**changes):
    options = {"rhos": (0.2, 0.7), "counts": (16,), "sigma": 1.0, "width": 1, "repetitions": 1500}
    return residual_theory.measure_dial(**(options | {"samples": 200, "seed": 0} | changes))


def failed(rows):
    return [row["quantity"] for row in rows if not row["ok"]]


def test_every_row_is_within_its_tolerance():
    seen = []
    found = dial(rhos=(0.1, 0.2, 0.7), counts=(16, 400), samples=4000, progress=lambda: seen.append(1))
    rows = theory_rows.dial_rows(found)
    assert failed(rows) == [] and len(rows) == 6 + 1 + 6 + 2 and len(seen) == 3 + 6
    slope = theory_rows.slope_of_views(found)
    assert abs(slope["mean"] - 2) < 4 * slope["se"] + 0.02 and slope["se"] < 0.05


def test_a_lost_degree_of_freedom_fails(monkeypatch):
    right = residual_theory.scratch_power
    monkeypatch.setattr(residual_theory, "scratch_power", lambda r, s, n, w=1: right(r, s, n + 2, w))
    assert any("V(n), fit from scratch" in name for name in failed(theory_rows.dial_rows(dial())))


def test_another_law_fails(monkeypatch):
    monkeypatch.setattr(residual_theory, "parallel", lambda a, b: 0.9 * min(a, b))
    assert any("parallel law, shrunk" in name for name in failed(theory_rows.dial_rows(dial())))


def test_a_wrong_noise_level_in_the_views_fails(monkeypatch):
    right = residual_theory.summed_scores
    monkeypatch.setattr(
        residual_theory, "summed_scores", lambda views, x, sigma: right(views, x, 1.1 * sigma)
    )
    assert any(
        name.startswith("R0") for name in failed(theory_rows.dial_rows(dial(repetitions=2, samples=4000)))
    )


def test_curves_pass_through_the_exact_values_of_the_cells():
    found = dial(counts=(16, 400), repetitions=2, samples=2)
    for curve in theory_rows.dial_curves(found):
        cells = [cell for cell in found["cells"] if cell["rho"] == curve["rho"]]
        for key in ("scratch", "shrunk"):
            np.testing.assert_allclose([curve[key][0], curve[key][-1]], [c[key]["exact"] for c in cells])


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"rhos": (0.5,)}, "two or more correlations"),
        ({"rhos": (0.5, 1.0)}, r"in \(0, 1\), got \(0.5, 1.0\)"),
        ({"counts": (9,)}, "n >= 10, got"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"repetitions": 1}, "at least 2 repetitions"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dial(**changes)
