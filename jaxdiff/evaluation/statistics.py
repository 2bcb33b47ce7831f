"""Reference statistics: what real images look like to a feature extractor, computed once and kept.

Mean and covariance (and the features themselves, for the measures that need them) with the extractor's name,
dimension and preprocessing: statistics made with one preprocessing are refused for another.

    python -m jaxdiff.evaluation.statistics SOURCE OUT.npz --features classifier:PATH [options]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.data.source_options import add_source_options, open_from_options
from jaxdiff.data.sources import Source
from jaxdiff.evaluation.extractors import EXTRACTORS, open_extractor
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.frechet import Moments, moments
from jaxdiff.evaluation.stored import read_stored, write_stored
from jaxdiff.progress import StageProgress

KIND = "jaxdiff feature statistics"
ABOUT = {
    "extractor": str,
    "dimension": int,
    "preprocessing": dict,
    "count": int,
    "source": str,
    "pixels": str,
}
READ = 512  # images read at a time


class Statistics(NamedTuple):
    """Statistics of the features of one set of images.

    Attributes:
        extractor: name of the extractor.
        preprocessing: of the extractor.
        moments: mean, covariance and count.
        features: (n, d) float32, or None where they were not kept.
        source: name of the data set.
        pixels: what was done to its images before the extractor saw them.
    """

    extractor: str
    preprocessing: dict[str, str | int | float | bool]
    moments: Moments
    features: np.ndarray | None
    source: str
    pixels: str


def source_features(
    source: Source,
    extractor: FeatureExtractor,
    indices: np.ndarray | None = None,
    console: Console | None = None,
) -> np.ndarray:
    """Features of a source's images, or of those at `indices`, as 8-bit images: (n, dimension) float32."""
    indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    features = np.empty((len(indices), extractor.dimension), np.float32)
    with StageProgress(f"features {extractor.name}", len(indices), unit="images", console=console) as bar:
        for start in range(0, len(indices), READ):
            rows = slice(start, start + READ)
            features[rows] = extractor.features(to_bytes(source.gather(indices[rows])))
            bar.update(min(start + READ, len(indices)))
    return features


def statistics_of(
    features: np.ndarray, extractor: FeatureExtractor, source: str, pixels: str, keep_features: bool = False
) -> Statistics:
    """Statistics of features (n, d) that `extractor` made.

    Raises:
        ValueError: fewer than two, another dimension than the extractor's, or values that are not finite.
    """
    if np.ndim(features) != 2 or np.shape(features)[1] != extractor.dimension:
        raise ValueError(
            f"statistics_of: {extractor.name} makes features (n, {extractor.dimension}), got {np.shape(features)}"
        )
    kept = np.asarray(features, np.float32) if keep_features else None
    return Statistics(extractor.name, dict(extractor.preprocessing), moments(features), kept, source, pixels)


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Write statistics to an .npz file, at once."""
    arrays = {"mean": statistics.moments.mean, "covariance": statistics.moments.covariance}
    if statistics.features is not None:
        arrays["features"] = statistics.features
    metadata = {
        "extractor": statistics.extractor,
        "dimension": len(statistics.moments.mean),
        "preprocessing": statistics.preprocessing,
        "count": statistics.moments.count,
        "source": statistics.source,
        "pixels": statistics.pixels,
    }
    write_stored(Path(path).expanduser(), KIND, arrays, metadata)


def load_statistics(path: str | Path, extractor: FeatureExtractor | None = None) -> Statistics:
    """Read statistics; with an extractor, only if they are of its making.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or made by another extractor (see `require_same_extractor`).
    """
    path = Path(path).expanduser()
    arrays, about = read_stored(path, KIND)
    wrong = [name for name, kind in ABOUT.items() if type(about.get(name)) is not kind]
    if wrong:
        raise ValueError(f"{path}: damaged: {wrong[0]} is {about.get(wrong[0])!r}")
    d = about["dimension"]
    shapes = {name: array.shape for name, array in arrays.items()}
    features = arrays.get("features")
    if (shapes.get("mean"), shapes.get("covariance")) != ((d,), (d, d)) or (
        features is not None and features.shape != (about["count"], d)
    ):
        raise ValueError(f"{path}: damaged: arrays {shapes} for dimension {d}, {about['count']} images")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{path}: damaged: {name} holds values that are not finite numbers")
    law = Moments(arrays["mean"], arrays["covariance"], about["count"])
    found = Statistics(
        about["extractor"], about["preprocessing"], law, features, about["source"], about["pixels"]
    )
    if extractor is not None:
        require_same_extractor(found, extractor, str(path))
    return found


def require_same_extractor(
    statistics: Statistics, extractor: FeatureExtractor, where: str = "reference"
) -> None:
    """Statistics and extractor agree in everything that changes a feature.

    Raises:
        ValueError: they do not; the message names each key that differs, with both values.
    """
    stored = {
        "name": statistics.extractor,
        "dimension": len(statistics.moments.mean),
        **statistics.preprocessing,
    }
    wanted = {"name": extractor.name, "dimension": extractor.dimension, **extractor.preprocessing}
    absent = "(absent)"
    different = [
        f"{key}: {stored.get(key, absent)} in the statistics, {wanted.get(key, absent)} in the extractor"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key, absent) != wanted.get(key, absent)
    ]
    if different:
        raise ValueError(f"{where}: made with other features, cannot be compared. {'; '.join(different)}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 wrong input, 130 interrupted)."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.evaluation.statistics",
        description="Mean and covariance of the features of a data set, for the Frechet distance and the others.",
    )
    add_source_options(parser)
    parser.add_argument("output", metavar="OUT.npz", type=Path, help="the file to write")
    known = ", ".join(f"{name}:PATH" for name in sorted(EXTRACTORS))
    parser.add_argument("--features", required=True, help=f"the extractor: {known}")
    parser.add_argument(
        "--keep_features",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="store the features too, for KID, precision, recall, density, coverage (default: yes)",
    )
    parser.add_argument("--limit", type=int, help="only the first images, at most this many")
    options = parser.parse_args(arguments)
    try:
        if options.output.suffix != ".npz":
            raise ValueError(f"the output must end in .npz, got '{options.output}'")
        if options.limit is not None and options.limit < 2:
            raise ValueError(f"--limit must be at least 2, got {options.limit}")
        extractor = open_extractor(options.features)
        source = open_from_options(options)
        count = min(len(source), options.limit or len(source))
        features = source_features(source, extractor, np.arange(count))
        pixels = str(source.report["pixels"])
        found = statistics_of(features, extractor, source.name, pixels, options.keep_features)
        save_statistics(found, options.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    print(
        f"{options.output}: {count} images of {source.name}, {extractor.name}, {extractor.dimension} features"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
