"""launch.py in two real processes: one run, one writer, one answer to SIGTERM."""

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.training.distributed_check import start, wait

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def launch(count, folder, *arguments):
    command = [
        sys.executable,
        str(ROOT / "launch.py"),
        "--config=configs/digits_residual.py:tiny",
        *arguments,
    ]
    return start(command, count, 1, folder)


def log(folder, number):
    return (folder / f"log{number}.txt").read_text()


def test_the_whole_run_and_its_samples(tmp_path):
    workdir = tmp_path / "run"
    codes = wait(launch(2, tmp_path / "all", f"--workdir={workdir}", "--distributed"), 600)
    assert codes == [0, 0], log(tmp_path / "all", 0) + log(tmp_path / "all", 1)
    assert "report.html" in log(tmp_path / "all", 0)
    assert all(line.startswith("[Gloo]") for line in log(tmp_path / "all", 1).splitlines())
    results = json.loads((workdir / "results.json").read_text())
    assert results["device"].startswith("2 x ") and (workdir / "report.html").exists()
    steps = [
        json.loads(x)["step"] for x in (workdir / "stages/residual/metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps) and len([s for s in steps if s == 1]) == 1  # written by one process
    asked = (
        "--mode=sample",
        "--config.sample.count=10",
        "--config.sample.shard_size=4",
        f"--workdir={workdir}",
    )
    codes = wait(launch(2, tmp_path / "sample", *asked), 300)
    assert codes == [0, 0], log(tmp_path / "sample", 0) + log(tmp_path / "sample", 1)
    shards = sorted((workdir / "samples" / "residual_10_seed0").glob("shard-*.npz"))
    assert [len(np.load(path)["images"]) for path in shards] == [4, 4, 2]
    # One process finds everything done.
    codes = wait(launch(1, tmp_path / "again", f"--workdir={workdir}"), 300)
    assert codes == [0] and "are done" in log(tmp_path / "again", 0)


def test_sigterm_to_one_process_saves_and_stops_all_and_one_process_goes_on(tmp_path):
    workdir = tmp_path / "run"
    asked = [f"--workdir={workdir}", "--mode=train", "--config.train.steps=100000"]
    asked += ["--config.train.checkpoint_every=100000", "--config.train.tune_every=100000"]
    stage = workdir / "stages" / "view" / "bottom"
    saved = [0]
    for count in (2, 1):
        processes = launch(count, tmp_path / f"of{count}", *asked)
        wait_for_lines(stage / "metrics.jsonl", after=saved[-1], processes=processes)
        processes[-1].send_signal(signal.SIGTERM)
        codes = finish(processes)
        assert codes == [75] * count, log(tmp_path / f"of{count}", 0)
        assert "SIGTERM: stage view/bottom saved at step" in log(tmp_path / f"of{count}", 0)
        saved.append(max(int(p.name) for p in (stage / "checkpoints").iterdir() if p.name.isdigit()))
    assert saved[2] > saved[1] > 0
    steps = [json.loads(x)["step"] for x in (stage / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, saved[2] + 1))


def wait_for_lines(path, after, processes):
    """Until metrics of a few steps beyond `after` are written."""
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) > after + 5:
            return
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    raise AssertionError(f"{path} has no new lines")


def finish(processes):
    try:
        return [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()
