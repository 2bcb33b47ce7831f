"""The figures of the price list: nats against images of a source, lines of equal nats, exchange rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from jaxdiff.report.figures import Drawing, curve, floats
from jaxdiff.report.numbers import count, fixed, interval, level_in_text, number, short_count
from jaxdiff.report.palette import Look, ink, view_looks
from jaxdiff.report.svg import inline, panels, plain_log


def size_axis(axes: Axes, which: str, sizes: Iterable[float]) -> None:
    """An axis of numbers of images, 0 included, with ticks at the measured sizes.

    Square-root: steps among few images are seen, and 0 has a place.
    """
    sizes = sorted({float(size) for size in sizes})
    roots = np.sqrt(np.maximum(sizes, 0))
    reach = max(float(roots[-1]), 1.0) if len(roots) else 1.0
    ticks: list[float] = []
    for size, root in zip(sizes, roots, strict=True):  # no tick closer than a tenth of the axis to another
        if not ticks or root - np.sqrt(ticks[-1]) > 0.1 * reach:
            ticks.append(size)
    forward, backward = lambda v: np.sqrt(np.maximum(v, 0)), lambda v: np.square(v)
    (axes.set_xscale if which == "x" else axes.set_yscale)("function", functions=(forward, backward))
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axis.set_minor_formatter(NullFormatter())
    if sizes:
        (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1.04 * sizes[-1])


def clean_looks(entry: Mapping) -> dict[float, Look]:
    """A look for every number of clean images, in order of size."""
    sizes = sorted({number(cell["n_clean"]) for cell in entry.get("measured") or []})
    looks = view_looks(str(size) for size in sizes)
    return {size: looks[str(size)] for size in sizes}


def fitted_curves(name: str, entry: Mapping, level: object) -> Drawing | None:
    """Measured nats with error bars and the fitted law with its band of `level`, a line per number of clean images."""
    measured = entry.get("measured") or []
    if not measured:
        return None
    looks = clean_looks(entry)
    figure, (axes,) = panels(3.1)
    for line in entry.get("curves") or []:
        look = looks.get(number(line["n_clean"]))
        if look is None:
            continue
        (x, y), _ = curve(line["n_source"], line["mean"])
        low, high = floats(line["low"]), floats(line["high"])
        if len(low) == len(high) == len(x):
            axes.fill_between(x, low, high, color=look.ink, alpha=0.16, linewidth=0)
        axes.plot(x, y, **look.line, linewidth=1.8)
    for size, look in looks.items():
        cells = [cell for cell in measured if number(cell["n_clean"]) == size]
        x = np.array([number(cell["n_source"]) for cell in cells])
        mean, low, high = np.array([interval(cell["nats"]) for cell in cells]).T
        style = {"color": look.ink, "linewidth": 0, "marker": look.marker, "markersize": 5, "mew": 0}
        axes.plot(x, mean, zorder=4, **style)
        known = np.isfinite(low) & np.isfinite(high)
        axes.vlines(x[known], low[known], high[known], color=look.ink, linewidth=1.4, zorder=3)
    size_axis(axes, "x", (number(cell["n_source"]) for cell in measured))
    axes.set_xlabel(f"{entry['name']} images".replace("$", r"\$"))
    axes.set_ylabel("nats per image")
    legend = [(f"{count(size)} clean", look, "line") for size, look in sorted(looks.items(), reverse=True)]
    caption = (
        "Marks: mean over seeds, with twice its standard error. Lines: the fitted law. Bands: its "
        f"{level_in_text(level)} interval. The axis is a square root."
    )
    title = "Quality against images of the source"
    return Drawing(inline(figure, name, title), title, caption, legend)


def contours(name: str, entry: Mapping) -> Drawing | None:
    """Lines of equal nats over source and clean images, the measured cells and the present point."""
    lines = entry.get("contours") or []
    measured = entry.get("measured") or []
    if not lines or not measured:
        return None
    figure, (axes,) = panels(3.1)
    cells = np.array([(number(cell["n_source"]), number(cell["n_clean"])) for cell in measured])
    positive = cells[cells[:, 1] > 0]
    axes.plot(*positive.T, color=ink("muted"), marker="o", markersize=3.4, linewidth=0, mew=0, clip_on=False)
    here = entry["present"]
    bottom, top = positive[:, 1].min() / 1.25, positive[:, 1].max() * 1.25
    written: list[np.ndarray] = []  # where there is a number already: sqrt(x), ln y, as shares of the axes
    for line in sorted(lines, key=lambda line: not line.get("present")):
        (x, y), _ = curve(line["n_source"], line["n_clean"], positive="y")
        seen = (y >= bottom) & (y <= top)
        if seen.sum() < 2:
            continue
        strong = bool(line.get("present"))
        color = ink("m3") if strong else ink("m1")
        axes.plot(x[seen], y[seen], color=color, linewidth=2.2 if strong else 1.2, zorder=3)
        start = np.array(
            [
                np.sqrt(x[seen][0] / max(cells[:, 0].max(), 1.0)),
                np.log(y[seen][0] / bottom) / np.log(top / bottom),
            ]
        )
        if any((np.abs(start - other) < (0.1, 0.06)).all() for other in written):
            continue  # two numbers would lie on each other: that of the present point, or the first, is enough
        written.append(start)
        # Where the line meets the axis of clean images; for lines that never do, where they leave at the top.
        axes.annotate(
            fixed(line["nats"], 0), (x[seen][0], y[seen][0]), xytext=(5, 4 if x[seen][0] == 0 else -9),
            textcoords="offset points", color=color, fontsize=9, annotation_clip=False,
        )  # fmt: skip
    mark = {"marker": "D", "markersize": 7, "mew": 0, "linewidth": 0, "zorder": 5}
    axes.plot([number(here["n_source"])], [number(here["n_clean"])], color=ink("m3"), **mark)
    axes.set_ylim(bottom, top)
    plain_log(axes, "y")
    size_axis(axes, "x", cells[:, 0])
    axes.set_xlabel(f"{entry['name']} images".replace("$", r"\$"))
    axes.set_ylabel("clean images")
    caption = (
        "Along a line the nats, written at its start where there is room, are the same. Diamond and thick line: "
        "the present point. Dots: what was measured; lines are drawn between, not beyond."
    )
    title = "Lines of equal quality"
    return Drawing(inline(figure, name, title), title, caption)


def rate_curve(name: str, entry: Mapping, level: object) -> Drawing | None:
    """Clean images for one more image of the source, against how many there are, with a band of `level`."""
    rates = entry.get("rates") or {}
    (x, y), _ = curve(rates.get("n_source"), rates.get("mean"), positive="x")
    if len(x) < 2:
        return None
    figure, (axes,) = panels(2.75)
    low, high = floats(rates.get("low")), floats(rates.get("high"))
    if len(low) == len(high) == len(x):
        axes.fill_between(x, low, high, color=ink("m1"), alpha=0.18, linewidth=0)
        ceiling = float(np.nanmax(np.append(high[x >= np.median(x)], y)))
        axes.set_ylim(min(0.0, float(np.nanmin(low))), 1.1 * ceiling)
    axes.axhline(0, color=ink("muted"), linewidth=1)
    axes.plot(x, y, color=ink("m1"), linewidth=2)
    here = number(entry["present"]["n_source"])
    if here > 0:
        mean, bottom, top = interval(entry["rate"])
        axes.vlines([here], [bottom], [top], color=ink("m3"), linewidth=2)
        axes.plot([here], [mean], color=ink("m3"), marker="D", markersize=7, mew=0)
    plain_log(axes, "x")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{entry['name']} images".replace("$", r"\$"))
    axes.set_ylabel("clean images for one more")
    clean = count(entry["present"]["n_clean"])
    caption = f"At {clean} clean images. Band: {level_in_text(level)} interval. Diamond: the present point."
    title = "Exchange rate"
    return Drawing(inline(figure, name, title), title, caption)
