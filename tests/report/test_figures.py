"""What the figures draw, and that their markup carries no fixed colors and no colliding ids."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from jaxdiff.report import figures, palette

LOOKS = palette.method_looks(["gaussian", "views_only", "residual"])
FRAME = figures.Frame("Title & <title>", "y", "Caption.")


def test_lines_use_page_colors_only_and_unique_ids():
    series = {"gaussian": ([0.1, 1, 10], [1, 2, 3]), "residual": ([0.1, 1, 10], [1, 3, 2])}
    one, two = (figures.sigma_lines(name, series, LOOKS, FRAME).svg for name in ("one", "two"))
    ElementTree.fromstring(one.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert "var(--m0)" in one and "var(--m3)" in one and not re.search(r"#[0-9a-f]{6}\b", one)
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (one, two)]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one))
    assert {first or second for first, second in targets} <= set(ids[0])
    assert 'aria-label="Title &amp; &lt;title&gt;"' in one


def test_the_same_figure_twice_is_the_same_text_and_leaves_settings_alone():
    before = dict(matplotlib.rcParams)
    series = {"residual": ([0.1, 1.0], [1.0, 2.0])}
    assert (
        figures.sigma_lines("a", series, LOOKS, FRAME).svg
        == figures.sigma_lines("a", series, LOOKS, FRAME).svg
    )
    assert dict(matplotlib.rcParams) == before


def test_points_that_cannot_be_drawn_are_counted():
    series = {"residual": ([0.0, 0.1, 1.0, 10.0, None], [1.0, float("nan"), -1.0, 2.0, 3.0])}
    drawing = figures.sigma_lines("a", series, LOOKS, FRAME)
    assert "3 values that cannot be drawn" in drawing.caption
    logarithmic = figures.Frame("t", "y", "Caption.", log_y=True)
    assert "4 values" in figures.sigma_lines("a", series, LOOKS, logarithmic).caption


@pytest.mark.parametrize("values", [[], None, [float("nan")] * 3, "text"], ids=str)
def test_nothing_to_draw_gives_no_figure(values):
    assert figures.sigma_lines("a", {"residual": ([0.1, 1, 10], values)}, LOOKS, FRAME) is None
    assert figures.stacked("a", [0.1, 1, 10], {"residual": values}, LOOKS, FRAME) is None
    assert figures.forest("a", {"residual": {"mean": float("nan")}}, LOOKS, FRAME) is None


def test_error_ratio_divides_by_the_reference_at_the_same_levels_only():
    methods = {
        "gaussian": {"denoising": {"sigma": [0.1, 1.0], "mse": [2.0, 0.0]}},
        "residual": {"denoising": {"sigma": [0.1, 1.0], "mse": [1.0, 1.0]}},
        "views_only": {"denoising": {"sigma": [0.1, 2.0], "mse": [1.0, 1.0]}},
    }
    ratios = figures.error_ratio(methods, "gaussian")
    assert list(ratios) == ["residual"], "not the reference itself, nor what was measured elsewhere"
    assert ratios["residual"] == ([0.1, 1.0], [0.5, float("inf")])


def test_running_sum_ends_at_the_total_at_the_smallest_sigma():
    nats = {"residual": [1.0, 2.0, 4.0]}
    assert figures.band_series([0.1, 1.0, 10.0], nats, False)["residual"] == (
        [0.1, 1.0, 10.0],
        [1.0, 2.0, 4.0],
    )
    assert figures.band_series([0.1, 1.0, 10.0], nats, True)["residual"] == (
        [10.0, 1.0, 0.1],
        [4.0, 6.0, 7.0],
    )


def test_bands_given_by_edges_sit_at_geometric_means():
    np.testing.assert_allclose(figures.band_centers([0.1, 1.0, 10.0], 2), [10**-0.5, 10**0.5])


def test_forest_labels_are_plain_text_even_with_dollars():
    drawing = figures.forest("a", {"$x_1$ <b>": {"mean": 1, "low": 0, "high": 2}}, {}, FRAME)
    assert "$x_1$ &lt;b&gt;" in drawing.svg


def test_a_failed_candidate_is_an_arrow_and_does_not_press_the_methods_flat():
    entries = {
        "residual": {"mean": 30, "low": 29, "high": 31},
        "sum": {"mean": -1204.4, "low": -1300, "high": -1100},
    }
    drawing = figures.forest("a", entries, LOOKS, FRAME, quiet=["sum"])
    assert "Off the chart: sum (−1,204)." in drawing.caption
    assert "Off the chart" not in figures.forest("a", entries, LOOKS, FRAME).caption, (
        "a method is never off it"
    )
    series = {"residual": ([0.1, 1], [0.5, 0.6]), "gaussian": ([0.1, 1], [1.0, 300.0])}
    assert (
        "gaussian: goes on beyond"
        in figures.sigma_lines("a", series, LOOKS, FRAME, quiet=["gaussian"]).caption
    )
    assert "goes on" not in figures.sigma_lines("a", series, LOOKS, FRAME).caption


def test_limits_hold_the_main_values_and_what_is_near():
    low, high = figures.limits([[0.0, 4.0]], [[0.0, 4.0], [-2.0, 100.0]])
    assert -2.6 < low < -2.0 and 7.0 < high < 7.6
    assert figures.limits([], [[1.0, 1.0]]) == (0.5, 1.5)


def luminance(color: str) -> float:
    """WCAG 2 relative luminance of #rrggbb."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", [name for name in palette.COLORS if name not in ("ground", "grid")])
def test_every_color_stands_out_on_both_grounds(name):
    wanted = 4.5 if name in ("ink", "muted") else 3.0
    for color, ground in zip(palette.COLORS[name], palette.COLORS["ground"], strict=True):
        dark, light = sorted([luminance(color), luminance(ground)])
        assert (light + 0.05) / (dark + 0.05) >= wanted


def test_looks_are_stable_and_distinct():
    few, many = palette.method_looks(["residual"]), palette.method_looks(["zeta", "residual", "alpha"])
    assert few["residual"] == many["residual"] and many["alpha"] != many["zeta"]
    known = [many[name] for name in palette.KNOWN_METHODS]
    assert len({look.variable for look in known}) == len({look.marker for look in known}) == len(known)
