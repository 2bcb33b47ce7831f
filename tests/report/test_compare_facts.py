"""The comparison's page: what each method saw, bands, near copies, compute; and the same warnings in the terminal."""

import copy
import io

import numpy as np
import pytest
from rich.console import Console

from jaxdiff.experiment.equal_compute import beyond_budget
from jaxdiff.report.compare_page import render_compare
from jaxdiff.report.terminal import print_compare
from tests.report.made_worth import SIGMA, made_comparison
from tests.report.test_page import Page


@pytest.fixture(scope="module")
def compared():
    compare, arrays = copy.deepcopy(made_comparison())
    for entry in compare["rows"]:
        alone = entry["name"] in ("clean_only", "all_clean")
        entry["saw"] = {"clean": 90, "tuning": 10, "views": {} if alone else {"low_res": 1300}}
    compare["rows"][1]["near_copies"] = {
        "share": 0.05,
        "low": 0.021,
        "high": 0.098,
        "expected": 0.01,
        "p_value": 0.00234,
        "samples": 256,
        "clean": 90,
        "behind": 1300,
        "held_out": 800,
        "unknown": 0,
    }
    compare["baseline"] = "clean_only"
    gains = {entry["name"]: np.full(len(SIGMA), 0.5).tolist() for entry in compare["rows"]}
    compare["bands"] = {"sigma": SIGMA.tolist(), "nats_over_baseline": gains}
    compare["warnings"] = ["residual took 50 % more training operations than all clean."]
    return compare, arrays


def test_the_page_says_what_went_in(compared):
    page = Page(render_compare(*compared))
    assert page.row("residual", "90")[1:] == ["90", "10", "1,300"]
    assert page.row("clean only", "90")[1:] == ["90", "10", "–"]
    low, high = f"{SIGMA.min():.3g}", f"{SIGMA.max():.3g}"
    assert f"over the declared noise levels σ = {low} to {high}" in page.text
    assert "Every method saw the same data" not in page.text
    copies = [cell.replace("\u00a0", " ") for cell in page.row("residual", "5.0 %")]
    assert copies[1:] == ["5.0 %", "2.1 to 9.8 %", "1.0 %", "0.0023", "90", "1,300"]
    assert "a near copy of one is memorization, too" in page.text and "256 samples" in page.text
    assert "Contribution of each band" in page.text and "loses to clean only" in page.text
    assert "residual took 50 % more" in page.text


def test_warnings_are_said_in_the_terminal(compared):
    stream = io.StringIO()
    print_compare(compared[0], "runs/compare.html", Console(file=stream, width=120))
    said = " ".join(stream.getvalue().split())
    assert "warning: residual took 50 % more" in said
    assert max(map(len, stream.getvalue().splitlines())) <= 80


@pytest.mark.parametrize(("tolerance", "named"), [(0.2, ["c"]), (0.0, ["b", "c"]), (0.5, [])])
def test_rows_beyond_the_oracles_compute_are_named(tolerance, named):
    cost = {"a": 0.5, "b": 1.2, "c": 1.5, "oracle": 1.0}
    rows = [{"name": name, "label": name, "train_pflop": value} for name, value in cost.items()]
    said = beyond_budget(rows, "oracle", tolerance)
    assert [text.split()[0] for text in said] == named
    if tolerance == 0.2:
        assert "took 50 % more training operations than oracle (1.5 and 1 PFLOP; tolerated: 20 %)" in said[0]
