"""Scores of samples against the held-out images, and how many of them are near copies of the clean training images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.evaluation.classifier import cached_classifier, dataset_name
from jaxdiff.evaluation.feature_network import classifier_features
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.inception import inception_features
from jaxdiff.evaluation.memorization import similarity
from jaxdiff.evaluation.quality import measure
from jaxdiff.experiment.data import load_data, open_clean

LEFT_OUT = ("samples", "reference", "projections")  # of the names of `measure`: the same for all rows
LEAST = 99  # held-out images that a 99th percentile needs


def make_extractor(config: Any, folder: Path, console: Console) -> FeatureExtractor | None:
    """Inception where `config.evaluate.inception` names its weights; else a classifier trained on the data's own labels
    and kept in `folder`; None where there are no labels."""
    if config.evaluate.inception:
        return inception_features(config.evaluate.inception)
    source = open_clean(config)
    if source.labels is None:
        return None
    return classifier_features(
        cached_classifier(source, folder, dataset=dataset_name(source.name), console=console)
    )


def sample_scores(
    config: Any, samples: Mapping[str, np.ndarray], folder: Path, console: Console
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """{name: scores} of samples (uint8), and the held-out images they are measured against, in [-1, 1].

    Args:
      config: of a run that has the clean training images that samples might copy.
      samples: by name, (n, H, W, C).
      folder: where a classifier is kept.
      console: for progress.
    """
    data = load_data(config, console)
    held_out = data.held_out[: config.evaluate.max_images]
    extractor = make_extractor(config, folder, console)
    if extractor is None:
        return {name: {} for name in samples}, held_out
    real = to_bytes(held_out)
    train = extractor.features(to_bytes(data.clean_images()))
    control, scores = extractor.features(real), {}
    for name, images in samples.items():
        found = measure(images, real, extractor, seed=config.evaluate.seed)
        found = {
            key: value
            for key, value in found.items()
            if not key.startswith(LEFT_OUT) and "_projections" not in key
        }
        if len(control) >= LEAST:
            found["near_copies"] = similarity(extractor.features(images), train, control).share
        scores[name] = {key: float(value) for key, value in found.items()}
    return scores, held_out
