"""The page: well-formed, self-contained, complete, faithful to the numbers, and safe with hostile text."""

import base64
import copy
import io
import re
from html.parser import HTMLParser
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from jaxdiff.report import figures, training_curves
from jaxdiff.report.gallery import closest, flat
from jaxdiff.report.page import render, write_report

VOID = {"meta", "link", "img", "br"}


def levels_said(text: str) -> set[str]:
    """All levels that intervals are said to have, as '95 %'; of a page's words or of the terminal."""
    return set(re.findall(r"[\d.]+ %(?= interval|:)", " ".join(text.split())))


class Page(HTMLParser):
    """Collects elements, table cells and text; fails on a tag that does not match its opening."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.rows, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if {"style", "title"} & set(self.open):
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.replace("\u00a0", " ")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, *start: str) -> list[str]:
        return next(row for row in self.rows if tuple(row[: len(start)]) == start)


@pytest.fixture(scope="module")
def page(made) -> Page:
    """The page of the whole made-up run, for tests that only read it."""
    return Page(render(*made))


def test_is_well_formed_with_unique_ids_and_working_contents(page):
    assert len(page.ids) == len(set(page.ids))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert len(links) == 11 and all(link[1:] in page.ids for link in links)
    assert [tag for tag, _ in page.elements].count("h1") == 1


@pytest.mark.parametrize(
    "config, said", [({"evaluate": {"level": 0.8}}, "80 %"), ({}, "95 %"), (None, "95 %")]
)
def test_intervals_are_called_by_the_level_that_was_asked_for(results, config, said):
    """Mutation: '95 %' written out in a heading, a caption or the summary."""
    text = Page(render(results | {"config": config}, {})).text.replace("\u00a0", " ")
    assert levels_said(text) == {said} and text.count(said) == 4, "the summary, two headings, a caption"
    assert f"({said} interval 37.2 to 40.1, 500 held-out images)" in text
    assert f"Bar: its {said} interval. Rule: the Gaussian denoiser." in text


def test_loads_nothing(results, arrays):
    text = render(results, arrays)
    for tag, attributes in Page(text).elements:
        assert tag not in ("script", "iframe", "object", "embed")
        for key in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert (
        "http://" not in text
        and "https://" not in text
        and "@import" not in text
        and "@font-face" not in text
    )
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "default-src 'none'" in text, "the browser itself is told to load nothing"


def test_names_every_method_stage_view_and_version(page, made):
    results = made[0]
    for group in ("methods", "stages", "views", "versions"):
        for name in results[group]:
            assert name in page.text, f"{group}: {name}"
    for view in results["views"].values():
        assert view["operator"] in page.text
    assert results["command"] in page.text and results["title"] in page.text


def test_sections_come_in_order(page):
    wanted = [
        "methods",
        "data",
        "errors",
        "bands",
        "weights",
        "training",
        "samples",
        "neighbors",
        "cost",
        "config",
    ]
    assert [name for name in page.ids if name in wanted] == wanted


def test_numbers_in_the_tables_are_those_of_the_results(page, made):
    results = made[0]
    for name, method in results["methods"].items():
        cells = page.row(name)
        score = method["nats_over_gaussian"]
        assert float(cells[1]) == pytest.approx(score["mean"], abs=0.05)
        if name != "gaussian":
            low, high = map(float, cells[2].split(" to "))
            assert (low, high) == pytest.approx((score["low"], score["high"]), abs=0.05)
        assert int(cells[4].replace(",", "")) == method["images_seen"]
        assert int(cells[5].replace(",", "")) == method["parameters"]
    assert page.row("gaussian")[2] == "reference"
    assert page.row("residual − views_only")[1:] == ["+6.80", "5.93 to 7.71", "residual is better"]
    assert page.row("view/top")[1:] == ["1 min 13 s", "7.3 s", "384,000", "5,681", "413,345"]
    assert page.row("whole run")[1:] == ["8 min 12 s", "36.5 s", "1,920,000", "–", "2,071,725"]
    assert page.row("low_res")[1:] == ["avg_pool(factor=2)", "14 × 14 × 1", "0.25", "1,300"]
    assert page.row("clean_only", "4.93")[2] == "0.77", "distance relative to held-out images"
    assert page.row("residual.widths")[1] == "32, 64, 64"
    assert "Peak memory: 2,310 MB" in page.text


def test_methods_are_ranked_and_candidates_stand_apart(page):
    table = [row[0] for row in page.rows if row][1:]
    assert table[:4] == ["residual", "views_only", "clean_only", "gaussian"]
    assert table[4].startswith("Candidates") and table[5:8] == ["fusion+residual", "fusion", "anchored"]


def pictures(page: Page) -> dict[str, Image.Image]:
    found = {}
    for tag, attributes in page.elements:
        if tag == "img":
            body = attributes["src"].removeprefix("data:image/png;base64,")
            picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
            assert picture.size == (int(attributes["width"]), int(attributes["height"]))
            found[attributes["alt"]] = picture
    return found


def test_pictures_decode_and_show_the_arrays(page, made):
    found = pictures(page)
    assert len(found) == 1 + 3 + 4 + 1
    picture = np.asarray(found["64 images: real"].convert("RGBA"))
    side = 56  # 8x8 digits, seven times
    step = side + 3
    assert picture.shape == (8 * step - 3, 8 * step - 3, 4)
    tile = picture[2 * step : 2 * step + side : 7, 5 * step : 5 * step + side : 7, 0]
    expected = np.rint(127.5 * (made[1]["real"][21, ..., 0] + 1))
    np.testing.assert_allclose(tile, expected, atol=1)


def test_color_images_stay_in_color():
    red = np.full((4, 16, 16, 3), -1.0)
    red[..., 0] = 1.0
    found = pictures(Page(render({}, {"real": red, "samples/residual": red})))
    assert found["4 images: residual"].convert("RGB").getpixel((1, 1)) == (255, 0, 0)


def test_hostile_text_stays_text(results, arrays):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&$x_{"
    results["title"] = results["command"] = results["device"] = bad
    results["config"] = {bad: bad}
    results["versions"][bad] = bad
    results["data"]["report"] = {bad: [bad]}
    results["views"][bad] = {"operator": bad}
    for group in ("methods", "stages", "stacking"):
        results[group][bad] = copy.deepcopy(results[group]["residual"])
    results["stacking"][bad]["weights"] = {bad: results["gate"]["g"]}
    results["comparisons"][f"{bad}_minus_{bad}"] = {"mean": 1, "low": 0, "high": 2}
    results["neighbors"]["sample_distance"][bad] = 1.0
    arrays[f"samples/{bad}"] = arrays["real"]
    page = Page(render(results, arrays))
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert not [
        attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)
    ]
    assert page.text.count("alert(1)") > 10


def paths(tree: dict, prefix: tuple = ()) -> list[tuple]:
    """The path to every entry of nested dicts, four levels deep."""
    found = [(*prefix, key) for key in tree]
    for key, value in tree.items():
        if isinstance(value, dict) and len(prefix) < 3:
            found += paths(value, (*prefix, key))
    return found


@pytest.mark.parametrize("replacement", [None, {}])
def test_any_entry_may_be_missing(made, monkeypatch, replacement):
    for module in (figures, training_curves):
        monkeypatch.setattr(module, "panels", lambda *heights: (MagicMock(), [MagicMock() for _ in heights]))
        monkeypatch.setattr(module, "plain_log", lambda axes, which: None)
        monkeypatch.setattr(module, "inline", lambda figure, name, label: "<svg></svg>")
    whole = made[0] | {"config": {}, "stages": {"residual": made[0]["stages"]["residual"]}}
    whole["methods"] = {name: made[0]["methods"][name] for name in ("gaussian", "clean_only", "residual")}
    for path in paths(whole):
        results = copy.deepcopy(whole)
        parent = results
        for key in path[:-1]:
            parent = parent[key]
        if replacement == {} and not isinstance(parent[path[-1]], dict):
            continue
        parent[path[-1]] = copy.copy(replacement)
        assert "<h1>" in render(results, {}), path


def test_nothing_at_all():
    page = Page(render({}, {}))
    assert "No method has a finite score" in page.text and not page.rows


def test_what_is_not_finite_is_shown(results):
    nan = float("nan")
    results["methods"]["residual"]["nats_over_gaussian"] = {"mean": nan, "low": -float("inf"), "high": None}
    results["methods"]["clean_only"]["denoising"]["mse"][3] = nan
    results["methods"]["views_only"]["seconds"] = float("inf")
    results["stages"]["residual"]["history"]["loss"][5:] = [nan] * 145
    results["stacking"]["residual"]["weights"]["fusion"][0] = nan
    results["bands"]["nats"]["residual"] = [nan] * 24
    results["cost"]["seconds"] = nan
    page = Page(render(results, {"real": np.full((4, 8, 8, 1), np.nan)}))
    assert page.row("residual", "nan")[2] == "-inf to nan"
    assert page.row("views_only")[3] == "inf" and page.row("whole run")[1] == "nan"
    assert (
        "145 values that cannot be drawn" in page.text and "Not finite, so not ranked: residual." in page.text
    )


def test_arrays_that_are_no_images_are_left_out():
    arrays = {
        "samples/residual": np.zeros((10, 2)),
        "clean": np.zeros((0, 8, 8, 1)),
        "real": np.zeros((4, 8, 8, 1)),
    }
    arrays |= {"neighbors/residual/samples": np.zeros((4, 8, 8, 1)), "view/low_res": np.zeros((5, 4))}
    assert not [alt for alt in pictures(Page(render({}, arrays))) if "real" not in alt]


def test_write_report_makes_folders_and_replaces_in_one_step(results, arrays, tmp_path):
    path = write_report(results, arrays, tmp_path / "runs" / "digits" / "report.html")
    first = path.read_text(encoding="utf-8")
    assert first.startswith("<!doctype html>")
    write_report(results, arrays, path)
    assert path.read_text(encoding="utf-8") == first, "the same results give the same page"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_closest_pairs_come_first_and_broken_ones_last():
    lower = np.zeros((4, 2, 2, 1))
    upper = np.stack([np.full((2, 2, 1), v) for v in (0.9, np.nan, 0.1, -0.5)])
    assert closest(upper, lower).tolist() == [2, 3, 0, 1]


def test_flat_config():
    tree = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": 1}], "g": list(range(22)), "h": None}
    pairs = dict(flat(tree))
    assert list(pairs) == ["a.b", "a.c", "d", "e.0.f", "g", "h"]
    assert pairs["d"] == "1, 2" and pairs["g"].endswith("19, … 2 more") and pairs["h"] == "None"
