"""The time that the runs of a price list are given, over calls of the same command.

A call that is cut off (by a signal, or a machine that goes down) has used part of the time, and the next one goes on
with what is left; a call that came to its end is settled, and the next one has all of it anew.
"""

import json
import time
from pathlib import Path

from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.checks import ConfigError


class Budget:
    """Minutes for runs, of which those used are kept in a file until `settle`.

    Args:
      path: where the seconds used are kept.
      minutes: in all; 0: as long as it takes.
      margin: a run is started where there is time left for this many times the longest so far.
      longest: seconds of the longest run of earlier calls.

    Raises:
      ConfigError: a margin below 1, with which most runs would end after the budget.
    """

    def __init__(self, path: Path, minutes: float, margin: float, longest: float = 0.0):
        if margin < 1:
            raise ConfigError(f"config.worth.margin: at least 1, got {margin:g}; nearest valid: 1")
        self.path, self.minutes, self.margin, self.longest = path, minutes, margin, longest
        self.before = float(json.loads(path.read_text())["seconds"]) if minutes > 0 and path.exists() else 0.0
        self.began = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds used by this call and those cut off before it."""
        return self.before + time.monotonic() - self.began

    def allows(self, longest: float) -> bool:
        """Whether there is time for one more run, where the longest of this call took so many seconds."""
        if self.minutes <= 0:
            return True
        self.keep()
        return self.used + self.margin * max(longest, self.longest) < 60 * self.minutes

    def keep(self) -> None:
        """Write down what is used, for the case that this call is cut off."""
        if self.minutes > 0:
            text = json.dumps({"seconds": self.used})
            write_atomically(self.path, lambda path: path.write_text(text))

    def settle(self) -> None:
        """This call came to its end: the next one has all of the time anew."""
        self.path.unlink(missing_ok=True)
