"""Feature extractors by name: `open_extractor('classifier:runs/features')`."""

from __future__ import annotations

from collections.abc import Callable

from jaxdiff.evaluation.feature_network import classifier_features
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.inception import inception_features
from jaxdiff.registry import lookup

EXTRACTORS: dict[str, Callable[[str], FeatureExtractor]] = {
    "classifier": classifier_features,
    "inception": inception_features,
}


def open_extractor(spec: str) -> FeatureExtractor:
    """The extractor of `classifier:PATH`, a file or directory that `jaxdiff.evaluation.classifier` wrote, or of
    `inception:FILE`, weights that `jaxdiff.evaluation.inception convert` wrote.

    Raises:
        ValueError: an unknown extractor (the message names the nearest), no path, or a bad file.
        FileNotFoundError: no such file.
    """
    prefix, _, path = spec.partition(":")
    opener = lookup(EXTRACTORS, prefix, "feature extractor")
    if not path:
        raise ValueError(f"feature extractor '{prefix}' needs a path, {prefix}:PATH")
    return opener(path)
