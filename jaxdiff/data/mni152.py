"""Complex brain images without a download: slices of the T1 volume that the package nilearn carries.

The volume is MNI152 (ICBM 2009a, symmetric, 1 mm): the average of 152 heads, brain only. Its axial slices are
turned, scaled, moved and changed in contrast a little (`variants` times each) and given a smooth phase, so
that they are complex as those of a scanner are; coil maps come with the operator `multicoil_fourier`.
Everything about example i is a function of i. Neighbouring slices are 1 mm apart and one head is all there
is: they are no independent subjects. Split such data by slabs (`split.slab_split`), never by hash; index =
slice * variants + variant, from the bottom up.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from jaxdiff.data.complex_images import as_channels, central_scale
from jaxdiff.data.extras import require
from jaxdiff.data.pixels import Settings

FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
VARIANTS = 8
SIDE = 64  # pixels, where data.image_size is not given
FIELD_OF_VIEW = 220.0  # mm, of the square image
LEAST_AREA = 0.12  # of a slice's voxels that must be brain
ANGLE, SCALE, SHIFT, GAMMA = 10.0, 0.08, 5.0, 0.25  # degrees, share, mm, of the exponent of the contrast


class Mni152Source:
    """Complex slices (H, W, 2), made when asked for; see `sources.Source`."""

    def __init__(self, volume: np.ndarray, side: tuple[int, int], variants: int):
        self.name = f"mni152:{variants}"
        self.shape: tuple[int, ...] = (*side, 2)
        self.labels = None
        self._variants = variants
        area = (volume > 0).mean(axis=(0, 1))
        kept = np.flatnonzero(area > LEAST_AREA)
        inside = np.argwhere((volume > 0).any(axis=2))
        self._center = (inside.min(axis=0) + inside.max(axis=0)) / 2
        # As wide as a pixel, so that coarse images hold no aliases; slices stay apart.
        self._pixel = np.array([FIELD_OF_VIEW / size for size in side])
        std = [0.4 * max(size - 1.0, 0.0) for size in self._pixel]
        self._slices = [gaussian_filter(volume[:, :, z].astype(np.float32), std) for z in kept]
        self.report: dict[str, Any] = {
            "source": self.name,
            "found": len(self),
            "used": len(self),
            "skipped": 0,
            "slices": len(kept),
            "variants": variants,
            "pixels": f"complex, {side[0]}x{side[1]}, 99th percentile of the magnitude (central lines) = 1",
        }

    def __len__(self) -> int:
        return len(self._slices) * self._variants

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """float32 (n, H, W, 2)."""
        found = np.empty((len(indices), *self.shape), np.float32)
        for row, index in enumerate(np.asarray(indices, np.int64)):
            found[row] = self._one(int(index))
        return found

    gather_pixels = gather

    def _one(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([152, index])
        height, width, _ = self.shape
        # Rows from the front of the head to its back, columns from left to right.
        v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
        angle = np.deg2rad(ANGLE) * rng.uniform(-1, 1)
        scale = 1 + SCALE * rng.uniform(-1, 1)
        shift = SHIFT * rng.uniform(-1, 1, 2)
        x, y = u * FIELD_OF_VIEW / 2 * scale, -v * FIELD_OF_VIEW / 2 * scale
        where = [
            self._center[0] + np.cos(angle) * x - np.sin(angle) * y + shift[0],
            self._center[1] + np.sin(angle) * x + np.cos(angle) * y + shift[1],
        ]
        size = map_coordinates(self._slices[index // self._variants], where, order=1, cval=0.0)
        size = (np.clip(size, 0, None) / 255.0) ** (1 + GAMMA * rng.uniform(-1, 1))
        weights = np.pi * rng.uniform(-1, 1, 6) * [1, 0.5, 0.5, 0.25, 0.25, 0.25]
        phase = sum(w * p for w, p in zip(weights, (1, u, v, u * v, u**2, v**2), strict=True))
        image = size * np.exp(1j * phase)
        return as_channels(image / central_scale(image))


def open_mni152(argument: str, settings: Settings) -> Mni152Source:
    """`mni152` or `mni152:VARIANTS`.

    Raises:
        ValueError: a number of variants that is none, or channels other than two.
        FileNotFoundError: nilearn is not installed, or carries no such volume.
    """
    if argument and not (argument.isdecimal() and int(argument) >= 1):
        raise ValueError(f"data source 'mni152:{argument}': the number of variants of a slice is 1 or more")
    if settings.rules.channels is not None:
        raise ValueError("data source 'mni152': its images are complex, two channels; leave data.channels 0")
    nibabel, nilearn = require("nibabel", "mni152"), require("nilearn", "mni152")
    path = Path(nilearn.__file__).parent / "datasets" / "data" / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"mni152: nilearn {nilearn.__version__} has no {FILE}; install another, pip install 'nilearn>=0.10,<0.15'"
        )
    volume = np.asarray(nibabel.load(path).dataobj)
    return Mni152Source(volume, settings.rules.image_size or (SIDE, SIDE), int(argument or VARIANTS))
