"""The summary sentence: who leads, by how much, and no victory that the intervals do not show."""

import copy

import pytest

from jaxdiff.report.outcome import difference, summary, verdict


def swapped(results: dict, first: str, second: str) -> dict:
    """The same run with two methods' scores exchanged."""
    results = copy.deepcopy(results)
    one, two = results["methods"][first], results["methods"][second]
    one["nats_over_gaussian"], two["nats_over_gaussian"] = (
        two["nats_over_gaussian"],
        one["nats_over_gaussian"],
    )
    return results


def test_names_the_leader_with_its_interval_and_both_leads(results):
    text = summary(results)
    assert text.startswith("Nearest to the clean distribution is residual, 38.6 nats per image above")
    assert "95\u00a0% interval 37.2 to 40.1, 500 held-out images" in text
    assert "residual is 6.80 nats (5.93 to 7.71) ahead of views_only and 11.20 nats (9.60 to 12.90)" in text
    assert "does not win" not in text


def test_a_candidate_is_never_the_leader(results):
    results["methods"]["fusion"]["nats_over_gaussian"] = {"mean": 99.0, "low": 98.0, "high": 100.0}
    assert "is residual" in summary(results)


def test_says_so_when_the_residual_loses(results):
    results = swapped(results, "residual", "views_only")
    results["comparisons"]["residual_minus_views_only"] = {"mean": -6.8, "low": -7.71, "high": -5.93}
    text = summary(results)
    assert "Nearest to the clean distribution is views_only" in text
    assert "The residual does not win here; views_only does." in text
    assert "views_only is 6.80 nats (5.93 to 7.71) ahead of residual" in text, "the difference turned round"


def test_a_lead_whose_interval_holds_zero_is_not_a_lead(results):
    results["comparisons"]["residual_minus_views_only"] = {"mean": 0.4, "low": -0.3, "high": 1.1}
    text = summary(results)
    assert "ahead of views_only" not in text
    assert (
        "Not resolved, as the interval includes zero: its difference from views_only, 0.40 nats (−0.30 to"
        in text
    )


def test_nobody_beats_the_gaussian(results):
    for name in ("views_only", "clean_only", "residual"):
        results["methods"][name]["nats_over_gaussian"] = {"mean": -5.0, "low": -6.0, "high": -4.0}
    assert summary(results).startswith(
        "No method improves on the Gaussian denoiser. The best other, views_only"
    )


def test_what_is_not_finite_is_named_and_not_ranked(results):
    results["methods"]["residual"]["nats_over_gaussian"] = {"mean": float("nan"), "low": None, "high": "nan"}
    text = summary(results)
    assert "is views_only" in text and "Not finite, so not ranked: residual." in text


@pytest.mark.parametrize("results", [{}, {"methods": {}}, {"methods": {"residual": {}}}], ids=str)
def test_nothing_measured(results):
    assert summary(results) == "No method has a finite score in this run."


def test_difference_is_antisymmetric(results):
    one = difference(results["comparisons"], "residual", "views_only")
    two = difference(results["comparisons"], "views_only", "residual")
    assert (one["mean"], one["low"], one["high"]) == (-two["mean"], -two["high"], -two["low"])
    assert difference(results["comparisons"], "residual", "gaussian") is None


@pytest.mark.parametrize(
    "low, high, text",
    [(0.1, 2, "a is better"), (-2, -0.1, "b is better"), (-1, 1, "not resolved"), (0.0, 1, "not resolved")],
)
def test_verdict(low, high, text):
    assert verdict("a", "b", {"mean": 0.5, "low": low, "high": high}).startswith(text)
