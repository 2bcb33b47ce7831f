"""Photographs with hidden pixels, as files: an image beside its mask, or an image with transparency.

    file(s) -> image, seen -> hidden pixels black -> centred crop -> antialiased resize -> (y, mask)

* `name.mask.png` beside `name.png`, `name.jpg` or `name.jpeg`: gray value >= 128 is seen, below is hidden. It
  must have the size of its image as that is looked at (EXIF orientation applied).
* A pixel that is not fully opaque (alpha < 255) is hidden, with or without a mask file.
* A pixel of the result is seen only if every pixel that the resize filter takes for it is seen; otherwise it
  is hidden and 0. So no hidden value reaches y: hidden pixels are made black before the resize, and where
  that would darken a pixel of the result, the pixel is hidden.
* An image of which nothing is seen counts as broken, and so does a mask file without its image.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxdiff import operators
from jaxdiff.data.arrays import ArraySource
from jaxdiff.data.encoded import EncodedSource, open_decoded
from jaxdiff.data.images import MASK_EXTENSION, ImageFiles, encoded_images
from jaxdiff.data.pixels import PixelRules, Settings, crop_box, flatten, load, to_pixels, to_unit
from jaxdiff.operators import Measurement

SEEN_FROM = 128  # gray value of a mask file
REACH = {"box": 0.5, "bilinear": 1.0, "lanczos": 3.0}  # of PIL's filters, in pixels of the coarser grid


class MaskedSource:
    """Images and their masks, decoded when asked for; see `measured.MeasurementSource`."""

    def __init__(self, source: ArraySource | EncodedSource, hidden_share: float):
        self.name, self.files = source.name, source.files
        self.shape: tuple[int, ...] = (*source.shape[:2], source.shape[2] - 1)
        spec = {"name": "pixel_mask", "in_shape": list(self.shape), "p": round(hidden_share, 4)}
        self.operator = operators.build("pixel_mask", self.shape, p=spec["p"])
        self.report = {**source.report, "operator": spec}
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def gather(self, indices: Sequence[int] | np.ndarray) -> Measurement:
        """Examples by index: y (n, H, W, C), params {'mask': (n, H, W, 1) bool}, sigma_y 0.

        Raises:
            OSError: a file has changed since the source was opened; the message names it.
        """
        pixels = self._source.gather_pixels(indices)
        mask = pixels[..., -1:] > 0
        y = np.where(mask, to_unit(pixels[..., :-1]), np.float32(0))
        return Measurement(y=y, params={"mask": mask}, sigma_y=np.zeros(len(y), np.float32))


def open_masked(files: ImageFiles, settings: Settings) -> MaskedSource:
    """Decode every image and its mask once, leave out the broken ones, and open the rest.

    Its operator is `pixel_mask` with p the mean share of hidden pixels, rounded to four digits.

    Raises:
        ValueError: as `open_encoded`; an image counts as broken where its mask does.
    """
    hidden_share = np.zeros(len(files.names))

    def decode_at(position: int, rules: PixelRules) -> tuple[np.ndarray, bool]:
        name = files.names[position]
        if name.lower().endswith(MASK_EXTENSION):
            raise ValueError("a mask without its image")
        mask = files.read(files.masks[name]) if name in files.masks else None
        pixels, gray = decode_masked(files.read(name), mask, rules)
        hidden_share[position] = np.mean(pixels[..., -1] == 0)
        return pixels, gray

    source, positions = open_decoded(encoded_images(files), settings, decode_at)
    return MaskedSource(source, float(hidden_share[positions].mean()))


def decode_masked(data: bytes, mask_data: bytes | None, rules: PixelRules) -> tuple[np.ndarray, bool]:
    """An encoded image with what is seen of it as a last channel.

    Args:
        data: the encoded image.
        mask_data: its encoded mask, or None.
        rules: as for any image.

    Returns:
        uint8 (H, W, C + 1), the last channel 255 where seen, else 0 as the others are; C is
        `rules.channels`, 3 where that is None; and whether the image is gray.

    Raises:
        ValueError: the mask is broken or of another size than the image, or nothing is seen.
        OSError and others of PIL's: the image is broken.
    """
    image, gray = load(data)
    flat = flatten(image, rules.channels)
    seen = _opaque(image)
    if mask_data is not None:
        seen = seen & _read_mask(mask_data, flat.size)
    pixels = np.asarray(flat)
    pixels = np.where(seen if pixels.ndim == 2 else seen[..., None], pixels, np.uint8(0))
    pixels, seen = to_pixels(Image.fromarray(pixels), rules), resize_mask(seen, rules)[..., None]
    if not seen.any():
        raise ValueError(f"nothing is seen of it ({rules.describe()})")
    return np.concatenate([np.where(seen, pixels, np.uint8(0)), np.uint8(255) * seen], axis=-1), gray


def resize_mask(seen: np.ndarray, rules: PixelRules) -> np.ndarray:
    """Where every pixel that the crop and the resize take is seen: (H, W) bool -> bool of the result's size.

    The filter of a resize from n to m > 0 pixels takes for pixel j of the result the pixels i with
    |i + 1/2 - (j + 1/2) n/m| within its reach, `REACH` max(n/m, 1).
    """
    if rules.image_size is None:
        return seen
    if rules.center_crop:
        left, top, right, bottom = crop_box(seen.shape, rules.image_size)
        seen = seen[top:bottom, left:right]
    top, bottom = _taken(seen.shape[0], rules.image_size[0], rules.resize)
    left, right = _taken(seen.shape[1], rules.image_size[1], rules.resize)
    # hidden[a, b]: how many of the pixels above row a and left of column b are hidden
    hidden = np.pad(np.cumsum(np.cumsum(~seen, axis=0), axis=1), ((1, 0), (1, 0)))
    inside = (
        hidden[np.ix_(bottom, right)]
        - hidden[np.ix_(top, right)]
        - hidden[np.ix_(bottom, left)]
        + hidden[np.ix_(top, left)]
    )
    return inside == 0


def _taken(size: int, target: int, resize: str) -> tuple[np.ndarray, np.ndarray]:
    """[first, last) of the pixels that each pixel of the result takes, along one axis."""
    if size == target:  # PIL leaves the axis alone
        return np.arange(target), np.arange(target) + 1
    scale = size / target
    centre = (np.arange(target) + 0.5) * scale
    # The box filter has weight on its edge; the others vanish there.
    reach = REACH[resize] * max(scale, 1.0) + (1e-6 if resize == "box" else -1e-6)
    first = np.ceil(centre - reach - 0.5).astype(int)
    last = np.floor(centre + reach - 0.5).astype(int) + 1
    return np.clip(first, 0, size), np.clip(last, 0, size)


def _opaque(image: Image.Image) -> np.ndarray:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA").getchannel("A")) == 255
    return np.ones((image.height, image.width), bool)


def _read_mask(data: bytes, size: tuple[int, int]) -> np.ndarray:
    try:
        mask = flatten(load(data)[0], channels=1)
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ValueError(f"its mask is broken ({type(error).__name__}, {error})") from error
    if mask.size != size:
        raise ValueError(
            f"its mask has {mask.height}x{mask.width} pixels, the image {size[1]}x{size[0]} (height x width)"
        )
    return np.asarray(mask) >= SEEN_FROM
