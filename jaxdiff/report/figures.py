"""The figures of the report, each a pure function from results to a `Drawing`.

Sigma is the standard deviation of the noise added to an image whose pixels lie in [-1, 1], always on a
logarithmic axis. What is not finite, or not positive on a logarithmic axis, is left out of the line and
counted in the caption.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxdiff.report.numbers import fixed, interval, number
from jaxdiff.report.palette import Look, ink
from jaxdiff.report.svg import inline, panels, plain_log

Looks = Mapping[str, Look]
Curve = tuple[np.ndarray, np.ndarray]
SIGMA = "noise level σ"


@dataclass(frozen=True)
class Drawing:
    """A figure for the page: SVG, title, how to read it, and its legend as (name, look, 'line' | 'area')."""

    svg: str
    title: str
    caption: str
    legend: Sequence[tuple[str, Look, str]] = field(default_factory=tuple)


@dataclass(frozen=True)
class Frame:
    """What surrounds the lines: title, y label, caption, log y or not, a rule at `level`, limits of y."""

    title: str
    ylabel: str
    caption: str
    log_y: bool = False
    level: float | None = None
    ylim: tuple[float, float] | None = None


def floats(values: object) -> np.ndarray:
    """A flat float array from a list that may hold None, strings or NaN; empty for anything else."""
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    return np.array(
        [number(value) for value in values] if isinstance(values, list | tuple) else [], dtype=float
    )


def curve(x: object, y: object, positive: str = "") -> tuple[Curve, int]:
    """The points of (x, y) that can be drawn and how many cannot.

    Both must be finite; those named in `positive` ('x', 'y', 'xy') above zero.
    """
    x, y = floats(x), floats(y)
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    good = np.isfinite(x) & np.isfinite(y)
    good &= (x > 0) | ("x" not in positive)
    good &= (y > 0) | ("y" not in positive)
    return (x[good], y[good]), int(n - good.sum())


def left_out(lost: int) -> str:
    """The remark on values that a figure cannot show, or nothing."""
    return (
        f" {lost} value{'s' if lost > 1 else ''} that cannot be drawn (such as NaN) left out." if lost else ""
    )


def limits(main: Iterable, everything: Iterable) -> tuple[float, float]:
    """The range to show: all of `main`, and of the rest what lies within 3/4 of that range around it.

    One failed candidate must not press every method flat. With no `main`, everything is shown.
    """
    whole = np.concatenate([np.ravel(values) for values in everything])
    parts = [np.ravel(values) for values in main]
    core = np.concatenate(parts) if parts and sum(map(len, parts)) else whole
    reach = 0.75 * (core.max() - core.min())
    low, high = max(whole.min(), core.min() - reach), min(whole.max(), core.max() + reach)
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _frame(axes: Axes, frame: Frame, drawn: Mapping[str, np.ndarray], quiet: Collection[str]) -> str:
    """Scales, limits and labels of a figure against sigma; returns a remark for the caption, or nothing."""
    level = [] if frame.level is None else [[frame.level]]
    low, high = limits([y for key, y in drawn.items() if key not in quiet] + level, [*drawn.values(), *level])
    if frame.ylim:
        axes.set_ylim(*frame.ylim)
    elif not frame.log_y:
        axes.set_ylim(low, high)
    plain_log(axes, "x")
    if frame.log_y:
        plain_log(axes, "y")
    axes.set_xlabel(SIGMA)
    axes.set_ylabel(frame.ylabel)
    if frame.ylim or frame.log_y:
        return ""
    leaves = [key for key, y in drawn.items() if y.min() < low or y.max() > high]
    return f" {', '.join(leaves)}: goes on beyond the frame." if leaves else ""


def sigma_lines(
    name: str, series: Mapping[str, tuple], looks: Looks, frame: Frame, quiet: Collection[str] = ()
) -> Drawing | None:
    """{name: (sigma, values)} as lines against sigma, those in `quiet` thinner; None with nothing to draw."""
    figure, (axes,) = panels(2.75)
    legend, drawn, dropped = [], {}, 0
    if frame.level is not None:
        axes.axhline(frame.level, color=ink("muted"), linewidth=1)
    for key, (sigma, values) in series.items():
        points, lost = curve(sigma, values, positive="xy" if frame.log_y else "x")
        dropped += lost
        if not len(points[0]):
            continue
        width, size = (1.1, 3.2) if key in quiet else (2.0, 4.6)
        axes.plot(
            *points, **looks[key].line, linewidth=width, marker=looks[key].marker, markersize=size,
            markevery=max(1, len(points[0]) // 10), mew=0, zorder=2 if key in quiet else 3,
        )  # fmt: skip
        legend.append((key, looks[key], "line"))
        drawn[key] = points[1]
    if not legend:
        return None
    caption = frame.caption + _frame(axes, frame, drawn, quiet) + left_out(dropped)
    return Drawing(inline(figure, name, frame.title), frame.title, caption, legend)


def error_ratio(methods: Mapping[str, Mapping], reference: str) -> dict[str, tuple[list, list]]:
    """{method: (sigma, mse / mse of the reference)} for methods measured at the reference's noise levels."""
    base = methods[reference]["denoising"]
    sigma, below = floats(base.get("sigma")), floats(base.get("mse"))
    ratios = {}
    for name, method in methods.items():
        own = method["denoising"]
        mse, at = floats(own.get("mse")), floats(own.get("sigma"))
        same = (
            len(mse) == len(below)
            and len(at) == len(sigma)
            and np.allclose(at, sigma, rtol=1e-4, equal_nan=True)
        )
        if same and name != reference:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios[name] = (sigma.tolist(), (mse / below).tolist())
    return ratios


def band_centers(sigma: object, n: int) -> np.ndarray:
    """Where n band values belong: at n given sigmas, or midway (in ln sigma) between n + 1 given edges."""
    sigma = floats(sigma)
    if len(sigma) == n + 1 and (sigma > 0).all():
        return np.sqrt(sigma[1:] * sigma[:-1])
    return sigma[:n]


def band_series(sigma: object, nats: Mapping[str, object], cumulative: bool) -> dict[str, tuple[list, list]]:
    """{method: (sigma, nats)} per noise band, or as a running sum from the noisiest band down."""
    series = {}
    for name, values in nats.items():
        values = floats(values)
        centers = band_centers(sigma, len(values))
        values = values[: len(centers)]
        if cumulative:
            order = np.argsort(-centers)
            centers, values = centers[order], np.cumsum(values[order])
        series[name] = (centers.tolist(), values.tolist())
    return series


def stacked(
    name: str, sigma: object, weights: Mapping[str, object], looks: Looks, frame: Frame
) -> Drawing | None:
    """Areas on top of each other against sigma, one per candidate; None with nothing to draw."""
    sigma = floats(sigma)
    rows = {key: floats(values) for key, values in weights.items()}
    rows = {key: values for key, values in rows.items() if len(values) == len(sigma)}
    keep = np.isfinite(sigma) & (sigma > 0)
    for values in rows.values():
        keep = keep & np.isfinite(values)
    if not rows or keep.sum() < 2:
        return None
    figure, (axes,) = panels(2.75)
    order = np.argsort(sigma[keep])
    x = sigma[keep][order]
    total = np.zeros(len(x))
    for key, values in rows.items():
        upper = total + values[keep][order]
        axes.fill_between(x, total, upper, color=looks[key].ink, alpha=0.9, linewidth=0)
        axes.plot(x, upper, color=ink("ground"), linewidth=1.4)
        total = upper
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(0, max(1.0, float(total.max())))
    plain_log(axes, "x")
    axes.set_xlabel(SIGMA)
    axes.set_ylabel(frame.ylabel)
    legend = [(key, looks[key], "area") for key in reversed(rows)]  # the uppermost area first
    caption = frame.caption + left_out(int((~keep).sum()))
    return Drawing(inline(figure, name, frame.title), frame.title, caption, legend)


def forest(
    name: str, entries: Mapping[str, object], looks: Looks, frame: Frame, quiet: Collection[str] = ()
) -> Drawing | None:
    """A mark and its interval per row, the first entry on top, a rule at zero; None without a finite mean.

    A row of `quiet` that lies far off is an arrow at the edge, and named in the caption.
    """
    rows = {key: interval(entry) for key, entry in entries.items()}
    rows = {key: row for key, row in rows.items() if np.isfinite(row[0])}
    if not rows:
        return None
    figure, (axes,) = panels(0.62 + 0.27 * len(rows))
    axes.grid(False, axis="y")
    axes.axvline(0, color=ink("muted"), linewidth=1)
    ends = {key: np.array([value for value in row if np.isfinite(value)]) for key, row in rows.items()}
    left, right = limits([[0.0], *(ends[key] for key in rows if key not in quiet)], [[0.0], *ends.values()])
    axes.set_xlim(left, right)
    for height, (key, row) in enumerate(reversed(rows.items())):
        look = looks.get(key)
        style = {"color": look.ink if look else ink("ink"), "linewidth": 0}
        if row[0] < left or row[0] > right:
            edge = {"marker": "<", "markersize": 6} if row[0] < left else {"marker": ">", "markersize": 6}
            axes.plot([left if row[0] < left else right], [height], clip_on=False, **style, **edge)
            continue
        if np.isfinite(row).all() and row[2] > row[1]:
            axes.plot(row[1:], [height] * 2, **style | {"linewidth": 2}, solid_capstyle="butt")
            axes.plot(row[1:], [height] * 2, marker="|", markersize=8, mew=1.6, **style)
        axes.plot([row[0]], [height], marker=look.marker if look else "o", markersize=6, mew=0, **style)
    _label_rows(axes, list(rows))
    axes.set_xlabel(frame.ylabel)
    off = [f"{key} ({fixed(row[0], 0)})" for key, row in rows.items() if not left <= row[0] <= right]
    caption = frame.caption + (f" Off the chart: {', '.join(off)}." if off else "")
    caption += left_out(len(entries) - len(rows))
    return Drawing(inline(figure, name, frame.title), frame.title, caption)


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    labels = [key if len(key) <= 32 else key[:31] + "…" for key in reversed(names)]
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=7, labelcolor=ink("ink"))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
