"""Features of the FID Inception network, from uint8 images.

    python -m jaxdiff.evaluation.inception convert WEIGHTS OUT

makes the weight file that `inception_features` reads out of a public one (docs/quality.md). The preprocessing is one
of three by name, since each is what some published numbers were computed with:

| resize | grid and antialiasing | fed to the network | as in |
|---|---|---|---|
| 'bilinear' | pixel centers, none | x / 127.5 - 1 | pytorch-fid |
| 'bilinear_tf1' | pixel i at i H / 299, none | (x - 128) / 128 | the graph itself, torch-fidelity |
| 'bicubic_antialias' | pixel centers, antialiased | (x - 128) / 128 | clean-fid |

Images are made 299 x 299 without regard to their aspect; gray ones are repeated to 3 channels.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.evaluation.features import FeatureExtractor, map_batches
from jaxdiff.evaluation.inception_convert import convert_weights
from jaxdiff.evaluation.inception_network import CLASSES, FEATURES, InceptionV3
from jaxdiff.evaluation.inception_weights import (
    TENSORFLOW_FILE,
    TORCH_FILE,
    load_weights,
)
from jaxdiff.registry import lookup

SIZE = 299
OUTPUTS = {"features": FEATURES, "logits": CLASSES}
EXAMPLES = f"""examples:
  python -m jaxdiff.evaluation.inception convert {TORCH_FILE} inception.npz      (needs the [fid] extra)
  python -m jaxdiff.evaluation.inception convert {TENSORFLOW_FILE} inception.npz

Exit code 0: done; 2: nothing was written, and why."""


class Preprocessing(NamedTuple):
    """values -> (resize(values) - shift) / scale, and what to write down about it."""

    resize: Callable[[jax.Array, int], jax.Array]  # float (B, H, W, C), size -> (B, size, size, C)
    shift: float
    scale: float
    grid: str
    antialias: bool


def inception_features(
    weights_path: str | Path,
    resize: str = "bilinear",
    output: str = "features",
    batch_size: int = 32,
    progress: bool = True,
) -> FeatureExtractor:
    """Pool features (d = 2048) or logits (d = 1008) of the FID Inception network.

    Args:
        weights_path: what `python -m jaxdiff.evaluation.inception convert` has written.
        resize: 'bilinear', 'bilinear_tf1' or 'bicubic_antialias', see the top of this file. Numbers with
          different ones must not be compared.
        output: 'features' for distances; 'logits' for the Inception score.
        batch_size: images at a time; changes speed and memory, not the result.
        progress: show a bar where there is more than one batch.

    Returns:
        An extractor that takes uint8 (N, H, W, C) with C 1 or 3, of any size.

    Raises:
        FileNotFoundError: no weights; the message says which public file to convert, and how.
        ValueError: an unknown resize or output, or a file that does not hold these weights.
    """
    how = lookup(PREPROCESSINGS, resize, "resize")
    dimension = lookup(OUTPUTS, output, "output")
    weights = load_weights(weights_path)
    variables = jax.device_put(weights.variables)
    index = list(OUTPUTS).index(output)

    # The weights are arguments: as constants they would be compiled into the program, once for each image size.
    @jax.jit
    def one_batch(variables: dict, images: jax.Array) -> jax.Array:
        return InceptionV3().apply(variables, preprocess(images, how))[index]

    def features(images: np.ndarray) -> np.ndarray:
        channels = np.shape(images)[-1] if np.ndim(images) == 4 else None
        if channels not in (None, 1, 3):
            raise ValueError(f"Inception takes images of 1 or 3 channels, got {channels}")
        name = "inception" if progress else None
        return map_batches(lambda batch: one_batch(variables, batch), images, batch_size, name)

    recorded = {
        "network": "inception-2015-12-05",
        "output": output,
        "weights_sha256": weights.sha256,
        "resize": resize,
        "size": SIZE,
        "grid": how.grid,
        "antialias": how.antialias,
        "values": f"(x - {how.shift:g}) / {how.scale:g}",
        "gray": "repeated to 3 channels",
        "precision": "float32",
    }
    name = "inception_v3" if output == "features" else f"inception_v3_{output}"
    return FeatureExtractor(name, dimension, recorded, features)


def preprocess(images: jax.Array, how: Preprocessing, size: int = SIZE) -> jax.Array:
    """uint8 (B, H, W, 1 or 3) -> float32 (B, size, size, 3), in about [-1, 1]."""
    values = (how.resize(images.astype(jnp.float32), size) - how.shift) / how.scale
    return jnp.broadcast_to(values, (*values.shape[:3], 3))


def resize_bilinear(images: jax.Array, size: int) -> jax.Array:
    """Between the two nearest pixel centers: output pixel i lies at (i + 1/2) H / size - 1/2, inside [0, H - 1]."""
    return jax.image.resize(images, _resized(images, size), "linear", antialias=False)


def resize_bilinear_tf1(images: jax.Array, size: int) -> jax.Array:
    """Output pixel i lies at i H / size: TensorFlow 1's ResizeBilinear with align_corners = False.

    The picture comes out shifted up and left by half an output pixel less half an input pixel, which is a part
    of what the reference numbers measure.
    """
    _, height, width, _ = images.shape
    return jnp.einsum(
        "ih,jw,bhwc->bijc",
        _tf1_weights(height, size),
        _tf1_weights(width, size),
        images,
        precision=jax.lax.Precision.HIGHEST,
    )


def resize_bicubic_antialias(images: jax.Array, size: int) -> jax.Array:
    """Keys' cubic with a = -1/2, widened where it shrinks, as in Pillow; floats, neither rounded nor clipped."""
    return jax.image.resize(images, _resized(images, size), "cubic", antialias=True)


PREPROCESSINGS = {
    "bilinear": Preprocessing(resize_bilinear, 127.5, 127.5, "pixel centers", False),
    "bilinear_tf1": Preprocessing(resize_bilinear_tf1, 128.0, 128.0, "pixel corners", False),
    "bicubic_antialias": Preprocessing(resize_bicubic_antialias, 128.0, 128.0, "pixel centers", True),
}


def _resized(images: jax.Array, size: int) -> tuple[int, int, int, int]:
    return images.shape[0], size, size, images.shape[3]


def _tf1_weights(length: int, size: int) -> np.ndarray:
    """(size, length): row i interpolates at i length / size; float32 throughout, as the original computes it."""
    place = np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size))
    low = np.floor(place).astype(int)
    fraction = place - low.astype(np.float32)
    weights = np.zeros((size, length), np.float32)
    rows = np.arange(size)
    np.add.at(weights, (rows, np.minimum(low, length - 1)), 1 - fraction)
    np.add.at(weights, (rows, np.minimum(low + 1, length - 1)), fraction)
    return weights


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 wrong input, 130 interrupted)."""
    options = _parser().parse_args(arguments)
    try:
        with Console(stderr=True).status(f"reading {options.weights}"):
            report = convert_weights(options.weights, options.out)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    print(
        f"{options.out}: {report.tensors} tensors mapped, none missing, none left over; "
        f"{report.parameters:,} numbers, sha256 {report.sha256}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.evaluation.inception",
        description="Weights of the Inception network of the Frechet inception distance.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert = parser.add_subparsers(required=True, metavar="convert").add_parser(
        "convert",
        help="a public weight file -> the .npz that inception_features reads",
        description="Map a public weight file to ours, checking the name and shape of every array.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("weights", metavar="WEIGHTS", help=f"{TORCH_FILE} or {TENSORFLOW_FILE}")
    convert.add_argument("out", metavar="OUT", help="file to write (.npz); nothing is ever overwritten")
    return parser


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # nothing here is worth an accelerator's memory
    sys.exit(main())
