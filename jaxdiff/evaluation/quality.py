"""All measures of sample quality in one call, named for `results.json`.

The names carry the features they were taken in: `fd_mnist`, `kid_mnist`, ... for the classifier of `mnist`;
with Inception `fid`, `kid`, `precision`, ... The sliced Wasserstein distance is in pixels.
"""

from __future__ import annotations

import numpy as np

from jaxdiff.data.pixels import to_unit
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.frechet import expected_noise, frechet_distance, moments
from jaxdiff.evaluation.kid import kernel_distance
from jaxdiff.evaluation.manifold import density_coverage, precision_recall
from jaxdiff.evaluation.sliced import sliced_wasserstein
from jaxdiff.evaluation.statistics import Statistics, require_same_extractor

MANIFOLD_IMAGES = 10_000  # of each kind; all pairs are compared


def metric_name(measure: str, extractor: FeatureExtractor) -> str:
    """'fd' -> 'fd_mnist' for the classifier of mnist, 'fid' for Inception; others 'kid_mnist', 'kid'."""
    if extractor.name.startswith("inception"):
        return {"fd": "fid", "fd_noise": "fid_noise"}.get(measure, measure)
    return f"{measure}_{extractor.name.removeprefix('classifier_')}"


def measure(
    samples: np.ndarray,
    real: np.ndarray,
    extractor: FeatureExtractor,
    reference: Statistics | None = None,
    seed: int = 0,
    projections: int = 512,
) -> dict[str, float]:
    """Every measure of `samples` against real images.

    Args:
        samples: uint8 (n, H, W, C).
        real: uint8 (m, H, W, C); held-out images for an honest number.
        extractor: of the features.
        reference: statistics of more real images, used in place of `real` for the Frechet distance and, where
            it has features, for KID and the manifold measures.
        seed: of the subsets, of KID and the directions.
        projections: of the sliced Wasserstein distance.

    Returns:
        name -> number (see `metric_name`): 'fd', 'fd_noise' (what as many real images would get on average),
        'kid', 'kid_standard_error', 'precision', 'recall', 'density', 'coverage', 'samples' and 'reference'
        (how many of each were compared); and 'sliced_wasserstein', 'sliced_wasserstein_projections'.

    Raises:
        ValueError: images that are not uint8 or of different shapes, fewer than 10 of either, or a reference
            of another extractor.
    """
    samples, real = np.asarray(samples), np.asarray(real)
    for name, images in (("samples", samples), ("real", real)):
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 10:
            raise ValueError(
                f"measure: {name} must be at least 10 uint8 images (N, H, W, C), got {images.dtype} {images.shape}"
            )
    if samples.shape[1:] != real.shape[1:]:
        raise ValueError(f"measure: samples are {samples.shape[1:]}, real images {real.shape[1:]}")
    if reference is not None:
        require_same_extractor(reference, extractor)
    ours = extractor.features(samples)
    theirs = reference.features if reference is not None else None
    if theirs is None:
        theirs = extractor.features(real)
    law = moments(theirs) if reference is None else reference.moments
    kid = kernel_distance(theirs, ours, seed)
    rng = np.random.default_rng(seed)
    x, y = (_some(rng, features) for features in (theirs, ours))
    found = {
        "fd": frechet_distance(law, moments(ours)),
        "fd_noise": expected_noise(law.covariance, law.count, len(ours)),
        "kid": kid["mean"],
        "kid_standard_error": kid["standard_error"],
        **precision_recall(x, y),
        **density_coverage(x, y),
        "samples": len(ours),
        "reference": law.count,
    }
    return {
        **{metric_name(name, extractor): value for name, value in found.items()},
        "sliced_wasserstein": sliced_wasserstein(to_unit(samples), to_unit(real), seed, projections),
        "sliced_wasserstein_projections": projections,
    }


def _some(rng: np.random.Generator, features: np.ndarray) -> np.ndarray:
    return features[np.sort(rng.permutation(len(features))[:MANIFOLD_IMAGES])]
