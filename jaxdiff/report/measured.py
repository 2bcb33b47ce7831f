"""Measured points with error bars over exact curves, on logarithmic axes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxdiff.report.figures import Drawing, Frame, curve, left_out
from jaxdiff.report.palette import Look, ink
from jaxdiff.report.svg import inline, panels, plain_log

BARS = 1.96  # standard errors of a bar: 95 %


class Series(NamedTuple):
    """One look: an exact line (x, y), measured points (x, mean, standard error), or both."""

    look: Look
    line: tuple[Sequence[float], Sequence[float]] | None = None
    points: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    faint: bool = False  # a thin line of reference


def measured_over_exact(
    name: str, series: dict[str, Series], frame: Frame, xlabel: str, log_x: bool = True
) -> Drawing | None:
    """Lines and points of every series; None with nothing to draw."""
    figure, (axes,) = panels(3.1)
    legend, dropped = [], 0
    positive = "x" * log_x + "y" * frame.log_y
    if frame.level is not None:
        axes.axhline(frame.level, color=ink("muted"), linewidth=1)
    for key, (look, line, points, faint) in series.items():
        seen = False
        if line is not None:
            (x, y), lost = curve(line[0], line[1], positive)
            axes.plot(x, y, **look.line, linewidth=0.9 if faint else 1.6, zorder=2)
            seen, dropped = len(x) > 0, dropped + lost
        if points is not None:
            (x, y), lost = curve(points[0], points[1], positive)
            bars = dict(zip(points[0], points[2], strict=True))
            half = BARS * np.array([bars[at] for at in x.tolist()])
            axes.errorbar(
                x, y, yerr=half, fmt=look.marker, color=look.ink, markersize=4.4, mew=0, elinewidth=1.3, capsize=2,
                zorder=3,
            )  # fmt: skip
            seen, dropped = seen or len(x) > 0, dropped + lost
        if seen:
            legend.append((key, look, "line"))
    if not legend:
        return None
    if frame.ylim:
        axes.set_ylim(*frame.ylim)
    if log_x:
        plain_log(axes, "x")
    if frame.log_y:
        plain_log(axes, "y")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(frame.ylabel)
    title = frame.title
    return Drawing(inline(figure, name, title), title, frame.caption + left_out(dropped), legend)
