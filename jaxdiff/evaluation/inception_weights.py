"""The weight file of the FID Inception network: what must be in it, writing, reading.

An .npz of float32 arrays named as in Flax, 'params/Mixed_5b/branch1x1/conv/kernel', read without unpickling.
`inception_convert` makes it out of a public file.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation.inception_network import InceptionV3

TORCH_FILE = "pt_inception-2015-12-05-6726825d.pth"
TENSORFLOW_FILE = "classify_image_graph_def.pb"
HOW_TO_GET = (
    f"download {TORCH_FILE} (release 'fid_weights' of github.com/mseitzer/pytorch-fid) or {TENSORFLOW_FILE} "
    "(in inception-2015-12-05.tgz of download.tensorflow.org), then: "
    "python -m jaxdiff.evaluation.inception convert FILE {path}"
)
SHOWN = 8  # names in an error message

Arrays = dict[str, np.ndarray]


class Weights(NamedTuple):
    """The variables of `InceptionV3`, and the sha256 of their names, shapes and values (not of the file)."""

    variables: dict
    sha256: str


class Summary(NamedTuple):
    """What was written: arrays, numbers in them, sha256 as of `Weights`."""

    tensors: int
    parameters: int
    sha256: str


@cache
def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each of the 472 arrays of the network, by its name in Flax: 'collection/layer/.../array'."""
    variables = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {name: leaf.shape for name, leaf in sorted(flat.items())}


def save_weights(path: str | Path, arrays: Mapping[str, np.ndarray]) -> Summary:
    """Write arrays as `expected_shapes` names them; the file is there whole or not at all.

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


def load_weights(path: str | Path) -> Weights:
    """The weights that `save_weights` has written.

    Raises:
        FileNotFoundError: there is no such file; the message says how to make it.
        ValueError: the file is not such a file, or arrays are missing, left over or of another shape.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no Inception weights at {path}; {HOW_TO_GET.format(path=path)}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no .npz of Inception weights ({error}); {HOW_TO_GET.format(path='OUT')}"
        ) from error
    check_names(path, arrays, expected_shapes(), lambda name: name)
    arrays = {name: checked(path, name, arrays[name], shape) for name, shape in expected_shapes().items()}
    return Weights(flax.traverse_util.unflatten_dict(arrays, sep="/"), digest(arrays))


def check_names(
    where: str | Path, found: Iterable[str], expected: Iterable[str], theirs: Callable[[str], str]
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
            f"{where} does not hold the {len(wanted)} arrays of the FID Inception network; {'; '.join(problems)}"
        )


def checked(where: str | Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array` as contiguous float32, if it has this shape (as laid out in Flax) and is finite."""
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
