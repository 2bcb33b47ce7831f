"""Checkpoints of one stage, by Orbax: asynchronous, newest few kept, a damaged newest one set aside."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxdiff.files import CannotWrite, is_remote, open_workdir, require_room, why_not_written, writing
from jaxdiff.training.manifest import fault, has_manifest, write_manifest
from jaxdiff.training.processes import is_first, wait_for_all

log = logging.getLogger("jaxdiff")
DAMAGED = "damaged"
UNNAMED = "orbax-checkpoint-tmp"  # ending of a checkpoint that is being written


class DamagedCheckpoints(RuntimeError):
    """Every checkpoint of a stage is unreadable."""


class CheckpointMismatch(ValueError):
    """A checkpoint is as it was written, and is not one of this network and optimiser."""


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves
    }


def _check_same_arrays(saved: Any, wanted: Any) -> None:
    """Raise ValueError where the arrays of a checkpoint's metadata are not those of a state."""
    has, needs = _shapes(saved.tree), _shapes(wanted)
    for name in sorted(has.keys() ^ needs.keys()):
        raise ValueError(f"{name} is {'not of this run' if name in has else 'not in it'}")
    for name, shape in needs.items():
        if has[name] != shape:
            raise ValueError(f"{name} has shape {has[name]}, not {shape}")


class StageCheckpoints:
    """Save and restore the state of one stage under `directory`; use as a context manager.

    Leaving waits for a save in the background, so that what was said to be saved is on disk.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self.directory = open_workdir(directory).absolute()
        self.keep = keep
        self._saving: int | None = None
        self._open()

    def _open(self):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep,
            enable_async_checkpointing=True,
            create=True,
            # In the background, too: when all files are there, before the directory gets its name.
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._list_files),
        )
        with writing(self.directory):
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def _list_files(self) -> None:
        if not is_first():
            return
        # In an object store nothing is renamed: a checkpoint has its name at once, and counts when its mark is there.
        remote = is_remote(self.directory)
        pending = [self._at(self._saving)] if remote else self.directory.glob(f"{self._saving}.{UNNAMED}*")
        for unnamed in pending:
            write_manifest(unnamed)

    def _at(self, step: int) -> Path:
        return self.directory / str(step)

    def __enter__(self) -> "StageCheckpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            with writing(self.directory):
                try:
                    self.wait()
                finally:
                    self._manager.close()  # which waits, and fails, too
        except CannotWrite:
            if error is None:  # else the error that led here is the one to be told
                raise

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Start to save `state`; returns while the files are still being written.

        The state is copied on the device first: its buffers are donated to the next step, which may run
        before the background write has read them.

        Raises:
          CannotWrite: there is no space or no permission, now or at the save before; older checkpoints are kept.
        """
        self.wait()
        if self._manager.latest_step() == step:
            return
        if not is_remote(self.directory):
            require_room(self.directory, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        copy = jax.tree.map(jnp.copy, state)
        self._saving = step
        with writing(self._at(step)):
            self._manager.save(step, args=ocp.args.StandardSave(copy), force=True)

    def wait(self) -> None:
        """Block until the save in the background is on disk; raises as `save`."""
        with writing(self.directory if self._saving is None else self._at(self._saving)):
            self._manager.wait_until_finished()

    def restore(self, abstract_state: Any) -> Any | None:
        """The newest undamaged state, None where nothing was saved.

        Checkpoints newer than that are named in the log and moved to `<directory>/damaged/<step>`. Where none is
        left, all stay where they are.

        Raises:
          DamagedCheckpoints: there are checkpoints, and none can be read.
          CheckpointMismatch: the newest is as it was written, but of another network or optimiser.
        """
        damaged = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            state, reason = self._read(step, abstract_state)
            if reason is None:
                self._set_aside(damaged)
                return state
            damaged[step] = reason
        aside = self.directory / DAMAGED
        if damaged or aside.exists():
            named = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise DamagedCheckpoints(
                f"{self.directory}: no readable checkpoint ({named or f'all were set aside in {aside}'}). Nothing was "
                f"changed; put back a copy, or remove {self.directory} to train this stage again"
            )
        return None

    def _read(self, step: int, abstract_state: Any) -> tuple[Any, str | None]:
        """The state of a step and None, or None and what is wrong with its files."""
        directory = self._at(step)
        listed = has_manifest(directory)
        if listed and (reason := fault(directory)) is not None:
            return None, reason
        try:
            if listed:  # of many arrays that are read at once, Orbax logs every one that does not fit
                _check_same_arrays(
                    ocp.StandardCheckpointHandler().metadata(directory / "default"), abstract_state
                )
            state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
        except Exception as error:  # Orbax and TensorStore raise many kinds for unreadable files
            if (denied := why_not_written(error)) is not None:
                raise CannotWrite(f"{directory} cannot be read: {denied}") from error
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            if not listed:
                return None, reason
            raise CheckpointMismatch(
                f"{directory} is undamaged, and does not fit this run ({reason}): it was saved with another network, "
                "optimiser or version; go back to that config, or use another --workdir"
            ) from error
        if not listed and is_first():
            write_manifest(directory)
        return state, None

    def _set_aside(self, damaged: Mapping[int, str]) -> None:
        if not damaged:
            return
        self._manager.close()
        for step, reason in damaged.items() if is_first() else ():
            target, copies = self.directory / DAMAGED / str(step), 1
            while target.exists():
                target, copies = target.with_name(f"{step}.{copies}"), copies + 1
            log.warning("checkpoint %s is damaged (%s): set aside in %s", self._at(step), reason, target)
            with writing(target):
                target.parent.mkdir(exist_ok=True)
                self._at(step).rename(target)
        wait_for_all(f"{self.directory}: damaged checkpoints are set aside")
        self._open()
