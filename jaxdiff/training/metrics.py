"""Metrics of a stage: one JSON line per dispatch on disk, TensorBoard events beside it."""

import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


class MetricsWriter:
    """Appends records to `<directory>/metrics.jsonl` and to TensorBoard event files in the same directory.

    On resume the lines after the restored step are dropped: the history is that of an uninterrupted run.
    """

    def __init__(self, directory: Path, start_step: int = 0):
        self.path = Path(directory) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_metrics(self.path) if record["step"] <= start_step]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        self._file = self.path.open("a")
        self._events = SummaryWriter(str(directory), purge_step=start_step + 1 if start_step else None)

    def write(self, step: int, record: dict[str, Any]) -> None:
        """One record: numbers by name."""
        self._file.write(json.dumps({"step": step, **record}) + "\n")
        self._file.flush()
        for name, value in record.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._events.close()


class NoWriter:
    """In place of `MetricsWriter` in processes that write nothing."""

    def write(self, step: int, record: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file in order; a last line cut short by a kill is left out."""
    if not Path(path).exists():
        return []
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
