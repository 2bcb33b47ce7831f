"""Masks drawn for each example: pixels, boxes, patches, scan lines. All have c = 1 and params {"mask": bool}.

A mask is True where the pixel is seen; A = diag(m) fills with exact zeros, so A A^T = A. The member of each
family that hides nothing has a mask of ones.

Further corruption A~ = B A is made for Ambient Diffusion (Daras et al. 2023, arXiv 2305.19256): a network
that sees A~ x and is scored on A x learns E[x | A~ x] in every pixel that A sees with positive probability
*given A~*, that is, where E[A^T A | A~] is not zero. A pixel of which A~ betrays that A hid it is not learnt.
"""

import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators.linear import LinearOperator, image_size, make

AXES = ("rows", "columns")


def pixel_mask(in_shape: tuple[int, ...], p: float, per_channel: bool = False) -> LinearOperator:
    """Each pixel hidden with probability p, all its channels together, drawn for each example.

    Further corruption hides each pixel with probability delta.

    Args:
        in_shape: (H, W, C) or (d,).
        p: expected share of hidden pixels, in [0, 1].
        per_channel: draw for each channel of each pixel.

    Raises:
        ValueError: p is outside [0, 1].
    """
    _check_share("pixel_mask", p, "pixels")
    args = {"p": float(p), "per_channel": bool(per_channel)}
    return make_mask("pixel_mask", in_shape, args, _draw_pixel_mask, _hide_more_pixels, _cover_pixels)


def box_mask(in_shape: tuple[int, ...], size: int | tuple[int, int]) -> LinearOperator:
    """One rectangle hidden, fully inside the image, its place uniform and drawn for each example.

    Further corruption hides another rectangle of the same size, as in `hide_another`.

    Args:
        in_shape: (H, W, C).
        size: height and width of the rectangle in pixels; one number for a square.

    Raises:
        ValueError: the rectangle is empty or larger than the image.
    """
    args = {"size": _check_size("box_mask", in_shape, size)}
    return make_mask("box_mask", in_shape, args, _draw_box_mask, _hide_another_box)


def keep_patch(in_shape: tuple[int, ...], size: int | tuple[int, int]) -> LinearOperator:
    """One rectangle seen, fully inside the image, its place uniform and drawn for each example.

    Further corruption sees a rectangle inside that one, at a uniform place, its sides sqrt(1 - delta) times
    as long, rounded up or down at random so that the expected area is 1 - delta times as large. Given A~,
    only pixels less than one patch away can have been seen: no measurement holds two pixels further apart,
    and their joint law is not in such data. A method learns the surroundings of A~, not the whole image.

    Args:
        in_shape: (H, W, C).
        size: height and width of the rectangle in pixels; one number for a square.

    Raises:
        ValueError: the rectangle is empty or larger than the image.
    """
    args = {"size": _check_size("keep_patch", in_shape, size)}
    return make_mask("keep_patch", in_shape, args, _draw_patch, _keep_part_of_patch)


def scan_lines(
    in_shape: tuple[int, ...], p: float, axis: str = "rows", keep_center: int = 0
) -> LinearOperator:
    """Each row (or column) hidden as a whole with probability p, drawn for each example.

    Further corruption hides each line that is seen with probability delta, the central ones never.

    Args:
        in_shape: (H, W, C).
        p: expected share of hidden lines, the central ones apart, in [0, 1].
        axis: 'rows' or 'columns'.
        keep_center: number of central lines that are always seen.

    Raises:
        ValueError: p is outside [0, 1], the axis is unknown, or the image has fewer lines than `keep_center`.
    """
    height, width, _ = image_size("scan_lines", in_shape)
    _check_share("scan_lines", p, "lines")
    if axis not in AXES:
        raise ValueError(f"scan_lines: axis is one of {', '.join(AXES)}; got '{axis}'")
    lines = height if axis == "rows" else width
    if isinstance(keep_center, bool) or not isinstance(keep_center, int) or not 0 <= keep_center <= lines:
        raise ValueError(
            f"scan_lines: keep_center={keep_center!r} is a number of {axis}, 0 to {lines}; nearest valid: "
            f"{round(min(max(keep_center, 0), lines))}"
        )
    args = {"p": float(p), "axis": axis, "keep_center": keep_center}
    return make_mask("scan_lines", in_shape, args, _draw_lines, _hide_more_lines, _cover_lines)


def make_mask(name, in_shape, args, draw_params, corrupt_params, cover_params=None) -> LinearOperator:
    """The operator A = diag(m) of a family of drawn masks; the arguments are those of `linear.make`."""
    return make(
        name,
        in_shape,
        _apply_mask,
        args,
        c=1.0,
        draw_params=draw_params,
        corrupt_params=corrupt_params,
        whole_params=_hide_nothing,
        cover_params=cover_params,
    )


def hide_another(
    key: jax.Array, mask: jax.Array, delta: float, template: np.ndarray, places: np.ndarray
) -> jax.Array:
    """A mask that also hides a second copy of the shape that A hides, then pixels up to a share delta.

    The copy lies where it has no pixel in common with what is hidden already. So A~ shows two like shapes
    and not which of them is A's: given A~, A has seen each pixel of either with positive probability. A
    second shape of another size, or pixels alone, would betray the first. Where no place is free, one of
    least overlap is taken; what lies under both shapes is then not learnt from that A~.

    A copy that hides less than delta of what A sees is completed by pixels hidden at random; one that hides
    more is left as it is.

    Args:
        key: of the place and of the pixels.
        mask: (H, W, 1) what A sees.
        delta: share of what A sees to be hidden.
        template: (h, w) bool, True where the shape hides.
        places: (n, 2) the possible positions of the template's upper left corner.

    Returns:
        (H, W, 1) bool, what A~ sees.
    """
    key_place, key_pixels = jax.random.split(key)
    hidden = (~mask[..., 0]).astype(jnp.float32)
    # By FFT: whole numbers, of which rounding gives the exact value.
    overlaps = jax.scipy.signal.correlate(hidden, template.astype(np.float32), mode="valid", method="fft")
    overlap = jnp.round(overlaps)[places[:, 0], places[:, 1]]
    choice = jax.random.categorical(key_place, jnp.where(overlap == overlap.min(), 0.0, -jnp.inf))
    left = mask & ~stamp(template, jnp.asarray(places)[choice], mask.shape)
    share_left = left.sum() / jnp.maximum(mask.sum(), 1)
    keep = jnp.minimum(1.0, (1.0 - delta) / jnp.maximum(share_left, 1e-6))
    return left & (jax.random.uniform(key_pixels, mask.shape) < keep)


def stamp(template: np.ndarray, place: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """(H, W, 1) bool: the template with its upper left corner at `place`, False elsewhere."""
    empty = jnp.zeros(shape[:2], bool)
    return jax.lax.dynamic_update_slice(empty, jnp.asarray(template), (place[0], place[1]))[..., None]


def _apply_mask(params, x: jax.Array, **_settings) -> jax.Array:
    return jnp.where(params["mask"], x, jnp.zeros((), x.dtype))


def _hide_nothing(params, **_settings):
    return {"mask": jnp.ones(params["mask"].shape, bool)}


def _draw_pixel_mask(key, in_shape, p, per_channel):
    shape = in_shape if per_channel or len(in_shape) == 1 else (*in_shape[:-1], 1)
    return {"mask": jax.random.uniform(key, shape) >= p}


def _hide_more_pixels(key, params, delta, **_settings):
    # Of the mask's shape: channels that are hidden together stay together.
    return {"mask": params["mask"] & (jax.random.uniform(key, params["mask"].shape) >= delta)}


def _draw_box_mask(key, in_shape, size):
    return {"mask": ~_draw_rectangle(key, in_shape, size)}


def _hide_another_box(key, params, delta, in_shape, size):
    places = np.argwhere(np.ones((in_shape[0] - size[0] + 1, in_shape[1] - size[1] + 1), bool))
    return {"mask": hide_another(key, params["mask"], delta, np.ones(size, bool), places)}


def _draw_patch(key, in_shape, size):
    return {"mask": _draw_rectangle(key, in_shape, size)}


def _keep_part_of_patch(key, params, delta, in_shape, size):
    keys = jax.random.split(key)
    rows, columns = (
        _shorten(key, params["mask"].any(axis=axes), math.sqrt(1.0 - delta))
        for key, axes in zip(keys, [(1, 2), (0, 2)], strict=True)
    )
    # With the mask itself: the family's member that sees the whole image may hold any mask.
    return {"mask": params["mask"] & rows[:, None, None] & columns[None, :, None]}


def _shorten(key, seen, scale):
    """An interval of `scale` times the length inside the interval `seen`, (n,) bool, right in expectation."""
    key_length, key_start = jax.random.split(key)
    length = seen.sum()
    shorter = jnp.floor(length * scale + jax.random.uniform(key_length)).astype(int)
    shorter = jnp.minimum(shorter, length)
    start = jnp.argmax(seen) + jax.random.randint(key_start, (), 0, length - shorter + 1)
    place = jnp.arange(seen.size)
    return (place >= start) & (place < start + shorter)


def _draw_rectangle(key, in_shape, size):
    """(H, W, 1) bool, True inside a rectangle at a uniform place."""
    height, width, _ = in_shape
    key_top, key_left = jax.random.split(key)
    top = jax.random.randint(key_top, (), 0, height - size[0] + 1)
    left = jax.random.randint(key_left, (), 0, width - size[1] + 1)
    return stamp(np.ones(size, bool), (top, left), in_shape)


def _draw_lines(key, in_shape, p, axis, keep_center):
    return {"mask": _keep_lines(key, in_shape, p, axis, keep_center)}


def _hide_more_lines(key, params, delta, in_shape, p, axis, keep_center):
    return {"mask": params["mask"] & _keep_lines(key, in_shape, delta, axis, keep_center)}


def _keep_lines(key, in_shape, share, axis, keep_center):
    """(H, W, 1) bool: lines hidden with probability `share`, the central ones never."""
    along = AXES.index(axis)
    lines = in_shape[along]
    kept = (jax.random.uniform(key, (lines,)) >= share) | _central(lines, keep_center)
    return jnp.broadcast_to(jnp.expand_dims(kept, (1 - along, 2)), (*in_shape[:2], 1))


def _central(lines, keep_center) -> np.ndarray:
    first = (lines - keep_center) // 2
    return (np.arange(lines) >= first) & (np.arange(lines) < first + keep_center)


def _check_share(name, p, what):
    if not 0.0 <= p <= 1.0:
        raise ValueError(
            f"{name}: p is the share of hidden {what}, in [0, 1]; got {p}, nearest valid: {float(p > 0.5)}"
        )


def _check_size(name, in_shape, size) -> tuple[int, int]:
    height, width, _ = image_size(name, in_shape)
    given = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if any(isinstance(s, bool) or not isinstance(s, numbers.Integral) for s in given):
        raise ValueError(
            f"{name}: size={size!r} must be whole numbers of pixels: height and width, or one of both"
        )
    size = tuple(int(s) for s in given)
    if len(size) != 2 or not (1 <= size[0] <= height and 1 <= size[1] <= width):
        nearest = tuple(min(max(s, 1), extent) for s, extent in zip(size, (height, width), strict=False))
        hint = f"; nearest valid: {nearest}" if len(size) == 2 else ""
        raise ValueError(
            f"{name}: size={size} must be from 1 to the size of the image, {height}x{width} pixels{hint}"
        )
    return size


def _stratified(key, count: int, keep: float, shape: tuple[int, ...]) -> jax.Array:
    """`count` masks, (count, *shape): every entry is seen by the same number of them, about keep count, at least 1."""
    seen = max(1, round(keep * count))
    order = jnp.argsort(jax.random.uniform(key, (count, *shape)), axis=0)
    return order < seen


def _cover_pixels(key, count, delta, shown, in_shape, p, per_channel):
    shape = in_shape if per_channel or len(in_shape) == 1 else (*in_shape[:-1], 1)
    return {"mask": _stratified(key, count, shown or (1 - p) * (1 - delta), shape)}


def _cover_lines(key, count, delta, shown, in_shape, p, axis, keep_center):
    along = AXES.index(axis)
    lines = in_shape[along]
    seen = _stratified(key, count, shown or (1 - p) * (1 - delta), (lines,)) | _central(lines, keep_center)
    return {"mask": jnp.broadcast_to(jnp.expand_dims(seen, (2 - along, 3)), (count, *in_shape[:2], 1))}
