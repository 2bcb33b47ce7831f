"""Matplotlib figures as SVG inside a page: text stays text, colors become CSS variables, ids become unique.

Inline SVG takes its colors from the page, so that one drawing serves light and dark, and its text from the
page's font. Every figure is drawn at about the width of a phone; wide screens put several side by side.
"""

import io
import re

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jaxdiff.report.palette import PLACEHOLDERS, ink

WIDTH = 4.5  # inches, 324 SVG units: text of 10 units is 10 CSS pixels on a phone
FONT = 10
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "jaxdiff"}  # text as text; the same ids every time
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def panels(*heights: float) -> tuple[Figure, list[Axes]]:
    """A transparent figure with one pair of axes per height (inches), stacked on a common x axis."""
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    figure.patch.set_visible(False)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    rows = [row[0] for row in grid]
    for axes in rows:
        _dress(axes)
    return figure, rows


def _dress(axes: Axes) -> None:
    """Hairline grid, no box, text in the page's inks."""
    axes.patch.set_visible(False)
    axes.grid(True, color=ink("grid"), linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink("muted"))
        spine.set_linewidth(0.8)
    muted = {"color": ink("muted"), "labelcolor": ink("muted"), "labelsize": FONT}
    axes.tick_params(which="both", length=3, width=0.8, **muted)
    axes.tick_params(which="minor", length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(ink("ink"))
        axis.label.set_size(FONT)
        axis.get_offset_text().set_color(ink("muted"))


def plain_log(axes: Axes, which: str) -> None:
    """Make the axis `which` ('x' or 'y') logarithmic with ticks that read 0.01, 0.1, 1, 10.

    To be called when the data are in place: a range of less than a factor 30 gets ticks at 2 and 5 as well.
    """
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def inline(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element for an HTML page.

    `name` makes the ids unique on the page; `label` is what a screen reader says. Text enters the markup
    escaped: by Matplotlib, and `label` here. The same figure gives the same characters.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    for placeholder, variable in PLACEHOLDERS.items():
        text = text.replace(placeholder, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]+"', text).group()
    opening = f'<svg {box} role="img" aria-label="{escape(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
