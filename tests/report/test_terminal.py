"""The closing table: within 80 columns wherever it is printed, and with the numbers of the results."""

import io

import pytest
from rich.console import Console

from jaxdiff.report.terminal import print_summary


def printed(results: dict, path: str = "runs/digits/report.html", **options) -> str:
    console = Console(file=io.StringIO(), **options)
    print_summary(results, path, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"width": 200}, {"width": 80, "force_terminal": True, "no_color": True}]
)
def test_fits_eighty_columns_and_names_everything(results, options):
    results["methods"]["a_candidate_with_a_very_long_name+residual"] = results["methods"]["fusion"]
    text = printed(results, **options)
    assert max(map(len, text.splitlines())) <= 80 or "force_terminal" in options
    for name in ("gaussian", "views_only", "clean_only", "residual", "fusion+residual"):
        assert name in text
    assert "38.6" in text and "37.2 to 40.1" in text and "reference" in text
    assert "residual - views_only" in text and "+6.80" in text and "5.93 to 7.71" in text


def test_the_path_is_never_broken(results):
    path = "/a/very/long/way/" * 10 + "[bold]report.html"
    assert path in printed(results, path).splitlines()


def test_values_that_are_missing_or_not_finite(results):
    results["methods"]["residual"] = {"nats_over_gaussian": {"mean": float("nan")}, "seconds": None}
    results["methods"]["views_only"] = {}
    text = printed(results)
    assert "nan" in text and "–" not in text


def test_nothing_to_tell():
    assert printed({}).split() == ["Report:", "runs/digits/report.html"]


def test_plain_ascii_when_the_output_is():
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"))
    print_summary(
        {"methods": {"residual": {"nats_over_gaussian": {"mean": 1.0, "low": 0.5, "high": 1.5}}}},
        "r",
        console,
    )
    console.file.flush()
    assert b"0.50 to 1.50" in raw.getvalue()
