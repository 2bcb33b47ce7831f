"""Make a data set of records out of image files, measurements, or a TFDS data set.

    python -m jaxdiff.data.convert INPUT OUTPUT [options]

Every example is brought to one shape and written to ArrayRecord files that give it back without decoding:
`records:OUTPUT`. Broken files and, where no --image_size is set, those of another size than most
are left out; each is named with its reason, here and in OUTPUT/metadata.json.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from rich.text import Text

from jaxdiff.data.measured import MEASUREMENTS, MeasurementSource, holds_measurements
from jaxdiff.data.pixels import Settings, make_settings
from jaxdiff.data.records import SHARD_SIZE, require_absent, write_records
from jaxdiff.data.source_options import add_pixel_options, chosen
from jaxdiff.data.sources import SOURCES, Source
from jaxdiff.data.stored_operator import params_by_name
from jaxdiff.registry import lookup

READ = 256  # examples read at a time
EXAMPLES = """examples:
  python -m jaxdiff.data.convert zip:img_align_celeba.zip celeba64 --image_size 64
  python -m jaxdiff.data.convert folder:photographs photographs128 --image_size 128 --channels 1
  python -m jaxdiff.data.convert folder:scratched scratched64 --image_size 64   (name.png and name.mask.png)
  python -m jaxdiff.data.convert folder:cutouts cutouts64 --image_size 64 --kind measurements  (transparency)
  python -m jaxdiff.data.convert npz:scanner.npz scanner
  python -m jaxdiff.data.convert tfds:celeb_a celeba64 --image_size 64 --split 'train[:1000]'

Then use records:OUTPUT wherever the data set is named. Exit code 0: done; 2: nothing was written, and why."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 wrong input, 130 interrupted)."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        settings = make_settings(**chosen(options), max_bad_share=options.max_bad_share)
        settings = settings._replace(skip_odd_sizes=settings.rules.image_size is None)
        metadata = convert(
            options.input, options.output, settings, options.kind, options.shard_size, options.limit
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    _print_summary(console, options.output, metadata)
    return 0


def convert(
    spec: str,
    output: str | Path,
    settings: Settings,
    kind: str = "auto",
    shard_size: int = SHARD_SIZE,
    limit: int | None = None,
) -> dict[str, Any]:
    """Write the examples of `spec` as records.

    Args:
        spec: a source as of `sources.open_source` or `measured.open_measurements`.
        output: directory to make; it must not exist.
        settings: the rules of the pixels, and what to do with files that do not fit.
        kind: 'images', 'measurements', or 'auto': measurements where `holds_measurements` finds some.
        shard_size: largest number of records in one file.
        limit: write only the first that can be used, at most this many; None: all.

    Returns:
        The metadata as written.

    Raises:
        FileExistsError: there is something at `output`.
        ValueError, OSError: as the source's opener; nothing is written.
    """
    require_absent(Path(output).expanduser())
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if kind == "auto":
        kind = "measurements" if holds_measurements(spec) else "images"
    prefix, _, argument = spec.partition(":")
    if kind == "measurements":
        measured = lookup(MEASUREMENTS, prefix, "source of measurements")(argument, settings)
        count = min(len(measured), limit or len(measured))
        metadata, examples = {"dtype": "float32"}, _measurements(measured, count)
        source: MeasurementSource | Source = measured
    else:
        images = lookup(SOURCES, prefix, "data source")(argument, settings)
        count = min(len(images), limit or len(images))
        labels = None if images.labels is None else images.labels[:count].tolist()
        dtype = images.gather_pixels([0]).dtype.name
        metadata, examples = {"dtype": dtype, "labels": labels}, _images(images, count)
        source = images
    metadata = {"kind": kind, "shape": list(source.shape), **metadata, **_provenance(source.report)}
    return write_records(
        output,
        track(examples, total=count, description=f"writing {escape(str(output))}"),
        metadata,
        shard_size,
    )


def _images(source: Source, count: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, count, READ):
        for pixels in source.gather_pixels(np.arange(start, min(start + READ, count))):
            yield {"x": pixels}


def _measurements(source: MeasurementSource, count: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, count, READ):
        measurement = source.gather(np.arange(start, min(start + READ, count)))
        arrays = {"y": measurement.y, "sigma_y": measurement.sigma_y, **params_by_name(measurement.params)}
        for i in range(len(measurement.y)):
            yield jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), arrays)


def _provenance(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the metadata keep of a source's report."""
    return {
        "operator": report.get("operator"),
        "source": report["source"],
        "pixels": report["pixels"],
        "found": report["found"],
        "skipped": report["skipped"],
        "skipped_by_reason": report.get("skipped_by_reason", {}),
        "skipped_files": report.get("skipped_files", []),
    }


def _print_summary(console: Console, output: str, metadata: Mapping[str, Any]) -> None:
    shape = "x".join(map(str, metadata["shape"]))
    table = Table(
        title=Text(f"records:{output}"),
        title_justify="left",
        caption=metadata["pixels"],
        caption_justify="left",
    )
    for column in ("kind", "shape", "found", "written", "skipped", "left out by --limit"):
        table.add_column(column)
    left_out = metadata["found"] - metadata["skipped"] - metadata["count"]
    numbers = (metadata[key] for key in ("found", "count", "skipped"))
    table.add_row(metadata["kind"], shape, *map(str, numbers), str(left_out))
    console.print(table)
    if not metadata["skipped"]:
        return
    reasons = "; ".join(f"{count} {reason}" for reason, count in metadata["skipped_by_reason"].items())
    skipped = Table(title=Text(f"skipped: {reasons}"), title_justify="left")
    skipped.add_column("file", overflow="fold")
    skipped.add_column("reason", overflow="fold")
    for name, reason in metadata["skipped_files"]:
        skipped.add_row(Text(name), Text(reason))
    console.print(skipped)
    if metadata["skipped"] > len(metadata["skipped_files"]):
        console.print(f"and {metadata['skipped'] - len(metadata['skipped_files'])} more")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.data.convert",
        description=__doc__.split("\n\n")[0] + "\n\n" + __doc__.split("\n\n")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder:PATH, zip:PATH, npz:PATH, tfds:NAME[:VERSION], or any other")
    add("output", metavar="OUTPUT", help="directory to make; nothing is ever overwritten")
    add_pixel_options(parser, "as they are, odd ones skipped", "1 where every file is gray, 3 otherwise")
    add(
        "--max_bad_share",
        type=float,
        default=1.0,
        help="give up if a larger share of the files is skipped (default: %(default)s, never while one is good)",
    )
    add(
        "--kind",
        choices=("auto", "images", "measurements"),
        default="auto",
        help="auto: measurements where there are mask files or an operator, else images",
    )
    add("--shard_size", type=int, default=SHARD_SIZE, help="records in one file (default: %(default)s)")
    add("--limit", type=int, help="write only the first of the usable examples, at most this many")
    return parser


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # nothing here is worth an accelerator's memory
    sys.exit(main())
