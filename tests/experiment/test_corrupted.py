"""Corrupted data in the experiment: every method as a view, alone and composed, on tiny budgets."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import default, digits, digits_ambient, digits_everything, digits_noisy_mix
from jaxdiff.experiment import command
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data, training_data
from jaxdiff.experiment.learners import valid_from
from jaxdiff.experiment.plan import make_plan


def run(config, workdir, mode="all"):
    return command.main(config, "tiny.py", str(workdir), mode, False, ["python", "launch.py"])


def results_of(config, workdir):
    assert run(config, workdir) == 0
    return json.loads((workdir / "results.json").read_text())


def small(**views):
    """Tiny digits with these views, 24 clean images and nothing composed."""
    config = digits.tiny(digits.get_config())
    config.data.clean, config.data.tuning = 24, 16
    for name, view in views.items():
        config.views[name] = view
    return config


@pytest.mark.slow
def test_nothing_clean_is_needed_to_learn_from_masked_data(tmp_path):
    results = results_of(digits_ambient.get_config("tiny"), tmp_path)
    assert set(results["methods"]) == {"gaussian", "view/masked"}
    assert results["data"]["counts"] | {"clean": 0, "tuning": 0} == results["data"]["counts"]
    assert np.isfinite(results["methods"]["view/masked"]["nats_over_gaussian"]["mean"])
    assert not results["stages"]["view/masked"]["tuning"]["step"]  # no clean image: nothing to stop early by
    assert (tmp_path / "report.html").stat().st_size > 20_000
    config = digits_ambient.get_config("tiny")
    config.sample.count = 3
    assert run(config, tmp_path, "sample") == 0
    assert (tmp_path / "samples" / "view_masked_3_seed0.npz").exists()


@pytest.mark.slow
def test_everything_at_once_is_composed(tmp_path):
    results = results_of(digits_everything.get_config("tiny"), tmp_path)
    views = ("view/masked", "view/noisy", "view/watermarked")  # low_res has no denoiser of images
    assert set(results["methods"]) >= {"gaussian", *views, "views_only", "residual"}
    # Below the noise of its own data a view has no say.
    weights = np.asarray(results["fusion_weights"]["weights"]["noisy"])
    assert weights.shape == (5,)


@pytest.mark.slow
def test_every_method_learns_a_view_and_every_rival_runs(tmp_path):
    config = small(
        low_res=default.view({"name": "avg_pool", "factor": 2}, 40),
        blurred=default.view({"name": "gaussian_blur", "std": 0.8}, 40, "em", 0.1),
        lines=default.view({"name": "scan_lines", "p": 0.4}, 40, "gsure", 0.1),
        jpeg=default.view({"name": "identity"}, 40, "omni"),
    )
    config.views.jpeg.damage.update(name="jpeg", quality=5)
    config.views.jpeg.sigma_min = -1.0
    config.views.jpeg.tolerance = 0.45
    config.classifier.train.steps = 6
    config.methods = ("views_only", "residual", "completed", "clean_only", "finetune", "cascade")
    config.clean_only.grid = ((0.0, 0.0), (0.1, 0.01))
    for em in (config.views.blurred.em, config.completed.em):
        em.update(laps=2, gaussian_laps=2, rank=4, examples=16, batch=16, steps=3)
    results = results_of(config, tmp_path)
    wanted = {"view/blurred", "view/lines", "view/jpeg", *config.methods}
    assert wanted <= set(results["methods"])
    for name in wanted:
        assert np.isfinite(results["methods"][name]["nats_over_gaussian"]["mean"]), name
    assert results["views"]["jpeg"]["sigma_min"] > 0
    assert {"view/blurred/lap1", "completed/lap1", "clean_only/1", "finetune/first"} <= set(results["stages"])
    assert "completed_minus_residual" in results["comparisons"]


def test_a_mixture_has_clean_rows_with_no_noise_and_noisy_rows_with_theirs():
    config = digits_noisy_mix.get_config("tiny")
    data = load_data(config, None)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    stage = training_data(plan.views[0], data, 2**30, 0.0)
    batch = stage.dataset.take(np.arange(stage.dataset.size))
    assert np.sum(batch.sigma_y == 0) == 24 and np.unique(batch.sigma_y[batch.sigma_y > 0]) == np.float32(0.5)
    clean = {row.tobytes() for row in data.clean_images()}
    assert {row.tobytes() for row in batch.y[batch.sigma_y == 0]} == clean


def test_real_measurements_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        image = rng.integers(0, 255, (8, 8), np.uint8)
        mask = np.where(rng.random((8, 8)) < 0.5, 255, 0).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"{number}.mask.png")
    view = default.view({"name": "identity"}, 1.0, "ambient")
    view.operator = {}
    view.source = f"folder:{tmp_path}"
    config = small(real=view)
    data = load_data(config, None)
    assert data.counts["view/real"] == 12 and data.operators["real"].name == "pixel_mask"
    batch = data.views["real"].example(12)
    assert not batch.y[~np.broadcast_to(batch.params["mask"], batch.y.shape)].any()
    config.views.real.operator = {"name": "pixel_mask", "p": 0.5}
    assert run(config, tmp_path / "run") == 2


def test_noise_that_measurements_bring_bounds_where_their_view_is_valid(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "noisy.npz",
        y=rng.normal(size=(30, 8, 8, 1)).astype(np.float32),
        operator=json.dumps({"name": "identity", "in_shape": [8, 8, 1]}),
        sigma_y=rng.uniform(0.3, 0.6, 30).astype(np.float32),
    )
    view = default.view({"name": "identity"}, 1.0, "tweedie")
    view.operator = {}
    view.source = f"npz:{tmp_path / 'noisy.npz'}"
    config = small(noisy=view)
    data = load_data(config, None)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    assert 0.3 <= plan.views[0].sigma_y < 0.4
    assert valid_from(plan.views[0], 0.0) == pytest.approx(plan.views[0].sigma_y * (4 / 3) ** 0.5)
    config.views.noisy.method = "denoising"
    with pytest.raises(ConfigError, match="use 'tweedie', 'gsure' or 'em'"):
        make_plan(config, data.image_shape, data.operators, data.noise)


def test_views_are_valid_where_they_were_taught():
    def low(view):
        plan = make_plan(small(v=view), (8, 8, 1))
        return valid_from(plan.views[0], 0.7)

    noisy = default.view({"name": "identity"}, 20, "tweedie", 0.5)
    assert low(noisy) == pytest.approx(0.5 * (4 / 3) ** 0.5)
    noisy.with_clean = True
    assert low(noisy) == 0.0
    assert low(default.view({"name": "identity"}, 20, "omni")) == 0.7
    assert low(default.view({"name": "pixel_mask", "p": 0.5}, 20, "ambient")) == 0.0


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (default.view({"name": "gaussian_blur", "std": 1.0}, 20, "ambient"), "use 'gsure' or 'em'"),
        (default.view({"name": "pixel_mask", "p": 0.5}, 20, "tweedie", 0.1), "use 'ambient'"),
        (default.view({"name": "pixel_mask", "p": 0.5}, 20), "config.views.v.method = 'ambient'"),
        (default.view({"name": "identity"}, 20, "denoising", 0.1), "Use 'tweedie'"),
    ],
)
def test_a_method_that_cannot_learn_from_an_operator_says_what_can(view, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(small(v=view), (8, 8, 1))


def test_clean_data_are_asked_for_by_those_who_need_them():
    config = small(v=default.view({"name": "identity"}, 20))
    config.data.clean = 0
    make_plan(config, (8, 8, 1))  # a view alone needs none: nats are counted from the reference images
    config.methods = ("clean_only",)
    with pytest.raises(ConfigError, match="config.data.clean: at least 2 are needed by methods 'clean_only'"):
        make_plan(config, (8, 8, 1))
