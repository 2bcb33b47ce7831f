"""Many runs of one comparison: each a process of its own, several at a time, all of them resumable.

A cell is an experiment with a directory. Its process trains it, measures it on the held-out images and leaves

    measured.json   cost of every stage and method
    errors.npz      squared errors (N, S) of every method on the same noise, for paired differences
    samples/        of the methods that are asked for

A cell with a measured.json of the same config is done. Processes on a CPU are bound to one core each: two runs on a
core each are much faster than two runs in turn on two cores.

`python -m jaxdiff.experiment.cells DIR ROOT` runs the cell whose cell.json lies in DIR, in the comparison of ROOT.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.lock import locked
from jaxdiff.experiment.same_config import check_same_config, claim
from jaxdiff.files import CannotWrite
from jaxdiff.training.stopping import Interrupted, StopRequest

POLL_SECONDS = 0.5
HANDOVER_SECONDS = 120.0
OF_MODES = ("restore", "memorization", "compare", "worth")  # sections that say what is made of trained runs


class Cell(NamedTuple):
    """One run: its directory below the comparison's, its config, and the methods to draw samples of."""

    name: str
    config: ConfigDict
    samples: tuple[str, ...] = ()
    kind: str = "measure"  # measure (above) | crosstable: reconstructions of k-space (see `crosstable`)


class CellFailed(RuntimeError):
    """A cell ended with an error; the message has the end of its log."""


def plain(config: Any) -> dict:
    """The config as JSON keeps it."""
    return json.loads(json.dumps(config.to_dict()))


def shaping(config: dict) -> dict:
    """The sections of a config that have a part in a cell: what is made of many of them has none."""
    return {key: value for key, value in config.items() if key not in OF_MODES}


def request(cell: Cell) -> dict:
    """What cell.json says."""
    asked = {"name": cell.name, "config": shaping(plain(cell.config)), "samples": list(cell.samples)}
    return asked if cell.kind == "measure" else asked | {"kind": cell.kind}


def is_done(cell: Cell, root: Path) -> bool:
    """Whether the cell was measured with this config and these samples."""
    path = root / cell.name / "measured.json"
    if not path.exists():
        return False
    made = json.loads(path.read_text())["request"]
    return made | {"config": shaping(made["config"])} == request(cell)


def read_cell(cell: Cell, root: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """measured.json and errors.npz."""
    directory = root / cell.name
    with np.load(directory / "errors.npz", allow_pickle=False) as stored:
        return json.loads((directory / "measured.json").read_text()), dict(stored)


def worker_count(asked: int, platform: str) -> int:
    """Processes at a time: as asked, else one for each core of a CPU, one for an accelerator."""
    if asked > 0:
        return asked
    return len(os.sched_getaffinity(0)) if platform == "cpu" and hasattr(os, "sched_getaffinity") else 1


class _Worker:
    """A process that runs one cell, bound to its cores."""

    def __init__(self, cell: Cell, root: Path, cores: set[int] | None):
        self.cell, self.cores = cell, cores
        self.directory = root / cell.name
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "cell.json"
        write_atomically(path, lambda temporary: temporary.write_text(json.dumps(request(cell), indent=1)))
        self.log = self.directory / "log.txt"
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            # A session of its own: Ctrl-C reaches the parent, which asks the cells to save and stop.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jaxdiff.experiment.cells", str(self.directory), str(root)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            )
        if cores:
            os.sched_setaffinity(self.process.pid, cores)

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:60] if lines else "starting"


def run_cells(
    cells: Sequence[Cell],
    root: Path,
    workers: int,
    console: Console,
    stop: StopRequest,
    deadline: Callable[[float], bool] | None = None,
    start: Callable[..., Any] = _Worker,
) -> list[Cell]:
    """Run what is not done yet; returns the cells that are done, in their order.

    Args:
      cells: in the order in which they are started.
      root: of the comparison.
      workers: processes at a time.
      console: for progress.
      stop: asked between polls; the cells are then told to save and stop.
      deadline: seconds that the longest cell has taken -> whether there is time for one more; None: always.
      start: starts a worker; replaced in tests.

    Raises:
      CellFailed: a cell ended with an error; the others were told to save and stop.
      Interrupted: `stop` was asked for.
    """
    waiting = [cell for cell in cells if not is_done(cell, root)]
    done, longest, active = len(cells) - len(waiting), 0.0, {}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") and workers > 1 else []
    columns = [TextColumn("{task.description:<18}"), BarColumn(bar_width=20), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[now]}"), console=console) as bar:
        task = bar.add_task("runs", total=len(cells), completed=done, now="")
        try:
            while waiting or active:
                if stop:
                    raise Interrupted("Stopped: every run has saved its state")
                for slot in range(workers):
                    free = slot not in active and waiting
                    if free and deadline is not None and not deadline(longest):
                        waiting = []
                    elif free:
                        bound = {cores[slot % len(cores)]} if cores else None
                        active[slot] = start(waiting.pop(0), root, bound)
                        if not console.is_terminal:
                            console.print(f"started {active[slot].cell.name}", highlight=False)
                time.sleep(POLL_SECONDS)
                for slot, worker in list(active.items()):
                    status = worker.process.poll()
                    if status is None:
                        continue
                    del active[slot]
                    if status != 0:
                        raise CellFailed(_failure(worker, status))
                    done, longest = done + 1, max(longest, time.monotonic() - worker.began)
                    bar.update(task, completed=done)
                    if not console.is_terminal:
                        taken = time.monotonic() - worker.began
                        console.print(
                            f"{done}/{len(cells)} {worker.cell.name}: {taken:.0f} s", highlight=False
                        )
                notes = [f"{worker.cell.name}: {worker.last_line()}" for worker in active.values()]
                bar.update(task, now=" | ".join(notes))
        finally:
            for worker in active.values():
                worker.process.send_signal(signal.SIGTERM)
            for worker in active.values():
                worker.process.wait()
    return [cell for cell in cells if is_done(cell, root)]


def _failure(worker: Any, status: int) -> str:
    lines = worker.log.read_text(errors="replace").strip().splitlines()[-5:]
    return f"{worker.cell.name} ended with exit code {status}; the end of {worker.log}:\n" + "\n".join(
        f"  {line}" for line in lines
    )


def _stop_with_parent() -> None:
    """A cell does not outlive the one who started it, even if that one was killed."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(2 * POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run_cell(directory: Path, root: Path) -> int:
    """Train and measure the cell of `directory`; the exit code as `launch.py`'s."""
    from jaxdiff.experiment import command
    from jaxdiff.experiment.crosstable import reconstruct_cell
    from jaxdiff.experiment.measuring import measure_cell

    asked = json.loads((directory / "cell.json").read_text())
    measure = reconstruct_cell if asked.get("kind") == "crosstable" else measure_cell
    config = ConfigDict(asked["config"])
    _stop_with_parent()
    command.prepare_jax("off")
    console = Console(width=200)
    try:
        # A cell of a comparison that was killed takes a moment to save and go.
        with locked(directory, wait_seconds=HANDOVER_SECONDS):
            check_same_config(config, directory)
            claim(config, directory)
            measure(config, directory, root, asked, console)
    except Interrupted as stopped:
        console.print(str(stopped), highlight=False)
        return command.INTERRUPTED
    except CannotWrite as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        return command.CANNOT_WRITE
    except (ValueError, FileNotFoundError, PermissionError, RuntimeError) as error:
        if os.environ.get("JAXDIFF_TRACEBACK"):
            raise
        console.print(f"error: {error}", highlight=False, markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_cell(Path(sys.argv[1]), Path(sys.argv[2])))
