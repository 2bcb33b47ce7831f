"""Progress that a person waits for: a bar with rate and time left on a terminal, plain lines in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StageProgress:
    """A context: `with StageProgress('view/top', 1200, per_step=128) as bar: bar.update(step, 'loss 0.31')`."""

    def __init__(
        self,
        name: str,
        total: int,
        start: int = 0,
        per_step: float = 1.0,
        unit: str = "steps",
        console: Console | None = None,
        every_seconds: float = 10.0,
    ):
        self.name, self.total, self.start = name, total, start
        self.per_step, self.unit, self.every = per_step, unit, every_seconds
        self.console = console or Console()
        self._bar = None
        self._begin = self._last = time.monotonic()
        self._done = start

    def __enter__(self) -> "StageProgress":
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<16}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.name, total=self.total, completed=self.start, rate="", note=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._line(self._done, "")

    def rate(self, done: int) -> float:
        """Units per second since the start of this run."""
        return (done - self.start) * self.per_step / max(time.monotonic() - self._begin, 1e-9)

    def update(self, done: int, note: str = "") -> None:
        """`done` of `total` steps are over."""
        self._done = done
        if self._bar is not None:
            rate = f"{self.rate(done):,.0f} {self.unit}/s"
            self._bar.update(self._task, completed=done, rate=rate, note=note)
        elif time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._line(done, note)

    def say(self, text: str) -> None:
        """One line that stays, above the bar."""
        self.console.print(text, highlight=False)

    def _line(self, done: int, note: str) -> None:
        passed = time.monotonic() - self._begin
        left = passed / max(done - self.start, 1) * (self.total - done)
        self.console.print(
            f"{self.name:<16} {done}/{self.total}  {self.rate(done):,.0f} {self.unit}/s  "
            f"{passed:.0f} s, {left:.0f} s left  {note}".rstrip(),
            highlight=False,
        )
