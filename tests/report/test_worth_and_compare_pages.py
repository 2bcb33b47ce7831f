"""The pages of comparison and price list: self-contained, complete, with figures, and on the terminal."""

import copy
import io
import re
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console

from configs import default
from jaxdiff.evaluation.price_list import source_entry
from jaxdiff.experiment import worth as worth_run
from jaxdiff.report import figures
from jaxdiff.report.compare_page import render_compare, write_compare_page
from jaxdiff.report.palette import distinct_looks, method_looks
from jaxdiff.report.terminal import print_compare, print_worth
from jaxdiff.report.worth_figures import contours
from jaxdiff.report.worth_page import render_worth, write_worth_page
from tests.evaluation.made_runs import exchange, grid
from tests.report.made_worth import made_comparison, made_price_list, made_source
from tests.report.test_page import Page, levels_said


@pytest.fixture(scope="module")
def texts():
    return {"worth": render_worth(made_price_list()), "compare": render_compare(*made_comparison())}


@pytest.mark.parametrize("name, drawings", [("worth", 1 + 3 * 3), ("compare", 5)])
def test_well_formed_with_figures_and_no_request(texts, name, drawings):
    text = texts[name]
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    drawn = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(drawn) == drawings and all(a["aria-label"] for a in drawn)
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert links and all(link[1:] in page.ids for link in links)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|@font-face|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text and "#fa" not in text, "figures take the page's colors"


def test_price_list_tells_prices_laws_and_money(texts):
    page = Page(texts["worth"])
    assert "One more low_res image is worth 0.210 clean images (95 %: 0.170 to 0.260)" in page.text.replace(
        "\u00a0", " "
    )
    assert page.row("low_res", "100 + 1,300")[2:] == ["0.210", "0.170 to 0.260", "236", "215 to 257", "helps"]
    assert page.row("masked", "100 + 0")[4:] == ["–", "–", "helps"]
    assert page.row("noisy", "100 + 1,300")[-1] == "not resolved"
    assert page.row("exchange (used)")[1:4] == ["1.38", "0.210", "0.170 to 0.260"]
    assert page.row("clean_only")[1:4] == ["34.90", "–", "–"]
    assert page.row("low_res", "0.02")[2:4] == ["0.210", "0.170 to 0.260"]
    assert page.row("low_res", "61")[2:] == [
        "1,939", "+8.99", "8.59 to 9.39", "+6.97", "source 3,239, measured 0 to 2,600",
    ]  # fmt: skip
    assert "The law misses something." in page.text and "16 runs" not in page.text


def made_at(level: float | None) -> tuple[dict, dict]:
    """The made-up price list and comparison, with near copies in one row, at a level; None: nobody says."""
    worth, (compare, _) = made_price_list(), made_comparison()
    worth["sources"].append(worth["sources"][0] | {"name": "wrong", "reading": "harms"})
    compare["rows"][1]["near_copies"] = {"share": 0.05, "low": 0.021, "high": 0.098, "samples": 256}
    config = {} if level is None else {"config": {"evaluate": {"level": level}}}
    return worth | config, compare | config


@pytest.mark.parametrize("level, said", [(0.8, "80 %"), (0.975, "97.5 %"), (None, "95 %")])
def test_intervals_are_called_by_the_level_that_was_asked_for(level, said):
    """Mutation: '95 %' written out in any heading, caption or sentence, of the pages or on the terminal."""
    worth, compare = made_at(level)
    prices, rows = (
        Page(text).text.replace("\u00a0", " ") for text in (render_worth(worth), render_compare(compare, {}))
    )
    assert levels_said(prices) == levels_said(rows) == {said}
    assert prices.count(f"Bands: its {said} interval") == prices.count(f"Band: {said} interval") == 4
    assert f"Bar: its {said} interval over resampled seeds" in prices and f"clean ones ({said}: 215" in prices
    assert f"does harm, like 0.210 clean images ({said}: 0.170 to 0.260)" in prices
    assert f"anything: the fit gives 0.210 clean images ({said}: 0.170 to 0.260)" in prices
    assert f"Bar: its {said} interval, paired." in rows and f"near copies {said} interval" in rows
    shown = []
    for show, results in ((print_worth, worth), (print_compare, compare)):
        stream = io.StringIO()
        show(results, "page.html", Console(file=stream, width=80))
        shown.append(stream.getvalue())
    assert levels_said(shown[0]) == levels_said(shown[1]) == {said}
    assert shown[1].count(f"{said} interval") == 2


def test_prices_have_the_level_that_the_config_asks_for():
    """Mutation: `assess` without `level`: the page says 80 % of intervals at 95 %."""
    n, m, seed = grid(2)
    nats = exchange(n, m) + np.random.default_rng(0).normal(size=n.shape)
    points = [worth_run.Point("low_res" * bool(k), *rest) for k, *rest in zip(m, n, m, seed, strict=True)]
    widths = []
    for level in (0.95, 0.5):
        config = default.get_config()
        config.evaluate.level = level
        config.worth.update(sizes={"low_res": (650, 1300)}, resamples=30)
        measured = dict(zip(points, nats, strict=True))
        found = worth_run._assess(config, measured, Console(file=io.StringIO()))["low_res"]
        entry = source_entry("low_res", found)
        band = np.subtract(entry["rates"]["high"], entry["rates"]["low"])
        widths.append([entry["rate"]["high"] - entry["rate"]["low"], band.mean()])
    # A normal law's are 0.34 as wide; 30 resamples tell that roughly.
    assert np.all(np.array(widths[1]) < 0.6 * np.array(widths[0]))
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        worth_run.assess(n, m, nats, (100, 1300), level=95)


def test_runs_without_partial_images_are_counted_once(texts):
    # three sources: 6 cells with partial images each and 3 shared cells without, 2 runs a cell
    assert "42 runs" in Page(texts["worth"]).text


def test_comparison_tells_scores_gaps_pairs_and_cost(texts):
    page = Page(texts["compare"])
    assert page.row("residual", "301.2")[2:] == [
        "299.0 to 303.4",
        "0.809",
        "0.789 to 0.829",
        "+101.1",
        "100.1 to 102.1",
    ]
    assert page.row("all clean")[3:5] == ["–", "–"]
    assert [row[0] for row in page.rows[1:6]] == ["all clean", "residual", "finetune", "clean only", "naive"]
    assert page.row("residual − finetune")[-1] == "residual is better"
    assert page.row("finetune − naive")[-1] == "not resolved: the interval includes zero"
    assert page.row("residual", "256,000")[2:] == ["0.123", "0.0315", "1.97", "7 min 12 s", "412,345"]
    assert page.row("residual", "12.3") and page.row("finetune", "–")
    assert page.row("residual", "300.2, 302.2")[-1] == "how residual learns"
    assert len([1 for tag, _ in page.elements if tag == "img"]) == 6, "real and five methods"
    assert "Error relative to clean only" in page.text and "seeds" in page.text


def test_whatever_is_missing_is_left_out(monkeypatch):
    monkeypatch.setattr(figures, "panels", lambda *heights: (MagicMock(), [MagicMock() for _ in heights]))
    monkeypatch.setattr(figures, "plain_log", lambda axes, which: None)
    monkeypatch.setattr(figures, "inline", lambda figure, name, label: "<svg></svg>")
    compare, arrays = made_comparison()
    for key in compare:
        assert "<h1>" in render_compare({k: v for k, v in compare.items() if k != key}, {})
    for key in compare["rows"][0]:
        if key != "name":
            less = copy.deepcopy(compare) | {"curves": {}}
            for entry in less["rows"]:
                del entry[key]
            assert "<h1>" in render_compare(less, {}), key
    worth = made_price_list() | {"sources": []}
    assert "No source was measured." in render_worth(worth | {"money": None})
    assert "<h1>" in render_worth({}) and "<h1>" in render_compare({}, {})


def test_hostile_names_stay_text():
    bad = "<script>alert(1)</script>$x_{"
    worth = made_price_list()
    worth["sources"] = worth["sources"][:1]
    worth["sources"][0]["name"] = worth["sources"][0]["label"] = worth["title"] = bad
    compare, arrays = made_comparison()
    compare["rows"][0]["label"] = compare["headline"] = bad
    for text in (render_worth(worth), render_compare(compare, arrays)):
        page = Page(text)
        assert "script" not in [tag for tag, _ in page.elements] and "alert(1)" in page.text


def test_pages_are_written(tmp_path):
    assert (
        write_worth_page({}, tmp_path / "a" / "worth.html")
        .read_text(encoding="utf-8")
        .startswith("<!doctype")
    )
    assert write_compare_page({}, {}, tmp_path / "compare.html").exists()


def test_no_color_twice_and_known_methods_keep_theirs():
    names = [*"abcdefghij", "residual", "clean_only"]
    looks = distinct_looks(names)
    assert len({look.variable for look in looks.values()}) == 12 and list(looks) == names
    assert looks["residual"] == method_looks(names)["residual"]


def test_terminal():
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    print_worth(made_price_list(), "runs/worth.html", console)
    compare, _ = made_comparison()
    print_compare(compare, "runs/compare.html", console)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and text.isascii()
    assert "0.170 to 0.260" in text and "299.0 to 303.4" in text and "residual wins." in text
    assert "runs/worth.html" in text.splitlines() and "runs/compare.html" in text.splitlines()
    assert text.index("all clean") < text.index("residual") < text.index("naive")
    assert "The law misses something." in text
    assert np.all([word in text for word in ("helps", "unclear", "0.0315", "best spent on")])


def test_lines_of_equal_quality_that_lie_close_share_one_number():
    entry = made_source()
    present = entry["contours"][1]
    close = {**present, "nats": 294.0, "present": False, "n_clean": [1.03 * n for n in present["n_clean"]]}
    entry["contours"] = [entry["contours"][0], close, present]
    svg = contours("c", entry).svg
    numbers = re.findall(r"<text[^>]*>([^<]*)", svg)
    assert {"280", "293"} <= set(numbers) and "294" not in numbers
    close["n_clean"] = [1.3 * n for n in present["n_clean"]]
    assert "294" in re.findall(r"<text[^>]*>([^<]*)", contours("c", entry).svg)
