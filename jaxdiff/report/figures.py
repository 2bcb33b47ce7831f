"""The figures of the report, each a pure function from results to a `Drawing`.

Sigma is the standard deviation of the noise added to an image whose pixels lie in [-1, 1], always on a
logarithmic axis. What is not finite, or not positive on a logarithmic axis, is left out of the line and
counted in the caption.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from jaxdiff.report.numbers import count, interval, number
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


def _dropped(lost: int) -> str:
    return (
        f" {lost} value{'s' if lost > 1 else ''} that cannot be drawn (such as NaN) left out." if lost else ""
    )


def sigma_lines(
    name: str, series: Mapping[str, tuple], looks: Looks, frame: Frame, quiet: Collection[str] = ()
) -> Drawing | None:
    """{name: (sigma, values)} as lines against sigma, those in `quiet` thinner; None with nothing to draw."""
    figure, (axes,) = panels(2.75)
    legend, dropped = [], 0
    if frame.level is not None:
        axes.axhline(frame.level, color=ink("muted"), linewidth=1)
    for key, (sigma, values) in series.items():
        points, lost = curve(sigma, values, positive="xy" if frame.log_y else "x")
        dropped += lost
        if not len(points[0]):
            continue
        width, size = (1.1, 3.2) if key in quiet else (2.0, 4.6)
        axes.plot(
            *points, color=looks[key].ink, dashes=looks[key].dash or (None, None), linewidth=width,
            marker=looks[key].marker, markersize=size, markevery=max(1, len(points[0]) // 10), mew=0,
            zorder=2 if key in quiet else 3,
        )  # fmt: skip
        legend.append((key, looks[key], "line"))
    if not legend:
        return None
    if frame.ylim:
        axes.set_ylim(*frame.ylim)
    plain_log(axes, "x")
    if frame.log_y:
        plain_log(axes, "y")
    axes.set_xlabel(SIGMA)
    axes.set_ylabel(frame.ylabel)
    return Drawing(inline(figure, name, frame.title), frame.title, frame.caption + _dropped(dropped), legend)


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
    caption = frame.caption + _dropped(int((~keep).sum()))
    return Drawing(inline(figure, name, frame.title), frame.title, caption, legend)


def forest(name: str, entries: Mapping[str, object], looks: Looks, frame: Frame) -> Drawing | None:
    """A mark and its interval per row, the first entry on top, a rule at zero; None without a finite mean."""
    rows = {key: interval(entry) for key, entry in entries.items()}
    rows = {key: row for key, row in rows.items() if np.isfinite(row[0])}
    if not rows:
        return None
    figure, (axes,) = panels(0.62 + 0.27 * len(rows))
    axes.grid(False, axis="y")
    axes.axvline(0, color=ink("muted"), linewidth=1)
    for height, (key, (mean, low, high)) in enumerate(reversed(rows.items())):
        look = looks.get(key)
        color = look.ink if look else ink("ink")
        if np.isfinite([low, high]).all() and high > low:
            axes.plot([low, high], [height, height], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot(
                [low, high], [height, height], color=color, linewidth=0, marker="|", markersize=8, mew=1.6
            )
        axes.plot([mean], [height], marker=look.marker if look else "o", color=color, markersize=6, mew=0)
    labels = [key if len(key) <= 32 else key[:31] + "…" for key in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=ink("ink"))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(frame.ylabel)
    caption = frame.caption + _dropped(len(entries) - len(rows))
    return Drawing(inline(figure, name, frame.title), frame.title, caption)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centered running mean over `window` values, over fewer where the window leaves the run."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first = np.maximum(index - window // 2, 0)
    last = np.minimum(index + window // 2 + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _thin(points: Curve, most: int = 400) -> Curve:
    """At most `most` points, each the mean of its neighbors: a long run still fits in an e-mail."""
    if len(points[0]) <= most:
        return points
    x, y = (np.array([part.mean() for part in np.array_split(values, most)]) for values in points)
    return x, y


def training_curves(name: str, stage: str, entry: Mapping, color: str) -> Drawing | None:
    """Training loss against step and, where the stage was tuned, the tuning score under it.

    Loss: every logged value faint, the running mean over 1/25 of the run strong. The step whose parameters
    were kept is a rule through both, and a circle on the tuning curve.
    """
    history, tuning = entry.get("history") or {}, entry.get("tuning") or {}
    loss, lost = curve(history.get("step"), history.get("loss"))
    score, lost_scores = curve(tuning.get("step"), tuning.get("score"))
    present = [part for part in (("training loss", _thin(loss)), ("tuning score", score)) if len(part[1][0])]
    if not present:
        return None
    figure, rows = panels(*[1.65] * len(present))
    best = number(entry.get("best_step"))
    for axes, (label, points) in zip(rows, present, strict=True):
        if label == "training loss":
            window = max(1, len(points[1]) // 25)
            axes.plot(*points, color=color, alpha=0.35, linewidth=1)
            axes.plot(points[0], smooth(points[1], window), color=color, linewidth=2)
        else:
            axes.plot(*points, color=color, linewidth=2, marker="o", markersize=3.4, mew=0)
        _mark_best(axes, best, points if label == "tuning score" else None)
        if label == "training loss" and points[1].min() > 0 and points[1].max() > 8 * points[1].min():
            plain_log(axes, "y")
        axes.set_ylabel(label)
    figure.align_ylabels(rows)
    rows[-1].set_xlabel("step")
    caption = f"Kept: step {count(best)}." if np.isfinite(best) else ""
    title = f"Training of {stage}"
    return Drawing(inline(figure, name, title), stage, (caption + _dropped(lost + lost_scores)).strip())


def _mark_best(axes: Axes, best: float, points: Curve | None) -> None:
    if not np.isfinite(best):
        return
    axes.axvline(best, color=ink("ink"), linewidth=1, dashes=(3, 2))
    if points is not None:
        ring = {"marker": "o", "markersize": 9, "mfc": "none", "mec": ink("ink"), "mew": 1.4}
        axes.plot([best], [np.interp(best, *points)], linewidth=0, **ring)
