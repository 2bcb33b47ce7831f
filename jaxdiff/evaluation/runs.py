"""Runs at several (n_clean, n_source), checked, and the cells that they form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEWEST_CELLS = 6  # `exchange` has five parameters, and a cell is left out


class Runs(NamedTuple):
    """Measurements of one source: sizes, nats, relative standard errors or None (each (R,)), cell of each."""

    n_clean: np.ndarray
    n_source: np.ndarray
    quality: np.ndarray
    standard_error: np.ndarray | None
    cell: np.ndarray
    cells: np.ndarray


def runs_of(n_clean, n_source, quality, seed=None, standard_error=None) -> Runs:
    """Checked measurements (R,).

    Raises:
        ValueError: lengths differ, a value is not finite, a size is negative, a run is there twice, a
        cell has
            no image at all, or there is no clean-only cell, fewer than two clean sizes or six cells.
    """
    n_clean, n_source, quality = (np.asarray(v, np.float64).ravel() for v in (n_clean, n_source, quality))
    given = {"n_clean": n_clean, "n_source": n_source, "quality": quality}
    if standard_error is not None:
        standard_error = given["standard_error"] = np.asarray(standard_error, np.float64).ravel()
    for name, values in given.items():
        if len(values) != len(quality):
            raise ValueError(f"{name} has {len(values)} values, quality {len(quality)}: one of each a run")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of run {np.flatnonzero(~np.isfinite(values))[0]} is not finite")
    if min(n_clean.min(initial=0), n_source.min(initial=0)) < 0:
        raise ValueError("n_clean and n_source are numbers of images and cannot be negative")
    if standard_error is not None and not (standard_error > 0).all():
        raise ValueError("standard_error must be positive; leave it out for equal weights")
    sizes = np.stack([n_clean, n_source], axis=1)
    if not (sizes.sum(axis=1) > 0).all():
        raise ValueError("a run with n_clean = 0 and n_source = 0 has learnt from nothing: leave it out")
    cells, cell = np.unique(sizes, axis=0, return_inverse=True)
    cell = cell.ravel()
    if seed is not None:
        seed = np.asarray(seed).ravel()
        if len(seed) != len(quality):
            raise ValueError(f"seed has {len(seed)} values, quality {len(quality)}: one of each a run")
        pairs, times = np.unique(np.stack([cell, seed], axis=1), axis=0, return_counts=True)
        if (times > 1).any():
            index, which = pairs[np.argmax(times)]
            n, m = cells[index]
            raise ValueError(f"n_clean {n:g}, n_source {m:g}, seed {which} is there {times.max()} times")
    if (
        len(cells) < FEWEST_CELLS
        or len(np.unique(cells[cells[:, 1] == 0, 0])) < 2
        or not (cells[:, 1] > 0).any()
    ):
        raise ValueError(
            f"a law needs {FEWEST_CELLS} cells (n_clean, n_source), among them two clean sizes with "
            f"n_source = 0 and one with n_source > 0; got {[(int(n), int(m)) for n, m in cells]}"
        )
    return Runs(n_clean, n_source, quality, standard_error, cell, cells)


def cell_means(runs: Runs, values: np.ndarray) -> np.ndarray:
    """Mean of `values` (R,) over the runs of each cell, (C,)."""
    return np.bincount(runs.cell, values) / np.bincount(runs.cell)


def run_spread(runs: Runs) -> float:
    """Standard deviation of runs of one cell, in nats, pooled over cells; NaN with one seed a cell."""
    deviations = runs.quality - cell_means(runs, runs.quality)[runs.cell]
    free = len(runs.quality) - len(runs.cells)
    return float(np.sqrt((deviations**2).sum() / free)) if free else float("nan")
