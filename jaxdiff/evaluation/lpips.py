"""LPIPS: how different two images look to a network that was trained to recognise things.

    d(x, x') = sum_k mean over pixels of w_k . (f_k(x) / |f_k(x)| - f_k(x') / |f_k(x')|)^2

f_k the features of five layers of AlexNet or VGG16, |.| over channels, w_k >= 0 fitted to what people judged
(Zhang et al. 2018, arXiv 1801.03924; version 0.1). 0 for equal images; lower is more alike.

    python -m jaxdiff.evaluation.lpips convert alex NETWORK.pth LINEAR.pth OUT.npz

makes the weight file out of two public ones (docs/quality.md). Images are taken as they are, not resized; gray ones
are repeated to 3 channels.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.evaluation.lpips_network import (
    NETWORKS,
    TAPS,
    Layers,
    convolutions,
    features,
    least_side,
    weight_shapes,
)
from jaxdiff.evaluation.weight_file import (
    Arrays,
    Layout,
    Summary,
    digest,
    read_torch,
    read_weights,
    renamed,
    save_weights,
)
from jaxdiff.registry import lookup

EPSILON = 1e-10
FILES = {
    "alex": ("alexnet-owt-7be5be79.pth", "alex.pth"),
    "vgg": ("vgg16-397923af.pth", "vgg.pth"),
}
HOW_TO_GET = (
    "download {0} (torchvision's, download.pytorch.org/models) and {1} (in lpips/weights/v0.1 of "
    "github.com/richzhang/PerceptualSimilarity), then: "
    "python -m jaxdiff.evaluation.lpips convert {name} {0} {1} {path}"
)
EXAMPLES = f"""examples (they need the [fid] extra, PyTorch, once):
  python -m jaxdiff.evaluation.lpips convert alex {FILES["alex"][0]} {FILES["alex"][1]} lpips_alex.npz
  python -m jaxdiff.evaluation.lpips convert vgg {FILES["vgg"][0]} {FILES["vgg"][1]} lpips_vgg.npz

Exit code 0: done; 2: nothing was written, and why."""


class Lpips(NamedTuple):
    """The measure, `distance(truth, restored)`: (n, H, W, C) twice, C 1 or 3, in [-1, 1] -> (n,), float64."""

    network: str
    least_side: int  # of images
    weights_sha256: str  # of names, shapes and values
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]


def open_lpips(spec: str, batch: int = 32) -> Lpips:
    """LPIPS of 'alex:FILE' or 'vgg:FILE', a weight file that `convert` has written.

    Args:
        spec: the network and its weights.
        batch: images at a time; changes speed and memory, not the result.

    Raises:
        FileNotFoundError: there is no such file; the message says which public ones to convert, and how.
        ValueError: an unknown network, no path, or not such a file.
    """
    name, _, path = spec.partition(":")
    lookup(NETWORKS, name, "LPIPS network")
    if not path:
        raise ValueError(f"LPIPS needs a weight file, {name}:FILE")
    shapes = weight_shapes(NETWORKS[name])
    arrays = read_weights(path, shapes, f"LPIPS ({name})", _how_to_get(name))
    weights = jax.device_put(arrays)
    layers = NETWORKS[name]
    one_batch = jax.jit(partial(lpips_distance, layers))

    def distance(truth: np.ndarray, restored: np.ndarray) -> np.ndarray:
        if truth.shape != restored.shape:
            raise ValueError(f"lpips: needs the same images twice, got {truth.shape} and {restored.shape}")
        check_images(truth.shape, measure)
        found = []
        for start in range(0, len(truth), batch):
            pair = [images[start : start + batch].astype(np.float32) for images in (truth, restored)]
            missing = batch - len(pair[0])  # filled up, or the last batch would be compiled for itself
            filled = [np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), "edge") for images in pair]
            found.append(np.asarray(one_batch(weights, *filled), np.float64)[: len(pair[0])])
        return np.concatenate(found)

    measure = Lpips(name, least_side(layers), digest(arrays), distance)  # `distance` looks at its least_side
    return measure


def lpips_distance(
    layers: Layers, weights: Mapping[str, jax.Array], x: jax.Array, other: jax.Array
) -> jax.Array:
    """d of every pair: (B, H, W, 1 or 3) twice, in [-1, 1] -> (B,)."""
    total = jnp.zeros(x.shape[0])
    pair = [jnp.broadcast_to(images, (*images.shape[:3], 3)) for images in (x, other)]
    for index, (f, g) in enumerate(zip(*(features(layers, weights, images) for images in pair), strict=True)):
        squares = jnp.square(_unit(f) - _unit(g))
        total += jnp.mean(squares @ weights[f"lin{index}"], axis=(1, 2))
    return total


def _unit(f: jax.Array) -> jax.Array:
    """f / (|f| + EPSILON) over channels, with |f| = 0 where f is."""
    return f / (jnp.sqrt(jnp.sum(jnp.square(f), axis=-1, keepdims=True)) + EPSILON)


def check_images(shape: tuple[int, ...], measure: Lpips) -> None:
    """Raise a ValueError unless images of this shape can be compared."""
    if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape:
        raise ValueError(f"LPIPS takes images (n, H, W, 1 or 3), got {shape}")
    if min(shape[1:3]) < measure.least_side:
        raise ValueError(
            f"LPIPS ({measure.network}) takes images of {measure.least_side} pixels a side and more, "
            f"these have {shape[1]}x{shape[2]}"
        )


def convert_weights(name: str, network: str | Path, linear: str | Path, output: str | Path) -> Summary:
    """Read the two public files, check every array, write our .npz; returns what was mapped.

    Args:
        name: 'alex' or 'vgg'.
        network: torchvision's AlexNet or VGG16, .pth; its classifier is left out.
        linear: LPIPS's own weights (version 0.1) for that network, .pth.
        output: the file to write; it must not exist.

    Raises:
        FileNotFoundError, FileExistsError: no source; something at `output`.
        ModuleNotFoundError: PyTorch is not installed.
        ValueError: a damaged file; arrays that are missing, left over, of another shape or not finite.
    """
    network, linear, output = (Path(path).expanduser() for path in (network, linear, output))
    for source in (network, linear):
        if not source.is_file():
            raise FileNotFoundError(f"no file {source}; {_how_to_get(name, output)}")
    if output.exists():
        raise FileExistsError(f"{output} exists; nothing is overwritten")
    state, lins = read_torch(network), read_torch(linear)
    return save_weights(output, from_torch(name, state, lins, f"{network} with {linear}"))


def from_torch(
    name: str,
    state: Mapping[str, np.ndarray],
    lins: Mapping[str, np.ndarray],
    where: str | Path = "state dicts",
) -> Arrays:
    """Our arrays from the two state dicts, torchvision's and LPIPS's.

    Convolutions turn from (out, in, h, w) to (h, w, in, out), LPIPS's (1, channels, 1, 1) to (channels,).

    Raises:
        ValueError: arrays are missing, left over, of another shape or not finite; a negative weight of LPIPS.
    """
    layers = lookup(NETWORKS, name, "LPIPS network")
    state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    lins = {key: value.reshape(-1) for key, value in lins.items()}
    arrays = renamed(where, state | lins, _torch_layouts(layers), weight_shapes(layers), f"LPIPS ({name})")
    for index in range(TAPS):
        if arrays[f"lin{index}"].min() < 0:
            raise ValueError(f"{where}: lin{index} has weights below 0; LPIPS's are 0 and above")
    return arrays


def _torch_layouts(layers: Layers) -> dict[str, Layout]:
    layouts = {f"lin{index}": Layout(f"lin{index}.model.1.weight") for index in range(TAPS)}
    for index, (_, _, place) in enumerate(convolutions(layers)):
        layouts[f"conv{index}/kernel"] = Layout(f"features.{place}.weight", (2, 3, 1, 0))
        layouts[f"conv{index}/bias"] = Layout(f"features.{place}.bias")
    return layouts


def _how_to_get(name: str, path: str | Path = "{path}") -> str:
    return HOW_TO_GET.format(*FILES[name], name=name, path=path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 wrong input)."""
    options = _parser().parse_args(arguments)
    try:
        with Console(stderr=True).status(f"reading {options.network}"):
            report = convert_weights(options.name, options.network, options.linear, options.out)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{options.out}: LPIPS ({options.name}), {report.tensors} tensors mapped, none missing, none left over; "
        f"{report.parameters:,} numbers, sha256 {report.sha256}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.evaluation.lpips",
        description="Weights of LPIPS.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert = parser.add_subparsers(required=True, metavar="convert").add_parser(
        "convert",
        help="two public weight files -> the .npz that restore.lpips names",
        description="Map public weights to ours, checking the name and shape of every array.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("name", choices=tuple(NETWORKS), help="of the network")
    convert.add_argument("network", metavar="NETWORK", help=" or ".join(f[0] for f in FILES.values()))
    convert.add_argument("linear", metavar="LINEAR", help=" or ".join(f[1] for f in FILES.values()))
    convert.add_argument("out", metavar="OUT", help="file to write (.npz); nothing is ever overwritten")
    return parser


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # nothing here is worth an accelerator's memory
    sys.exit(main())
