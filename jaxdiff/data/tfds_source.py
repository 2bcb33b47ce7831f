"""Sources prepared by TensorFlow Datasets in the ArrayRecord format; read without TensorFlow.

The prepared directory `data_dir/name/[config/]version` is opened as it lies on disk: nothing is downloaded,
and the data set need not be one that TFDS knows.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.data.arrays import ArraySource
from jaxdiff.data.encoded import Encoded, EncodedSource, open_decoded
from jaxdiff.data.pixels import Settings, decode
from jaxdiff.registry import lookup, nearest

DEFAULT_DIR = "~/tensorflow_datasets"


def open_tfds(argument: str, settings: Settings) -> ArraySource | EncodedSource:
    """`name[/config][:version]`, the newest version where none is given.

    It is looked for in `settings.data_dir`, else in $TFDS_DATA_DIR, else in ~/tensorflow_datasets. The labels
    are those of its class label, where it has one.

    Raises:
        FileNotFoundError: it has not been prepared; the message says how to.
        ValueError: another file format than ArrayRecord, no such version or split, no image in the examples.
    """
    name, _, version = argument.partition(":")
    if not name:
        raise ValueError("data source 'tfds' needs a name, tfds:NAME or tfds:NAME:VERSION")
    root = Path(settings.data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DIR).expanduser()
    directory = find_version(root, name, version)

    import tensorflow_datasets as tfds

    where = f"tfds:{name}:{directory.name}"
    _refuse_other_classes(where, directory / "features.json")
    with _damage_named(where, directory):
        builder = tfds.builder_from_directory(directory)
        splits, features = builder.info.splits, builder.info.features  # read when they are first asked for
    if builder.info.file_format.value != "array_record":
        raise ValueError(
            f"{where}: {directory} holds '{builder.info.file_format.value}' files, which have no random "
            f"access. Prepare it again:\n{how_to_prepare(name)}"
        )
    lookup(splits, re.split(r"[\[+]", settings.split)[0], f"split of {where}")
    key = _image_key(tfds, where, features)
    label = _label_key(tfds, features)
    with _damage_named(where, directory):
        records = builder.as_data_source(split=settings.split, decoders={key: tfds.decode.SkipDecoding()})
        names = [f"{name}/{settings.split}[{i}]" for i in range(len(records))]
    if not names:
        raise ValueError(f"{where}: the split '{settings.split}' has no examples")
    labels = None if label is None else np.zeros(len(names), np.int64)

    def read(i: int) -> bytes:
        record = records[i]
        if labels is not None:  # known once the opener has read every image
            labels[i] = record[label]
        return record[key]

    encoded = Encoded(f"{where}:{settings.split}", names, read, {"directory": str(directory)})
    source, positions = open_decoded(encoded, settings, lambda i, rules: decode(read(i), rules))
    source.labels = None if labels is None else labels[positions]
    return source


@contextmanager
def _damage_named(where: str, directory: Path) -> Iterator[None]:
    """TFDS and the readers under it raise whatever they like on damaged files: a ValueError that says where."""
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{where}: {directory} is damaged or not as asked for ({reason})") from error


def _refuse_other_classes(where: str, path: Path) -> None:
    """TFDS imports the modules that features.json names; only its own may be named.

    Raises:
        ValueError: another class is named, or the file is no JSON.
    """

    def named(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (
                str(value[key]) for key in ("pythonClassName", "type") if isinstance(value.get(key), str)
            )
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from named(part)

    try:
        found = list(named(json.loads(path.read_text())))
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{where}: {path} is damaged or missing ({error})") from error
    for name in found:
        if "." in name and not name.startswith("tensorflow_datasets."):
            raise ValueError(
                f"{where}: {path} names the class '{name}', which is not of TFDS: it is not imported"
            )


def find_version(root: Path, name: str, version: str = "") -> Path:
    """The directory of a prepared data set, of its newest version where none is asked for.

    Raises:
        FileNotFoundError: no prepared data set of this name.
        ValueError: there is one, in other versions.
    """
    versions = {info.parent.name: info.parent for info in (root / name).glob("*/dataset_info.json")}
    if not versions:
        prepared = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        guess = nearest(name, prepared)
        hint = f" Did you mean 'tfds:{guess}'?" if guess else ""
        raise FileNotFoundError(
            f"tfds:{name}: no prepared data set in '{root / name}' (data_dir, or TFDS_DATA_DIR).{hint} "
            f"To get it:\n{how_to_prepare(name)}"
        )
    if version:
        return lookup(versions, version, f"version of tfds:{name}")
    return versions[max(versions, key=lambda v: [int(part) for part in re.findall(r"\d+", v)])]


def how_to_prepare(name: str) -> str:
    """What to type to get a data set: by TFDS (needs TensorFlow this once), or without it."""
    lines = [
        '  pip install -e ".[prepare]"',
        f"  python -c \"import tensorflow_datasets as tfds; tfds.builder('{name}')"
        ".download_and_prepare(file_format='array_record')\"",
    ]
    if name == "celeb_a":
        lines.append(
            "or, without TensorFlow, download img_align_celeba.zip and use --config.data.source=zip:PATH"
        )
    lines.append("or use any folder of images: --config.data.source=folder:PATH")
    return "\n".join(lines)


def _label_key(tfds, features) -> str | None:
    """The one class label of an example; None where there is none, or more than one."""
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    return "label" if "label" in keys else keys[0] if len(keys) == 1 else None


def _image_key(tfds, where: str, features) -> str:
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise ValueError(f"{where}: expected one image in each example; it has {', '.join(features)}")
    return keys[0]
