"""The planner: corners first, every beginning a design, budgets kept, what cannot work refused."""

import numpy as np
import pytest

from jaxdiff.evaluation.grid import grid_order, plan_grid

CLEAN, SOURCE, SEEDS = (50, 100, 200, 400, 800), (325, 650, 1300, 2600), (0, 1)


def test_the_order_is_nested():
    order = grid_order(CLEAN, SOURCE, SEEDS)
    assert len(order) == len(set(order)) == 5 * 5 * 2
    cells = [(n, m) for n, m, _ in order]
    assert set(cells[:4]) == {(800, 0), (50, 0), (50, 2600), (800, 2600)}
    assert set(cells[4:9]) == {(200, 0), (200, 2600), (200, 650), (50, 650), (800, 650)}
    assert cells[:25] == cells[25:] and [seed for *_, seed in order] == [0] * 25 + [1] * 25
    assert cells[4] == (200, 0), "of a level, clean images alone come first"


def test_any_beginning_covers_evenly():
    cells = [(CLEAN.index(n), (0, *SOURCE).index(m)) for n, m, _ in grid_order(CLEAN, SOURCE, [0])]
    whole = [(i, j) for i in range(5) for j in range(5)]

    def worst(chosen):
        """Largest distance from a cell of the grid to the nearest chosen one."""
        return max(min(max(abs(i - k), abs(j - m)) for k, m in chosen) for i, j in whole)

    assert [worst(cells[:count]) for count in (4, 9, 25)] == [2, 1, 0]


def test_a_budget_takes_a_beginning():
    order = grid_order(CLEAN, SOURCE, SEEDS)
    for budget in (60, 61, 185, 500, 10_000):
        plan = plan_grid(CLEAN, SOURCE, SEEDS, 10.0, budget)
        assert plan == order[: budget // 10]
    seconds = lambda n, m: 1 + (n + m) / 1000  # noqa: E731
    plan = plan_grid(CLEAN, SOURCE, SEEDS, seconds, 40.0)
    costs = [seconds(n, m) for n, m, _ in order]
    assert plan == order[: len(plan)] and sum(costs[: len(plan)]) <= 40 < sum(costs[: len(plan) + 1])


def test_order_of_sizes_and_repeats_do_not_matter():
    assert grid_order(CLEAN[::-1], (0, *SOURCE[::-1], 325), (0, 1, 0)) == grid_order(CLEAN, SOURCE, SEEDS)
    assert {
        type(value) for run in grid_order(np.array(CLEAN), np.array(SOURCE), np.array(SEEDS)) for value in run
    } == {int}


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="enough for 3 runs, a law needs 6: give at least 60 s"):
        plan_grid(CLEAN, SOURCE, SEEDS, 10.0, 35.0)
    with pytest.raises(ValueError, match="has 4 cells"):
        plan_grid((1, 2), (5,), SEEDS, 10.0, 1e4)
    with pytest.raises(ValueError, match="two clean sizes"):
        plan_grid((100,), SOURCE, SEEDS, 10.0, 1e4)
    with pytest.raises(ValueError, match="sizes must be positive"):
        plan_grid((0, 100), SOURCE, SEEDS, 10.0, 1e4)
    with pytest.raises(ValueError, match="at least one seed"):
        plan_grid(CLEAN, SOURCE, (), 10.0, 1e4)
    with pytest.raises(ValueError, match="must be positive"):
        plan_grid(CLEAN, SOURCE, SEEDS, 0.0, 1e4)
