"""Restored images one by one: which example each of them is, and a PNG of its own."""

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from jaxdiff.evaluation.restoration import magnitude
from jaxdiff.experiment.restore_input import Input
from jaxdiff.experiment.restore_plan import slug
from jaxdiff.experiment.restore_scores import shown
from jaxdiff.report.images import to_uint8


def naming(given: Input) -> dict[str, np.ndarray]:
    """Which examples a cell's images are, in their order: 'rows', their numbers in the input, and 'files', their names
    there, where each is a file of its own."""
    found = {"rows": np.asarray(given.rows, np.int64)}
    return found if given.files is None else {**found, "files": np.asarray(given.files)}


def picture_names(given: Input) -> list[str]:
    """A file name for each image, without its ending: that of its file, with its folders in front, or its number.

    Where two would be alike (`a.png` and `a.jpg`) the number is added, so that none is written over another.
    """
    if given.files is None:
        return [f"{row:06d}" for row in given.rows]
    stems = [slug(str(PurePosixPath(file).with_suffix(""))) for file in given.files]
    many = Counter(stem.lower() for stem in stems)  # some file systems do not tell A from a
    return [
        stem if many[stem.lower()] == 1 else f"{stem}-{row:06d}"
        for stem, row in zip(stems, given.rows, strict=True)
    ]


def visible(images: np.ndarray, key: str, scale: np.ndarray) -> np.ndarray:
    """Images (n, H, W, C) as they are looked at, in [-1, 1]; standard deviations, `key` 'std', as they are.

    Complex images by their magnitude, 1 being the largest of `scale`.
    """
    if images.shape[-1] != 2:
        return images if key == "std" else shown(images)
    sizes = magnitude(images) / float(magnitude(scale).max() or 1.0)
    return sizes.astype(np.float32) if key == "std" else (2 * sizes - 1).astype(np.float32)


def save_images(folder: Path, given: Input, images: np.ndarray, base: np.ndarray) -> None:
    """Write every image of one cell as `folder/<name>.png`, in its own size; those of an earlier input are removed.

    Args:
        folder: belongs to the cell alone.
        given: what they were restored from.
        images: restored, (n, H, W, C).
        base: A^+ y, whose largest magnitude is white where images are complex and nobody knows the truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = picture_names(given)
    for old in set(folder.glob("*.png")) - {folder / f"{name}.png" for name in names}:
        old.unlink()
    pixels = to_uint8(visible(images, "mean", base if given.truth is None else given.truth))
    for name, image in zip(names, pixels, strict=True):
        gray = (image == image[..., :1]).all()  # but for a pixel that is not finite, which is magenta
        picture = image[..., 0] if gray and images.shape[-1] < 3 else image
        Image.fromarray(picture).save(folder / f"{name}.png", "PNG")
