"""Real runs as child processes, killed: the final parameters are bitwise those of an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxdiff.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]
STAGES = ("view/bottom", "view/low_res", "view/top", "residual", "clean_only")


def start(workdir):
    command = [
        sys.executable,
        "launch.py",
        "--config=configs/digits_residual.py:tiny",
        f"--workdir={workdir}",
        "--mode=train",
        "--config.train.steps=400",
        "--config.residual.train.steps=400",
        "--config.clean_only.train.steps=400",
        "--config.train.checkpoint_every=50",
        "--config.train.tune_every=100",
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {}
    )


def wait_for_step(process, workdir, stage, step, seconds=300):
    """Block until the stage has logged `step`; fails where the process ends before."""
    path, until = workdir / "stages" / stage / "metrics.jsonl", time.monotonic() + seconds
    while time.monotonic() < until:
        if any(record["step"] >= step for record in read_metrics(path)):
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    raise AssertionError(f"{stage} did not reach step {step} in {seconds} s")


def final_state(workdir, stage):
    with ocp.CheckpointManager((workdir / "stages" / stage / "checkpoints").absolute()) as manager:
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())


def leaves(tree, path=""):
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from leaves(tree[key], f"{path}/{key}")
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}/{index}")
    elif tree is not None:
        yield path, np.asarray(tree)


@pytest.mark.slow
def test_sigterm_and_sigkill_leave_the_final_parameters_bitwise_the_same(tmp_path):
    whole = start(tmp_path / "whole")
    output, _ = whole.communicate(timeout=900)
    assert whole.returncode == 0, output

    hurt = tmp_path / "hurt"
    first = start(hurt)
    wait_for_step(first, hurt, "view/bottom", 120)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 75 and "SIGTERM: stage view/bottom saved at step" in output, output
    assert "Run the same command again" in output

    second = start(hurt)
    wait_for_step(second, hurt, "residual", 160)
    second.kill()
    second.wait()

    third = start(hurt)
    output, _ = third.communicate(timeout=900)
    assert third.returncode == 0, output
    compared = 0
    for stage in STAGES:
        pairs = zip(
            leaves(final_state(tmp_path / "whole", stage)), leaves(final_state(hurt, stage)), strict=True
        )
        for (name, left), (_, right) in pairs:
            np.testing.assert_array_equal(left, right, err_msg=f"{stage}{name}")
            compared += 1
    assert compared > 100
