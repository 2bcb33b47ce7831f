"""Parts of an experiment's data: what the reserved examples are for, and what a leak would do."""

from functools import partial

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import default, digits_compare
from jaxdiff.data import hash_split
from jaxdiff.diffusion.empirical import empirical_denoiser
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation.attacks import attack_verdict, denoising_attack
from jaxdiff.evaluation.memorization import similarity, similarity_verdict
from jaxdiff.experiment import splitting
from jaxdiff.experiment.checks import ConfigError, check_names
from jaxdiff.experiment.compare import clean_counts
from jaxdiff.experiment.data import load_data
from jaxdiff.sampling import sample

TOTAL = 5000


def parts_of(run, clean=100, unused_clean="views", **views):
    """The parts of a run of the comparison on 5,000 digits."""
    config = digits_compare.get_config(run)
    config.data.unused_clean = unused_clean
    if run != "all_clean":
        config.data.update(clean_counts(clean, 0.1))
    for name, examples in views.items():
        config.views[name].examples = examples
    return splitting.split_parts(config, TOTAL)


def of_views(parts):
    return {name: set(rows) for name, rows in parts.items() if name.startswith("view/")}


def learnt_from(parts):
    return set(
        np.concatenate(
            [rows for name, rows in parts.items() if name not in ("held_out", "reference", "unused")]
        )
    )


def test_unused_examples_become_views_and_nothing_else_moves():
    without, dealt = parts_of("shared", unused_clean="none"), parts_of("shared")
    for name in ("held_out", "reference", "tuning", "clean"):
        np.testing.assert_array_equal(dealt[name], without[name])
    for name, rows in of_views(without).items():
        assert rows < of_views(dealt)[name]
        np.testing.assert_array_equal(dealt[name][: len(rows)], without[name])
    assert len(without["unused"]) == 400 and len(dealt["unused"]) == 0
    assert sorted(np.concatenate(list(dealt.values()))) == list(range(TOTAL))
    # As the shares say, up to chance: four standard deviations.
    for name, share in (("low_res", 0.2), ("top", 0.4), ("bottom", 0.4)):
        more = len(dealt[f"view/{name}"]) - len(without[f"view/{name}"])
        assert abs(more - 400 * share) < 4 * np.sqrt(400 * share * (1 - share))


def test_the_oracle_sees_the_same_images():
    oracle = parts_of("all_clean")
    for clean in (50, 100, 500):
        rivals = parts_of("shared", clean)
        assert learnt_from(rivals) == learnt_from(oracle)
        for name in ("held_out", "reference"):
            np.testing.assert_array_equal(rivals[name], oracle[name])
    assert learnt_from(parts_of("shared", unused_clean="none")) < learnt_from(oracle)


def test_views_with_fewer_clean_examples_hold_those_with_more():
    fewer, some, many = (of_views(parts_of("shared", clean)) for clean in (50, 100, 500))
    for name in many:
        assert many[name] < some[name] < fewer[name]


def test_a_view_that_asks_for_a_count_has_it():
    dealt = parts_of("shared", top=1000.0)
    assert len(dealt["view/top"]) == 1000
    assert len(dealt["unused"]) == pytest.approx(160, abs=4 * np.sqrt(400 * 0.24))  # two in five are nobody's


def test_another_word_for_it_is_named():
    config = digits_compare.get_config("shared")
    config.data.unused_clean = "view"
    with pytest.raises(ConfigError, match=r"config.data.unused_clean.*views"):
        check_names(config)


# --- a leak ---------------------------------------------------------------------------------------------------------

GRID = karras_schedule(10, 0.02, 20.0)
LEAKED = 50


def leaking(n, seed, sizes):
    """`hash_split` with a mistake: the first held-out examples are clean examples too."""
    parts = hash_split(n, seed, sizes)
    return {**parts, "clean": np.concatenate([parts["clean"], parts["held_out"][:LEAKED]])}


def small_digits():
    config = default.get_config()
    config.data.update(source="sklearn_digits", clean=50, tuning=5, held_out=400)
    config.methods = ("clean_only",)
    return config


def measures(data):
    """Similarity and attack about the first held-out images, the others the control, of the exact denoiser of the
    clean training images."""
    denoiser = empirical_denoiser(data.clean_images())
    asked, control = data.held_out[:LEAKED], data.held_out[LEAKED:]
    noise = GRID[0] * jax.random.normal(jax.random.key(0), (200, *data.image_shape))
    drawn = np.asarray(jax.jit(partial(sample, denoiser, sigmas=GRID))(noise))
    flat = [images.reshape(len(images), -1) for images in (drawn, asked, control)]
    attack = denoising_attack(
        lambda _, x, sigma: denoiser(x, sigma), (), asked, control, sigma=1.0, seed=0, repeats=2
    )
    return similarity(*flat, "euclidean"), attack


def test_a_leak_fails_the_split_and_raises_memorization(monkeypatch):
    console = Console(quiet=True)
    honest = measures(load_data(small_digits(), console))
    monkeypatch.setattr(splitting, "hash_split", leaking)
    with pytest.raises(ValueError, match=f"'held_out' and 'clean' have {LEAKED} examples in common"):
        load_data(small_digits(), console)
    # Had nobody checked, the measures would have told.
    monkeypatch.setattr(splitting, "require_disjoint", lambda parts: None)
    leaked = measures(load_data(small_digits(), console))
    assert leaked[0].share > honest[0].share + 0.3 and leaked[1].auc > honest[1].auc + 0.3
    assert [similarity_verdict(found[0]).flagged for found in (honest, leaked)] == [False, True]
    assert [attack_verdict(found[1]).flagged for found in (honest, leaked)] == [False, True]
