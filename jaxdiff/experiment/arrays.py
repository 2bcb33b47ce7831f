"""Files of a run: written whole or not at all, by one process; local directories and gs:// alike.

Fitted arrays are computed once, then read back, so that a resumed run uses the same bits.
"""

import dataclasses
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from jaxdiff.training.paths import is_remote
from jaxdiff.training.processes import is_first, of_first, wait_for_all

Record = TypeVar("Record")


def write_atomically(path: Path, write: Callable[[Path], None], everywhere: bool = False) -> None:
    """`write(temporary path)`, then rename: a kill leaves the old file or the new one, never half of one.

    In an object store an object appears whole by itself: it is written to a local file and sent in one piece. Of
    several processes the first writes, the others do nothing; with `everywhere` each writes (files of its own).
    """
    if not (is_first() or everywhere):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / path.name
            write(local)
            path.write_bytes(local.read_bytes())
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; never unpickles."""
    source = io.BytesIO(path.read_bytes()) if is_remote(path) else path
    with np.load(source, allow_pickle=False) as stored:
        return dict(stored)


def is_there(path: Path) -> bool:
    """Whether process 0 sees the file; the same answer in every process, all of which must ask."""
    return bool(of_first(np.bool_(path.exists())))


def saved(path: Path, kind: type[Record], compute: Callable[[], Record]) -> Record:
    """The record (a dataclass of arrays) in `path`; computed and written there where there is none yet."""
    names = [field.name for field in dataclasses.fields(kind)]
    if not is_there(path):
        record = compute()
        arrays = {name: np.asarray(getattr(record, name)) for name in names}
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
        wait_for_all(f"{path} is written")
    stored = load_arrays(path)
    return kind(**{name: jnp.asarray(stored[name]) for name in names})
