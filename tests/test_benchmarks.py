"""The speed benchmarks print lines of JSON with rates that fit together; no time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = '{"channels": 4, "channel_mults": [1], "patch": 1}'
pytestmark = pytest.mark.slow


def printed(script, *options):
    command = [sys.executable, str(BENCHMARKS / script), *options]
    one_device = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=one_device)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("script", "forwards", "options"), [("train_step.py", 3, ()), ("sample.py", 5, ("--sampling_steps=3",))]
)
def test_training_and_sampling(script, forwards, options):
    shape = ("--shape", "8", "8", "1", "--batch=4", "--repeat=3", f"--network={NETWORK}")
    (row,) = printed(script, *shape, *options)
    per_second = row["images_per_s"] * forwards * row["forward_flops"] / 1e9
    assert row["gflop_per_s"] == pytest.approx(per_second, abs=0.06)
    assert row["images_per_s"] >= row["images_per_s_p10"] > 0 and row["compile_seconds"] > 0
    assert row["parameters"] > 0 and row["mfu"] is None and row["peak_memory_mb"] > 0


def test_composition():
    """The residual costs its views and more."""
    config = BENCHMARKS.parent / "configs" / "digits_residual.py:tiny"
    machine, *rows = printed(
        "compose.py", f"--config={config}", "--batch=2", "--repeat=1", "--sampling_steps=3"
    )
    assert machine["evaluations"] == 5
    cost = {row["method"]: row["flops_ratio"] for row in rows}
    assert set(cost) == {"residual", "views_only", "clean_only"} and cost["clean_only"] == 1
    assert cost["residual"] > cost["views_only"] > 0
    assert all(row["images_per_s"] > 0 and row["ratio"] > 0 and row["mfu"] is None for row in rows)
    for row in rows:
        expected = row["images_per_s"] * 5 * row["mflop_per_evaluation"] / 1e3
        # What rounding may do: 0.05 GFLOP/s, and 0.005 images/s of as few as one.
        assert row["gflop_per_s"] == pytest.approx(expected, rel=0.01, abs=0.06)


def test_another_network_is_asked_for_by_its_name():
    shape = ("--shape", "8", "8", "1", "--batch=2", "--repeat=1")
    network = '{"name": "ddpmpp", "channels": 4, "channel_mults": [1, 1], "blocks": 1}'
    (row,) = printed("train_step.py", *shape, f"--network={network}")
    assert row["network"]["name"] == "ddpmpp" and row["images_per_s"] > 0


def test_a_round_of_ours_without_peers():
    lines = printed("peers.py", "--only", "jaxdiff, patches of 2", "--rounds=1", "--runs=1", "--threads=1")
    machine, training, sampling, ratios = lines
    assert machine["batch"] == 16 and ratios == {"ratios of GFLOP/s to the best peer": {}}
    for row, what in ((training, "training"), (sampling, "sampling")):
        assert (row["who"], row["what"]) == ("jaxdiff, patches of 2", what)
        assert row["gflop_per_s"] > 0 and row["images_per_s"] > 0 and row["peak_memory_mb"] > 0
    assert training["parameters"] == sampling["parameters"] > 1e6
