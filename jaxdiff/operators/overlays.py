"""Overlays: a watermark, a logo or a subtitle destroys a known region, drawn for each example.

What lies under it is taken as lost, so A = diag(m) with m False on the overlay: c = 1, params {"mask": bool}.
"""

import jax
import numpy as np

from jaxdiff import registry
from jaxdiff.operators.linear import LinearOperator, image_size
from jaxdiff.operators.random_masks import hide_another, make_mask, stamp

# Largest size of each kind, and the size where none is given: a second overlay then finds a free place
# wherever the first one lies.
LARGEST = {"watermark": 1.0, "logo": 0.5, "subtitle": 1.0 / 3.0}
USUAL = {"watermark": 0.4, "logo": 0.25, "subtitle": 0.1}
STRIPES = 4  # dark stripes across one side of a watermark


def overlay(in_shape: tuple[int, ...], kind: str, size: float | None = None) -> LinearOperator:
    """A region hidden by an overlay whose shape is known and whose place is drawn for each example.

    - 'watermark': diagonal stripes, about half of a rectangle with sides size * H and size * W, anywhere;
    - 'logo': a disc of diameter size * min(H, W) near one of the four corners;
    - 'subtitle': a strip as wide as the image and size * H high, anywhere in the lower third.

    Further corruption hides a second overlay of the same kind elsewhere (`random_masks.hide_another`). Pixels
    hidden at random would not do: they leave the overlay's shape recognisable, so that given A~ the pixels
    under it were surely not seen, and would not be learnt. Of two equal overlays either can be A's. A
    subtitle higher than about H / 9 leaves a second one no free place where it lies in the middle of the
    third; one higher than H / 6 nowhere, and has rows that every subtitle covers.

    Args:
        in_shape: (H, W, C).
        kind: 'watermark', 'logo' or 'subtitle'.
        size: share of the image's side, up to 1 for a watermark, 1/2 for a logo, 1/3 for a subtitle; None:
            0.4, 0.25, 0.1.

    Raises:
        ValueError: the kind is unknown, or the size is outside its range.
    """
    height, width, _ = image_size("overlay", in_shape)
    if kind not in LARGEST:
        raise registry.unknown(kind, LARGEST, "overlay kind")
    size, largest = USUAL[kind] if size is None else float(size), LARGEST[kind]
    if not 0.0 < size <= largest:
        nearest = min(max(size, 1 / min(height, width)), largest)
        raise ValueError(
            f"overlay: size of a {kind} is a share of the image's side, in (0, {largest:.3g}]; got {size}, "
            f"nearest valid: {nearest:.3g}"
        )
    return make_mask("overlay", in_shape, {"kind": kind, "size": size}, _draw_overlay, _hide_another_overlay)


def _draw_overlay(key, in_shape, kind, size):
    template, places = _layout(in_shape, kind, size)
    place = jax.numpy.asarray(places)[jax.random.randint(key, (), 0, len(places))]
    return {"mask": ~stamp(template, place, in_shape)}


def _hide_another_overlay(key, params, delta, in_shape, kind, size):
    return {"mask": hide_another(key, params["mask"], delta, *_layout(in_shape, kind, size))}


def _layout(in_shape, kind, size) -> tuple[np.ndarray, np.ndarray]:
    """The overlay, (h, w) bool, and the places of its upper left corner, (n, 2)."""
    height, width = in_shape[:2]
    if kind == "watermark":
        box = _pixels(size, height), _pixels(size, width)
        stripe = max(1, min(box) // (2 * STRIPES))
        rows, columns = np.indices(box)
        tops, lefts = np.arange(height - box[0] + 1), np.arange(width - box[1] + 1)
        return ((rows + columns) // stripe) % 2 == 0, _pairs(tops, lefts)
    if kind == "logo":
        side = min(height, width)
        diameter = _pixels(size, side)
        margin = max(0, min(side // 16, side // 2 - diameter))
        rows, columns = np.indices((diameter, diameter)) - (diameter - 1) / 2
        ends = [(margin, extent - diameter - margin) for extent in (height, width)]
        return rows**2 + columns**2 <= (diameter / 2) ** 2, _pairs(*ends)
    strip = _pixels(size, height)
    tops = np.arange(height - max(height // 3, strip), height - strip + 1)
    return np.ones((strip, width), bool), _pairs(tops, [0])


def _pixels(share: float, extent: int) -> int:
    return max(1, round(share * extent))


def _pairs(tops, lefts) -> np.ndarray:
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
