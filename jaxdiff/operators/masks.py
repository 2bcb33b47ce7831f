"""Operators that select the same pixels of every example: crop, coordinates, fixed masks. All have c = 1.

A mask is True where the pixel is seen. Hidden pixels of A x are exactly 0, whatever x holds there, NaN
included: `jnp.where` and not a product. Only `crop` and `coordinates` make the view smaller; the mask fills
with zeros, A = diag(m), A A^T = A. Masks drawn for each example are in `random_masks` and `overlays`.
"""

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators.linear import LinearOperator, image_size, make

HALVES = ("top", "bottom", "left", "right")


class Box(NamedTuple):
    """A rectangle of pixels, rows [top, top + height) and columns [left, left + width)."""

    top: int
    left: int
    height: int
    width: int


class PackedMask(NamedTuple):
    """A boolean array as a hashable value, so that equal masks are one compiled program."""

    shape: tuple[int, ...]
    bits: bytes

    def __repr__(self) -> str:
        shown = np.count_nonzero(_unpack(self)) / math.prod(self.shape)
        return f"<{'x'.join(map(str, self.shape))}, {100 * shown:.0f} % seen>"


def crop(in_shape: tuple[int, ...], top: int, left: int, height: int, width: int) -> LinearOperator:
    """The rectangle of an image: (H, W, C) -> (height, width, C).

    Raises:
        ValueError: the rectangle is empty or not inside the image.
    """
    box = _check_box("crop", Box(top, left, height, width), in_shape)
    return make("crop", in_shape, _crop, box._asdict(), c=1.0)


def coordinates(in_shape: tuple[int, ...], indices: tuple[int, ...]) -> LinearOperator:
    """Some coordinates of a vector, each at most once: (d,) -> (len(indices),).

    Raises:
        ValueError: the examples are not vectors, or an index repeats or is outside [0, d).
    """
    if len(in_shape) != 1:
        raise ValueError(
            f"coordinates: works on vectors (d,), got the shape {tuple(in_shape)}; for images see 'crop'"
        )
    indices = tuple(operator.index(index) for index in indices)
    if not indices or len(set(indices)) != len(indices) or not all(0 <= i < in_shape[0] for i in indices):
        raise ValueError(f"coordinates: indices must be distinct and in 0..{in_shape[0] - 1}, got {indices}")
    return make("coordinates", in_shape, _coordinates, {"indices": indices}, c=1.0)


def mask(
    in_shape: tuple[int, ...], mask: Any = None, box: Any = None, hidden_box: Any = None
) -> LinearOperator:
    """A fixed mask, the same for all examples; the view has the shape of x with zeros where it is hidden.

    Args:
        in_shape: (H, W, C), or (d,) with `mask` as an array.
        mask: what is seen: 'top', 'bottom', 'left' or 'right' (half of the image), or an array or nested
            rows of 0 and 1, of shape (H, W), (H, W, 1) or (H, W, C).
        box: the rectangle that is seen, {'top', 'left', 'height', 'width'} or those four numbers in that
            order.
        hidden_box: the rectangle that is hidden (a watermark), in the same form.

    Raises:
        ValueError: not exactly one of the three is given, or it does not fit the shape, or nothing is seen.
    """
    given = {"mask": mask, "box": box, "hidden_box": hidden_box}
    given = {key: value for key, value in given.items() if value is not None}
    if len(given) != 1:
        raise ValueError(
            f"mask: give exactly one of mask, box, hidden_box; got {sorted(given) or 'none of them'}"
        )
    ((key, value),) = given.items()
    if key != "mask":
        value = _check_box(f"mask: {key}", _as_box(f"mask: {key}", value), in_shape)
    elif isinstance(value, str):
        image_size("mask", in_shape)
        if value not in HALVES:
            raise ValueError(f"mask: a half of the image is one of {', '.join(HALVES)}; got '{value}'")
    else:
        value = _pack(value, in_shape)
    if not _fixed_mask(in_shape, **{key: value}).any():
        raise ValueError("mask: it hides every pixel, so nothing is measured")
    return make("mask", in_shape, _apply_fixed_mask, {key: value}, c=1.0)


def _crop(params, x: jax.Array, top: int, left: int, height: int, width: int) -> jax.Array:
    return x[top : top + height, left : left + width]


def _coordinates(params, x: jax.Array, indices: tuple[int, ...]) -> jax.Array:
    return x[np.asarray(indices)]


def _apply_fixed_mask(params, x: jax.Array, **settings) -> jax.Array:
    return jnp.where(_fixed_mask(x.shape, **settings), x, jnp.zeros((), x.dtype))


def _fixed_mask(shape, mask=None, box=None, hidden_box=None) -> np.ndarray:
    """The boolean array, broadcastable against `shape`, of the settings of a fixed mask; True where seen."""
    if isinstance(mask, PackedMask):
        return _unpack(mask)
    height, width = shape[:2]
    if mask is not None:
        box = {
            "top": Box(0, 0, height // 2, width),
            "bottom": Box(height // 2, 0, height - height // 2, width),
            "left": Box(0, 0, height, width // 2),
            "right": Box(0, width // 2, height, width - width // 2),
        }[mask]
    area = box if box is not None else hidden_box
    inside = np.zeros((height, width, 1), bool)
    inside[area.top : area.top + area.height, area.left : area.left + area.width] = True
    return inside if box is not None else ~inside


def _pack(values, in_shape) -> PackedMask:
    array = np.asarray(values)
    if len(in_shape) == 3 and array.shape == tuple(in_shape[:2]):
        array = array[..., None]
    allowed = [tuple(in_shape)] if len(in_shape) != 3 else [(*in_shape[:2], 1), tuple(in_shape)]
    if array.shape not in allowed:
        raise ValueError(f"mask: its shape {array.shape} does not fit examples of shape {tuple(in_shape)}")
    if not np.isin(array, (0, 1)).all():
        raise ValueError("mask: its values must be 0 (hidden) and 1 (seen)")
    return PackedMask(array.shape, np.packbits(array.astype(bool)).tobytes())


def _unpack(packed: PackedMask) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(packed.bits, np.uint8), count=math.prod(packed.shape))
    return bits.astype(bool).reshape(packed.shape)


def _as_box(where: str, value: Any) -> Box:
    if isinstance(value, Mapping):
        if set(value) != set(Box._fields):
            raise ValueError(f"{where} needs the keys {', '.join(Box._fields)}; got {sorted(value)}")
        value = [value[field] for field in Box._fields]
    if len(value) != 4:
        raise ValueError(f"{where} needs the four numbers {', '.join(Box._fields)}; got {value!r}")
    return Box(*value)


def _check_box(where: str, box: Box, in_shape) -> Box:
    rows, columns, _ = image_size(where, in_shape)
    box = Box(*(operator.index(number) for number in box))
    inside = (
        box.top >= 0 and box.left >= 0 and box.top + box.height <= rows and box.left + box.width <= columns
    )
    if not inside or box.height < 1 or box.width < 1:
        raise ValueError(
            f"{where}: rows {box.top}..{box.top + box.height - 1}, "
            f"columns {box.left}..{box.left + box.width - 1} do not fit the image of {rows}x{columns} pixels"
        )
    return box
