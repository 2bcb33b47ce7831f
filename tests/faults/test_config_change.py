"""A workdir goes on with its own config only: differences are listed key by key, and refused unless allowed."""

import json

import pytest

from configs import default
from jaxdiff.experiment import same_config
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.same_config import ALLOW, check_same_config, claim, may_change
from tests.faults import harness


def started(workdir):
    config = default.get_config()
    config.views.low_res = default.view({"name": "avg_pool", "factor": 2}, 0.5)
    claim(config, workdir)
    return config


def test_the_same_config_is_no_change(tmp_path):
    check_same_config(started(tmp_path), tmp_path)


def test_every_difference_is_listed(tmp_path):
    config = started(tmp_path)
    config.train.lr, config.seed, config.views.low_res.operator.factor = 0.5, 7, 4
    with pytest.raises(ConfigError) as caught:
        check_same_config(config, tmp_path)
    listed = [
        "config.train.lr: 0.001 -> 0.5",
        "config.seed: 0 -> 7",
        "config.views.low_res.operator.factor: 2 -> 4",
    ]
    for line in listed:
        assert line in str(caught.value)
    assert str(caught.value).count("->") == 3 and "--allow_config_change" in str(caught.value)


def test_what_is_for_the_report_or_the_log_may_change(tmp_path):
    config = started(tmp_path)
    config.title, config.evaluate.level, config.sample.count = "other", 0.9, 3
    config.train.max_skipped, config.train.spike_factor, config.data.cache_gib = 3, 0.0, 0.5
    config.residual.train.max_skipped = 2
    check_same_config(config, tmp_path)
    assert not may_change("train.lr") and not may_change("views.title.examples")


def test_a_workdir_from_before_a_free_key_was_there_goes_on(tmp_path):
    config = started(tmp_path)
    path = tmp_path / "config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if "max_skipped" not in key}
    path.write_text(json.dumps(kept))
    check_same_config(config, tmp_path)


def test_an_allowed_change_is_logged_and_the_old_config_kept(tmp_path, monkeypatch, caplog):
    config = started(tmp_path)
    config.train.lr = 0.5
    monkeypatch.setenv(ALLOW, "1")
    check_same_config(config, tmp_path)
    claim(config, tmp_path)
    assert "config.train.lr: 0.001 -> 0.5" in caplog.text
    assert json.loads((tmp_path / "config.json").read_text())["train.lr"] == 0.5
    assert json.loads((tmp_path / "config.before.json").read_text())["train.lr"] == 0.001


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff"])
def test_a_damaged_config_is_an_error_and_not_a_fresh_start(tmp_path, text):
    config = started(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="config.json is damaged"):
        check_same_config(config, tmp_path)


def test_many_differences_are_counted():
    before, now = {f"k{i:03d}": 0 for i in range(50)}, {f"k{i:03d}": 1 for i in range(50)}
    assert len(same_config.differences(before, now)) == 50


@pytest.mark.slow
def test_a_run_refuses_lists_and_with_the_flag_goes_on(stopped, expected):
    before = harness.snapshot(stopped)
    refused = harness.run(stopped, "--config.train.lr=0.5", "--config.seed=3")
    assert refused.code == 2 and "Traceback" not in refused.output, refused.output
    assert "config.train.lr: 0.001 -> 0.5" in refused.output and "config.seed: 0 -> 3" in refused.output
    assert harness.snapshot(stopped) == before
    free = harness.run(stopped, "--config.title=other", "--config.train.max_skipped=5")
    assert free.code == 0, free.output
    harness.assert_same_bits(stopped, expected)
    allowed = harness.run(stopped, "--config.train.lr=0.5", "--allow_config_change")
    assert allowed.code == 0 and "config.train.lr: 0.001 -> 0.5" in allowed.output, allowed.output


@pytest.mark.slow
def test_another_network_is_refused_even_where_it_is_allowed_and_no_checkpoint_is_called_damaged(stopped):
    ended = harness.run(stopped, "--config.network.width=12", "--allow_config_change")
    assert ended.code == 2 and "does not fit this run" in ended.output and "Traceback" not in ended.output
    for stage in harness.STAGES:
        assert (
            harness.steps(stopped, stage) and not (harness.checkpoints(stopped, stage) / "damaged").exists()
        )
