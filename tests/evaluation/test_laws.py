"""The laws: recovered from exact and noisy data, slopes and prices against closed forms and differences."""

import numpy as np
import pytest

from jaxdiff.evaluation.laws import (
    CLEAN_ONLY,
    EXCHANGE,
    PARALLEL,
    at_bound,
    clean_needed,
    clean_slope,
    effective_size,
    exchange_rate,
    fit_law,
    named_parameters,
    next_worth,
    predict,
)
from tests.evaluation.made_runs import (
    ALPHA,
    BETA,
    FLOOR,
    TOP,
    A,
    B,
    K,
    M,
    exchange,
    exchange_price,
    grid,
    parallel,
    parallel_price,
)

N, S, _ = grid()


@pytest.fixture(scope="module")
def exact():
    return {law.name: fit_law(law, N, S, q(N, S)) for law, q in ((EXCHANGE, exchange), (PARALLEL, parallel))}


def test_exact_data_give_back_the_parameters(exact):
    found = named_parameters(exact["exchange"])
    wanted = {"T": TOP, "a": A, "alpha": ALPHA, "k": K, "M": M}
    assert found == pytest.approx(wanted, rel=1e-3)
    found = named_parameters(exact["parallel"])
    wanted = {"T": TOP, "a": A, "alpha": ALPHA, "F / a": FLOOR / A, "B / a": B / A, "beta": BETA}
    assert found == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("name, price", [("exchange", exchange_price), ("parallel", parallel_price)])
def test_exchange_rate_is_the_closed_form(exact, name, price):
    for n, m in ((100.0, 1300.0), (60.0, 400.0), (350.0, 2500.0)):
        assert exchange_rate(exact[name], n, m) == pytest.approx(price(n, m), rel=5e-3)


@pytest.mark.parametrize("name", ["exchange", "parallel"])
def test_rate_and_slope_are_derivatives_of_the_prediction(exact, name):
    fit, n, m, step = exact[name], 120.0, 900.0, 1e-3
    by_clean = (predict(fit, n + step, m) - predict(fit, n - step, m)) / (2 * step)
    by_source = (predict(fit, n, m + step) - predict(fit, n, m - step)) / (2 * step)
    assert clean_slope(fit, n, m) == pytest.approx(by_clean, rel=1e-5)
    assert exchange_rate(fit, n, m) == pytest.approx(by_source / by_clean, rel=1e-5)


@pytest.mark.parametrize("name", ["exchange", "parallel"])
def test_without_the_source_both_are_the_law_of_clean_images(exact, name):
    n = np.array([30.0, 100.0, 1000.0])
    np.testing.assert_allclose(effective_size(exact[name], n, 0.0), n, rtol=1e-9)
    np.testing.assert_allclose(predict(exact[name], n, 0.0), TOP - A * n**-ALPHA, rtol=1e-4)


@pytest.mark.parametrize("name", ["exchange", "parallel"])
def test_contours_keep_the_quality_and_end_where_the_source_is_enough(exact, name):
    m = np.array([0.0, 100.0, 700.0, 2600.0])
    n = clean_needed(exact[name], 280.0, m)
    inside = np.isfinite(n)
    assert inside[:2].all() and not inside[-1]
    np.testing.assert_allclose(predict(exact[name], n[inside], m[inside]), 280.0, atol=1e-6)
    assert np.all(np.diff(n[inside]) < 0)
    assert np.isnan(clean_needed(exact[name], TOP + 1, 0.0))


def test_worth_of_the_next_images_is_exact_and_tends_to_the_rate(exact):
    fit = exact["exchange"]
    wanted = K * 1300 / (1 + 1300 / M) - K * 325 / (1 + 325 / M)
    assert next_worth(fit, 100.0, 325.0, 975.0) == pytest.approx(wanted, rel=1e-3)
    for fit in exact.values():
        assert next_worth(fit, 100.0, 1300.0, 0.1) / 0.1 == pytest.approx(
            float(exchange_rate(fit, 100.0, 1300.0)), rel=1e-3
        )


def test_noisy_data_give_prices_near_the_truth_and_an_outlier_does_not_move_them():
    n, m, _ = grid(3)
    q = exchange(n, m) + np.random.default_rng(0).normal(size=n.shape)
    fit = fit_law(EXCHANGE, n, m, q)
    assert exchange_rate(fit, 100.0, 1300.0) == pytest.approx(exchange_price(100, 1300), rel=0.15)
    q[17] -= 60.0  # a run that diverged
    with_outlier = fit_law(EXCHANGE, n, m, q)
    assert exchange_rate(with_outlier, 100.0, 1300.0) == pytest.approx(
        float(exchange_rate(fit, 100.0, 1300.0)), rel=0.15
    )


def test_a_source_that_harms_has_a_negative_price():
    q = TOP - A * (N - 0.01 * S) ** -ALPHA
    fit = fit_law(EXCHANGE, N, S, q)
    assert exchange_rate(fit, 100.0, 1300.0) == pytest.approx(-0.01, rel=0.05)


def test_standard_errors_are_weights():
    q = exchange(N, S)
    q[0] += 30.0
    errors = np.ones_like(q)
    errors[0] = 1e4
    fit = fit_law(EXCHANGE, N, S, q, errors)
    np.testing.assert_allclose(predict(fit, N, S)[1:], q[1:], atol=0.05)


def test_what_the_measurements_do_not_determine_is_noticed():
    q = 100 + 30 * np.log(N)  # no end in sight
    endless = fit_law(CLEAN_ONLY, N, S, q, starts=3)
    assert at_bound(endless, "top") or at_bound(endless, "alpha")
    exact = fit_law(CLEAN_ONLY, N, S, TOP - A * N**-ALPHA)
    assert not at_bound(exact, "top") and not at_bound(exact, "alpha")
