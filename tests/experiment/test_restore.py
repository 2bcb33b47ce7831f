"""--mode=restore: draws against the exact posterior of a Gaussian, resuming, real measurements, tiles, errors."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from configs import default, digits_residual
from jaxdiff import operators
from jaxdiff.data.measure import measure
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.evaluation.restoration_law import Mixture, condition, matrix_of
from jaxdiff.experiment import restore_results
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.priors import Prior, told_estimate
from jaxdiff.experiment.restore_input import open_input
from jaxdiff.experiment.restore_plan import make_restore_plan
from jaxdiff.experiment.restore_results import run_restore, served
from jaxdiff.experiment.restoring import refusal, restore_all
from jaxdiff.experiment.stages import Run
from jaxdiff.sampling import GUIDANCES
from jaxdiff.training.stopping import StopRequest

SHAPE, SIZE = (8, 8, 1), 64
RNG = np.random.default_rng(0)
PLACE = np.stack(np.meshgrid(range(8), range(8)), -1).reshape(SIZE, 2)
COVARIANCE = 0.2 * np.exp(-np.linalg.norm(PLACE[:, None] - PLACE[None], axis=-1) / 2)
MEAN = np.linspace(-0.5, 0.3, SIZE)
GAUSSIAN = gaussian_from_covariance(MEAN.reshape(SHAPE), COVARIANCE)
LAW = Mixture(np.ones(1), MEAN[None], COVARIANCE[None])
CONSOLE = Console(quiet=True)


def tiny(**changes):
    """Restoration by the Gaussian in a few steps; `a.b` in a key is written `a__b`."""
    config = digits_residual.get_config("tiny")
    config.restore.update(priors=("gaussian",), count=4, draws=4, batch=4, shown=2)
    config.restore.settings.mmps.steps = 2
    for key, value in changes.items():
        part, *path = config.restore, *key.split("__")
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value
    return config


def planned(config):
    return make_restore_plan(config, make_plan(config, SHAPE))


@pytest.fixture(scope="module")
def data():
    return load_data(digits_residual.get_config("tiny"), CONSOLE)


def restored(config, data, workdir, console=CONSOLE):
    """What the mode does once there are trained parts; restore.json."""
    plan = make_plan(config, SHAPE)
    asked = make_restore_plan(config, plan)
    given = open_input(config, plan, data, asked)
    run = Run(plan, config, data, workdir, console, StopRequest())
    page = run_restore(run, Parts(reference=GAUSSIAN), given, asked, ["python", "launch.py"])
    return json.loads((page.parent / "restore.json").read_text())


def gaussian_prior(law=GAUSSIAN):
    return Prior("gaussian", law, lambda arrays, x, sigma: arrays.denoiser(x, sigma))


def test_draws_of_the_mode_have_the_exact_posterior_mean_and_spread():
    """Mutation: sigma_y ten times too large, as if it were in other units, fails."""
    config = tiny(draws=200, settings__mmps__steps=20, settings__mmps__cg_steps=6, sigma_max=40.0, batch=2)
    asked = planned(config)
    operator = operators.build("avg_pool", SHAPE, factor=4)
    truth = LAW.draw(RNG, 3).reshape(3, *SHAPE).astype(np.float32)
    measured = measure(operator, truth, np.arange(3), seed=1, sigma_y=0.1)
    found, cost = restore_all(
        gaussian_prior(), "mmps", operator, measured, np.arange(3), asked, lambda count: None
    )
    for i in range(3):
        exact = condition(LAW, matrix_of(operator), np.asarray(measured.y[i], np.float64).ravel(), 0.1)
        mean, cov = exact.moments()
        spread = np.sqrt(np.diag(cov))
        error = (found["mean"][i].ravel() - mean) / (spread / np.sqrt(200))
        assert np.sqrt(np.mean(error**2)) < 1.6  # 1 where there is nothing but sampling noise
        np.testing.assert_allclose(found["std"][i].ravel() / spread, 1.0, atol=0.25)
    assert cost["seconds"] > 0 and cost["compile_seconds"] > 0 and cost["memory_bytes"] > 200 * 2 * SIZE * 4
    inside = (found["lower"] <= truth) & (truth <= found["upper"])
    assert 0.75 < inside.mean() < 0.99


def test_an_image_depends_on_its_number_alone():
    asked = planned(tiny(settings__mmps__steps=8))
    operator = operators.build("pixel_mask", SHAPE, p=0.5)
    truth = LAW.draw(RNG, 5).reshape(5, *SHAPE).astype(np.float32)
    rows = np.array([0, 7, 8, 20, 21])
    measured = measure(operator, truth, rows, seed=1, sigma_y=0.1)
    many, _ = restore_all(gaussian_prior(), "mmps", operator, measured, rows, asked, lambda count: None)
    one = jax.tree.map(lambda leaf: leaf[3:4], measured)
    alone, _ = restore_all(gaussian_prior(), "mmps", operator, one, rows[3:4], asked, lambda count: None)
    for name in ("mean", "std", "draw"):
        np.testing.assert_allclose(many[name][3:4], alone[name], atol=1e-4)
    assert np.abs(many["draw"][0] - many["draw"][1]).max() > 0.1


def test_a_table_is_written_and_the_same_command_computes_nothing_again(tmp_path, data, monkeypatch):
    done, found_once = [], {}

    def spy(prior, method, operator, *rest):
        done.append((method, operator.name))
        if done[-1] not in found_once:
            found_once[done[-1]] = restore_all(prior, method, operator, *rest)
        return found_once[done[-1]]

    monkeypatch.setattr(restore_results, "restore_all", spy)
    config = tiny(method="mmps,repaint", settings__repaint__steps=2, settings__repaint__resamples=1)
    del config.restore.operators["box"], config.restore.operators["super_resolution"]
    results = restored(config, data, tmp_path)
    found = {(row["operator"], row["method"]) for row in results["rows"]}
    assert found == {
        (o, m) for o in config.restore.operators for m in ("pinv", "one_step", "mmps", "repaint")
    } - {("blur", "repaint")}
    assert [entry["operator"] for entry in results["skipped"]] == ["blur"]
    assert "it is for masks" in results["skipped"][0]["reason"]
    row = next(row for row in results["rows"] if (row["operator"], row["method"]) == ("dust", "mmps"))
    assert row["psnr"]["low"] <= row["psnr"]["mean"] <= row["psnr"]["high"] and "ssim" not in row  # 8 x 8
    assert 0 <= row["coverage"]["mean"] <= 1 and row["seconds_per_image"] > 0 and row["memory_bytes"] > 0
    paired = next(c for c in results["comparisons"] if (c["operator"], c["method"]) == ("dust", "mmps"))
    base = next(r for r in results["rows"] if (r["operator"], r["method"]) == ("dust", "pinv"))
    assert paired["over"] == "pinv"
    assert paired["mean"] == pytest.approx(row["psnr"]["mean"] - base["psnr"]["mean"], abs=1e-6)
    folder = tmp_path / "restore" / "held_out"
    with np.load(folder / "gaussian-dust-mmps.npz") as stored:
        assert stored["mean"].shape == stored["std"].shape == stored["draw"].shape == (4, *SHAPE)
    assert Image.open(folder / "gaussian-dust-mmps.png").size[1] > 5 * 56
    page = (folder / "restore.html").read_text()
    assert "Restored: dust" in page and "it is for masks" in page and page.count("<img") == 5
    assert len(done) == 7
    restored(config, data, tmp_path)
    assert len(done) == 7
    config.restore.settings.mmps.cg_steps = 1  # other settings of one method: its cells alone
    restored(config, data, tmp_path)
    assert [method for method, _ in done[7:]] == ["mmps"] * 2
    config.restore.operators.dust.p = 0.5  # another operator: all of its cells
    restored(config, data, tmp_path)
    assert sorted(done[9:]) == sorted((m, "pixel_mask") for m in ("mmps", "one_step", "pinv", "repaint"))


def test_the_baseline_alone_may_be_asked_for(tmp_path, data):
    results = restored(tiny(method="pinv", operator__name="box_mask", count=1), data, tmp_path)
    assert {row["method"] for row in results["rows"]} == {"pinv", "one_step"}


def test_one_operator_by_name_alone_as_in_the_first_example(tmp_path, data):
    results = restored(tiny(operator__name="box_mask", count=1), data, tmp_path)
    assert results["operators"] == {"box_mask": "box_mask(size=(3, 3))"}
    row = results["rows"][-1]
    assert row["psnr"].keys() == {"mean"}  # one image has no interval
    changed = planned(tiny(operator__name="dust", operator__p=0.3))
    assert changed.specs == {"dust": {"name": "pixel_mask", "p": 0.3}}


def test_measurements_with_masks_have_no_truth_and_no_scores(tmp_path, data):
    op = operators.build("pixel_mask", SHAPE, p=0.4).draw(jax.random.split(jax.random.key(3), 5))
    x = LAW.draw(RNG, 5).reshape(5, *SHAPE).astype(np.float32)
    mask = np.asarray(op.params["mask"])
    y = np.where(mask, x, np.nan)  # what hidden pixels hold does not matter
    spec = json.dumps({"name": "pixel_mask", "in_shape": list(SHAPE), "p": 0.4})
    np.savez(tmp_path / "seen.npz", y=y, operator=spec, sigma_y=0.02, **{"params/mask": mask})
    config = tiny(input=f"npz:{tmp_path / 'seen.npz'}", count=0, settings__mmps__steps=16)
    results = restored(config, data, tmp_path)
    assert results["data"] == {"source": f"npz:{tmp_path / 'seen.npz'}", "images": 5, "truth": False}
    assert results["sigma_y"]["measured"] == pytest.approx(0.02)
    assert all("psnr" not in row for row in results["rows"]) and results["comparisons"] == []
    with np.load(tmp_path / "restore" / "seen" / "gaussian-measured-mmps.npz") as stored:
        assert np.isfinite(stored["mean"]).all()
        error = np.abs(stored["draw"] - x)[np.broadcast_to(mask, x.shape)]
        assert error.mean() < 0.06  # draws agree with what was seen
    page = (tmp_path / "restore" / "seen" / "restore.html").read_text()
    assert "nobody knows the truth" in page and "PSNR" not in page.split("How to read")[0]


def test_images_with_masks_beside_them_and_images_without(tmp_path, data):
    for name in "ab":
        pixels = RNG.integers(0, 256, (12, 12)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    config = tiny(input=f"folder:{tmp_path}", operator__name="dust", image_size=0)
    assert restored(config, data, tmp_path / "run")["data"]["truth"]  # resized to 8 x 8, measured here
    seen = np.full((12, 12), 255, np.uint8)
    seen[:, :6] = 0
    for name in "ab":
        Image.fromarray(seen).save(tmp_path / f"{name}.mask.png")
    with pytest.raises(ConfigError, match="holds measurements, which bring their operator"):
        restored(config, data, tmp_path / "run")
    config.restore.operator.name = ""
    assert not restored(config, data, tmp_path / "run")["data"]["truth"]


def test_larger_images_are_restored_in_tiles_if_that_is_declared(tmp_path, data):
    """Independent pixels: the tiled posterior is that of the whole image, by an operator that crosses tiles."""
    images = RNG.uniform(-0.8, 0.8, (3, 16, 12, 1)).astype(np.float32)
    np.savez(tmp_path / "large.npz", x=images, range=np.array([-1.0, 1.0]))
    asked = {"input": f"npz:{tmp_path / 'large.npz'}", "image_size": -1, "operator__name": "avg_pool"}
    with pytest.raises(ConfigError, match=r"config.restore.tile.overlap: images of 16x12 are larger .* 8x8"):
        restored(tiny(**asked), data, tmp_path)
    config = tiny(**asked, tile__overlap=4, draws=100, settings__mmps__steps=16, settings__mmps__cg_steps=2)
    plan = make_plan(config, SHAPE)
    plan_of = make_restore_plan(config, plan)
    given = open_input(config, plan, data, plan_of)
    law = gaussian_from_covariance(np.full(SHAPE, 0.1), 0.16 * np.eye(SIZE))
    run = Run(plan, config, data, tmp_path, CONSOLE, StopRequest())
    run_restore(run, Parts(reference=law), given, plan_of, [])
    with np.load(tmp_path / "restore" / "large" / "gaussian-avg_pool-mmps.npz") as stored:
        mean, std = stored["mean"], stored["std"]
    y = np.asarray(given.measured["avg_pool"].y)
    known = 0.16 / 16 / (0.16 / 16 + plan_of.sigma_y**2) * (y - 0.1)  # of each block of 16
    exact = 0.1 + known.repeat(4, axis=1).repeat(4, axis=2)
    spread = np.sqrt(0.16 * (1 - 0.16 / 16 / (0.16 / 16 + plan_of.sigma_y**2) / 16))
    assert np.sqrt(np.mean((mean - exact) ** 2)) < 1.5 * spread / 10
    assert np.mean(std) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "mpms"}, "config.restore.method: .*did you mean 'mmps'"),
        ({"method": ""}, "config.restore.method is empty"),
        ({"operator__name": "box_mosk"}, "config.restore.operator.name: .*did you mean 'box_mask'"),
        ({"operator__p": 0.3}, "config.restore.operator.p is given and no restore.operator.name"),
        ({"operators__dust__name": "pixel_mosk"}, "restore.operators.dust.name: .*did you mean 'pixel_mask'"),
        (
            {"priors": ("residul",)},
            r"config.restore.priors\[0\]: .*did you mean 'residual'.*or the directory",
        ),
        ({"priors": ("view/top",)}, r"config.restore.priors\[0\]: unknown"),
        ({"sigma_y": -0.1}, "config.restore.sigma_y: at least 0"),
        ({"draws": 1}, "config.restore.draws: at least 2: a standard deviation"),
        ({"level": 90.0}, "config.restore.level: a probability"),
        ({"batch": 0}, "config.restore.batch: at least 1"),
        ({"sampler": "huen"}, "config.restore.sampler: .*did you mean 'heun'"),
        ({"sigma_max": 0.001}, "config.restore.settings.mmps.steps, .*0 < sigma_min < sigma_max"),
        ({"tile__overlap": 5}, "config.restore.tile.overlap: .*training size 8; got 5, nearest valid: 4"),
        ({"input": "heldout"}, "config.restore.input: .*did you mean 'held_out'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        planned(tiny(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "fodler:/nowhere"}, "config.restore.input: .*did you mean 'folder'"),
        (
            {"input": "sklearn_digits", "image_size": 6},
            "config.restore.image_size: images of 6x6 are smaller",
        ),
        ({"operator__name": "avg_pool", "operator__factor": 3}, "config.restore.operator 'avg_pool': "),
        (
            {"method": "repaint", "operator__name": "blur"},
            "config.restore.method: repaint: .*it is for masks",
        ),
        ({"method": "ambient_dps"}, "config.restore.method: 'ambient_dps' is for priors that are told"),
        (
            {"method": "dps", "settings__dps__norm": "plane"},
            "config.restore.method: unknown dps norm 'plane'",
        ),
        (
            {"method": "dps", "settings__dps__norm": "likelihood", "sigma_y": 0.0},
            "divides by sigma_y.2, and here sigma_y is 0",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_compiled(changes, message, data, monkeypatch):
    config = tiny(**changes)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    with pytest.raises(ConfigError, match=message):
        asked = planned(config)
        served(
            {"gaussian": gaussian_prior()}, open_input(config, make_plan(config, SHAPE), data, asked), asked
        )


def test_channels_must_be_those_of_the_prior(tmp_path, data):
    np.savez(tmp_path / "rgb.npz", x=np.zeros((2, 8, 8, 3), np.uint8))
    config = tiny(input=f"npz:{tmp_path / 'rgb.npz'}")
    config.data.channels = 0
    with pytest.raises(
        ConfigError, match=r"has images of 3 channels \(RGB\), the priors were trained on 1 \(gray\)"
    ):
        open_input(config, make_plan(config, SHAPE), data, planned(config))


def test_settings_are_those_of_the_guidances():
    settings = default.get_config().restore.settings
    assert set(settings) == set(GUIDANCES)
    for name, guidance in GUIDANCES.items():
        parameters = inspect.signature(guidance.build).parameters.values()
        own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"further"}
        assert set(settings[name]) == own | {"steps"}, name


# priors that are told what they see


def exact_told(arrays, u, sigma, operator):
    """E[X | A x_sigma, A] of the Gaussian for masks, from what a network is given."""

    def one(mask, u, sigma):
        m = mask.reshape(-1).astype(u.dtype)
        seen = m[:, None] * (COVARIANCE + sigma**2 * jnp.eye(SIZE)) * m + jnp.diag(1 - m)
        return (MEAN + COVARIANCE @ (m * jnp.linalg.solve(seen, m * (u.reshape(-1) - MEAN)))).reshape(SHAPE)

    return jax.vmap(one)(operator.params["mask"], u, sigma)


FAMILY = operators.build("pixel_mask", SHAPE, p=0.4)
TOLD = Prior("view/dust", {}, told=exact_told, family=lambda arrays: FAMILY, delta=0.2)


def test_one_step_of_a_told_prior_knows_the_noise_of_its_measurement():
    """Mutation: the level sigma in place of sqrt(sigma^2 + sigma_y^2) believes y too much."""
    truth = LAW.draw(RNG, 2).reshape(2, *SHAPE).astype(np.float32)
    measured = measure(FAMILY, truth, np.arange(2), seed=0, sigma_y=0.3)
    bound = FAMILY.with_params(jax.tree.map(jnp.asarray, measured.params))
    found = told_estimate(TOLD, {}, bound, measured.y, measured.sigma_y, jnp.zeros((2, *SHAPE)), 1e-3)
    for i in range(2):
        rows = np.flatnonzero(measured.params["mask"][i])
        exact = condition(LAW, np.eye(SIZE)[rows], np.asarray(measured.y[i]).ravel()[rows], 0.3).moments()[0]
        np.testing.assert_allclose(found[i].ravel(), exact, atol=2e-3)


def test_told_priors_do_what_they_can_and_say_why_not():
    config = tiny(method="all", settings__ambient_dps__steps=3, settings__ambient_dps__scale=0.02)
    asked = planned(config)
    truth = LAW.draw(RNG, 4).reshape(4, *SHAPE).astype(np.float32)
    of = {
        name: operators.build(name, SHAPE, **args)
        for name, args in (("pixel_mask", {"p": 0.6}), ("avg_pool", {"factor": 2}))
    }
    given = {name: (op, measure(op, truth, np.arange(4), 0, 0.1)) for name, op in of.items()}
    assert refusal(TOLD, "one_step", *given["pixel_mask"], asked) is None
    assert "knows nothing of avg_pool(factor=2); use ambient_dps" in refusal(
        TOLD, "one_step", *given["avg_pool"], asked
    )
    assert "use ambient_dps or one_step" in refusal(TOLD, "mmps", *given["pixel_mask"], asked)
    assert refusal(TOLD, "ambient_dps", *given["avg_pool"], asked) is None
    found, _ = restore_all(TOLD, "ambient_dps", *given["avg_pool"], np.arange(4), asked, lambda count: None)
    assert found["std"].shape == (4, *SHAPE) and np.isfinite(found["mean"]).all()
