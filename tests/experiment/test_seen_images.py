"""What each method of a run has learnt from, and how many samples are near copies of it."""

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import betabinom

from configs import default, digits_compare
from jaxdiff.data import open_source
from jaxdiff.data.pixels import to_bytes
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.frechet import frechet_distance, moments
from jaxdiff.evaluation.statistics import save_statistics, source_features, statistics_of
from jaxdiff.experiment import sample_quality
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.seen_images import ImageFeatures, seen_by, views_of

QUIET = Console(quiet=True)


class Numbers:
    """A source of so many images without content."""

    def __len__(self):
        return 5000


@pytest.mark.parametrize(
    ("run", "method", "views"),
    [
        ("all_clean", "clean_only", ()),
        ("clean_only", "clean_only", ()),
        ("views", "views_only", ("low_res", "top", "bottom")),
        ("views", "completed", ("low_res", "top", "bottom")),
        ("shared", "shared", ("low_res", "top", "bottom")),
        ("finetune", "finetune", ("low_res",)),
        ("cascade", "cascade", ("low_res",)),
        ("views", "gaussian", ()),
    ],
)
def test_the_views_of_a_method(run, method, views):
    assert set(views_of(digits_compare.get_config(run), method)) == set(views)


def test_a_network_that_imitated_the_views_has_learnt_from_them_all():
    config = digits_compare.get_config("finetune")
    config.finetune.start = "views_only"
    assert set(views_of(config, "finetune")) == {"low_res", "top", "bottom"}


def test_the_oracle_learns_from_all_others_from_what_is_theirs():
    def rows(run, method):
        return seen_by(digits_compare.get_config(run), method, Numbers(), {})

    oracle = rows("all_clean", "clean_only")
    assert len(oracle.clean) == 3750 and not oracle.behind
    assert not set(oracle.rows) & set(oracle.tuning)
    alone, fused, tuned = (
        rows("clean_only", "clean_only"), rows("shared", "views_only"), rows("finetune", "finetune")
    )  # fmt: skip
    assert len(alone.rows) == 90 and set(alone.rows) == set(fused.clean)
    assert set(tuned.behind) == {"low_res"} and set(tuned.rows) < set(fused.rows)
    # Whatever the oracle sees whole or is tuned on, the others have whole, in part, or are tuned on.
    assert set(fused.rows) | set(fused.tuning) == set(oracle.rows) | set(oracle.tuning)
    for seen in (oracle, alone, fused, tuned):
        assert len(set(seen.rows)) == len(seen.rows) and not set(seen.rows) & set(seen.held_out)
    assert fused.counts()["views"] == {name: len(r) for name, r in fused.behind.items()}


def test_rows_are_those_of_the_data():
    config = digits_compare.get_config("tiny-views")
    data, source = load_data(config, QUIET), open_source("sklearn_digits")
    seen = seen_by(config, "residual", source, data.counts)
    np.testing.assert_array_equal(source.gather(seen.clean), data.clean_images())
    np.testing.assert_array_equal(source.gather(seen.held_out), data.held_out)
    top = source.gather(seen.behind["top"])[:, :4]
    np.testing.assert_allclose(data.views["top"].example(len(top)).y, top, atol=1e-6)


def test_measurements_that_were_brought_have_no_known_images():
    config = digits_compare.get_config("views")
    config.views.top = default.view({}, 1.0)
    config.views.top.source = "measurements:somewhere"
    seen = seen_by(config, "views_only", Numbers(), {"view/top": 321})
    assert seen.unknown == {"top": 321} and set(seen.behind) == {"low_res", "bottom"}
    assert seen.counts()["views"]["top"] == 321


# --- near copies ----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_pixels(monkeypatch):
    """The features are the pixels."""
    extractor = FeatureExtractor(
        "pixels", 64, {}, lambda images: np.asarray(images, np.float32).reshape(len(images), -1)
    )
    monkeypatch.setattr(sample_quality, "make_extractor", lambda *_: extractor)
    return extractor


def comparison():
    config = digits_compare.get_config("tiny-views")
    config.data.update(limit=0, held_out=120)
    return config


def test_copies_of_what_a_row_has_learnt_from_are_counted_and_of_nothing_else(in_pixels, tmp_path):
    config, source = comparison(), open_source("sklearn_digits")
    fused = seen_by(config, "views_only", source, {})
    alone = seen_by(config, "clean_only", source, {})
    behind = fused.behind["bottom"][:40]
    drawn = {
        # Whole images behind a view are copies for the row that has the view, and for no other.
        "fused": to_bytes(source.gather(behind)),
        "alone": to_bytes(source.gather(behind)),
        "clean": to_bytes(source.gather(fused.clean[:20])),
    }
    seen = {"fused": fused, "alone": alone, "clean": alone}
    scores, copies, held_out = sample_quality.sample_scores(config, drawn, seen, tmp_path, QUIET)
    assert held_out.shape == (120, 8, 8, 1) and "sliced_wasserstein" in scores["fused"]
    assert copies["fused"]["share"] == copies["clean"]["share"] == 1.0 and copies["alone"]["share"] < 0.3
    assert (
        copies["fused"]["behind"] == sum(map(len, fused.behind.values())) and copies["alone"]["behind"] == 0
    )
    assert copies["fused"]["clean"] == 32 and copies["fused"]["held_out"] == 120
    # r = ceil(0.99 x 121) = 120: all 40 above the greatest of 120.
    assert copies["fused"]["expected"] == pytest.approx(1 / 121)
    assert copies["fused"]["p_value"] == pytest.approx(betabinom.sf(39, 40, 1, 120))
    assert copies["fused"]["low"] == pytest.approx(0.025 ** (1 / 40))


def test_stored_statistics_take_the_place_of_the_held_out_images(in_pixels, tmp_path):
    config, source = comparison(), open_source("sklearn_digits")
    seen = seen_by(config, "clean_only", source, {})
    drawn = {"row": to_bytes(source.gather(seen.clean[:20]))}
    features = source_features(source, in_pixels, np.arange(500))
    save_statistics(statistics_of(features, in_pixels, "digits", "8 x 8"), tmp_path / "more.npz")
    config.evaluate.statistics = str(tmp_path / "more.npz")
    scores = sample_quality.sample_scores(config, drawn, {"row": seen}, tmp_path, QUIET)[0]["row"]
    ours = moments(in_pixels.features(drawn["row"]))
    assert scores["fd_pixels"] == pytest.approx(frechet_distance(moments(features), ours), rel=1e-4)
    other = in_pixels._replace(preprocessing={"size": 8})
    with pytest.raises(
        ConfigError, match=r"config.evaluate.statistics: .*size: \(absent\) in the statistics"
    ):
        sample_quality.stored_reference(config, other)
    with pytest.raises(ConfigError, match="config.evaluate.statistics: the data has no labels"):
        sample_quality.stored_reference(config, None)
    config.evaluate.statistics = str(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="config.evaluate.statistics: .*none.npz"):
        sample_quality.stored_reference(config, in_pixels)


def test_weights_that_are_not_there_are_named_by_their_key(tmp_path):
    config = comparison()
    config.evaluate.inception = str(tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="config.evaluate.inception: .*none.npz"):
        sample_quality.make_extractor(config, open_source("sklearn_digits"), tmp_path, QUIET)


def test_without_a_control_nothing_is_said(in_pixels, tmp_path):
    config, source = comparison(), open_source("sklearn_digits")
    config.data.held_out = 98
    seen = seen_by(config, "clean_only", source, {})
    images = {"row": to_bytes(source.gather(seen.clean[:12]))}
    assert sample_quality.sample_scores(config, images, {"row": seen}, tmp_path, QUIET)[1] == {"row": {}}


def test_a_mirrored_copy_is_a_copy_where_mirrored_images_were_learnt_from(in_pixels):
    config, source = comparison(), open_source("sklearn_digits")
    found = {}
    for flip in (False, True):
        config.data.flip = flip
        seen = seen_by(config, "clean_only", source, {})
        features = ImageFeatures(source, in_pixels)
        drawn = in_pixels.features(to_bytes(source.gather(seen.clean)[:, :, ::-1]))
        found[flip] = sample_quality.near_copies(drawn, features, seen, 120, 0.95)["share"]
    assert found[True] == 1.0 and found[False] < 0.5


def test_features_are_worked_out_once(in_pixels):
    source, asked = open_source("sklearn_digits"), []

    def counted(images):
        asked.append(len(images))
        return in_pixels.features(images)

    features = ImageFeatures(source, in_pixels._replace(features=counted))
    first = features.of(np.array([5, 3, 9]))
    np.testing.assert_array_equal(features.of(np.array([9, 5, 7]))[:2], first[[2, 0]])
    assert sum(asked) == 4
    np.testing.assert_array_equal(first, in_pixels.features(to_bytes(source.gather(np.array([5, 3, 9])))))
