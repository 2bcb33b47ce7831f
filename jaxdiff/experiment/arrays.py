"""Fitted arrays on disk: computed once, then read back, so that a resumed run uses the same bits."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from jaxdiff.files import write_atomically

__all__ = ["saved", "write_atomically"]

Record = TypeVar("Record")


def saved(path: Path, kind: type[Record], compute: Callable[[], Record]) -> Record:
    """The record (a dataclass of arrays) in `path`; computed and written there where there is none yet."""
    names = [field.name for field in dataclasses.fields(kind)]
    if not path.exists():
        record = compute()
        arrays = {name: np.asarray(getattr(record, name)) for name in names}
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
    with np.load(path, allow_pickle=False) as stored:
        return kind(**{name: jnp.asarray(stored[name]) for name in names})
