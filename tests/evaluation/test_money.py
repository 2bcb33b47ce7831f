"""Money: the best split against the closed form, break-even prices, order of the rows, honest plans."""

import numpy as np
import pytest

from jaxdiff.evaluation.laws import EXCHANGE, PARALLEL, exchange_rate, fit_law, predict
from jaxdiff.evaluation.money import allocate, money
from jaxdiff.evaluation.price_list import source_entry
from jaxdiff.evaluation.worth import assess
from tests.evaluation.made_runs import K, M, exchange, exchange_price, grid, parallel

N, S, SEED = grid(2)


@pytest.fixture(scope="module")
def worth():
    noise = np.random.default_rng(0).normal(size=N.shape)
    return assess(N, S, exchange(N, S) + 0.5 * noise, (100, 1300), SEED, laws=(EXCHANGE,), n_resamples=40)


def test_split_is_where_the_rate_meets_the_price():
    fit = fit_law(EXCHANGE, N, S, exchange(N, S))
    clean, source = allocate(fit, 100, 325, 1.0, 0.15, 400.0)
    # k / (1 + m/M)^2 = 0.15: m = M (sqrt(k / 0.15) - 1), whatever n is
    assert 325 + source == pytest.approx(M * (np.sqrt(K / 0.15) - 1), rel=2e-3)
    assert clean + 0.15 * source == pytest.approx(400.0)


def test_ends_of_the_budget():
    fit = fit_law(EXCHANGE, N, S, exchange(N, S))
    assert allocate(fit, 100, 1300, 1.0, 1.0, 50.0) == (50.0, 0.0)  # the rate is 0.11
    clean, source = allocate(fit, 100, 0, 1.0, 0.01, 2.0)
    assert clean == pytest.approx(0, abs=1e-6) and source == pytest.approx(200)


def test_no_other_split_is_better():
    fit = fit_law(PARALLEL, N, S, parallel(N, S))
    clean, source = allocate(fit, 80, 200, 1.0, 0.1, 150.0)
    best = predict(fit, 80 + clean, 200 + source)
    more = np.linspace(0, 1500, 3001)
    assert best >= np.max(predict(fit, 80 + 150 - 0.1 * more, 200 + more)) - 1e-9
    assert exchange_rate(fit, 80 + clean, 200 + source) == pytest.approx(0.1, rel=1e-3)


def test_rows_are_rate_over_price(worth):
    found = money({"low_res": worth}, 2.0, {"low_res": 0.1}, 60.0)
    clean, source = found["rows"]
    price = exchange_price(100, 1300)
    assert source["break_even"]["mean"] == pytest.approx(2 * price, rel=0.2)
    assert source["nats_per_unit"]["mean"] / clean["nats_per_unit"]["mean"] == pytest.approx(
        source["rate"]["mean"] * 2.0 / 0.1
    )
    assert found["best_buy"] == "low_res" and found["resolved"]
    plan = found["plans"][0]
    assert plan["gain"]["low"] <= plan["gain"]["mean"] <= plan["gain"]["high"]
    assert plan["gain"]["mean"] >= plan["gain_clean_only"] > 0
    assert 2.0 * plan["clean"] + 0.1 * plan["source"] <= 60.0


def test_dear_sources_lose_and_close_calls_are_not_resolved(worth):
    dear = money({"low_res": worth}, 1.0, {"low_res": 10.0}, 60.0)
    assert dear["best_buy"] == "clean" and dear["resolved"]
    assert dear["plans"][0]["source"] == 0 and dear["plans"][0]["clean"] == 60
    price = dear["rows"][1]["rate"]["mean"]
    assert not money({"low_res": worth}, 1.0, {"low_res": price}, 60.0)["resolved"]
    far = money({"low_res": worth}, 1.0, {"low_res": 0.001}, 1000.0)
    assert any(text.startswith("source") for text in far["plans"][0]["beyond"])


def test_entry_is_plain_numbers_and_consistent(worth):
    import json

    entry = source_entry("low_res", worth)
    assert json.loads(json.dumps(entry)) == entry
    assert entry["rate"]["mean"] == pytest.approx(exchange_price(100, 1300), rel=0.2)
    assert len(entry["measured"]) == 16 and [law["name"] for law in entry["laws"]] == [
        "exchange",
        "clean_only",
    ]
    fit = worth.best.fit
    for line in entry["contours"]:
        quality = predict(fit, np.array(line["n_clean"]), np.array(line["n_source"]))
        np.testing.assert_allclose(quality, line["nats"], rtol=1e-9)
    assert sum(line["present"] for line in entry["contours"]) == 1
    for line in entry["curves"]:
        assert len(line["n_source"]) == len(line["mean"]) == len(line["low"])
        assert np.all(np.array(line["low"]) <= np.array(line["high"]))


def test_bad_amounts_are_named(worth):
    with pytest.raises(ValueError, match=r"costs are needed for \['low_res'\]"):
        money({"low_res": worth}, 1.0, {"masked": 1.0}, 10.0)
    with pytest.raises(ValueError, match="budget must be a positive amount"):
        money({"low_res": worth}, 1.0, {"low_res": 1.0}, 0.0)
    with pytest.raises(ValueError, match=r"costs\[low_res\] must be a positive"):
        money({"low_res": worth}, 1.0, {"low_res": -1.0}, 5.0)
