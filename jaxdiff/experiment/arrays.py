"""Fitted arrays on disk: computed once, then read back, so that a resumed run uses the same bits.

Of several processes the first writes and all read.
"""

import dataclasses
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from jaxdiff import files
from jaxdiff.files import is_remote, writing
from jaxdiff.npz import read_npz
from jaxdiff.training.processes import is_first, of_first, wait_for_all

log = logging.getLogger("jaxdiff")
Record = TypeVar("Record")


def write_atomically(path: Path, write: Callable[[Path], None], everywhere: bool = False) -> None:
    """`files.write_atomically` in the first of several processes; with `everywhere` in each (files of its own)."""
    if is_first() or everywhere:
        files.write_atomically(path, write)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; never unpickles. Raises ValueError where it is damaged."""
    return read_npz(io.BytesIO(path.read_bytes()) if is_remote(path) else path)


def is_there(path: Path) -> bool:
    """Whether process 0 sees the file; the same answer in every process, all of which must ask."""
    return bool(of_first(np.bool_(path.exists())))


def saved(path: Path, kind: type[Record], compute: Callable[[], Record]) -> Record:
    """The record (a dataclass of arrays) in `path`; computed and written there where there is none yet.

    A damaged file (every array in it has a checksum) is named in the log, kept as `<name>.damaged`, and made again.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    record = _read(path, kind, names) if is_there(path) else None
    if record is None:
        record = compute()
        arrays = {name: np.asarray(getattr(record, name)) for name in names}
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
        wait_for_all(f"{path} is written")
        record = _read(path, kind, names)
    return record


def _read(path: Path, kind: type[Record], names: list[str]) -> Record | None:
    try:
        stored = load_arrays(path)
        return kind(**{name: jnp.asarray(stored[name]) for name in names})
    except (ValueError, KeyError, TypeError) as error:
        wait_for_all(f"{path} was read")
        if is_first():
            aside = path.with_name(f"{path.name}.damaged")
            log.warning("%s is damaged (%s): kept as %s, and made again", path, error, aside.name)
            with writing(aside):
                path.rename(aside) if is_remote(path) else os.replace(path, aside)
        return None
