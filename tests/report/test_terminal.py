"""The closing table: within 80 columns wherever it is printed, and with the numbers of the results."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from jaxdiff.experiment.distill_results import print_results
from jaxdiff.report.terminal import print_memorization, print_summary
from tests.report.test_page import levels_said


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


@pytest.mark.parametrize("level, said", [(0.8, "80 %"), (None, "95 %")])
def test_intervals_are_called_by_the_level_that_was_asked_for(results, level, said):
    """Mutation: '95 %' written out in a heading; the methods and the paired differences have one each."""
    text = printed(results | {"config": {"evaluate": {"level": level}}})
    assert levels_said(text) == {said} and text.count(f"{said} interval") == 2
    console = Console(file=io.StringIO(), width=80)
    print_memorization({"method": "residual", "level": level}, "memorization.html", console)
    assert levels_said(console.file.getvalue()) == {said}


def test_a_distillation_says_its_level_too():
    score, cost = {"mean": 2.0, "low": 1.0, "high": 3.0}, {"parameters": 1000, "seconds_per_image": 0.01}
    measured = {"images": 20, "teacher": score, "student": score}
    results = {
        "method": "residual",
        "held_out": measured | {"student_minus_teacher": score, "share_lost": None},
        "cost": {"teacher": cost, "student": cost},
        "stage": {"seconds": 4.2},
        "grid": "grid.png",
        "model": "model",
    }
    console = Console(file=io.StringIO(), width=80)
    config = SimpleNamespace(evaluate=SimpleNamespace(level=0.8))
    print_results(results, SimpleNamespace(config=config, console=console))
    assert levels_said(console.file.getvalue()) == {"80 %"} and "1.0 to 3.0" in console.file.getvalue()


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
