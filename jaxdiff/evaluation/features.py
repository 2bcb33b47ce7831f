"""What a feature extractor is: a function from images to vectors, and all that changes its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class FeatureExtractor(NamedTuple):
    """Images to feature vectors.

    Attributes:
        name: 'inception_v3', or 'classifier_<dataset>'.
        dimension: of a feature vector.
        preprocessing: everything that changes the features: input range, resize filter, size, sha256 of the
            weights.
        features: uint8 images (N, H, W, C) -> (N, dimension) float32; batches inside, none dropped.
    """

    name: str
    dimension: int
    preprocessing: dict[str, str | int | float | bool]
    features: Callable[[np.ndarray], np.ndarray]
