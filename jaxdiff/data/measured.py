"""Corrupted data as it lies on disk: measurements that nobody simulated.

>>> source = open_measurements("folder:scratched", image_size=64)
>>> source.gather([0, 1])  # Measurement: y (2, 64, 64, 3), params {'mask': (2, 64, 64, 1)}, sigma_y (2,)

The operator of a source is known, its parameters (which pixels are hidden) come with each example.
`docs/data.md` has every format word for word.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from jaxdiff import operators
from jaxdiff.data.arrays import existing_file, opened_npz
from jaxdiff.data.images import folder_files, zip_files
from jaxdiff.data.masked import open_masked
from jaxdiff.data.pixels import PixelRules, Settings, make_settings, to_unit
from jaxdiff.data.records import Records, open_records, require_kind
from jaxdiff.data.stored_operator import build_operator, parse_spec, read_params
from jaxdiff.operators import LinearOperator, Measurement
from jaxdiff.registry import lookup

CHUNK = 256  # examples at a time: one compiled program
LOOKED_AT = 64  # records


class MeasurementSource(Protocol):
    """Measurements by index; the index of an example never changes.

    Attributes:
        name: the spec it was opened by.
        operator: A, without drawn parameters; where `operator.per_example` they come with each measurement.
        shape: the operator's in_shape, the image space (H, W, C).
        report: as of `sources.Source`, and 'operator', its name, in_shape and arguments.
    """

    name: str
    operator: LinearOperator
    shape: tuple[int, ...]
    report: dict[str, Any]

    def __len__(self) -> int: ...

    def gather(self, indices: Sequence[int] | np.ndarray) -> Measurement:
        """NumPy arrays with leading axis n: y float32 (n, *out_shape) in the units of images in [-1, 1],
        exactly 0 where the operator hides; params or None; sigma_y float32 (n,). From any thread."""
        ...


class ArrayMeasurements:
    """Measurements in memory; see `MeasurementSource`."""

    def __init__(
        self, name: str, operator: LinearOperator, y: np.ndarray, params: Any, sigma_y, report: dict
    ):
        self.name, self.operator, self.shape, self.report = name, operator, operator.in_shape, report
        self._all = Measurement(y=y, params=params, sigma_y=sigma_y)

    def __len__(self) -> int:
        return len(self._all.y)

    def gather(self, indices: Sequence[int] | np.ndarray) -> Measurement:
        """Examples by index."""
        indices = np.asarray(indices, np.int64)
        return jax.tree.map(lambda leaf: leaf[indices], self._all)


class RecordMeasurements:
    """Measurements read when asked for; see `MeasurementSource`."""

    def __init__(self, name: str, operator: LinearOperator, records: Records, report: dict):
        self.name, self.operator, self.shape, self.report = name, operator, operator.in_shape, report
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def gather(self, indices: Sequence[int] | np.ndarray) -> Measurement:
        """Examples by index.

        Raises:
            OSError: a record cannot be read, or does not fit the operator.
        """
        if len(indices) == 0:
            return jax.tree.map(lambda leaf: leaf[:0], self.gather([0]))
        arrays = self._records.read(indices)
        missing = [name for name in ("y", "sigma_y") if name not in arrays]
        if missing:
            raise OSError(f"{self.name}: its records have no '{missing[0]}'; they have {', '.join(arrays)}")
        try:
            params = read_params(self.name, self.operator, arrays, len(indices))
            y = to_unit(_check_y(self.name, self.operator, arrays["y"]))
            sigma_y = _check_sigma(self.name, arrays["sigma_y"], len(indices))
        except ValueError as error:
            raise OSError(str(error)) from error
        return Measurement(y=y, params=params, sigma_y=sigma_y)


def open_measurements(spec: str, **options: Any) -> MeasurementSource:
    """Open a source of measurements.

    Args:
        spec: `folder:PATH` or `zip:PATH` (images with masks or transparency), `npz:PATH` or `records:PATH`
            of measurements.
        options: image_size, channels, resize, center_crop, max_bad_share, as of `pixels.make_settings`; for
            files of images only.

    Raises:
        ValueError: an unknown source (the message names the nearest), too many broken files, bad data or
            arguments.
        FileNotFoundError: no such file or data set; the message says what is expected.
    """
    prefix, _, argument = spec.partition(":")
    opener = lookup(MEASUREMENTS, prefix, "source of measurements")
    return opener(argument, make_settings(**options))


def open_npz_measurements(argument: str, settings: Settings) -> ArrayMeasurements:
    """An .npz file with the keys `y`, `operator`, and as needed `sigma_y` and `params/<leaf>`.

    What y holds where the operator hides does not matter, NaN included: it is set to 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing key, shapes that do not fit the operator, values that are not finite where the
            operator sees; objects (nothing is ever unpickled).
    """
    path = existing_file(argument, "npz", "an .npz file with the keys 'y' and 'operator'")
    where = f"npz:{path}"
    with opened_npz(path) as file:
        for key in ("y", "operator"):
            if key not in file:
                raise ValueError(
                    f"{where}: no key '{key}'; measurements need 'y' and 'operator', it has {', '.join(file)}"
                )
        try:
            arrays = {key: file[key] for key in file}
        except ValueError as error:
            raise ValueError(f"{where}: {error}. Save plain arrays: objects are not read") from error
    spec = parse_spec(where, arrays.pop("operator"))
    operator = build_operator(where, spec)
    _check_rules(where, operator, settings.rules)
    y = _check_y(where, operator, arrays.pop("y"))
    sigma_y = _check_sigma(where, arrays.pop("sigma_y", np.float32(0)), len(y))
    params = read_params(where, operator, arrays, len(y))
    y = _restrict(where, operator, params, to_unit(y))
    return ArrayMeasurements(where, operator, y, params, sigma_y, _report(where, len(y), spec))


def open_record_measurements(argument: str, settings: Settings) -> RecordMeasurements:
    """The data set `records:PATH` of measurements, as `jaxdiff.data.convert` writes it.

    Hidden entries were made 0 when it was written; the first `LOOKED_AT` records are looked at to be sure.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: it holds images; its records do not fit its operator, or are not 0 where it hides; or as
            `records.open_records`.
    """
    records = open_records(argument)
    require_kind(records, "measurements")
    where, metadata = f"records:{records.path}", records.metadata
    spec = metadata.get("operator")
    if not isinstance(spec, Mapping):
        raise ValueError(f"{where}: metadata.json has no operator")
    operator = build_operator(where, spec)
    _check_rules(where, operator, settings.rules)
    report = {
        **_report(where, len(records), dict(spec)),
        "pixels": metadata.get("pixels", "as measured"),
        "converted_from": metadata.get("source", ""),
    }
    source = RecordMeasurements(where, operator, records, report)
    try:
        first = source.gather(range(min(LOOKED_AT, len(source))))
    except OSError as error:
        raise ValueError(str(error)) from error
    if not np.array_equal(_restrict(where, operator, first.params, first.y), first.y):
        raise ValueError(f"{where}: y is not 0 where {operators.describe(operator)} hides")
    return source


MEASUREMENTS: dict[str, Callable[[str, Settings], MeasurementSource]] = {
    "folder": lambda argument, settings: open_masked(folder_files(argument), settings),
    "zip": lambda argument, settings: open_masked(zip_files(argument), settings),
    "npz": open_npz_measurements,
    "records": open_record_measurements,
}


def _check_rules(where: str, operator: LinearOperator, rules: PixelRules) -> None:
    shape = operator.in_shape
    if rules.image_size not in (None, shape[:2]) or rules.channels not in (None, shape[-1]):
        raise ValueError(
            f"{where}: measurements of {'x'.join(map(str, shape))} images by {operators.describe(operator)} "
            f"cannot be made {rules.describe()}: leave image_size and channels out"
        )


def _check_y(where: str, operator: LinearOperator, y: np.ndarray) -> np.ndarray:
    if y.ndim == 0 or len(y) == 0 or y.shape[1:] != operator.out_shape:
        wanted = ", ".join(map(str, operator.out_shape))
        raise ValueError(
            f"{where}: y must have shape (n, {wanted}) by {operators.describe(operator)}, got {y.shape}"
        )
    if y.dtype != np.uint8 and y.dtype.kind != "f":
        raise ValueError(f"{where}: y must be uint8 (0..255) or floats (images in [-1, 1]), got {y.dtype}")
    return y


def _check_sigma(where: str, sigma_y: np.ndarray, n: int) -> np.ndarray:
    sigma_y = np.asarray(sigma_y)
    if sigma_y.dtype.kind not in "iuf" or sigma_y.shape not in ((), (1,), (n,)):
        raise ValueError(f"{where}: sigma_y must be one number or ({n},), got {sigma_y.shape}")
    if not (np.isfinite(sigma_y).all() and (sigma_y >= 0).all()):
        raise ValueError(f"{where}: sigma_y must be finite and not negative")
    return np.broadcast_to(sigma_y.astype(np.float32), (n,)).copy()


_restrict_chunk = jax.jit(lambda operator, y: operator.restrict(y))


def _restrict(where: str, operator: LinearOperator, params: Any, y: np.ndarray) -> np.ndarray:
    """y with 0 where the operator hides."""
    n, result = len(y), np.empty_like(y)
    for start in range(0, n, CHUNK):
        take = np.minimum(np.arange(start, start + min(CHUNK, n)), n - 1)  # the last chunk is filled up
        chunk_params = jax.tree.map(lambda leaf, take=take: leaf[take], params)
        chunk = np.asarray(_restrict_chunk(operator.with_params(chunk_params), y[take]))[: n - start]
        result[start : start + len(chunk)] = chunk
    bad = ~np.isfinite(result)
    if bad.any():
        example = int(np.argmax(bad.reshape(n, -1).any(axis=1)))
        raise ValueError(
            f"{where}: y has {np.count_nonzero(bad)} values that are not finite where the operator sees, the "
            f"first of them in example {example}"
        )
    return result


def _report(where: str, count: int, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": where,
        "found": count,
        "used": count,
        "skipped": 0,
        "pixels": "as measured",
        "operator": spec,
    }


def holds_measurements(spec: str) -> bool:
    """Whether there are measurements at `spec`: mask files beside images, an operator in the .npz file, or
    records of measurements. Images with transparency alone are taken for images.

    Raises:
        ValueError, FileNotFoundError: as the openers.
    """
    prefix, _, argument = spec.partition(":")
    if prefix in ("folder", "zip"):
        return bool((folder_files if prefix == "folder" else zip_files)(argument).masks)
    if prefix == "npz":
        with opened_npz(existing_file(argument, "npz", "an .npz file")) as file:
            return "operator" in file
    return prefix == "records" and open_records(Path(argument)).metadata["kind"] == "measurements"
