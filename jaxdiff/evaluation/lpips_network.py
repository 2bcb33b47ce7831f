"""The two networks of LPIPS as lists of layers, and their features: pure functions of (weights, images).

    AlexNet (one GPU's half; Krizhevsky 2014, arXiv 1404.5997), VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556)

without their classifiers, as torchvision has them. Five rectified layers are looked at (`Tap`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

# LPIPS's own: of images in [-1, 1], red, green, blue
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
TAPS = 5


class Conv(NamedTuple):
    """Convolution with a bias, then a rectifier."""

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


class Pool(NamedTuple):
    """The largest of each whole square window, every second one."""

    size: int


class Tap(NamedTuple):
    """What the layer before gives is one of the features."""


Layers = tuple[Conv | Pool | Tap, ...]

NETWORKS: dict[str, Layers] = {
    "alex": (
        *(Conv(64, 11, 4, 2), Tap(), Pool(3)),
        *(Conv(192, 5, 1, 2), Tap(), Pool(3)),
        *(Conv(384), Tap(), Conv(256), Tap(), Conv(256), Tap()),
    ),
    "vgg": (
        *(Conv(64), Conv(64), Tap(), Pool(2)),
        *(Conv(128), Conv(128), Tap(), Pool(2)),
        *(Conv(256), Conv(256), Conv(256), Tap(), Pool(2)),
        *(Conv(512), Conv(512), Conv(512), Tap(), Pool(2)),
        *(Conv(512), Conv(512), Conv(512), Tap()),
    ),
}


class Named(NamedTuple):
    """A convolution, how many channels it takes, and its place in torchvision's list, where rectifiers count."""

    conv: Conv
    channels: int
    place: int


def convolutions(layers: Layers) -> list[Named]:
    """The convolutions in their order."""
    found, channels, place = [], 3, 0
    for layer in layers:
        if isinstance(layer, Conv):
            found.append(Named(layer, channels, place))
            channels, place = layer.features, place + 2
        elif isinstance(layer, Pool):
            place += 1
    return found


def weight_shapes(layers: Layers) -> dict[str, tuple[int, ...]]:
    """Shape of every array by name: 'convI/kernel' (h, w, in, out), 'convI/bias' (out,), 'linK' (channels,)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (conv, channels, _) in enumerate(convolutions(layers)):
        shapes[f"conv{index}/kernel"] = (conv.kernel, conv.kernel, channels, conv.features)
        shapes[f"conv{index}/bias"] = (conv.features,)
    before = [one for one, after in zip(layers, layers[1:], strict=False) if isinstance(after, Tap)]
    return shapes | {f"lin{index}": (layer.features,) for index, layer in enumerate(before)}


def least_side(layers: Layers) -> int:
    """The smallest side of an image of which every layer still gives a pixel."""
    side = 1
    for layer in reversed(layers):
        if isinstance(layer, Conv):
            side = max((side - 1) * layer.stride + layer.kernel - 2 * layer.padding, 1)
        elif isinstance(layer, Pool):
            side = (side - 1) * 2 + layer.size
    return side


def features(layers: Layers, weights: Mapping[str, jax.Array], images: jax.Array) -> list[jax.Array]:
    """What the taps give: images (B, H, W, 3) in [-1, 1] -> TAPS arrays (B, h, w, channels), none below 0."""
    x, taps, index = (images - jnp.array(SHIFT)) / jnp.array(SCALE), [], 0
    for layer in layers:
        if isinstance(layer, Tap):
            taps.append(x)
        elif isinstance(layer, Pool):
            window, stride = (1, layer.size, layer.size, 1), (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, "VALID")
        else:
            x = jax.lax.conv_general_dilated(
                x,
                weights[f"conv{index}/kernel"],
                (layer.stride, layer.stride),
                [(layer.padding, layer.padding)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision=jax.lax.Precision.HIGHEST,  # accelerators would round the products
            )
            x = jax.nn.relu(x + weights[f"conv{index}/bias"])
            index += 1
    return taps
