"""Image grids: arrays in [-1, 1] to PNG, small images enlarged by whole pixels for the eye to judge."""

import base64
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

LEGIBLE_SIDE = 56  # pixels; smaller images are repeated (nearest neighbor) at least up to here
NOT_FINITE = (255, 0, 255)  # magenta: no image of [-1, 1] is mistaken for it in a gray grid


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C) in [-1, 1] as bytes (n, H, W, 3): round(127.5 (x + 1)), clipped.

    One channel is repeated to gray; of two, or of more than three, the first is shown. Pixels with a NaN or
    an infinity are painted magenta, never hidden.

    Raises:
        ValueError: the array is not (n, H, W, C) with at least one image.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must be a non-empty (n, H, W, C) array, got shape {images.shape}")
    if images.shape[-1] != 3:
        images = np.repeat(images[..., :1], 3, axis=-1)
    bad = ~np.isfinite(images).all(axis=-1)
    shown = np.where(bad[..., None], 0.0, np.clip(images, -1.0, 1.0))
    pixels = np.rint(127.5 * (shown + 1.0)).astype(np.uint8)
    pixels[bad] = NOT_FINITE
    return pixels


def magnification(height: int, width: int, legible: int = LEGIBLE_SIDE) -> int:
    """The whole factor that brings the shorter side of an image to at least `legible` pixels."""
    return max(1, math.ceil(legible / min(height, width)))


def grid(images: np.ndarray, columns: int, rows_per_block: int = 1, scale: int | None = None) -> Image.Image:
    """Images (n, H, W, C) in [-1, 1] laid out row by row, `columns` to a row, on a transparent ground.

    With `rows_per_block` = r, every r rows stand close together and the next block is set apart, which is how
    a sample and its neighbor are shown as a pair. Returns an RGBA picture; a last row may be incomplete.

    Raises:
        ValueError: as `to_uint8`, or `columns` is below one.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    pixels = to_uint8(images)
    n, height, width, _ = pixels.shape
    scale = scale or magnification(height, width)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    gap = max(2, round(0.06 * max(height, width)))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    tops = [row * (height + gap) + (row // rows_per_block) * (2 * gap) for row in range(rows)]
    if rows_per_block == 1:
        tops = [row * (height + gap) for row in range(rows)]
    canvas = np.zeros((tops[-1] + height, columns * (width + gap) - gap, 4), np.uint8)
    for index, image in enumerate(pixels):
        top, left = tops[index // columns], (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width, :3] = image
        canvas[top : top + height, left : left + width, 3] = 255
    return Image.fromarray(canvas, "RGBA")


def pair_grid(upper: np.ndarray, lower: np.ndarray, columns: int) -> Image.Image:
    """Each image of `upper` directly over its partner in `lower`; both (n, H, W, C) in [-1, 1].

    Raises:
        ValueError: the two arrays differ in shape.
    """
    if np.shape(upper) != np.shape(lower):
        raise ValueError(f"pairs need equal shapes, got {np.shape(upper)} and {np.shape(lower)}")
    columns = min(columns, len(upper))
    whole = len(upper) - len(upper) % columns  # only full rows, so that no partner slides to another column
    blocks = zip(
        np.split(np.asarray(upper[:whole]), whole // columns),
        np.split(np.asarray(lower[:whole]), whole // columns),
        strict=True,
    )
    return grid(np.concatenate([np.concatenate(block) for block in blocks]), columns, rows_per_block=2)


def data_uri(picture: Image.Image) -> str:
    """The picture as a PNG inside a `data:` address, for a page that loads nothing from elsewhere."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def save_grid(path: str | Path, images: np.ndarray, columns: int | None = None) -> Path:
    """Write images (n, H, W, C) in [-1, 1] as one PNG on a white ground.

    Without `columns` the grid is as near to square as it can be. Returns the path.

    Raises:
        ValueError: as `grid`.
    """
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    return save_picture(path, grid(images, columns))


def save_picture(path: str | Path, picture: Image.Image) -> Path:
    """Write a grid with its transparent gaps as a PNG on a white ground. Returns the path."""
    path = Path(path)
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    path.parent.mkdir(parents=True, exist_ok=True)
    ground.save(path, "PNG", optimize=True)
    return path
