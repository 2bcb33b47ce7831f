"""Where runs are kept: a local directory, or one in an object store (gs://) with the same methods."""

import os
from pathlib import Path

from etils import epath


def is_remote(path: str | Path) -> bool:
    """Whether a path is in an object store and not in a file system."""
    return "://" in os.fspath(path)


def open_workdir(name: str | Path) -> Path:
    """The directory of a run: a `pathlib.Path`, or for gs:// and the like a path of etils, which has its methods."""
    return epath.Path(name) if is_remote(name) else Path(name)
