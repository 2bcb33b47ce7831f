"""Examples in ArrayRecord files: random access without decoding; `docs/data.md` has the format word for word.

    PATH/metadata.json          what it is, how many, where it came from, what was left out
    PATH/00000.array_record     the records 0 .. shard_size - 1, one an example
    PATH/00001.array_record     ...

A record is a map from names to arrays in MessagePack, as `flax.serialization.msgpack_serialize` writes it:
`x` for an image, `y`, `sigma_y` and `params/...` for a measurement.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from flax.serialization import msgpack_restore, msgpack_serialize

from jaxdiff.data.pixels import Settings, apply_to_array, to_unit

FORMAT, VERSION = "jaxdiff records", 1
KINDS = ("images", "measurements")
SHARD_SIZE = 10_000
WRITER_OPTIONS = "group_size:1"  # each record compressed (zstd) on its own: one read is one record
READER_OPTIONS = {"max_parallelism": "0"}  # no threads that read ahead


class Records:
    """The records of a data set by index.

    Attributes:
        path: its directory.
        metadata: what `metadata.json` holds.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], shards: Sequence[Path]):
        self.path, self.metadata = path, metadata
        self._records = ArrayRecordDataSource([str(shard) for shard in shards], READER_OPTIONS)

    def __len__(self) -> int:
        return self.metadata["count"]

    def read(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of some examples, stacked along a new first axis; may be called from any thread.

        Args:
            indices: (n,) with n >= 1, each 0 <= i < len(self).

        Raises:
            OSError: a record cannot be read, or differs from the others.
        """
        indices = [int(i) for i in indices]
        try:
            examples = [msgpack_restore(record) for record in self._records.__getitems__(indices)]
            return {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        except Exception as error:  # the reader raises whatever its C++ side does
            raise OSError(f"records:{self.path}: cannot read examples {indices[:5]}...: {error}") from error


class RecordImages:
    """Clean images out of records; see `sources.Source`."""

    def __init__(self, name: str, records: Records, settings: Settings):
        self.name, self._records, self._rules = name, records, settings.rules
        labels = records.metadata.get("labels")
        self.labels = None if labels is None else np.asarray(labels, np.int64)
        if self.labels is not None and self.labels.shape != (len(records),):
            raise ValueError(f"{name}: {self.labels.shape} labels for {len(records)} images")
        try:
            self.shape: tuple[int, ...] = self.gather_pixels([0]).shape[1:]
        except OSError as error:
            raise ValueError(str(error)) from error
        steps = [records.metadata.get("pixels", "as they are"), self._rules.describe()]
        steps = [step for step in steps if step != "as they are"]
        self.report = {
            "source": name,
            "found": len(records),
            "used": len(records),
            "skipped": 0,
            "pixels": "; then ".join(steps) or "as they are",
            "converted_from": records.metadata.get("source", ""),
        }

    def __len__(self) -> int:
        return len(self._records)

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index, float32 (n, H, W, C) in [-1, 1]."""
        return to_unit(self.gather_pixels(indices))

    def gather_pixels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index as they are kept, uint8 or float32 (n, H, W, C)."""
        if len(indices) == 0:
            return self.gather_pixels([0])[:0]
        return apply_to_array(self._records.read(indices)["x"], self._rules)


def open_record_images(argument: str, settings: Settings) -> RecordImages:
    """The source `records:PATH` of images; a crop or resize is applied whenever an image is read.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: it holds measurements; the first image cannot be read; or as `open_records`.
    """
    records = open_records(argument)
    require_kind(records, "images")
    return RecordImages(f"records:{records.path}", records, settings)


def open_records(argument: str | Path) -> Records:
    """The data set in a directory.

    Raises:
        FileNotFoundError: no such directory, no metadata.json in it, or a shard is missing.
        ValueError: another format or version, a damaged shard, or not as many records as the metadata says.
    """
    path = Path(argument).expanduser()
    if not str(argument):
        raise ValueError("data source 'records' needs a path, records:PATH, a directory with metadata.json")
    if not (path / "metadata.json").is_file():
        raise FileNotFoundError(
            f"records:{path}: no metadata.json there; expected a directory that "
            "`python -m jaxdiff.data.convert INPUT OUTPUT` wrote"
        )
    metadata = _read_metadata(path)
    shards = [path / _shard_name(i) for i in range(len(metadata["shards"]))]
    for shard, count in zip(shards, metadata["shards"], strict=True):
        if not shard.is_file():
            raise FileNotFoundError(f"records:{path}: the shard {shard.name} is missing")
        try:
            found = len(ArrayRecordDataSource(str(shard)))
        except Exception as error:  # as in `Records.read`
            raise ValueError(f"records:{path}: the shard {shard.name} is damaged ({error})") from error
        if found != count:
            raise ValueError(f"records:{path}: {found} records in {shard.name}, the metadata says {count}")
    return Records(path, metadata, shards)


def require_kind(records: Records, kind: str) -> None:
    """Raises ValueError where the records are not of this kind; the message says what they are."""
    if records.metadata["kind"] != kind:
        raise ValueError(f"records:{records.path}: holds {records.metadata['kind']}, {kind} are needed here")


def write_records(
    path: str | Path,
    examples: Iterable[Mapping[str, np.ndarray]],
    metadata: Mapping[str, Any],
    shard_size: int = SHARD_SIZE,
) -> dict[str, Any]:
    """Write a data set; where anything goes wrong, nothing is left.

    It is written into a hidden directory beside `path`, which gets its name when all is there.

    Args:
        path: the directory to make; it must not exist.
        examples: at least one map from names to arrays; all have the same names, shapes and dtypes.
        metadata: for metadata.json; 'kind' is 'images' or 'measurements'. format, version, count and shards
            are added.
        shard_size: largest number of records in one file.

    Returns:
        The metadata as written.

    Raises:
        FileExistsError: there is something at `path`.
        ValueError: no examples, another kind, or examples that differ.
    """
    path = Path(path).expanduser()
    if metadata.get("kind") not in KINDS or shard_size < 1:
        raise ValueError(
            f"records: need a kind of {KINDS} and shard_size >= 1; got {metadata.get('kind')!r}, {shard_size}"
        )
    require_absent(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        shards = _write_shards(partial, examples, shard_size)
        added = {"format": FORMAT, "version": VERSION, "count": sum(shards), "shards": shards}
        written = {**added, **metadata, **added}
        (partial / "metadata.json").write_text(json.dumps(written, indent=1) + "\n")
        require_absent(path)
        partial.rename(path)
    except BaseException:  # an interruption, too
        shutil.rmtree(partial)
        raise
    return written


def require_absent(path: Path) -> None:
    """Raises FileExistsError where there is something at `path`."""
    if os.path.lexists(path):
        raise FileExistsError(f"'{path}' exists; nothing is overwritten: name another output or remove it")


def _write_shards(directory: Path, examples, shard_size: int) -> list[int]:
    shards: list[int] = []
    writer, first = None, None
    try:
        for example in examples:
            layout = {name: (array.shape, array.dtype) for name, array in example.items()}
            first = first or layout
            if layout != first:
                raise ValueError(f"records: example {sum(shards)} is {layout}, the first one is {first}")
            if writer is None or shards[-1] == shard_size:
                if writer is not None:
                    writer.close()
                writer = ArrayRecordWriter(str(directory / _shard_name(len(shards))), WRITER_OPTIONS)
                shards.append(0)
            writer.write(msgpack_serialize(dict(example)))
            shards[-1] += 1
    finally:
        if writer is not None:
            writer.close()
    if not shards:
        raise ValueError("records: there are no examples to write")
    return shards


def _shard_name(number: int) -> str:
    return f"{number:05d}.array_record"


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads((path / "metadata.json").read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"records:{path}: metadata.json is damaged ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"records:{path}: metadata.json does not say format '{FORMAT}'")
    if metadata.get("version") != VERSION:
        raise ValueError(f"records:{path}: version {metadata.get('version')}; this code reads {VERSION}")
    shards = metadata.get("shards")
    counted = isinstance(shards, list) and all(type(size) is int and size >= 0 for size in shards)
    if metadata.get("kind") not in KINDS or not counted or not 0 < sum(shards) == metadata.get("count"):
        raise ValueError(f"records:{path}: metadata.json is damaged (kind, count or shards)")
    return metadata
