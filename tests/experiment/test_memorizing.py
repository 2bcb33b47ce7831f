"""The parts of --mode=memorization that need no trained run; the whole of it is in test_experiment.py."""

import functools
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from configs import digits_compare, digits_residual
from jaxdiff.data import open_source
from jaxdiff.data.pixels import to_bytes
from jaxdiff.diffusion.empirical import empirical_denoiser
from jaxdiff.experiment import dry_run, memorization_attacks, memorizing
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.memorization_plan import make_memorization_plan
from jaxdiff.experiment.memorizing import origin_of, run_memorization
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.seen_images import Seen, seen_by

SHAPE, METHOD = (8, 8, 1), "views_only"
QUIET = Console(quiet=True)
LIMIT = 600  # what lies beyond is seen by nobody


@functools.cache
def source():
    return open_source("sklearn_digits")


def small(**memorization):
    config = digits_residual.get_config("tiny")
    config.data.update(limit=LIMIT, held_out=120)
    config.evaluate.max_images = 120
    config.memorization.update({"method": METHOD, "features": "pixels", "percentile": 99.0, **memorization})
    config.memorization.update(images=40, batch=40)
    config.memorization.denoising.update(sigma=1.0, repeats=1)
    return config


@functools.cache
def plan():
    """config.memorization has no part in it."""
    return make_plan(small(), SHAPE)


@functools.cache
def data():
    return load_data(small(), QUIET)


def file_of(tmp_path, rows):
    path = tmp_path / "samples.npz"
    np.savez(path, images=to_bytes(source().gather(rows)))
    return str(path)


def measured(tmp_path, config, parts=None):
    run = SimpleNamespace(plan=plan(), config=config, data=data(), workdir=tmp_path, console=QUIET)
    parts = parts or Parts(params={"a": np.zeros(3)})
    return run_memorization(run, parts, make_memorization_plan(config, plan()), ["python", "launch.py"])


def test_copies_are_flagged_and_named_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(memorizing, "attack", lambda *_: {"attacks": [], "left_out": []})
    seen = seen_by(small(), METHOD, source(), {})
    rows = np.concatenate([seen.clean[:5], seen.behind["top"][7:40]])
    found = measured(tmp_path, small(samples=file_of(tmp_path, rows)))
    alike = found["similarity"]
    assert alike["share"] == 1.0 and alike["flagged"] and alike["expected"] == pytest.approx(1 / 121)
    assert alike["samples"] == len(rows) and alike["held_out"] == 120 and alike["features"] == "pixels"
    for pair in found["worst"]:
        assert pair["row"] == rows[pair["sample"]] and pair["similarity"] == pytest.approx(1.0)
        assert pair["group"] == ("whole" if pair["sample"] < 5 else "top") and not pair["mirrored"]
    assert found["data"]["clean"] == 60 and set(found["data"]["views"]) == {"top", "bottom", "low_res"}
    other = measured(tmp_path, small(samples=file_of(tmp_path, np.arange(LIMIT, LIMIT + 300))))["similarity"]
    assert not other["flagged"] and other["share"] < 0.05


def test_attacks_tell_what_was_learnt_whole_and_leave_alone_what_was_not(tmp_path, monkeypatch):
    """A denoiser that knows the clean images by heart, and nothing of what is behind the views."""
    denoiser = empirical_denoiser(data().clean_images())
    monkeypatch.setattr(memorization_attacks, "method_denoiser", lambda *_: denoiser)
    config = small(samples=file_of(tmp_path, np.arange(LIMIT, LIMIT + 20)))
    config.memorization.completion.update(steps=6, cg_steps=4)
    found = {(entry["name"], entry["group"]): entry for entry in measured(tmp_path, config)["attacks"]}
    assert set(found) == {(a, g) for a in ("denoising", "completion") for g in ("whole", "behind views")}
    for name in ("denoising", "completion"):
        assert found[name, "whole"]["auc"] > 0.9 and found[name, "whole"]["flagged"]
        assert not found[name, "behind views"]["flagged"] and found[name, "behind views"]["auc"] < 0.75
        assert found[name, "whole"]["images"] == found[name, "whole"]["held_out"] == 40
    assert found["denoising", "whole"]["total"] == 60


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    calls = []

    def attack(name):
        def run(apply, parts, train, held_out, *_):
            calls.append(name)
            return SimpleNamespace(train=np.arange(len(train)), held_out=np.arange(len(held_out)) + 0.5)

        return run

    for name in ("denoising", "completion"):
        monkeypatch.setattr(memorization_attacks, f"{name}_attack", attack(name))
    config = small(samples=file_of(tmp_path, np.arange(LIMIT, LIMIT + 20)))
    first = measured(tmp_path, config)
    page = tmp_path / "memorization.html"
    written = page.stat().st_mtime_ns
    assert (
        calls == ["denoising", "completion"]
        and json.loads((tmp_path / "memorization.json").read_text()) == first
    )
    assert measured(tmp_path, config) == first and page.stat().st_mtime_ns == written
    # Another percentile: the page is made anew, the attacks are not.
    config.memorization.percentile = 90.0
    assert measured(tmp_path, config)["similarity"]["expected"] == pytest.approx(12 / 121)
    assert page.stat().st_mtime_ns > written and len(calls) == 2
    config.memorization.denoising.sigma = 3.0
    measured(tmp_path, config)
    assert calls[2:] == ["denoising"]
    # Other parameters: everything.
    measured(tmp_path, config, Parts(params={"a": np.ones(3)}))
    assert calls[3:] == ["denoising", "completion"]


def test_few_images_are_not_attacked_and_it_is_said(tmp_path):
    run = SimpleNamespace(plan=plan(), config=small(), data=data(), workdir=tmp_path, console=QUIET)
    seen = Seen(np.arange(9), {}, {"scans": 50}, np.empty(0, int), np.arange(9, 129))
    asked = make_memorization_plan(small(), plan())
    found = memorization_attacks.attack(run, Parts(), "", asked, source(), seen)
    assert found == {"attacks": [], "left_out": ["'whole' has 9 images; an attack needs 10"]}
    config = digits_compare.get_config("tiny-cascade")
    config.memorization.method = "cascade"
    asked = make_memorization_plan(config, make_plan(config, SHAPE))
    found = memorization_attacks.attack(run, Parts(), "", asked, source(), seen)
    assert found["attacks"] == [] and "the cascade has no denoiser of images" in found["left_out"][0]


def test_the_nearest_image_is_named_by_what_was_seen_of_it():
    seen = Seen(
        np.array([10, 11]), {"a": np.array([20]), "b": np.array([30, 31])}, {}, *2 * [np.empty(0, int)]
    )
    expected = [(10, "whole"), (11, "whole"), (20, "a"), (30, "b"), (31, "b")]
    assert [origin_of(seen, i) for i in range(5)] == [(*pair, False) for pair in expected]
    assert [origin_of(seen, 5 + i) for i in range(5)] == [(*pair, True) for pair in expected]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "residul"}, "config.memorization.method: .*did you mean 'residual'"),
        ({"percentile": 0.99}, None),
        ({"percentile": 100.0}, "percentile: between 0 and 100"),
        (
            {"percentile": 99.5},
            "the 99.5th of the control needs 199 held-out images .* there are 120; nearest valid: 99.1",
        ),
        ({"images": 5}, "config.memorization.images: 10 or more of each kind, or 0"),
        ({"metric": "cosin"}, "config.memorization.metric: .*did you mean 'cosine'"),
        ({"count": 0}, "config.memorization.count: must be at least 1"),
        ({"denoising.sigma": 0.0}, "config.memorization.denoising.sigma: must be above 0"),
        ({"completion.operator.name": "pixel_msk"}, "did you mean 'pixel_mask'"),
        ({"completion.operator.p": 1.5}, "config.memorization.completion.operator: "),
        ({"completion.steps": 1}, "config.memorization.completion.steps"),
        ({"samples": "nowhere.npz"}, "config.memorization.samples: no such file: nowhere.npz"),
    ],
)
def test_wrong_settings_are_named(change, said):
    config = small()
    config.memorization.update_from_flattened_dict(change)
    if said is None:
        make_memorization_plan(config, plan())  # the 0.99th percentile is odd, and there
        return
    with pytest.raises(ConfigError, match=said):
        make_memorization_plan(config, plan())


def test_the_nearest_valid_percentile_is_valid():
    config = small(percentile=99.1)
    assert make_memorization_plan(config, plan()).percentile == 99.1


def test_a_file_that_holds_no_such_images_is_named(tmp_path):
    path = tmp_path / "wrong.npz"
    np.savez(path, images=np.zeros((3, 4, 4, 1), np.uint8))
    with pytest.raises(
        ConfigError, match=r"wrong.npz has uint8 \(3, 4, 4, 1\); uint8 images \('N', 8, 8, 1\)"
    ):
        measured(tmp_path, small(samples=str(path)))


def test_a_dry_run_says_what_would_be_measured_and_what_is_wrong(tmp_path):
    stream = io.StringIO()
    config = small(count=7)
    config.methods, config.memorization.method = ("clean_only",), "clean_only"
    config.views = {}
    said = Console(file=stream, width=200)
    assert dry_run.run(config, "x.py", tmp_path / "run", "memorization", said) == 0
    text = " ".join(stream.getvalue().split())
    assert "7 samples of 'clean_only' against 120 held-out images" in text and "memorization.html" in text
    assert "it would be refused: not trained yet: clean_only" in text
    config.memorization.percentile = 99.9
    with pytest.raises(ConfigError, match="nearest valid: 99.1"):
        dry_run.run(config, "x.py", tmp_path / "run", "memorization", QUIET)
    assert not (tmp_path / "run").exists()
