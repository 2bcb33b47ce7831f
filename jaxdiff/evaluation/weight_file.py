"""Files of a public network's weights: an .npz of named float32 arrays, checked, and read without unpickling.

The weights of a network that a published measure is defined by are not part of this project; a user downloads
them once and converts them. What differs from network to network is which arrays there must be (`expected`, the
shape of each by name) and how to get them.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdiff.npz import read_npz

SHOWN = 8  # names in an error message

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


class Summary(NamedTuple):
    """What was written: arrays, numbers in them, sha256 of their names, shapes and values (not of the file)."""

    tensors: int
    parameters: int
    sha256: str


class Layout(NamedTuple):
    """How a public file names an array, and the order of its axes there as seen from ours."""

    name: str
    axes: tuple[int, ...] | None = None


def save_weights(path: str | Path, arrays: Mapping[str, np.ndarray]) -> Summary:
    """Write arrays by name; the file is there whole or not at all.

    Raises:
        FileExistsError: there is something at `path`.
    """
    path = Path(path).expanduser()
    if path.exists():
        raise FileExistsError(f"{path} exists; nothing is overwritten")
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)
    return Summary(len(arrays), sum(array.size for array in arrays.values()), digest(arrays))


def read_weights(path: str | Path, expected: Shapes, network: str, how_to_get: str) -> Arrays:
    """The arrays that `save_weights` has written.

    Args:
        path: the .npz.
        expected: shape of every array by name.
        network: what it is called in messages.
        how_to_get: a sentence with '{path}' where the file's name goes.

    Raises:
        FileNotFoundError: there is no such file; the message says how to make it.
        ValueError: the file is not such a file, or arrays are missing, left over or of another shape.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no {network} weights at {path}; {how_to_get.format(path=path)}")
    try:
        arrays = read_npz(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is no .npz of {network} weights ({error}); {how_to_get.format(path='OUT')}"
        ) from error
    return renamed(path, arrays, {name: Layout(name) for name in expected}, expected, network)


def read_torch(path: Path, otherwise: str = "") -> Arrays:
    """The arrays of a PyTorch checkpoint of weights, by their names there; nothing of it is run.

    Args:
        path: the file; where its name ends in '-' and eight digits of its sha256, as is the custom of torch.hub, they
          are checked.
        otherwise: what else to do where PyTorch is not installed, for the message.

    Raises:
        ModuleNotFoundError: PyTorch is not installed.
        ValueError: a damaged file, or one that holds no state dict.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path} is a PyTorch checkpoint; to read it once, pip install -e ".[fid]" (PyTorch){otherwise}'
        ) from error
    name = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if name and not _file_digest(path).startswith(name[1]):
        raise ValueError(
            f"{path}: its sha256 does not begin with {name[1]}, as its name says; download it again"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common class for what a damaged file raises
        raise ValueError(f"{path} cannot be read as a PyTorch checkpoint of weights: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds no state dict (a mapping of names to tensors) but {type(state).__name__}"
        )
    return {name: value.detach().numpy() for name, value in state.items()}


def renamed(
    where: str | Path,
    found: Mapping[str, np.ndarray],
    layouts: Mapping[str, Layout],
    expected: Shapes,
    network: str,
) -> Arrays:
    """Our names and axes for the arrays of a public file.

    Raises:
        ValueError: arrays are missing, left over, of another shape or not finite; the first of each are named.
    """
    check_names(where, found, expected, lambda name: layouts[name].name, network)
    result = {}
    for name, shape in expected.items():
        theirs, axes = layouts[name]
        array = np.asarray(found[theirs])
        if axes is not None and array.ndim == len(axes):
            array = array.transpose(axes)
        result[name] = checked(where, theirs, array, shape)
    return result


def check_names(
    where: str | Path,
    found: Iterable[str],
    expected: Iterable[str],
    theirs: Callable[[str], str],
    network: str,
) -> None:
    """Raise a ValueError unless `found` are the `expected` arrays, each called `theirs(name)` there."""
    wanted, found = {theirs(name) for name in expected}, set(found)
    problems = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for what, names in (("missing", wanted - found), ("not of this network", found - wanted))
        if names
    ]
    if problems:
        raise ValueError(
            f"{where} does not hold the {len(wanted)} arrays of the {network} network; {'; '.join(problems)}"
        )


def checked(where: str | Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array` as contiguous float32, if it has this shape (with our order of axes) and is finite."""
    if array.shape != shape:
        raise ValueError(
            f"{where}: {name} has shape {array.shape}, the network's is {shape} (axes as in Flax)"
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise ValueError(f"{where}: {name} holds values that are not finite numbers")
    return np.ascontiguousarray(array, np.float32)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over name, shape and float32 values of each array: the same from whichever file they came."""
    result = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        result.update(f"{name} {array.shape} ".encode())
        result.update(array.astype("<f4", copy=False))
    return result.hexdigest()


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
