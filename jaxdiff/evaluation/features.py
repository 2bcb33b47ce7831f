"""Features of images: what the Frechet and kernel distances, precision and recall are computed from.

    phi: uint8 images (N, H, W, C) -> (N, d)

Features come from uint8, so that a sample is judged as it would be stored, and so that two sets of images
cannot differ in how they were scaled.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxdiff.data.pixels import to_unit
from jaxdiff.evaluation.devices import split_locally
from jaxdiff.progress import StageProgress


class FeatureExtractor(NamedTuple):
    """A map from images to feature vectors, with everything that must agree before two results are compared."""

    name: str  # 'inception_v3', or 'classifier_<dataset>'
    dimension: int  # of a feature vector
    preprocessing: dict[str, str | int | float | bool]  # everything that changes the features
    features: Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) -> float32 (N, dimension)


def pixel_features(shape: tuple[int, ...]) -> FeatureExtractor:
    """The pixels themselves, in [-1, 1]: for images that no network was trained on.

    Args:
        shape: (H, W, C); images of other shapes are refused with a ValueError.
    """

    def features(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != tuple(shape):
            raise ValueError(f"pixels: uint8 images (N, {shape}) expected, got {images.dtype} {images.shape}")
        return to_unit(images).reshape(len(images), -1)

    return FeatureExtractor("pixels", int(np.prod(shape)), {"input": "uint8 v as v / 127.5 - 1"}, features)


def map_batches(
    function: Callable[[np.ndarray], jax.Array],
    images: np.ndarray,
    batch_size: int = 64,
    progress: str | None = None,
) -> np.ndarray:
    """`function` over all images, a fixed number at a time: float32 (N, d).

    Every batch has the same shape, so a jitted function is compiled once: the last batch is filled up with
    copies of its last image, and their features are cut off again. No image is dropped. A batch is read while
    the next one is computed. It is split over this process's devices where their number divides it.

    Args:
        function: uint8 (batch_size, H, W, C) -> (batch_size, d), each row depending on its own image alone.
        images: uint8 (N, H, W, C), N >= 1.
        batch_size: images in a batch.
        progress: name of a progress bar, shown when there is more than one batch; None: none.

    Raises:
        ValueError: the images are not uint8 or not (N, H, W, C), there are none, or batch_size < 1.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(
            f"features are computed from uint8 images, got {images.dtype}; bring them to 0..255 first"
        )
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"features need images (N, H, W, C), none of these numbers zero; got shape {images.shape}"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    starts = range(0, len(images), batch_size)
    if progress is None or len(starts) == 1:
        return _run(function, images, batch_size, lambda done: None)
    with StageProgress(progress, len(images), unit="images") as bar:
        return _run(function, images, batch_size, bar.update)


def _run(
    function: Callable[[np.ndarray], jax.Array],
    images: np.ndarray,
    batch_size: int,
    report: Callable[[int], None],
) -> np.ndarray:
    results, running = [], None
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        missing = batch_size - len(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
        ahead = function(split_locally(filled))
        if running is not None:
            results.append(np.asarray(running, np.float32))
            report(start)
        running = ahead
    results.append(np.asarray(running, np.float32))
    report(len(images))
    return np.concatenate(results)[: len(images)]
