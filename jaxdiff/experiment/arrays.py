"""Fitted arrays on disk: computed once, then read back, so that a resumed run uses the same bits."""

import dataclasses
import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from jaxdiff.files import write_atomically, writing

__all__ = ["saved", "write_atomically"]

log = logging.getLogger("jaxdiff")
Record = TypeVar("Record")


def saved(path: Path, kind: type[Record], compute: Callable[[], Record]) -> Record:
    """The record (a dataclass of arrays) in `path`; computed and written there where there is none yet.

    A damaged file (every array in it has a checksum) is named in the log, kept as `<name>.damaged`, and made again.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    record = _read(path, kind, names) if path.exists() else None
    if record is None:
        record = compute()
        arrays = {name: np.asarray(getattr(record, name)) for name in names}
        write_atomically(path, lambda temporary: np.savez(temporary, **arrays))
        record = _read(path, kind, names)
    return record


def _read(path: Path, kind: type[Record], names: list[str]) -> Record | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return kind(**{name: jnp.asarray(stored[name]) for name in names})
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        aside = path.with_name(f"{path.name}.damaged")
        log.warning("%s is damaged (%s): kept as %s, and made again", path, error, aside.name)
        with writing(aside):
            os.replace(path, aside)
        return None
