"""Scores of samples against the held-out images, and how many of them are near copies of what was learnt from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.data.sources import Source
from jaxdiff.evaluation.classifier import cached_classifier, dataset_name
from jaxdiff.evaluation.feature_network import classifier_features
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.inception import inception_features
from jaxdiff.evaluation.memorization import similarity
from jaxdiff.evaluation.quality import measure
from jaxdiff.evaluation.statistics import Statistics, load_statistics
from jaxdiff.experiment.checks import ConfigError, at
from jaxdiff.experiment.data import open_clean
from jaxdiff.experiment.seen_images import ImageFeatures, Seen

LEFT_OUT = ("samples", "reference", "projections")  # of the names of `measure`: the same for all rows
LEAST = 99  # held-out images that a 99th percentile needs


def make_extractor(config: Any, source: Source, folder: Path, console: Console) -> FeatureExtractor | None:
    """Inception where `config.evaluate.inception` names its weights; else a classifier trained on the data's own labels
    and kept in `folder`; None where there are no labels.

    Raises:
      ConfigError: the weights cannot be read.
    """
    if config.evaluate.inception:
        try:
            return inception_features(config.evaluate.inception)
        except (FileNotFoundError, ValueError) as error:
            raise at("evaluate.inception", error) from None
    if source.labels is None:
        return None
    return classifier_features(
        cached_classifier(source, folder, dataset=dataset_name(source.name), console=console)
    )


def stored_reference(config: Any, extractor: FeatureExtractor | None) -> Statistics | None:
    """The statistics that `config.evaluate.statistics` names; None where it names none.

    Raises:
      ConfigError: they cannot be read, or were made with other features than the samples would be.
    """
    path = config.evaluate.statistics
    if not path:
        return None
    if extractor is None:
        raise ConfigError(
            "config.evaluate.statistics: the data has no labels to train a classifier on; name Inception's weights in "
            "config.evaluate.inception too"
        )
    try:
        return load_statistics(path, extractor)
    except (FileNotFoundError, ValueError) as error:
        raise at("evaluate.statistics", error) from None


def near_copies(
    samples: np.ndarray, features: ImageFeatures, seen: Seen, most: int, level: float
) -> dict[str, float | int]:
    """How many of the samples are nearer to an image that was learnt from than the held-out images' 99th percentile.

    Args:
      samples: features (n, d).
      features: of the source's images.
      seen: by the row that drew them.
      most: held-out images, the control.
      level: of the interval.

    Returns:
      'share', 'low', 'high', 'expected', 'p_value' (see `evaluation.memorization`), 'samples', and how many images the
      samples were held against: 'clean', 'behind', 'held_out'; {} where there are too few held-out images, or nothing
      that was learnt from is known.
    """
    held_out = seen.held_out[:most]
    if len(held_out) < LEAST or not len(seen.rows):
        return {}
    found = similarity(samples, features.of_training(seen), features.of(held_out), level=level)
    said = {name: float(getattr(found, name)) for name in ("share", "low", "high", "expected", "p_value")}
    behind = sum(map(len, seen.behind.values()))
    counts = {"clean": len(seen.clean), "behind": behind, "unknown": sum(seen.unknown.values())}
    return said | {"samples": len(samples), "held_out": len(held_out)} | counts


def sample_scores(
    config: Any,
    samples: Mapping[str, np.ndarray],
    seen: Mapping[str, Seen],
    folder: Path,
    console: Console,
) -> tuple[dict[str, dict[str, float]], dict[str, dict], np.ndarray]:
    """{name: scores} and {name: near copies} of samples, and the held-out images, in [-1, 1].

    Args:
      config: of a run with the source and the held-out images of all.
      samples: by name, uint8 (n, H, W, C).
      seen: by name, what each has learnt from.
      folder: where a classifier is kept.
      console: for progress.
    """
    source, settings = open_clean(config), config.evaluate
    held_out = source.gather(next(iter(seen.values())).held_out[: settings.max_images])
    extractor = make_extractor(config, source, folder, console)
    reference = stored_reference(config, extractor)
    if extractor is None:
        return {name: {} for name in samples}, {name: {} for name in samples}, held_out
    real, features = to_bytes(held_out), ImageFeatures(source, extractor, console)
    scores, copies = {}, {}
    for name, images in samples.items():
        found = measure(images, real, extractor, reference, settings.seed)
        scores[name] = {
            key: float(value)
            for key, value in found.items()
            if not key.startswith(LEFT_OUT) and "_projections" not in key
        }
        drawn = extractor.features(images)
        copies[name] = near_copies(drawn, features, seen[name], settings.max_images, settings.level)
    return scores, copies, held_out
