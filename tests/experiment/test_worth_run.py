"""The price list's runs: when one more is started. What is made of them: tests/evaluation/test_worth.py."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from configs import digits_compare
from jaxdiff.experiment import budget, worth
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.training.stopping import Interrupted


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_run_is_started_where_there_is_time_for_it(clock, tmp_path):
    in_time = budget.Budget(tmp_path / "budget.json", 10.0, 1.5).allows
    assert in_time(399.0) and not in_time(401.0)  # 1.5 times of it in 600 seconds
    clock[0] += 300
    assert in_time(199.0) and not in_time(201.0)
    # What an earlier call's longest run took counts as well.
    assert not budget.Budget(tmp_path / "budget.json", 10.0, 1.5, longest=401.0).allows(0.0)
    assert budget.Budget(tmp_path / "none.json", 0.0, 1.5).allows(1e9)
    assert not (tmp_path / "none.json").exists()


def test_a_call_that_was_cut_off_has_used_its_time(clock, tmp_path):
    path = tmp_path / "budget.json"
    first = budget.Budget(path, 10.0, 1.0)
    clock[0] += 200
    assert first.allows(0.0)  # written down here, whatever happens next
    clock[0] += 5000  # no call at all
    second = budget.Budget(path, 10.0, 1.0)
    assert second.used == 200.0 and second.allows(399.0) and not second.allows(401.0)
    clock[0] += 100
    second.keep()
    assert budget.Budget(path, 10.0, 1.0).used == 300.0
    second.settle()
    assert budget.Budget(path, 10.0, 1.0).used == 0.0


def test_the_price_list_goes_on_with_what_is_left_of_its_time(clock, tmp_path, monkeypatch):
    config = digits_compare.get_config("tiny")
    config.worth.budget_minutes = 10.0
    seen = []

    def cut_off(cells, root, workers, console, stop, allows):
        seen.append(allows(0.0))
        clock[0] += 240
        raise Interrupted("Stopped")

    def without_time(cells, root, workers, console, stop, allows):
        seen.append((allows(359.0 / config.worth.margin), allows(361.0 / config.worth.margin)))
        return []

    console = Console(file=io.StringIO(), width=200)
    given = (config, "configs/digits_compare.py:tiny", tmp_path, console, ["launch.py"])
    monkeypatch.setattr(worth, "run_cells", cut_off)
    with pytest.raises(Interrupted):
        worth.run(*given)
    monkeypatch.setattr(worth, "run_cells", without_time)
    monkeypatch.setattr(worth, "summarise", lambda *_: {})
    monkeypatch.setattr(worth, "write_worth_page", lambda *_: None)
    monkeypatch.setattr(worth, "print_worth", lambda *_: None)
    assert worth.run(*given) == 0
    assert seen == [True, (True, False)]
    assert "as many as 10 minutes allow (4 are used: the last call was cut off)" in console.file.getvalue()
    assert not (tmp_path / "budget.json").exists()


def test_a_margin_below_one_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config.worth.margin: at least 1, got 0.9"):
        budget.Budget(tmp_path / "budget.json", 10.0, 0.9)


def test_a_grid_too_small_for_a_law_is_refused_before_anything_runs():
    config = digits_compare.get_config("tiny")
    config.worth.clean, config.worth.sizes = (20, 40), {"top": (30,)}
    with pytest.raises(ConfigError, match=r"2 clean sizes and \[30\] of top make 4 cells; a law needs 6"):
        worth.points_of(config)
    config.worth.clean = (20, 40, 60)
    assert len(worth.points_of(config)) == 6 * len(config.worth.seeds)


@pytest.mark.parametrize("on_top", [True, False])
def test_a_source_comes_on_top_of_as_many_looks_at_the_clean_images(on_top):
    config = digits_compare.get_config("tiny")
    config.worth.update(clean=(20, 40), max_steps=5, on_top=on_top)
    config.worth.sizes = {"top": (30, 60)}
    cells = worth.cells_of(config, "configs/digits_compare.py:tiny")
    for point, cell in cells.items():
        plan = cell.config
        steps = plan.shared.train.max_steps or plan.train.max_steps
        # Halves hold 32 values of 64; a value of a clean image is shown clean_weight times as often.
        clean = plan.shared.clean_weight * plan.data.clean * 64
        share = clean / (clean + 32 * point.n_source)
        assert point.n_source or share == 1.0
        expected = 5 / share if on_top else 5
        assert expected <= steps < expected + 1
        if point.source and on_top:
            assert plan.shared.train.steps == steps


def test_several_laps_cannot_be_lengthened():
    config = digits_compare.get_config("tiny")
    config.shared.em.laps = 2
    with pytest.raises(ConfigError, match=r"config.worth.on_top lengthens a single lap.*shared.em.laps = 2"):
        worth.cells_of(config, "configs/digits_compare.py:tiny")
    config.worth.on_top = False
    assert worth.cells_of(config, "configs/digits_compare.py:tiny")
