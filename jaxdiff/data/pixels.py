"""What happens to the pixels of an image between the file and the array: declared here, and nowhere else.

    file -> 8 bits, gray or RGB -> centred crop -> antialiased resize -> uint8 v -> x = v / 127.5 - 1

* EXIF orientation is applied.
* 16-bit gray is divided by 257 and rounded; 16-bit RGB PNG keeps the high byte (as PIL reads it).
* Palette and CMYK become RGB; transparent pixels are laid over black.
* RGB -> gray is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; gray -> RGB repeats the channel.
* An animation is no image, and neither is a file of more than `MAX_PIXELS` pixels.
* The crop is the largest centred rectangle, in whole pixels, with the aspect of the result.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxdiff.registry import lookup

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
LUMA = (0.299, 0.587, 0.114)
# The only ones that are tried: PIL would hand other formats to other programs (EPS to Ghostscript).
FORMATS = (
    "PNG",
    "JPEG",
)  # of a JPEG with a second picture behind it, as cameras make them, the first one is read
MAX_PIXELS = 89_478_485  # PIL's own warning level; beyond it a file counts as broken


class PixelRules(NamedTuple):
    """How images are brought to one shape.

    Attributes:
        image_size: (height, width) of the result; None keeps the size (then all images must have the same).
        channels: 1 or 3; None keeps them (files: 1 where every file is gray, else 3).
        resize: 'bilinear', 'box' or 'lanczos', each antialiased when it makes an image smaller.
        center_crop: crop to the aspect of the result before resizing; otherwise the image is squeezed.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    resize: str = "bilinear"
    center_crop: bool = True

    def describe(self) -> str:
        """The rules as a person would write them: `center crop, bilinear resize to 64x64, 3 channels`."""
        words = []
        if self.image_size is not None:
            words += ["center crop"] * self.center_crop
            words.append(f"{self.resize} resize to {self.image_size[0]}x{self.image_size[1]}")
        if self.channels is not None:
            words.append(f"{self.channels} channel{'s' * (self.channels > 1)}")
        return ", ".join(words) or "as they are"


class Settings(NamedTuple):
    """What the openers of the sources need besides their own argument; see `open_source`.

    `skip_odd_sizes`: where no `image_size` is set, images of another size than most are left out as broken
    ones are; otherwise images of different sizes are an error. `coils`: virtual coils of multi-coil k-space.
    """

    rules: PixelRules = PixelRules()
    max_bad_share: float = 0.01
    split: str = "train"
    data_dir: str | None = None
    skip_odd_sizes: bool = False
    coils: int = 8


def make_rules(
    image_size: int | tuple[int, int] | None, channels: int | None, resize: str, center_crop: bool
) -> PixelRules:
    """Checked `PixelRules`; 0 and None both mean 'as it is'.

    Raises:
        ValueError: an unknown filter (the message names the nearest), another number of channels than 1 or 3,
            a size that is not positive.
    """
    lookup(FILTERS, resize, "resize filter")
    channels = channels or None
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3 (0: as they are), got {channels}")
    if not image_size:
        return PixelRules(None, channels, resize, bool(center_crop))
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or any(int(s) != s or s < 1 for s in size):
        raise ValueError(
            f"image_size must be a positive number of pixels, or (height, width); got {image_size}"
        )
    return PixelRules((int(size[0]), int(size[1])), channels, resize, bool(center_crop))


def make_settings(
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "bilinear",
    center_crop: bool = True,
    max_bad_share: float = 0.01,
    split: str = "train",
    data_dir: str | None = None,
    coils: int = 8,
) -> Settings:
    """Checked `Settings`: the options of every command and function that opens a source.

    Args:
        image_size: pixels of the square result, or (height, width); None or 0: as they are.
        channels: 1 or 3; None or 0: as they are.
        resize: 'bilinear', 'box' or 'lanczos', antialiased.
        center_crop: crop to the aspect of the result before resizing (else squeeze).
        max_bad_share: largest share of broken files that is skipped.
        split: of a TFDS data set.
        data_dir: directory of TFDS data sets; None or '': TFDS_DATA_DIR, else ~/tensorflow_datasets.
        coils: virtual coils of `fastmri`.

    Raises:
        ValueError: as `make_rules`; a share that is none; no coils.
    """
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f"max_bad_share must be in [0, 1], got {max_bad_share}")
    rules = make_rules(image_size, channels, resize, center_crop)
    if coils < 1:
        raise ValueError(f"coils must be 1 or more, got {coils}")
    return Settings(rules, max_bad_share, split, data_dir or None, coils=coils)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 v -> float32 v / 127.5 - 1 in [-1, 1]; float arrays are in [-1, 1] already."""
    if pixels.dtype != np.uint8:
        return pixels.astype(np.float32)
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_bytes(x: np.ndarray) -> np.ndarray:
    """float x in [-1, 1] -> uint8 round((x + 1) 127.5), the inverse of `to_unit`; beyond is clipped."""
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def decode(data: bytes, rules: PixelRules) -> tuple[np.ndarray, bool]:
    """The pixels of an encoded image and whether the file is gray.

    Returns:
        uint8 (H, W, C) by the rules of this module, C = 3 where `rules.channels` is None; True for a gray
        file.

    Raises:
        ValueError: the image is larger than `MAX_PIXELS`, or has no 8- or 16-bit meaning.
        OSError and others of PIL's: the file is broken.
    """
    image, gray = load(data)
    return to_pixels(flatten(image, rules.channels), rules), gray


def load(data: bytes) -> tuple[Image.Image, bool]:
    """The image as it is to be looked at (EXIF orientation applied), and whether the file is gray.

    Raises:
        ValueError: the image is larger than `MAX_PIXELS`, or animated.
        OSError and others of PIL's: the file is broken.
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:  # PIL's own message names the buffer's address
        raise UnidentifiedImageError(
            "not a PNG or JPEG image, or its header is damaged" if data else "the file is empty"
        ) from error
    with opened as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width}x{height} pixels, more than {MAX_PIXELS}")
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise ValueError(f"animated: {image.n_frames} frames, and nothing says which is meant")
        image.load()
        gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
        return ImageOps.exif_transpose(image), gray


def flatten(image: Image.Image, channels: int | None) -> Image.Image:
    """8 bits without palette or transparency: gray for 1 channel, else RGB.

    Raises:
        ValueError: the pixels have no 8- or 16-bit meaning.
    """
    return _plain(image).convert("L" if channels == 1 else "RGB")


def to_pixels(flat: Image.Image, rules: PixelRules) -> np.ndarray:
    """Cropped and resized, uint8 (H, W, 1 or 3)."""
    pixels = np.asarray(_resize(flat, rules), np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def apply_to_array(images: np.ndarray, rules: PixelRules) -> np.ndarray:
    """The rules on an array of images (n, H, W, C), uint8 or float32; the same dtype comes back.

    Raises:
        ValueError: the array has neither 1 nor 3 channels, and needs to.
    """
    channels = images.shape[-1]
    if rules.channels not in (None, channels):
        if (channels, rules.channels) not in ((1, 3), (3, 1)):
            raise ValueError(f"images with {channels} channels cannot become {rules.channels} channels")
        images = np.repeat(images, 3, axis=-1) if rules.channels == 3 else _luma(images)
    if rules.image_size in (None, images.shape[1:3]):
        return images
    mode = "L" if images.dtype == np.uint8 else "F"
    result = np.empty((len(images), *rules.image_size, images.shape[-1]), images.dtype)
    for i, image in enumerate(images):
        for c in range(images.shape[-1]):
            plane = Image.fromarray(np.ascontiguousarray(image[..., c]))
            result[i, ..., c] = np.asarray(_resize(plane.convert(mode), rules))
    if mode == "F":  # lanczos overshoots
        np.clip(result, -1, 1, out=result)
    return result


def crop_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest centred box of `target`'s aspect; sizes: (height, width)."""
    scale = min(size[0] / target[0], size[1] / target[1])
    height = min(size[0], max(1, round(target[0] * scale)))
    width = min(size[1], max(1, round(target[1] * scale)))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return left, top, left + width, top + height


def _resize(image: Image.Image, rules: PixelRules) -> Image.Image:
    if rules.image_size is None:
        return image
    height, width = rules.image_size
    if rules.center_crop:  # and not resize(box=...), whose filter reaches over the edge of the box
        image = image.crop(crop_box((image.height, image.width), rules.image_size))
    return image.resize((width, height), FILTERS[rules.resize])


def _plain(image: Image.Image) -> Image.Image:
    """8 bits, no palette, no transparency."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("values outside 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no declared range")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, (0, 0, 0, 255)), above).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def _luma(images: np.ndarray) -> np.ndarray:
    gray = images.astype(np.float32) @ np.asarray(LUMA, np.float32)
    return (np.rint(gray) if images.dtype == np.uint8 else gray).astype(images.dtype)[..., None]
