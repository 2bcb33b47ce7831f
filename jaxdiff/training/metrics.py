"""Metrics of a stage: one JSON line per dispatch on disk, TensorBoard events beside it."""

import json
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from jaxdiff.files import write_atomically, writing


class MetricsWriter:
    """Appends records to `<directory>/metrics.jsonl` and to a TensorBoard event file in the same directory.

    On resume the lines after the restored step are dropped: the history is that of an uninterrupted run.

    Attributes:
      kept: the records that were there already.

    Raises:
      CannotWrite: the disk is full or read-only. (TensorBoard's own writer is a thread that dies of it, and
        whoever waits for that thread waits for ever: the events are written here, in the open.)
    """

    def __init__(self, directory: Path, start_step: int = 0):
        self.path = Path(directory) / "metrics.jsonl"
        self.kept = [record for record in read_metrics(self.path) if record["step"] <= start_step]
        text = "".join(json.dumps(record) + "\n" for record in self.kept)
        write_atomically(self.path, lambda temporary: temporary.write_text(text))
        with writing(self.path):
            self._file = self.path.open("a")
            self._events = EventsWriter(str(Path(directory) / "events"))
            if start_step:  # TensorBoard forgets what an interrupted run had from here on
                log = SessionLog(status=SessionLog.START)
                self._event(Event(step=start_step + 1, session_log=log))

    def _event(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)

    def write(self, step: int, record: dict[str, Any]) -> None:
        """One record: numbers by name."""
        with writing(self.path):
            self._file.write(json.dumps({"step": step, **record}) + "\n")
            self._file.flush()
            for name, value in record.items():
                self._event(Event(step=step, summary=scalar(name, value)))

    def close(self) -> None:
        with writing(self.path):
            try:
                self._file.close()
            finally:
                self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file in order; a last line cut short by a kill is left out."""
    if not Path(path).exists():
        return []
    records = []
    for line in Path(path).read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records
