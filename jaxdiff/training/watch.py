"""What is seen in the numbers of every dispatch: steps that were skipped, too many of them, losses that jump."""

import logging
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

log = logging.getLogger("jaxdiff")
RECENT = 32  # dispatches that a loss is compared with
LEAST = 8  # of them, before a loss is called a jump
NAMED = 32  # examples in a message


class NonFiniteLoss(RuntimeError):
    """Too many steps in a row had a loss or a gradient that is not finite; the state is the one before them."""


class Watch:
    """Looks at the metrics of every dispatch after the fact, so that the device never waits for it.

    What it remembers is read back from the stage's own records on resume: a run that was killed notices the same
    things at the same steps.

    Args:
      name: of the stage.
      max_skipped: so many skipped steps in a row are an error.
      spike_factor: a loss is a spike where it lies above the median of the recent ones by more than this many times
        their median distance from it; 0: off.
      rows: step (from 0) -> the rows of the stage's data that it sees; None where nobody knows.
      kept: records of the dispatches before.
    """

    def __init__(
        self,
        name: str,
        max_skipped: int,
        spike_factor: float,
        rows: Callable[[int], np.ndarray] | None = None,
        kept: Sequence[Mapping[str, Any]] = (),
    ):
        self.name, self.max_skipped, self.spike_factor, self.rows = name, max_skipped, spike_factor, rows
        dispatches = [record for record in kept if "seconds" in record]
        self.in_a_row = int(dispatches[-1].get("skipped_in_row", 0)) if dispatches else 0
        self.skipped = int(sum(record.get("skipped", 0) for record in dispatches))
        self._recent = deque((r["loss"] for r in dispatches if "loss" in r), maxlen=RECENT)

    def look(self, done: int, metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The record of a dispatch that ended with step `done`.

        Args:
          done: steps of the stage so far.
          metrics: of every step of the dispatch, (K,) each; 'skipped' is 1 where the state was left as it was.

        Returns:
          The means over the steps that were taken; where there is something to say, `skipped` (how many were not),
          `skipped_in_row` (at the end of the dispatch) and `loss_spike` (how far above the median the loss is, in
          the median's own distances).

        Raises:
          NonFiniteLoss: `max_skipped` steps in a row were skipped.
        """
        skipped = np.asarray(metrics["skipped"], bool)
        if skipped.any():
            self._count(done - len(skipped), skipped, metrics)
        else:
            self.in_a_row = 0
        record = {}
        if not skipped.all():
            record = {key: float(v[~skipped].mean()) for key, v in metrics.items() if key != "skipped"}
            record |= self._spike(done, record["loss"])
        if skipped.any():
            record["skipped"] = float(skipped.sum())
        if self.in_a_row:
            record["skipped_in_row"] = float(self.in_a_row)
        return record

    def _count(self, start: int, skipped: np.ndarray, metrics: Mapping[str, np.ndarray]) -> None:
        for number in range(len(skipped)):
            self.in_a_row = self.in_a_row + 1 if skipped[number] else 0
            if not skipped[number]:
                continue
            self.skipped += 1
            step = start + number + 1
            values = f"loss {metrics['loss'][number]:g}, gradient norm {metrics['grad_norm'][number]:g}"
            if self.in_a_row >= self.max_skipped:
                raise NonFiniteLoss(
                    f"stage {self.name}, step {step}: {self.in_a_row} steps in a row without a finite loss and "
                    f"gradient ({values}); {self._examples(step)}. They changed nothing; the last checkpoint is the "
                    "state before them. Try a lower train.lr, train.clip > 0 or train.dtype = 'float32'; "
                    "train.max_skipped is how many are allowed"
                )
            log.warning("stage %s, step %d skipped: %s; %s", self.name, step, values, self._examples(step))

    def _examples(self, step: int) -> str:
        if self.rows is None:
            return "its examples are not known"
        rows = [int(row) for row in self.rows(step - 1)]
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return f"examples (rows of the stage's data): {', '.join(map(str, rows[:NAMED]))}{more}"

    def _spike(self, done: int, loss: float) -> dict[str, float]:
        recent = list(self._recent)
        self._recent.append(loss)
        if self.spike_factor <= 0 or len(recent) < LEAST:
            return {}
        middle = statistics.median(recent)
        distance = statistics.median(abs(value - middle) for value in recent)
        height = (loss - middle) / max(distance, 1e-3 * abs(middle), 1e-12)
        if height <= self.spike_factor:
            return {}
        log.warning("stage %s, step %d: loss %.4g, the median before is %.4g", self.name, done, loss, middle)
        return {"loss_spike": height}
