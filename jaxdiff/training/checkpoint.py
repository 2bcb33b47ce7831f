"""Checkpoints of one stage, by Orbax: asynchronous, newest few kept, a damaged newest one set aside."""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from jaxdiff.training.processes import is_first, wait_for_all

log = logging.getLogger("jaxdiff")


class DamagedCheckpoints(RuntimeError):
    """Every checkpoint of a stage is unreadable."""


class StageCheckpoints:
    """Save and restore the state of one stage under `directory`; use as a context manager.

    Leaving waits for a save in the background, so that what was said to be saved is on disk.
    """

    def __init__(self, directory: Path, keep: int = 2):
        # A path of etils knows gs:// and local directories alike.
        self.directory = epath.Path(directory).absolute()
        self.keep = keep
        self._open()

    def _open(self):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, enable_async_checkpointing=True, create=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "StageCheckpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Start to save `state`; returns while the files are still being written.

        The state is copied on the device first: its buffers are donated to the next step, which may run
        before the background write has read them.
        """
        if self._manager.latest_step() == step:
            return
        copy = jax.tree.map(jnp.copy, state)
        self._manager.save(step, args=ocp.args.StandardSave(copy), force=True)

    def wait(self) -> None:
        """Block until the save in the background is on disk."""
        self._manager.wait_until_finished()

    def restore(self, abstract_state: Any) -> Any | None:
        """The newest readable state, None where nothing was saved.

        A checkpoint that cannot be read is named in the log and moved to `<directory>/damaged/<step>`; the
        one before it is used.

        Raises:
          DamagedCheckpoints: there are checkpoints, and none can be read.
        """
        damaged = []
        while (step := self._manager.latest_step()) is not None:
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
            except Exception as error:  # Orbax and TensorStore raise many kinds for unreadable files
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                damaged.append(f"step {step}: {reason}")
                log.warning("checkpoint %s/%d cannot be read (%s): set aside", self.directory, step, reason)
                self._set_aside(step)
        if damaged:
            raise DamagedCheckpoints(
                f"{self.directory}: no readable checkpoint ({'; '.join(damaged)}). They are kept in "
                f"{self.directory / 'damaged'}; remove {self.directory} to train this stage again"
            )
        return None

    def _set_aside(self, step: int) -> None:
        self._manager.close()
        if is_first():
            target = self.directory / "damaged" / str(step)
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rmtree()
            (self.directory / str(step)).rename(target)
        wait_for_all(f"{self.directory}/{step} set aside")
        self._open()
