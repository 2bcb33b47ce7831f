"""The page and the terminal table of a restoration: what is there is shown, what is missing is left out."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from jaxdiff.report.crosstable_page import render_crosstable
from jaxdiff.report.restore_page import headline, picture_key, render_restore, short_time, strip
from jaxdiff.report.terminal import print_restore

RNG = np.random.default_rng(0)


def score(mean, half=0.5):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def made():
    """Two operators, a prior, one cell left out."""
    rows = []
    for operator, base in (("dust", 8.0), ("super_resolution", 9.0)):
        rows.append(
            {
                "prior": None,
                "operator": operator,
                "method": "pinv",
                "psnr": score(base),
                "seconds_per_image": 2e-5,
            }
        )
        best = {"psnr": score(22.0), "psnr_draw": score(20.0), "coverage": score(0.7, 0.05), "mean_std": 0.1}
        rows.append(
            {"prior": "residual", "operator": operator, "method": "mmps", **best, "seconds_per_image": 1.5}
        )
    for row in rows:
        row |= {"seconds": 3.0, "compile_seconds": 4.0, "memory_bytes": 5e6}
    return {
        "title": "Digits: restored",
        "command": "python launch.py",
        "data": {"source": "held_out", "images": 4, "truth": True},
        "operators": {"dust": "pixel_mask(p=0.6)", "super_resolution": "avg_pool(factor=4)"},
        "sigma_y": {"dust": 0.05, "super_resolution": 0.05},
        "draws": 19,
        "batch": 4,
        "stated": 0.9,
        "seed": 1,
        "rows": rows,
        "comparisons": [
            {
                **{k: rows[1][k] for k in ("prior", "operator", "method")},
                "over": "pinv",
                "score": "psnr_draw",
                **score(12.0),
            }
        ],
        "skipped": [
            {"prior": "residual", "operator": "dust", "method": "repaint", "reason": "it is <for> masks"}
        ],
        "config": {"draws": 19, "operator": {"p": None}},
    }


def pictures(results):
    images = RNG.uniform(-1, 1, (4, 8, 8, 1))
    return {
        picture_key(row): {"truth": images, "mean": images, "std": 0.1 * np.abs(images)}
        for row in results["rows"]
    }


def test_the_page_shows_scores_pictures_cost_and_what_was_left_out():
    results = made()
    page = render_restore(results, pictures(results))
    for text in (
        "22.00 (21.50 to 22.50)",
        "coverage of 90 %",
        "70 %",
        "it is &lt;for&gt; masks",
        "5 MB",
        "0.02 ms",
        "1.5 s",
    ):
        assert text in page, text
    assert page.count("<img") == 2 and "From above: truth; restored; standard deviation" in page
    assert "12.00 (11.50 to 12.50)" in page and "mmps (one draw)" in page
    assert page.startswith("<!doctype html>")
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing is loaded from elsewhere


def test_intervals_are_called_by_the_level_that_was_asked_for():
    """Mutation: '95 %' written out in a caption or a heading."""
    results = made() | {"level": 0.8}
    page = render_restore(results, pictures(results))
    assert page.count("with 80 % intervals") == 3 and "95 %" not in page
    out = io.StringIO()
    print_restore(results, "restore.html", Console(file=out, width=80))
    assert "80 % interval" in out.getvalue() and "95 %" not in out.getvalue()
    table = {
        "accelerations": [4.0],
        "rows": [
            {"run": None, "method": "wavelet", "acceleration": 4.0, "nrmse": score(0.2, 0.01), "images": 3}
        ],
        "config": {"evaluate": {"level": 0.9}},
    }
    page = render_crosstable(table, {})
    assert "NRMSE with its 90 % interval" in page and "95 %" not in page


def test_whatever_is_missing_is_left_out():
    assert "Restored images" in render_restore({}, {})
    results = made()
    results["data"]["truth"] = False
    for row in results["rows"]:
        for name in ("psnr", "psnr_draw", "coverage"):
            row.pop(name, None)
    results["comparisons"] = []
    assert headline(results) == "4 measurements restored; their truth is not known."
    page = render_restore(results, {})
    assert "nobody knows the truth" in page and "<img" not in page
    results["rows"][0]["psnr"] = {"mean": None}  # restored without any error
    assert "nan" not in render_restore(results, {}).lower().split("<main")[-1].replace("nanometre", "")


def test_strips_have_an_image_a_column_and_white_for_a_large_deviation():
    images = np.zeros((3, 8, 8, 1))
    drawn = np.asarray(strip({"mean": images, "std": np.full_like(images, 0.5)}))
    assert drawn.shape[0] > 2 * 56 and drawn.shape[1] > 3 * 56
    assert drawn[-1, 0, 0] == 255 and drawn[0, 0, 0] in (127, 128)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0021, "2.1 ms"), (0.99, "990 ms"), (1.5, "1.5 s"), (90, "1 min 30 s")]
)
def test_times(seconds, shown):
    assert short_time(seconds) == shown


def test_the_terminal_table_keeps_within_eighty_columns():
    text = io.StringIO()
    print_restore(made(), "/somewhere/restore.html", Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and text.getvalue().isascii()
    assert any("residual, mmps" in line and "22.00" in line and "70" in line for line in lines)
    assert "dust: 22.0 dB by residual, mmps (8.0 by A+ y)" in " ".join(text.getvalue().split())
