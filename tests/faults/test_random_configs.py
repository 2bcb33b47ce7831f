"""1,000 random small configs: each runs two steps of its stages, or is refused before a step is compiled."""

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from jaxdiff.experiment.checks import ConfigError, check_names
from tests.faults import harness
from tests.faults.random_configs import STRANGE, put, random_config
from tests.faults.run_config import get_config

CONFIGS = int(os.environ.get("JAXDIFF_CONFIGS", 1000))
WORKERS = 2
BATCH = 100  # configs of a process: compiled programs are kept for its life


def worker(first, count, folder):
    kept = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, "-m", "tests.faults.random_configs", str(first), str(count), str(folder)]
    flags = {"PYTHONPATH": str(harness.ROOT), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    with open(folder / f"{first}.jsonl", "w") as out, open(folder / f"{first}.log", "w") as log:
        return subprocess.Popen(command, cwd=harness.ROOT, stdout=out, stderr=log, env=kept | flags)


def run_all(folder):
    """The outcome of every config; a process that dies is a crash of the config it was at."""
    waiting, active = list(range(0, CONFIGS, BATCH)), {}
    while waiting or active:
        while waiting and len(active) < WORKERS:
            first = waiting.pop(0)
            active[first] = worker(first, min(BATCH, CONFIGS - first), folder)
        for first, process in list(active.items()):
            if process.poll() is not None:
                del active[first]
                assert process.returncode == 0, (folder / f"{first}.log").read_text()[-3000:]
        time.sleep(0.2)
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_every_config_runs_or_is_refused_and_none_crashes(tmp_path, record_property):
    rows = run_all(tmp_path)
    outcomes = Counter(row["outcome"] for row in rows)
    reasons = Counter(row["reason"].split(":")[0] for row in rows if row["outcome"] == "refused")
    for outcome in ("ran", "refused", "stopped", "crashed"):
        record_property(f"random configs, {outcome}", outcomes[outcome])
    for reason, count in reasons.most_common(15):
        record_property(f"  refused for {reason}", count)
    crashed = [f"{row['number']}: {row['reason']}" for row in rows if row["outcome"] == "crashed"]
    assert not crashed, "\n".join(crashed)
    assert len(rows) == CONFIGS and outcomes["ran"] > 0.1 * CONFIGS and outcomes["refused"] > 0.15 * CONFIGS


def test_a_config_is_a_function_of_its_number():
    assert random_config(7).to_json() == random_config(7).to_json() != random_config(8).to_json()


@pytest.mark.parametrize(
    "path",
    ["train.lr", "train.clip", "network.dropout", "bands.sigma_min", "composition.cg_steps", "noise.P_mean"],
)
def test_a_number_that_cannot_be_is_refused_by_name(path):
    for value in STRANGE[path]:
        config = harness_config()
        put(config, path, value)
        with pytest.raises(ConfigError, match=f"config.{path}: must be"):
            check_names(config)


def harness_config():
    config = get_config()
    config.network.dropout = 0.0
    return config


@pytest.mark.parametrize("part", ["views.low_res", "residual", "clean_only", "shared.later"])
def test_a_stage_that_sets_a_wrong_number_is_named(part):
    config = harness_config()
    put(config, f"{part}.train.clip", -2.0)
    with pytest.raises(
        ConfigError, match=f"config.{part}.train.clip: must be at least 0 and finite, got -2.0"
    ):
        check_names(config)
