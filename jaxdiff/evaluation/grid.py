"""Which runs of a grid (n_clean, n_source, seed) to make when time is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jaxdiff.evaluation.runs import FEWEST_CELLS


def _levels(count: int) -> list[int]:
    """For each index of an axis, at which halving it first appears: ends 0, middle 1, quarters 2, ..."""
    levels, spans, level = [0] * count, [(0, count - 1)], 1
    while spans:
        halves = []
        for low, high in spans:
            middle = (low + high) // 2
            if low < middle < high:
                levels[middle] = level
                halves += [(low, middle), (middle, high)]
        spans, level = halves, level + 1
    return levels


def grid_order(
    sizes_clean: Sequence[int], sizes_source: Sequence[int], seeds: Sequence[int]
) -> list[tuple[int, int, int]]:
    """All runs of the grid, nested: corners, then halves, then quarters of both axes, seed after seed.

    Any beginning of the list covers the grid as evenly as so many runs can. Within a level the runs without
    partial images come first, as every source shares them, then the largest size of the source: a law is read
    off from the ends of its curve. A new cell says more than a second seed of an old one, since both measure
    the same noise and only the new one can contradict the law; so all cells of one seed come before the next
    seed.
    """
    axes = [sorted({int(size) for size in sizes}) for sizes in (sizes_clean, [0, *sizes_source])]
    if any(size < 1 for size in axes[0]) or axes[1][0] < 0:
        raise ValueError(f"sizes must be positive (n_source may be 0), got {axes[0]} and {axes[1]}")
    if len(axes[0]) < 2 or len(axes[1]) < 2:
        raise ValueError(
            f"a grid needs two clean sizes and one size of the source, got {axes[0]}, {axes[1][1:]}"
        )
    if not len(seeds):
        raise ValueError("a grid needs at least one seed")
    levels = [_levels(len(axis)) for axis in axes]
    cells = []
    for i, n in enumerate(axes[0]):
        for j, m in enumerate(axes[1]):
            pair = (levels[0][i], levels[1][j])
            cells.append((max(pair), sum(pair), j > 0, -m, -n, n, m))
    order = [(n, m) for *_, n, m in sorted(cells)]
    return [(n, m, int(seed)) for seed in dict.fromkeys(seeds) for n, m in order]


def plan_grid(
    sizes_clean: Sequence[int],
    sizes_source: Sequence[int],
    seeds: Sequence[int],
    seconds_per_run: float | Callable[[int, int], float],
    budget_seconds: float,
) -> list[tuple[int, int, int]]:
    """The runs (n_clean, n_source, seed) that fit into the budget, in the order in which to make them.

    Always a beginning of `grid_order`, which adds n_source = 0: stopping early, or going on with a larger
    budget, loses nothing.

    Args:
        sizes_clean, sizes_source: sizes of the grid.
        seeds: in order of use.
        seconds_per_run: a number, or a function of (n_clean, n_source).
        budget_seconds: for all runs together.

    Raises:
        ValueError: sizes that make no grid, times that are not positive, or a budget (or grid) too small
        for the
            six cells that a law needs; the message says how much would do.
    """
    order = grid_order(sizes_clean, sizes_source, seeds)
    seconds = [
        float(seconds_per_run(n, m) if callable(seconds_per_run) else seconds_per_run) for n, m, _ in order
    ]
    if not min(seconds) > 0 or not budget_seconds > 0:
        raise ValueError(
            f"seconds_per_run and budget_seconds must be positive, got {min(seconds)}, {budget_seconds}"
        )
    cells = len(order) // len(dict.fromkeys(seeds))
    if cells < FEWEST_CELLS:
        raise ValueError(
            f"this grid has {cells} cells with n_source = 0 among them, a law needs {FEWEST_CELLS}"
        )
    total = np.cumsum(seconds)
    affordable = int(np.searchsorted(total, budget_seconds * (1 + 1e-12), side="right"))
    if affordable < FEWEST_CELLS:
        raise ValueError(
            f"{budget_seconds:g} s are enough for {affordable} runs, a law needs {FEWEST_CELLS}: give at "
            f"least {total[FEWEST_CELLS - 1]:g} s"
        )
    return order[:affordable]
