"""Measured points over exact curves, and the page that shows them."""

import re

import pytest

from jaxdiff.evaluation import theory_rows
from jaxdiff.evaluation.noisy_worth import NAMES
from jaxdiff.report import theory
from jaxdiff.report.figures import Frame
from jaxdiff.report.measured import Series, measured_over_exact
from jaxdiff.report.palette import view_looks

FRAME = Frame("Title", "y", "Caption.", log_y=True)
LOOK = view_looks(["a"])["a"]


def entry(value):
    return {"mean": 1.02 * value, "se": 0.03 * value, "exact": value}


def made():
    """Results as a run writes them, with made-up measurements."""
    views = [{"rho": rho, "power": entry(rho**2 / 4), "nats": entry(rho**2 / 2)} for rho in (0.1, 0.2)]
    kinds = ("scratch", "shrunk", "ridge", "all_draws", "all_draws_shrunk")
    cells = [{"rho": rho, "n": n} | {k: entry(2 / n) for k in kinds} for rho in (0.1, 0.2) for n in (16, 64)]
    dial = {"sigma": 1.0, "width": 1, "views": views, "cells": cells}
    dial |= {"curves": theory_rows.dial_curves(dial), "views_curve": theory_rows.views_curve(dial)}
    columns = {name: {"mean": [0.5, 0.1], "se": [0.01, 0.01], "exact": [0.5, 0.1]} for name in NAMES}
    pair = {"separation": 6.0, "sigma": [1.0, 3.0], "clean_share": 0.1, "alone": columns, "mixed": columns}
    pair["curves"] = theory_rows.worth_curves(pair, points=5)
    rows = [{"quantity": "<one>", "measured": 1.0, "exact": 1.1, "tolerance": 0.2, "ok": True}]
    header = {"title": "A & B", "command": "python launch.py", "seed": 3, "seconds": 61.0}
    return header | {"rows": rows, "dial": dial, "worth": [pair]}


@pytest.fixture(scope="module")
def results():
    return made()


def test_the_page_loads_nothing_and_shows_every_figure(results, tmp_path):
    page = theory.write_theory_report(results, tmp_path / "deep" / "report.html").read_text()
    assert page.count('role="img"') == 3 + 2 + 1
    assert not re.search(r'(?:src|href)="(?!#|data:)', page) and "url(http" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert (
        "&lt;one&gt;" in page
        and "A &amp; B" in page
        and "python launch.py" in page.replace("<span>", "").replace("</span>", "")
    )
    assert "All 1 rows agree" in page and "1 min 1 s" in page


def test_a_failure_is_named_first(results):
    rows = [results["rows"][0] | {"ok": False}]
    assert theory.summary(results | {"rows": rows}) == "1 of 1 rows are outside their tolerance: <one>."
    assert theory.sections(results | {"rows": rows})[0].blocks[0].rows[0][-1] == "FAIL"


def test_every_measured_point_is_drawn_with_its_bar():
    points = [1.0, 10.0, 100.0], [3.0, 2.0, 1.0], [0.1, 0.1, 0.1]
    bare = measured_over_exact("f", {"a": Series(LOOK, ([1, 100], [3, 1]))}, FRAME, "x")
    with_points = measured_over_exact("f", {"a": Series(LOOK, ([1, 100], [3, 1]), points)}, FRAME, "x")
    # a marker and two caps for each point
    assert with_points.svg.count("<use") - bare.svg.count("<use") == 9
    assert [name for name, _, _ in with_points.legend] == ["a"]


def test_what_cannot_be_drawn_is_counted():
    points = [1.0, 10.0], [-3.0, 2.0], [0.1, 0.2]
    drawing = measured_over_exact("f", {"a": Series(LOOK, None, points)}, FRAME, "x")
    assert "1 value that cannot be drawn" in drawing.caption
    assert measured_over_exact("f", {}, FRAME, "x") is None
    assert measured_over_exact("f", {"a": Series(LOOK, ([1.0], [float("nan")]))}, FRAME, "x") is None
