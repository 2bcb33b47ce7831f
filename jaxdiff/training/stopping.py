"""Stopping on request: SIGINT and SIGTERM are noted, and looked at between dispatches."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax


class Interrupted(Exception):
    """The run was asked to stop (SIGINT, SIGTERM); the state is saved."""


class StopRequest:
    """Set by SIGINT or SIGTERM; looked at between dispatches. A second signal ends the process at once.

    With several processes SIGTERM is left to JAX's preemption service, which tells all of them
    (`processes.stop_agreed`), and SIGINT is passed on to it.
    """

    def __init__(self):
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def listening(self, alone: bool = False) -> Iterator["StopRequest"]:
        """Handle the signals inside the block (in the main thread only: Python allows it nowhere else).

        With `alone` as if there were one process: for work in which no process waits for another.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        several = jax.process_count() > 1 and not alone

        def handler(number, frame):
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number
            if several:
                signal.raise_signal(signal.SIGTERM)

        handled = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
        previous = {s: signal.signal(s, handler) for s in handled}
        try:
            yield self
        finally:
            for number, old in previous.items():
                signal.signal(number, old)
