"""Reference statistics come back as they were, and are refused for features of another making."""

import numpy as np
import pytest

from jaxdiff.data import open_source
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.statistics import (
    load_statistics,
    main,
    require_same_extractor,
    save_statistics,
    source_features,
    statistics_of,
)

MADE = {"input": "uint8", "resize": "bilinear", "weights_sha256": "ab12"}
EXTRACTOR = FeatureExtractor("classifier_toy", 3, MADE, lambda x: x.reshape(len(x), -1)[:, :3].astype("f4"))


def _statistics(keep=True):
    features = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    return statistics_of(features, EXTRACTOR, "npz:toy", "as they are", keep), features


@pytest.mark.parametrize("keep", [True, False])
def test_they_come_back(tmp_path, keep):
    found, features = _statistics(keep)
    save_statistics(found, tmp_path / "deep" / "toy.npz")
    again = load_statistics(tmp_path / "deep" / "toy.npz", EXTRACTOR)
    np.testing.assert_array_equal(again.moments.mean, features.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(again.moments.covariance, np.cov(features.astype(np.float64).T), rtol=1e-12)
    assert again.moments.count == 50 and again.moments.mean.dtype == np.float64
    if keep:
        np.testing.assert_array_equal(again.features, features)
    assert (again.features is not None) == keep
    assert (again.extractor, again.preprocessing) == ("classifier_toy", MADE)
    assert (again.source, again.pixels) == ("npz:toy", "as they are")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["toy.npz"]


def test_another_preprocessing_is_refused_by_name(tmp_path):
    found, _ = _statistics()
    save_statistics(found, tmp_path / "toy.npz")
    other = EXTRACTOR._replace(preprocessing={**MADE, "resize": "box", "antialias": True})
    with pytest.raises(ValueError) as error:
        load_statistics(tmp_path / "toy.npz", other)
    text = str(error.value)
    assert "resize: bilinear in the statistics, box in the extractor" in text
    assert "antialias: (absent) in the statistics, True in the extractor" in text
    assert "weights" not in text and "input" not in text and "toy.npz" in text
    with pytest.raises(ValueError, match="name: classifier_toy in the statistics, inception_v3"):
        require_same_extractor(found, EXTRACTOR._replace(name="inception_v3"))
    with pytest.raises(ValueError, match="dimension: 3 in the statistics, 4"):
        require_same_extractor(found, EXTRACTOR._replace(dimension=4))


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "toy.npz"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_statistics(path)
    save_statistics(_statistics()[0], path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        load_statistics(path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="not jaxdiff feature statistics, or damaged"):
        load_statistics(path)
    np.savez(path, metadata=np.asarray('{"format": "jaxdiff classifier", "version": 1}'))
    with pytest.raises(ValueError, match="it is jaxdiff classifier"):
        load_statistics(path)
    with pytest.raises(ValueError, match=r"makes features \(n, 3\)"):
        statistics_of(np.zeros((5, 4)), EXTRACTOR, "", "")


def test_features_of_a_source_in_its_order():
    source = open_source("sklearn_digits")
    rows = np.array([3, 1700, 8])
    expected = np.rint((source.gather(rows) + 1) * 127.5).reshape(3, -1)[:, :3]
    np.testing.assert_array_equal(source_features(source, EXTRACTOR, rows), expected)
    assert source_features(source, EXTRACTOR).shape == (1797, 3)


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    for arguments, message in (
        (["sklearn_digits", "out.txt", "--features", "classifier:x"], "must end in .npz"),
        (["sklearn_digits", "out.npz", "--features", "clasifier:x"], "did you mean 'classifier'"),
        (["sklearn_digits", "out.npz", "--features", "classifier"], "needs a path"),
        (["sklearn_digits", "out.npz", "--features", f"classifier:{tmp_path}"], "no classifier_*.npz there"),
        (["sklearn_digits", "out.npz", "--features", f"classifier:{tmp_path}/a.npz"], "no such file"),
        (["sklearn_digits", "out.npz", "--features", "classifier:x", "--limit", "1"], "at least 2"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
