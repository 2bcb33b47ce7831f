"""What a partial image is worth in clean ones, from runs at several (n_clean, n_source): law, rate, interval.

1. Laws (`laws.py`) are compared by leave-one-cell-out: a cell is all runs at one (n_clean, n_source), and

       error = sqrt(mean over cells of (mean of the cell - prediction of a fit without it)^2).

   The law of clean images alone is one of the compared: a source helps only if knowing of it predicts better.
2. Intervals are a residual bootstrap with two levels. With S seeds a cell, q = law + u_cell + v_run; var(v)
   comes from the runs' deviations from their cell's mean, and var(u), what the law does not describe, from
   the cells' means less var(v) / S. Each resample draws both anew and fits again. Resampling two or three
   seeds themselves would understate the variance by 1/S and could not see u.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from jaxdiff.evaluation.laws import (
    CLEAN_ONLY,
    LAWS,
    Fit,
    Law,
    at_bound,
    clean_slope,
    effective_size,
    exchange_rate,
    fit_law,
    next_worth,
    predict,
)
from jaxdiff.evaluation.runs import Runs, cell_means, run_spread, runs_of

Progress = Callable[[int, int], None]


class Candidate(NamedTuple):
    """A fitted law, its leave-one-cell-out error in nats, the fits to the resamples, the level of their intervals."""

    fit: Fit
    held_out_error: float
    resampled: list[Fit]
    level: float = 0.95


class Worth(NamedTuple):
    """The laws of a source by held-out error, the law without it, and where the question is asked."""

    runs: Runs
    candidates: list[Candidate]
    without: Candidate
    present: tuple[float, float]
    spread: float

    @property
    def best(self) -> Candidate:
        return self.candidates[0]


def _fit(law: Law, runs: Runs, keep: np.ndarray | slice = slice(None), **options) -> Fit:
    weights = None if runs.standard_error is None else runs.standard_error[keep]
    return fit_law(law, runs.n_clean[keep], runs.n_source[keep], runs.quality[keep], weights, **options)


def _predicted(fit: Fit, sizes: np.ndarray) -> np.ndarray:
    return predict(fit, sizes[:, 0], sizes[:, 1])


def leave_one_cell_out(fit: Fit, runs: Runs, starts: int = 1) -> float:
    """Root mean square error, in nats, of predicting each cell's mean from all other cells."""
    means, errors = cell_means(runs, runs.quality), []
    for index in range(len(runs.cells)):
        other = _fit(fit.law, runs, runs.cell != index, starts=starts, near=fit)
        errors.append(means[index] - _predicted(other, runs.cells[index : index + 1])[0])
    return float(np.sqrt(np.mean(np.square(errors))))


def _resampler(fit: Fit, runs: Runs) -> Callable[[np.random.Generator], np.ndarray]:
    """rng -> resampled qualities (R,), by the two-level residual bootstrap."""
    fitted = _predicted(fit, runs.cells)
    means, times = cell_means(runs, runs.quality), np.bincount(runs.cell)
    misfit = means - fitted
    free = max(1, len(runs.cells) - len(fit.parameters))
    variance = (misfit**2).sum() / free
    several = times[runs.cell] > 1
    spread = run_spread(runs)
    deviations = runs.quality - means[runs.cell]
    if several.any():
        deviations = (deviations * np.sqrt(times / np.maximum(times - 1, 1))[runs.cell])[several]
        variance -= np.mean(spread**2 / times)
    else:
        deviations = np.zeros(1)
    # One seed a cell: all of the residual is `misfit`, and the runs' own spread is in it.
    misfit = misfit * np.sqrt(max(variance, 0.0) / max(np.mean(misfit**2), 1e-300))

    def draw(rng: np.random.Generator) -> np.ndarray:
        cells = rng.choice(misfit, len(misfit)) * rng.choice([-1.0, 1.0], len(misfit))
        return (fitted + cells)[runs.cell] + rng.choice(deviations, len(runs.cell))

    return draw


def resampled_fits(
    fit: Fit, runs: Runs, count: int, seed: int, progress: Progress | None = None
) -> list[Fit]:
    """Fits of the same law to `count` resamples of the runs."""
    draw, rng, fits = _resampler(fit, runs), np.random.default_rng(seed), []
    for index in range(count):
        fits.append(_fit(fit.law, runs._replace(quality=draw(rng)), starts=0, near=fit))
        if progress is not None:
            progress(index + 1, count)
    return fits


def _part(progress: Progress, index: int, parts: int) -> Progress:
    """The progress of one of several equal parts as progress of the whole."""
    return lambda done, total: progress(index * total + done, parts * total)


def assess(
    n_clean: np.ndarray,
    n_source: np.ndarray,
    quality: np.ndarray,
    present: tuple[float, float],
    seed: np.ndarray | None = None,
    standard_error: np.ndarray | None = None,
    laws: Sequence[Law] = LAWS,
    n_resamples: int = 400,
    resampling_seed: int = 0,
    progress: Progress | None = None,
    level: float = 0.95,
) -> Worth:
    """Fit every law, order them by leave-one-cell-out error, and resample each.

    Args:
        n_clean, n_source, quality: (R,), clean images, images of the source, nats; one source, R runs.
        present: (n_clean, n_source) at which prices are asked.
        seed: (R,), used to find a run that is there twice.
        standard_error: (R,), relative precision of `quality`.
        laws: the laws to compare; those with as many parameters as cells but one are left out.
        n_resamples: bootstrap refits a law; about 10 ms each.
        progress: progress(done, total) over all refits.
        level: of all intervals, in (0, 1).

    Raises:
        ValueError: as `runs_of`, where `present` has no clean image, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.95, not 95), got {level}")
    runs = runs_of(n_clean, n_source, quality, seed, standard_error)
    if len(present) != 2 or not present[0] > 0 or not present[1] >= 0:
        raise ValueError(f"present must be (n_clean > 0, n_source >= 0), got {tuple(present)}")
    fits = [_fit(law, runs) for law in laws if 3 + len(law.lower) < len(runs.cells)]
    candidates = []
    for index, fit in enumerate(fits):
        step = progress and _part(progress, index, len(fits))
        resampled = resampled_fits(fit, runs, n_resamples, resampling_seed, step)
        candidates.append(Candidate(fit, leave_one_cell_out(fit, runs), resampled, level))
    candidates.sort(key=lambda candidate: candidate.held_out_error)
    without = _fit(CLEAN_ONLY, runs)
    without = Candidate(without, leave_one_cell_out(without, runs), [], level)
    return Worth(runs, candidates, without, (float(present[0]), float(present[1])), run_spread(runs))


def tails(candidate: Candidate, runs: Runs) -> tuple[float, float]:
    """The quantiles of the resamples that bound an interval: further out than the nominal where runs are few.

    Few residuals tell their own variance badly. As with Student's t in place of the normal law, the tail is
    Phi(t), t the quantile for runs - parameters degrees of freedom (Hesterberg 2015, "expanded percentile").
    """
    free = max(1, len(runs.quality) - len(candidate.fit.parameters))
    low = float(norm.cdf(student.ppf((1 - candidate.level) / 2, free)))
    return low, 1 - low


def interval(candidate: Candidate, runs: Runs, statistic: Callable[[Fit], float]) -> dict[str, float]:
    """A statistic of the fit with its interval over the resamples: {'mean', 'low', 'high'}.

    'mean' is the fit's own value. Resamples in which the statistic is not finite do not count.
    """
    draws = np.array([float(statistic(fit)) for fit in candidate.resampled])
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, tails(candidate, runs)) if len(draws) else (np.nan, np.nan)
    return {"mean": float(statistic(candidate.fit)), "low": float(low), "high": float(high)}


def first_step(worth: Worth) -> float:
    """The smallest positive number of the source's images that was measured."""
    sizes = worth.runs.n_source
    return float(sizes[sizes > 0].min())


def rate(worth: Worth, candidate: Candidate) -> dict[str, float]:
    """Clean images that one more image of the source replaces at the present point, with its interval.

    The exchange rate of equation 5 of `laws`. Where none is there yet, the average over the first that were
    measured, `first_step`: nothing was measured about the very first one.
    """
    n, m = worth.present
    if m > 0:
        return interval(candidate, worth.runs, lambda fit: exchange_rate(fit, n, m))
    step = first_step(worth)
    return interval(candidate, worth.runs, lambda fit: next_worth(fit, n, 0.0, step) / step)


def replaced(worth: Worth, candidate: Candidate) -> dict[str, float]:
    """Clean images that all present images of the source replace: e(n, m) - n, with its interval."""
    n, m = worth.present
    return interval(candidate, worth.runs, lambda fit: effective_size(fit, n, m) - n)


def slope(worth: Worth, candidate: Candidate) -> dict[str, float]:
    """Nats for one more clean image at the present point, with its interval."""
    return interval(candidate, worth.runs, lambda fit: clean_slope(fit, *worth.present))


def reading(worth: Worth) -> str:
    """'helps', 'harms' or 'unclear': what the measurements can say of the source at the present point.

    It helps if the interval of the rate is above zero *and* the law with the source predicts left-out cells
    better than the law without it; laws that cannot be negative have no interval that includes zero.
    """
    price = rate(worth, worth.best)
    better = worth.best.held_out_error < worth.without.held_out_error
    if price["high"] < 0 and better:
        return "harms"
    return "helps" if price["low"] > 0 and better else "unclear"


def outside(worth: Worth, n_clean: float, n_source: float) -> list[str]:
    """In which sizes (n_clean, n_source) lies beyond what was measured, in words; empty within the grid."""
    found = []
    for name, value, sizes in zip(("clean", "source"), (n_clean, n_source), worth.runs.cells.T, strict=True):
        if not sizes.min() <= value <= sizes.max():
            found.append(f"{name} {value:,.0f}, measured {sizes.min():,.0f} to {sizes.max():,.0f}")
    return found


def spoiled(runs: Runs) -> list[tuple[float, float]]:
    """(n_clean, nats lost) where every run with the source is below every run without it; two of each at least."""
    found = []
    for n in np.unique(runs.n_clean):
        here = runs.n_clean == n
        with_it, without = (
            runs.quality[here & sourced] for sourced in (runs.n_source > 0, runs.n_source == 0)
        )
        if min(len(with_it), len(without)) > 1 and with_it.max() < without.min():
            found.append((float(n), float(without.mean() - with_it.mean())))
    return found


def cautions(worth: Worth) -> list[str]:
    """What a reader must know before believing the numbers, in plain sentences."""
    found, best = [], worth.best
    beyond = outside(worth, *worth.present)
    if beyond:
        found.append(
            f"The present point lies beyond the measured grid ({'; '.join(beyond)}): an extrapolation."
        )
    if not best.held_out_error < worth.without.held_out_error:
        found.append("A law that knows nothing of this source predicts the left-out cells as well.")
    if at_bound(best.fit, "top") or at_bound(best.fit, "alpha"):
        found.append(
            "The clean sizes measured do not show where quality levels off; prices far away are guesses."
        )
    if np.isnan(worth.spread):
        found.append(
            "One seed a cell: the spread between seeds is only known through what the law does not fit."
        )
    elif best.held_out_error > 3 * worth.spread:
        found.append(
            f"The law misses left-out cells by {best.held_out_error:.1f} nats, seeds differ by "
            f"{worth.spread:.1f}: it does not describe these measurements well."
        )
    own = rate(worth, best)
    for n, lost in spoiled(worth.runs) if own["mean"] > 0 else ():
        found.append(
            f"With {n:,.0f} clean images every run with this source came out below those without it, by {lost:.1f} "
            "nats on average. No law fitted here lets a source help at one size and harm at another: "
            f"towards {n:,.0f} clean images the price is too high."
        )
    for other in worth.candidates[1:]:
        value = rate(worth, other)["mean"]
        if not own["low"] <= value <= own["high"]:
            found.append(
                f"The law '{other.fit.law.name}' gives {value:.2g} instead, outside of the interval."
            )
    return found
