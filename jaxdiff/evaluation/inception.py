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
    """Resized by R_H x R_W^T and clipped to [0, 255]; then (x - shift) / scale; and what to write down about it."""

    weights: Callable[[int, int], np.ndarray]  # length, size -> R, (size, length)
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
    values = (resized(images, how, size) - how.shift) / how.scale
    return jnp.broadcast_to(values, (*values.shape[:3], 3))


def resized(images: jax.Array, how: Preprocessing, size: int = SIZE) -> jax.Array:
    """(B, H, W, C) in [0, 255] -> float32 (B, size, size, C) in [0, 255], which the cubic filter alone would leave.

    The weights are made in NumPy, since `jax.image.resize` computes positions in float32: 0.004 off at 512 pixels.
    """
    _, height, width, _ = images.shape
    rows, columns = (how.weights(length, size).astype(np.float32) for length in (height, width))
    highest = jax.lax.Precision.HIGHEST
    values = jnp.einsum("ih,bhwc->biwc", rows, images.astype(jnp.float32), precision=highest)
    values = jnp.einsum("jw,biwc->bijc", columns, values, precision=highest)
    return jnp.clip(values, 0, 255)


def bilinear_weights(length: int, size: int) -> np.ndarray:
    """Output pixel i lies at (i + 1/2) length / size - 1/2, inside [0, length - 1]: pixel centers."""
    return _between_neighbors((np.arange(size) + 0.5) * length / size - 0.5, length)


def bilinear_tf1_weights(length: int, size: int) -> np.ndarray:
    """Output pixel i lies at i length / size: TensorFlow 1's ResizeBilinear with align_corners = False.

    The picture comes out shifted against that of pixel centers, which is a part of what the reference numbers
    measure. The position is a float32, as in the original.
    """
    return _between_neighbors(
        np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size)), length
    )


def bicubic_antialias_weights(length: int, size: int) -> np.ndarray:
    """Keys' cubic with a = -1/2 around pixel centers, wider where the image shrinks; as in Pillow."""
    stretch = max(length / size, 1.0)
    centers = (np.arange(size) + 0.5) * length / size
    x = np.abs(np.arange(length) + 0.5 - centers[:, None]) / stretch
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


PREPROCESSINGS = {
    "bilinear": Preprocessing(bilinear_weights, 127.5, 127.5, "pixel centers", False),
    "bilinear_tf1": Preprocessing(bilinear_tf1_weights, 128.0, 128.0, "pixel corners", False),
    "bicubic_antialias": Preprocessing(bicubic_antialias_weights, 128.0, 128.0, "pixel centers", True),
}


def _between_neighbors(place: np.ndarray, length: int) -> np.ndarray:
    """(len(place), length): row i interpolates linearly at place[i], constant outside of [0, length - 1]."""
    place = np.clip(place, 0, length - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(length)), 0)


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
