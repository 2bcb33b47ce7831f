"""Loss and tuning curves of a stage, on one step axis."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from jaxdiff.report.figures import Curve, Drawing, curve, left_out
from jaxdiff.report.numbers import count, number
from jaxdiff.report.palette import ink
from jaxdiff.report.svg import inline, panels, plain_log


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
    return Drawing(inline(figure, name, title), stage, (caption + left_out(lost + lost_scores)).strip())


def _mark_best(axes: Axes, best: float, points: Curve | None) -> None:
    if not np.isfinite(best):
        return
    axes.axvline(best, color=ink("ink"), linewidth=1, dashes=(3, 2))
    if points is not None:
        ring = {"marker": "o", "markersize": 9, "mfc": "none", "mec": ink("ink"), "mew": 1.4}
        axes.plot([best], [np.interp(best, *points)], linewidth=0, **ring)
