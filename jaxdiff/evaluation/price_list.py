"""The price list as plain numbers: what page and terminal are made of (docs/worth.md)."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdiff.evaluation.laws import clean_needed, exchange_rate, named_parameters, predict
from jaxdiff.evaluation.runs import cell_means
from jaxdiff.evaluation.worth import (
    Candidate,
    Worth,
    cautions,
    first_step,
    rate,
    reading,
    replaced,
    slope,
    tails,
)

POINTS = 61


def source_entry(name: str, worth: Worth, label: str = "") -> dict[str, Any]:
    """One source of the price list, JSON-ready.

    Args:
        name: of the source, such as low_res.
        worth: from `worth.assess`.
        label: a few words for people.

    Returns:
        present, first_step, reading, rate, replaced, slope, cautions, seed_spread; `measured` cells with
        mean and the range of their seeds; `laws` with held-out error, parameters, rate; `curves` of nats
        against n_source for each measured n_clean; `rates` against n_source at the present n_clean;
        `contours` of equal nats. Intervals are {'mean', 'low', 'high'}.
    """
    best = worth.best
    n, m = worth.present
    laws = [_law(worth, candidate, candidate is best) for candidate in worth.candidates]
    without = worth.without
    laws.append(
        {
            "name": without.fit.law.name,
            "formula": without.fit.law.formula,
            "parameters": named_parameters(without.fit),
            "held_out_error": without.held_out_error,
            "rate": None,
            "chosen": False,
        }
    )
    return {
        "name": name,
        "label": label or name,
        "present": {"n_clean": n, "n_source": m},
        "first_step": first_step(worth),
        "reading": reading(worth),
        "rate": rate(worth, best),
        "replaced": replaced(worth, best),
        "slope": slope(worth, best),
        "cautions": cautions(worth),
        "seed_spread": None if np.isnan(worth.spread) else worth.spread,
        "measured": _measured(worth),
        "laws": laws,
        "curves": _curves(worth, best),
        "rates": _rates(worth, best),
        "contours": _contours(worth, best),
    }


def _law(worth: Worth, candidate: Candidate, chosen: bool) -> dict[str, Any]:
    return {
        "name": candidate.fit.law.name,
        "formula": candidate.fit.law.formula,
        "parameters": named_parameters(candidate.fit),
        "held_out_error": candidate.held_out_error,
        "rate": rate(worth, candidate),
        "chosen": chosen,
    }


def _measured(worth: Worth) -> list[dict[str, Any]]:
    """Cells: mean over seeds, each run, and mean -+ 2 standard errors from the pooled spread of seeds."""
    runs = worth.runs
    means = cell_means(runs, runs.quality)
    cells = []
    for index, (n, m) in enumerate(runs.cells):
        values = runs.quality[runs.cell == index]
        half = 1.96 * worth.spread / np.sqrt(len(values))
        cells.append(
            {
                "n_clean": float(n),
                "n_source": float(m),
                "nats": {
                    "mean": float(means[index]),
                    "low": float(means[index] - half),
                    "high": float(means[index] + half),
                },
                "values": [float(value) for value in values],
            }
        )
    return cells


def _sources(worth: Worth) -> np.ndarray:
    """Numbers of the source's images from 0 to the largest measured, closer together where there are few."""
    return worth.runs.n_source.max() * np.linspace(0.0, 1.0, POINTS) ** 2


def _band(worth: Worth, candidate: Candidate, statistic) -> dict[str, list[float]]:
    """A curve and its pointwise interval over the resamples, at the level of the candidate."""
    draws = np.stack([statistic(fit) for fit in candidate.resampled])
    low, high = np.nanquantile(draws, tails(candidate, worth.runs), axis=0)
    return {"mean": statistic(candidate.fit).tolist(), "low": low.tolist(), "high": high.tolist()}


def _curves(worth: Worth, best: Candidate) -> list[dict[str, Any]]:
    m = _sources(worth)
    sizes = np.unique(worth.runs.n_clean)
    return [
        {"n_clean": float(n), "n_source": m.tolist()}
        | _band(worth, best, lambda fit, n=n: predict(fit, n, m[1:] if n == 0 else m))
        | ({"n_source": m[1:].tolist()} if n == 0 else {})
        for n in sizes
    ]


def _rates(worth: Worth, best: Candidate) -> dict[str, Any]:
    """The exchange rate against n_source at the present n_clean, from a fifth of the smallest size."""
    m = np.geomspace(first_step(worth) / 5, worth.runs.n_source.max(), POINTS)
    return {"n_source": m.tolist()} | _band(worth, best, lambda fit: exchange_rate(fit, worth.present[0], m))


def _contours(worth: Worth, best: Candidate, count: int = 4) -> list[dict[str, Any]]:
    """Lines of equal nats: of clean sizes alone, of some that need the source, of the present point."""
    runs, m = worth.runs, _sources(worth)
    smallest, largest = runs.n_clean[runs.n_clean > 0].min(), runs.n_clean.max()
    alone = predict(best.fit, np.geomspace(smallest, largest, count + 2)[1:-1], 0.0)
    beyond = predict(best.fit, largest, m[-1] * np.array([0.05, 0.35]))
    levels = [(float(level), False) for level in (*alone, *beyond)]
    levels.append((float(predict(best.fit, *worth.present)), True))
    lines = []
    for level, present in sorted(levels):
        n = clean_needed(best.fit, level, m)
        # A little beyond the measured sizes, so that a line is seen to leave the frame.
        inside = np.isfinite(n) & (n > smallest / 1.5) & (n < largest * 1.5)
        if inside.sum() > 1:
            line = {"n_source": m[inside].tolist(), "n_clean": n[inside].tolist()}
            lines.append({"nats": level, "present": present} | line)
    return lines
