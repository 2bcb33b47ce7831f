"""Rounding: two significant digits of the interval, and what is not finite says so."""

import math

import pytest

from jaxdiff.report import numbers


@pytest.mark.parametrize("half, places", [(25.0, 0), (2.1, 1), (0.89, 2), (0.03, 3), (1e-9, 4)])
def test_decimals_follow_the_narrowest_interval(half, places):
    wide, reference = {"mean": 5, "low": -95, "high": 105}, {"mean": 0, "low": 0, "high": 0}
    entry = {"mean": 1.0, "low": 1.0 - half, "high": 1.0 + half}
    assert numbers.decimals([wide, entry, reference]) == places


def test_decimals_without_any_interval():
    assert numbers.decimals([{"mean": 1.0}, None, {"mean": 1, "low": math.nan, "high": 2}]) == 1


@pytest.mark.parametrize(
    "value, text",
    [
        (1234.567, "1,234.57"),
        (-0.001, "0.00"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "–"),
        ("nan", "nan"),
    ],
)
def test_fixed(value, text):
    assert numbers.fixed(value, 2) == text


def test_fixed_signed():
    assert [numbers.fixed(v, 1, signed=True) for v in (2.0, -2.0, 0.0)] == ["+2.0", "−2.0", "0.0"]


def test_none_counts_as_absent_at_any_depth():
    tree = {"a": None, "b": {"c": None, "d": 0, "e": {"f": None}}, "g": [None]}
    assert numbers.present(tree) == {"b": {"d": 0, "e": {}}, "g": [None]}


@pytest.mark.parametrize(
    "value, digits, text",
    [(5681.0, 4, "5,681"), (0.76789, 3, "0.768"), (12.34, 3, "12.3"), (0.25, 3, "0.25")],
)
def test_significant(value, digits, text):
    assert numbers.significant(value, digits) == text


@pytest.mark.parametrize(
    "value, text", [(812, "812"), (999.9, "1.00k"), (15_000, "15.0k"), (999_600, "1.00M"), (1.234e9, "1.23G")]
)
def test_short_count(value, text):
    assert numbers.short_count(value) == text


@pytest.mark.parametrize(
    "value, text",
    [(4.21, "4.2 s"), (59.96, "1 min 0 s"), (492.3, "8 min 12 s"), (7500, "2 h 5 min"), (math.nan, "nan")],
)
def test_duration(value, text):
    assert numbers.duration(value) == text
