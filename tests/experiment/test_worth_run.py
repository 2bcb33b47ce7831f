"""The price list's runs: when one more is started. What is made of them: tests/evaluation/test_worth.py."""

from types import SimpleNamespace

import pytest

from configs import digits_compare
from jaxdiff.experiment import worth
from jaxdiff.experiment.checks import ConfigError


def test_a_run_is_started_where_there_is_time_for_it(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(worth, "time", SimpleNamespace(monotonic=lambda: now[0]))
    in_time = worth._deadline(10.0, 1.5)
    assert in_time(399.0) and not in_time(401.0)  # 1.5 times of it in 600 seconds
    now[0] += 300
    assert in_time(199.0) and not in_time(201.0)
    assert worth._deadline(0.0, 1.5) is None


def test_a_margin_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"config.worth.margin: at least 1, got 0.9"):
        worth._deadline(10.0, 0.9)


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
