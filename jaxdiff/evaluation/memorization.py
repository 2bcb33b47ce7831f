"""Does a model repeat its training images? Similarity of its samples to them, against held-out images.

    s(x) = max over training images t of similarity(phi(x), phi(t))

Similarity is the cosine of the feature vectors, or minus their Euclidean distance. Held-out images are the
control: what they have in common with their nearest training image is what images of this kind have in
common. With s_(1) <= ... <= s_(K) the control's values and r = ceil(0.99 (K + 1)), a sample is *above* where
s > s_(r). If samples are no nearer to the training images than held-out images are (exchangeable), the
number above among n follows a beta-binomial law with parameters (n, K + 1 - r, r), exactly and whatever the
features; the p-value is its upper tail.

Source of the nearest-neighbor measure: Somepalli et al. 2022 (arXiv 2212.03860), Daras et al. 2023 (arXiv
2305.19256); the control and its exact law are the two-sample precedence test (Nelson 1963).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import betabinom, binomtest
from sklearn.preprocessing import normalize

from jaxdiff.evaluation.frechet import checked_features
from jaxdiff.evaluation.neighbors import nearest_neighbors
from jaxdiff.registry import lookup


class Nearest(NamedTuple):
    """Similarity to the nearest training image, and which that is; both (n,)."""

    similarity: np.ndarray
    index: np.ndarray


def nearest_training_image(features: np.ndarray, train: np.ndarray, metric: str = "cosine") -> Nearest:
    """The most similar of the training features (m, d) for each of `features` (n, d).

    Args:
        features, train: feature vectors; flattened images will do.
        metric: 'cosine' (similarity in [-1, 1]) or 'euclidean' (minus the distance).

    Raises:
        ValueError: an unknown metric, other shapes, values that are not finite, or a zero vector under
            'cosine'.
    """
    of_distance = lookup(_METRICS, metric, "metric")
    features, train = (checked_features(v, "nearest_training_image", least=1) for v in (features, train))
    if metric == "cosine":
        if not (np.any(features, axis=1).all() and np.any(train, axis=1).all()):
            raise ValueError("nearest_training_image: the cosine of a zero vector is not defined")
        features, train = normalize(features), normalize(train)
    found = nearest_neighbors(features, train, k=1)
    index = found.indices[:, 0]
    # The search expands the square; exact copies should be at exactly no distance.
    distance = np.linalg.norm(features - train[index], axis=1)
    return Nearest(of_distance(distance), index)


_METRICS = {"cosine": lambda distance: 1 - distance**2 / 2, "euclidean": lambda distance: -distance}


class Similarity(NamedTuple):
    """Samples against their nearest training images.

    Attributes:
        share: of the samples that are above the control's percentile.
        low, high: exact binomial (Clopper-Pearson) interval of the share.
        expected: the share above if samples were like held-out images, (K + 1 - r) / (K + 1).
        p_value: of as many above or more, if they were.
        threshold: the control's percentile, s_(r).
        samples, held_out: `nearest_training_image` of each.
        metric: 'cosine' or 'euclidean'.
    """

    share: float
    low: float
    high: float
    expected: float
    p_value: float
    threshold: float
    samples: Nearest
    held_out: Nearest
    metric: str


def similarity(
    samples: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    metric: str = "cosine",
    percentile: float = 99.0,
    level: float = 0.95,
) -> Similarity:
    """How many samples are nearer to a training image than the held-out images' percentile.

    Args:
        samples, train, held_out: features (n, d), (m, d), (K, d) of one extractor.
        metric: as in `nearest_training_image`.
        percentile: of the control, in (0, 100).
        level: of the interval.

    Raises:
        ValueError: as `nearest_training_image`, or too few held-out images for the percentile (99 need 99).
    """
    found, control = (nearest_training_image(v, train, metric) for v in (samples, held_out))
    return against_control(found, control, metric, percentile, level)


def against_control(
    found: Nearest, control: Nearest, metric: str, percentile: float = 99.0, level: float = 0.95
) -> Similarity:
    """`similarity`, from the similarities of the samples and of the held-out images; raises as it."""
    if not 0 < percentile < 100 or not 0 < level < 1:
        raise ValueError(f"percentile must lie in (0, 100) and level in (0, 1), got {percentile}, {level}")
    total, count = len(found.similarity), len(control.similarity)
    rank = math.ceil(round(percentile / 100 * (count + 1), 9))
    if rank > count:
        least = math.ceil(round(percentile / (100 - percentile), 9))
        raise ValueError(
            f"similarity: the {percentile:g}th percentile of the control needs at least {least} held-out images, "
            f"got {count}"
        )
    threshold = float(np.sort(control.similarity)[rank - 1])
    above = int(np.sum(found.similarity > threshold))
    interval = binomtest(above, total).proportion_ci(level)
    return Similarity(
        share=above / total,
        low=float(interval.low),
        high=float(interval.high),
        expected=(count + 1 - rank) / (count + 1),
        p_value=float(betabinom.sf(above - 1, total, count + 1 - rank, rank)),
        threshold=threshold,
        samples=found,
        held_out=control,
        metric=metric,
    )


def worst_pairs(found: Nearest, count: int) -> np.ndarray:
    """(count, 2): the samples most like a training image, most alike first, and those training images."""
    order = np.argsort(-found.similarity, kind="stable")[:count]
    return np.stack([order, found.index[order]], axis=1)


class Verdict(NamedTuple):
    """`flagged`, and the sentence that says why or why not."""

    flagged: bool
    reason: str


def similarity_verdict(found: Similarity, level: float = 0.01, tolerated: float = 2.0) -> Verdict:
    """Flagged where more samples are above than chance allows and than `tolerated` times the expected share.

    Args:
        found: from `similarity`.
        level: of the test: the probability that samples like held-out images are flagged is below it.
        tolerated: multiple of the expected share below which a significant excess is not flagged either.

    Raises:
        ValueError: level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.01, not 1), got {level}")
    flagged = found.p_value < level and found.share > tolerated * found.expected
    reason = (
        f"{100 * found.share:.2f} % of the samples ({100 * found.low:.2f} to {100 * found.high:.2f} %) are more like "
        f"a training image ({found.metric}) than {100 * (1 - found.expected):.1f} % of the held-out images are; "
        f"{100 * found.expected:.2f} % expected, p = {found.p_value:.2g}, tested at {level:g} and "
        f"{tolerated:g} times the expected share"
    )
    return Verdict(bool(flagged), reason)
