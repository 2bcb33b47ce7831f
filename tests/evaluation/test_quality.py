"""All measures together: their names, what they are against, and that each gets worse when the samples do."""

import numpy as np
import pytest

from jaxdiff.data import open_source
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.frechet import frechet_distance, moments
from jaxdiff.evaluation.quality import measure, metric_name
from jaxdiff.evaluation.statistics import statistics_of

MIXING = np.random.default_rng(0).standard_normal((64, 12)) / 64
EXTRACTOR = FeatureExtractor(
    "classifier_toy", 12, {"mixing": "seed 0"}, lambda x: (x.reshape(len(x), -1) @ MIXING).astype(np.float32)
)
NAMES = "fd fd_noise kid kid_standard_error precision recall density coverage samples reference"


@pytest.fixture(scope="module")
def images():
    pixels = open_source("sklearn_digits").gather(np.random.default_rng(1).permutation(1797)[:1200])
    return np.rint((pixels + 1) * 127.5).astype(np.uint8)


def _noisy(images, std):
    noise = np.random.default_rng(2).normal(0, std, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def test_names_and_numbers(images):
    found = measure(images[:400], images[400:800], EXTRACTOR, seed=3)
    expected = {f"{name}_toy" for name in NAMES.split()}
    assert set(found) == expected | {"sliced_wasserstein", "sliced_wasserstein_projections"}
    assert all(isinstance(value, float | int) and np.isfinite(value) for value in found.values())
    a, b = (EXTRACTOR.features(x) for x in (images[:400], images[400:800]))
    assert found["fd_toy"] == frechet_distance(moments(b), moments(a))
    assert found["fd_toy"] < 2 * found["fd_noise_toy"]  # real against real
    assert abs(found["kid_toy"]) < 4 * found["kid_standard_error_toy"]
    assert found == measure(images[:400], images[400:800], EXTRACTOR, seed=3)


def test_names_of_inception():
    inception = EXTRACTOR._replace(name="inception_v3")
    assert [metric_name(m, inception) for m in ("fd", "fd_noise", "kid")] == ["fid", "fid_noise", "kid"]
    assert metric_name("fd", EXTRACTOR) == "fd_toy"


def test_every_measure_sees_noise(images):
    real = images[400:800]
    good, bad, worse = (measure(_noisy(images[:400], std), real, EXTRACTOR) for std in (0, 40, 120))
    for name, better_when_small in (
        ("fd_toy", 1),
        ("kid_toy", 1),
        ("sliced_wasserstein", 1),
        ("coverage_toy", -1),
    ):
        values = [better_when_small * found[name] for found in (good, bad, worse)]
        assert values == sorted(values) and values[0] < values[2], name


def test_a_collapsed_model_has_precision_and_no_recall(images):
    few = np.repeat(images[:8], 50, axis=0)
    found = measure(_noisy(few, 3), images[400:800], EXTRACTOR)
    assert found["precision_toy"] > 0.7 and found["recall_toy"] < 0.2 and found["coverage_toy"] < 0.5


def test_a_reference_takes_the_place_of_the_real_images(images):
    samples, real, more = images[:100], images[100:200], images[200:1200]
    features = EXTRACTOR.features(more)
    without, with_features = (
        statistics_of(features, EXTRACTOR, "toy", "as they are", keep) for keep in (False, True)
    )
    alone = measure(samples, real, EXTRACTOR)
    found = measure(samples, real, EXTRACTOR, without)
    assert (alone["reference_toy"], found["reference_toy"]) == (100, 1000)
    assert found["fd_toy"] == frechet_distance(moments(features), moments(EXTRACTOR.features(samples)))
    assert found["kid_toy"] == alone["kid_toy"]
    assert measure(samples, real, EXTRACTOR, with_features)["kid_toy"] != alone["kid_toy"]
    assert found["sliced_wasserstein"] == alone["sliced_wasserstein"]
    other = EXTRACTOR._replace(preprocessing={"mixing": "seed 1"})
    with pytest.raises(ValueError, match="mixing: seed 0 in the statistics, seed 1"):
        measure(samples, real, other, without)


def test_bad_input_is_named(images):
    with pytest.raises(ValueError, match="samples must be at least 10 uint8 images"):
        measure(images[:50] / 255.0, images[:50], EXTRACTOR)
    with pytest.raises(ValueError, match="real must be at least 10"):
        measure(images[:50], images[:9], EXTRACTOR)
    with pytest.raises(ValueError, match=r"samples are \(4, 8, 1\), real images \(8, 8, 1\)"):
        measure(images[:50, :4], images[:50], EXTRACTOR)
