"""Metrics of a stage: one JSON line per dispatch on disk, TensorBoard events beside it."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from jaxdiff.training.paths import is_remote, open_workdir

SEND_SECONDS = 60.0


class MetricsWriter:
    """Appends records to `<directory>/metrics.jsonl` and to TensorBoard event files in the same directory.

    On resume the lines after the restored step are dropped: the history is that of an uninterrupted run. Object stores
    cannot append: there the files are written locally and sent whole, every `SEND_SECONDS` and at the end.
    """

    def __init__(self, directory: Path, start_step: int = 0):
        self._directory = directory if is_remote(directory) else None
        local = tempfile.mkdtemp(prefix="jaxdiff-metrics-") if is_remote(directory) else directory
        self.path = Path(local) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [r for r in read_metrics(directory / "metrics.jsonl") if r["step"] <= start_step]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._file = self.path.open("a")
        self._events = SummaryWriter(str(local), purge_step=start_step + 1 if start_step else None)
        self._sent = time.monotonic()

    def write(self, step: int, record: dict[str, Any]) -> None:
        """One record: numbers by name."""
        self._file.write(json.dumps({"step": step, **record}) + "\n")
        self._file.flush()
        for name, value in record.items():
            self._events.add_scalar(name, value, step)
        if self._directory is not None and time.monotonic() - self._sent > SEND_SECONDS:
            self._send()

    def _send(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for file in self.path.parent.iterdir():
            (self._directory / file.name).write_bytes(file.read_bytes())
        self._sent = time.monotonic()

    def close(self) -> None:
        self._file.close()
        self._events.close()
        if self._directory is not None:
            self._send()
            shutil.rmtree(self.path.parent)


class NoWriter:
    """In place of `MetricsWriter` in processes that write nothing."""

    def write(self, step: int, record: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file in order; a last line cut short by a kill is left out."""
    path = open_workdir(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
