"""Damage that is no linear operator, for simulated sources; computed on the host.

    y_i = damage(x_i; u_i),   u_i a draw that depends on the seed and on the example's index i only

* `jpeg(quality)`: through a baseline JPEG file of that quality (1..95, PIL's scale; colours at half
  resolution, 4:2:0).
* `quantize(levels)`: each channel rounded to the nearest of `levels` equally spaced values, both ends included.
* `unknown_blur(std_min, std_max)`: a Gaussian blur whose standard deviation, uniform in [std_min, std_max]
  pixels and drawn for each example, is written down nowhere; the image is mirrored at its edges.
"""

import inspect
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from jaxdiff.data.hashing import keyed_hash
from jaxdiff.data.pixels import to_bytes, to_unit
from jaxdiff.registry import lookup, unknown

Damage = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def build_damage(name: str, **args: Any) -> Damage:
    """The damage `name`: `build_damage('jpeg', quality=20)(x, indices, seed)`.

    The result is a function of x float32 (n, H, W, C) in [-1, 1], indices (n,) of the examples in their source,
    and a seed; it returns float32 (n, H, W, C) in [-1, 1] and leaves x alone. An example's result depends on
    neither the batch nor its order.

    Raises:
        ValueError: the name or an argument is unknown (the nearest valid one is named), missing, or out of
            range.
    """
    family = lookup(FAMILIES, name, "damage")
    parameters = inspect.signature(family).parameters
    for key in args:
        if key not in parameters:
            raise unknown(key, parameters, f"{name} argument")
    missing = [key for key in parameters if key not in args]
    if missing:
        raise ValueError(f"damage '{name}' needs the argument {', '.join(missing)}")
    one = family(**args)

    def damage(x: np.ndarray, indices: np.ndarray, seed: int) -> np.ndarray:
        x, indices = np.asarray(x, np.float32), np.asarray(indices)
        if x.ndim != 4 or indices.shape != x.shape[:1]:
            raise ValueError(
                f"damage '{name}': needs images (n, H, W, C) and n indices; got {x.shape} and {indices.shape}"
            )
        u = keyed_hash(indices, name, seed) / 2.0**64
        result = np.empty_like(x)
        for i, image in enumerate(x):
            result[i] = one(image, u[i])
        return result

    return damage


def _jpeg(quality: int):
    if int(quality) != quality or not 1 <= quality <= 95:
        raise ValueError(f"damage 'jpeg': quality must be a whole number from 1 to 95, got {quality}")

    def one(image: np.ndarray, _: float) -> np.ndarray:
        if image.shape[-1] not in (1, 3):
            raise ValueError(f"damage 'jpeg': needs 1 or 3 channels, got {image.shape[-1]}")
        pixels = to_bytes(image)
        buffer = io.BytesIO()
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.save(buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
        return to_unit(np.asarray(Image.open(buffer)).reshape(pixels.shape))

    return one


def _quantize(levels: int):
    if int(levels) != levels or not 2 <= levels <= 256:
        raise ValueError(f"damage 'quantize': levels must be a whole number from 2 to 256, got {levels}")
    steps = np.float32(levels - 1)

    def one(image: np.ndarray, _: float) -> np.ndarray:
        return np.rint((np.clip(image, -1, 1) + 1) / 2 * steps) / steps * 2 - 1

    return one


def _unknown_blur(std_min: float, std_max: float):
    if not 0 <= std_min <= std_max < np.inf:
        raise ValueError(
            f"damage 'unknown_blur': need 0 <= std_min <= std_max, in pixels; got {std_min} and {std_max}"
        )

    def one(image: np.ndarray, u: float) -> np.ndarray:
        std = std_min + (std_max - std_min) * u
        return gaussian_filter(image, (std, std, 0), mode="reflect")

    return one


FAMILIES = {"jpeg": _jpeg, "quantize": _quantize, "unknown_blur": _unknown_blur}
