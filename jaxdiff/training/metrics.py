"""Metrics of a stage: one JSON line per dispatch on disk, TensorBoard events beside it."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from jaxdiff.files import is_remote, open_workdir, write_atomically, writing

SEND_SECONDS = 60.0


class MetricsWriter:
    """Appends records to `<directory>/metrics.jsonl` and to a TensorBoard event file in the same directory.

    On resume the lines after the restored step are dropped: the history is that of an uninterrupted run. Object stores
    cannot append: there the files are written locally and sent whole, every `SEND_SECONDS` and at the end.

    Attributes:
      kept: the records that were there already.

    Raises:
      CannotWrite: the disk is full or read-only. (TensorBoard's own writer is a thread that dies of it, and
        whoever waits for that thread waits for ever: the events are written here, in the open.)
    """

    def __init__(self, directory: Path, start_step: int = 0):
        self._directory = directory if is_remote(directory) else None
        local = Path(tempfile.mkdtemp(prefix="jaxdiff-metrics-") if is_remote(directory) else directory)
        self.path = local / "metrics.jsonl"
        self.kept = kept_metrics(directory, start_step)
        text = "".join(json.dumps(record) + "\n" for record in self.kept)
        write_atomically(self.path, lambda temporary: temporary.write_text(text))
        with writing(self.path):
            self._file = self.path.open("a")
            self._events = EventsWriter(str(local / "events"))
            if start_step:  # TensorBoard forgets what an interrupted run had from here on
                log = SessionLog(status=SessionLog.START)
                self._event(Event(step=start_step + 1, session_log=log))
        self._sent = time.monotonic()

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
            if self._directory is not None and time.monotonic() - self._sent > SEND_SECONDS:
                self._send()

    def _send(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for file in self.path.parent.iterdir():
            (self._directory / file.name).write_bytes(file.read_bytes())
        self._sent = time.monotonic()

    def close(self) -> None:
        with writing(self.path):
            try:
                self._file.close()
            finally:
                self._events.close()
            if self._directory is not None:
                self._send()
                shutil.rmtree(self.path.parent)


class NoWriter:
    """In place of `MetricsWriter` in processes that write nothing; `kept` is what it is there."""

    def __init__(self, directory: Path, start_step: int = 0):
        self.kept = kept_metrics(directory, start_step)

    def write(self, step: int, record: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def kept_metrics(directory: Path, start_step: int) -> list[dict[str, Any]]:
    """The records of a stage up to the step at which it goes on; none of a stage that begins anew."""
    records = read_metrics(directory / "metrics.jsonl") if start_step else []
    return [record for record in records if record["step"] <= start_step]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file in order; a last line cut short by a kill is left out."""
    path = open_workdir(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records
