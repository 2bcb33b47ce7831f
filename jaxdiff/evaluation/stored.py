"""Arrays and what they are, in one .npz file: the key 'metadata' holds JSON, nothing is ever pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.npz import read_npz

VERSION = 1


def write_stored(
    path: Path, kind: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write the file at once: a kill leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
    text = json.dumps({"format": kind, "version": VERSION, **metadata}, sort_keys=True)
    np.savez(temporary, metadata=np.asarray(text), **arrays)
    os.replace(temporary, path)


def read_stored(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of a file that `write_stored` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or of another kind or version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {kind} (.npz)")
    try:
        arrays = read_npz(path)
        metadata = json.loads(str(arrays.pop("metadata")))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are no JSON object")
    except (ValueError, KeyError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: not {kind}, or damaged ({error})") from error
    if (metadata.get("format"), metadata.get("version")) != (kind, VERSION):
        raise ValueError(
            f"{path}: expected {kind}, version {VERSION}; it is {metadata.get('format')}, version "
            f"{metadata.get('version')}"
        )
    return arrays, metadata
