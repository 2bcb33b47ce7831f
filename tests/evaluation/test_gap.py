"""Share of the gap closed: hand values, pairing, coverage over seeds and images, refusals."""

import numpy as np
import pytest

from jaxdiff.evaluation.bootstrap import over_seeds_and_images, paired_over_seeds, resampled_means
from jaxdiff.evaluation.gap import NoGap, gap_closed


def test_by_hand():
    clean = np.array([[0.0, 2.0], [1.0, 3.0]])
    everything = clean + np.array([[10.0, 10.0], [10.0, 30.0]])
    method = clean + np.array([[5.0, 5.0], [8.0, 16.0]])
    found = gap_closed(method, clean, everything, seed=0)
    assert found["mean"] == pytest.approx((5 + 5 + 8 + 16) / 60)
    assert found["per_seed"] == pytest.approx([0.5, 0.6])
    assert found["low"] <= found["mean"] <= found["high"]
    assert gap_closed(everything, clean, everything, 0) == {
        "mean": 1.0,
        "low": 1.0,
        "high": 1.0,
        "per_seed": [1.0, 1.0],
    }
    assert gap_closed(clean, clean, everything, 0)["high"] == 0.0


def made(rng, seeds=3, images=200):
    """Nats with effects of image (shared by all), seed and their interaction; shares 0.8 of a gap of 100."""
    image = 40 * rng.normal(size=images)
    noise = lambda size: size * rng.normal(size=(seeds, 1)) + size * rng.normal(size=(seeds, images))  # noqa: E731
    clean = 200 + image + noise(2.0)
    return clean + 80 + noise(2.0), clean, clean + 100 + noise(2.0)


def test_what_images_share_cancels():
    found = gap_closed(*made(np.random.default_rng(0), seeds=8), seed=0)
    assert found["low"] < 0.8 < found["high"] and found["high"] - found["low"] < 0.12
    method, clean, _ = made(np.random.default_rng(0))
    paired, alone = paired_over_seeds(method, clean, 0), over_seeds_and_images(method, 0)
    assert paired["high"] - paired["low"] < 0.7 * (alone["high"] - alone["low"])
    assert paired["mean"] == pytest.approx(np.mean(method - clean))
    assert paired["per_seed"] == pytest.approx(list(np.mean(method - clean, axis=1)))


def test_variance_is_that_of_seeds_and_images():
    rng = np.random.default_rng(1)
    seeds, images = 3 * rng.normal(size=(8, 1)), 5 * rng.normal(size=(1, 60))
    draws = resampled_means((seeds + images)[None], 0, 20_000)[:, 0]
    wanted = seeds.var(ddof=1) / 8 + images.var() / 60
    assert draws.var() == pytest.approx(wanted, rel=0.05)
    alone = resampled_means((seeds[:1] + images)[None], 0, 20_000)[:, 0]
    assert alone.var() == pytest.approx(images.var() / 60, rel=0.05), "one seed has no spread"


def test_batches_do_not_change_the_law_and_the_same_seed_gives_the_same():
    values = np.random.default_rng(2).normal(size=(2, 3, 50))
    whole, parts = resampled_means(values, 5, 3000), resampled_means(values, 5, 3000, batch_values=5000)
    assert whole.shape == parts.shape == (3000, 2)
    np.testing.assert_allclose(whole.std(axis=0), parts.std(axis=0), rtol=0.1)
    np.testing.assert_array_equal(whole, resampled_means(values, 5, 3000))


def test_coverage_with_several_seeds():
    hits = 0
    for trial in range(120):
        rng = np.random.default_rng(trial)
        values = 1.0 + rng.normal(size=(6, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(6, 40))
        found = over_seeds_and_images(values, trial, n_resamples=400)
        hits += found["low"] < 1.0 < found["high"]
    assert 0.86 < hits / 120 <= 1.0  # six seeds: t would need 2.57 standard errors, the bootstrap takes 1.96


def test_no_gap_is_refused():
    method, clean, _ = made(np.random.default_rng(3))
    with pytest.raises(NoGap, match="includes zero leaves no gap to close"):
        gap_closed(method, clean, clean + np.random.default_rng(4).normal(size=clean.shape), 0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"method \(3, 4\), clean_only \(3, 5\)") as refused:
        gap_closed(np.ones((3, 4)), np.ones((3, 5)), np.ones((3, 4)), 0)
    assert not isinstance(refused.value, NoGap)  # a mistake is no missing gap
    with pytest.raises(ValueError, match="same seeds and images twice"):
        paired_over_seeds(np.ones((3, 4)), np.ones((2, 4)), 0)
    with pytest.raises(ValueError, match="1 of 8 values are not finite"):
        over_seeds_and_images(np.where(np.arange(8) == 3, np.nan, 1.0).reshape(2, 4), 0)
    with pytest.raises(ValueError, match="at least 1 and 2"):
        over_seeds_and_images(np.ones((3, 1)), 0)
    with pytest.raises(ValueError, match="0.95, not 95"):
        over_seeds_and_images(np.ones((3, 4)), 0, level=95)
