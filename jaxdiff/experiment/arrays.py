"""Fitted arrays on disk: computed once, then read back, so that a resumed run uses the same bits."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

Record = TypeVar("Record")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write(temporary path)`, then rename: a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def saved(path: Path, kind: type[Record], compute: Callable[[], Record]) -> Record:
    """The record (a dataclass of arrays) in `path`; computed and written there where there is none yet."""
    names = [field.name for field in dataclasses.fields(kind)]
    if not path.exists():
        record = compute()
        arrays = {name: np.asarray(getattr(record, name)) for name in names}
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
    with np.load(path, allow_pickle=False) as stored:
        return kind(**{name: jnp.asarray(stored[name]) for name in names})
