"""Real runs as child processes, and what is left of them: the same command, the same small config, the same cache."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]
CONFIG = "tests/faults/run_config.py"
STAGES = ("view/low_res", "residual")
UNNAMED = "*.orbax-checkpoint-tmp*"  # a checkpoint that is being written


class Ended(NamedTuple):
    """A child that is over: exit code and all that it printed, lines joined."""

    code: int
    output: str


def start(workdir: Path, *arguments: str, mode: str = "train", **environment: str) -> subprocess.Popen:
    """`launch.py` in a process of its own; further arguments come after those of the small run."""
    command = [sys.executable, "launch.py", f"--config={CONFIG}", f"--workdir={workdir}", f"--mode={mode}"]
    kept = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}  # one device, not eight
    flags = "--xla_cpu_multi_thread_eigen=false"  # two runs at a time, a core each
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**kept, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, "COLUMNS": "1000", **environment},
    )


def finish(process: subprocess.Popen, seconds: float = 300.0) -> Ended:
    """Wait for the end; a child that does not end is killed, and that is a failure."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"the run did not end in {seconds} s:\n{output}") from None
    return Ended(process.returncode, re.sub(r"\s+", " ", output))


def run(workdir: Path, *arguments: str, mode: str = "train", **environment: str) -> Ended:
    """`launch.py` from start to end."""
    return finish(start(workdir, *arguments, mode=mode, **environment))


def wait_until(condition, process: subprocess.Popen, seconds: float = 120.0) -> bool:
    """Poll until the condition holds (True) or the process has ended (False)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    raise AssertionError(f"nothing happened in {seconds} s")


def kill(process: subprocess.Popen) -> None:
    """SIGKILL, and wait."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checkpoints(workdir: Path, stage: str = STAGES[-1]) -> Path:
    """The directory of a stage's checkpoints."""
    return workdir / "stages" / stage / "checkpoints"


def steps(workdir: Path, stage: str = STAGES[-1]) -> list[int]:
    """Steps with a checkpoint."""
    directory = checkpoints(workdir, stage)
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def unnamed(workdir: Path) -> set[tuple[Path, int]]:
    """Checkpoints that are being written, or that a kill left so: path and inode."""
    found = set()
    for stage in STAGES:
        for path in checkpoints(workdir, stage).glob(UNNAMED):
            with suppress(FileNotFoundError):  # it has been given its name, or tidied up, in between
                found.add((path, path.stat().st_ino))
    return found


def _leaves(tree, path=""):
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from _leaves(tree[key], f"{path}/{key}")
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{path}/{index}")
    elif tree is not None:
        yield path, np.asarray(tree)


def final_arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Everything a run ends with: the last state of every stage (parameters, moving average, optimiser), every fit."""
    found = {}
    for stage in STAGES:
        with ocp.CheckpointManager(checkpoints(workdir, stage).absolute()) as manager:
            state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
        found |= {f"{stage}{name}": leaf for name, leaf in _leaves(state)}
    for path in sorted((workdir / "fits").glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            found |= {f"{path.name}/{name}": stored[name] for name in stored}
    return found


def assert_same_bits(workdir: Path, expected: dict[str, np.ndarray]) -> None:
    """The run ended with the same numbers, bit for bit."""
    found = final_arrays(workdir)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes(), (workdir, name)
    kinds = ("params", "ema", "opt_state")
    assert all(any(f"/{kind}/" in name for name in expected) for kind in kinds) and len(expected) > 50


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file below a directory by its path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
