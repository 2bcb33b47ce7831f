"""Completing the views of a lap: one file and one key for each view, and what it cost."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import digits_compare
from jaxdiff import operators
from jaxdiff.data.mixture import array_dataset
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.ppca_mixture import PPCAMixture, fit_ppca_mixture, log_ratio
from jaxdiff.experiment import command, dry_run, view_stages
from jaxdiff.experiment.arrays import saved
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.completing import (
    check_law,
    completed_images,
    completed_views,
    completion_flops,
    gaussian_of_measurements,
)
from jaxdiff.experiment.data import StageData, load_data
from jaxdiff.experiment.plan import EmPlan, LawPlan, SharedPlan, make_plan
from jaxdiff.experiment.stages import Run
from jaxdiff.experiment.view_stages import completed_for_shared, matched_for_shared, shared_data
from jaxdiff.methods.matching import assignments
from jaxdiff.operators import Measurement
from jaxdiff.training.stopping import StopRequest

SHAPE = (2, 2, 1)
SETTINGS = EmPlan(
    laps=2,
    gaussian_laps=1,
    rank=1,
    examples=5,
    batch=4,
    steps=4,
    sigma_min=0.1,
    sigma_max=5.0,
    rho=7.0,
    cg_steps=1,
    sampler="replacement",
)
LAW_PLAN = LawPlan(laps=1, components=1, rank=1, prior=0.0)
LAW = gaussian_from_covariance(np.zeros(SHAPE), np.diag([0.1, 0.2, 0.3, 0.4]))
QUIET = Console(quiet=True)


def denoise(law, x, sigma):
    return law.denoiser(x, sigma)


@pytest.fixture
def views():
    """Top and bottom rows of six images."""
    rng = np.random.default_rng(0)
    rows = [operators.build("crop", SHAPE, top=top, left=0, height=1, width=2) for top in (0, 1)]
    found = [
        SimpleNamespace(name=name, operator=row) for name, row in zip(("top", "bottom"), rows, strict=True)
    ]
    data = {
        view.name: StageData(array_dataset(view.name, rng.uniform(-1, 1, (6, 1, 2, 1)).astype(np.float32)))
        for view in found
    }
    return found, data


def test_every_view_is_completed_by_its_own_draws_and_kept(views, tmp_path):
    found, data = views
    key, folder = jax.random.key(3), tmp_path / "fits"
    folder.mkdir()
    made = completed_views(folder, "shared", 2, denoise, LAW, found, data, key, SETTINGS, QUIET)
    for number, (view, images) in enumerate(zip(found, made, strict=True)):
        assert images.shape == (5, *SHAPE)
        own = jax.random.fold_in(jax.random.fold_in(key, 2), number)
        alone = completed_images(
            tmp_path / f"{view.name}.npz",
            "",
            denoise,
            LAW,
            view.operator,
            data[view.name],
            own,
            SETTINGS,
            QUIET,
        )
        np.testing.assert_array_equal(images, alone)
    assert sorted(path.name for path in folder.iterdir()) == ["shared_bottom_lap2.npz", "shared_top_lap2.npz"]
    again = completed_views(folder, "shared", 2, None, None, found, data, key, SETTINGS, QUIET)
    np.testing.assert_array_equal(again, made)  # read, not drawn
    assert completion_flops(tmp_path, "shared") > 0 == completion_flops(tmp_path, "view/top")


def test_the_gaussian_that_em_starts_from_is_of_the_first_examples_in_chunks():
    """Of whole images: their mean and the three largest directions of their covariance, by hand."""
    truth = gaussian_from_covariance(np.zeros(SHAPE), np.diag([0.4, 0.3, 0.2, 0.1]))
    images = np.array(truth.sample(jax.random.key(6), 400))
    images[300:] += 5.0
    data = StageData(array_dataset("", images))
    settings = dataclasses.replace(SETTINGS, examples=300, batch=128, gaussian_laps=8, rank=3)
    found = gaussian_of_measurements(operators.build("identity", SHAPE), data, settings, jax.random.key(7))
    expected = images[:300].reshape(300, 4)
    np.testing.assert_allclose(np.asarray(found.mean).ravel(), expected.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(found.covariance().reshape(4, 4), np.cov(expected.T, bias=True), atol=5e-3)


def test_the_gaussian_that_em_starts_from_knows_each_measurement_by_its_own_mask_and_noise():
    """A third of the pixels missing, and noise, of 1,500 images: zeros taken for pixels would shrink the mean."""
    covariance = 0.1 * np.array([[1, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1]])
    truth = gaussian_from_covariance(np.full(SHAPE, 0.6), covariance)
    count, sigma = 1500, np.full(1500, 0.2, np.float32)
    operator = operators.build("pixel_mask", SHAPE, p=1 / 3)
    drawn = operator.draw(jax.random.split(jax.random.key(8), count))
    clean = truth.sample(jax.random.key(9), count)
    noisy = np.asarray(drawn.restrict(clean + 0.2 * jax.random.normal(jax.random.key(10), clean.shape)))
    masks = jax.tree.map(np.asarray, drawn.params)

    def take(rows):
        return Measurement(noisy[rows], jax.tree.map(lambda leaf: leaf[rows], masks), sigma[rows])

    data = StageData(array_dataset("", noisy)._replace(take=take))
    settings = dataclasses.replace(SETTINGS, examples=count, batch=500, gaussian_laps=25, rank=3, cg_steps=4)
    found = gaussian_of_measurements(operator, data, settings, jax.random.key(7))
    # Standard errors of about 0.01 for the mean and 0.006 for the covariance; noise would add 0.04 to its diagonal.
    np.testing.assert_allclose(found.mean, np.full(SHAPE, 0.6), atol=0.04)
    np.testing.assert_allclose(found.covariance().reshape(4, 4), covariance, atol=0.025)


@pytest.mark.parametrize("dry", [False, True])
def test_more_components_than_measurements_are_refused_before_anything_is_trained(tmp_path, dry):
    config = digits_compare.get_config("tiny-shared")
    counts = load_data(config, QUIET).counts
    found = sum(counts[part] for part in ("view/top", "view/bottom", "view/low_res", "clean"))
    config.shared.law.components = found + 1
    with pytest.raises(ConfigError, match=f"law.components: {found + 1} of {found} .*nearest valid: {found}"):
        if dry:
            dry_run.run_images(config, tmp_path / "run", "train", QUIET)
        else:
            command.run_images(config, tmp_path / "run", "train", QUIET, [])
    assert not (tmp_path / "run").exists()
    check_law(config, {**counts, "view/top": counts["view/top"] + 1})
    config.shared.em.examples = 3  # of each
    with pytest.raises(ConfigError, match="nearest valid: 12"):
        check_law(config, counts)
    config.shared.law.laps = 0
    check_law(config, counts)


def shown(matches):
    return SharedPlan(
        4.0,
        2.0,
        0.6,
        0.0,
        4,
        matches,
        seam_weight=1.0,
        ask_border=True,
        later=None,
        law=LAW_PLAN,
        em=SETTINGS,
    )


def test_views_that_show_the_two_parts_are_matched_and_others_completed(views):
    found, _ = views
    low = SimpleNamespace(name="low", operator=operators.build("avg_pool", SHAPE, factor=2))
    top, bottom = found
    rng = np.random.default_rng(1)
    draws = [rng.uniform(-1, 1, (4, *SHAPE)).astype(np.float32) for _ in range(3)]
    made = completed_for_shared([bottom, low, top], shown(2), draws)
    # 0 clean, 1 to 3 the views, 4 to 6 completed from each, 7 put together
    assert list(made) == [5, 7] and made[7].shape == (8, *SHAPE)
    of_bottom, of_low, of_top = draws
    np.testing.assert_array_equal(made[5], of_low)
    # The bottom row of each is a measured bottom row, the top row a measured top row.
    assert {tuple(row) for row in made[7][:, 1, :, 0]} == {tuple(row) for row in of_bottom[:, 1, :, 0]}
    assert {tuple(row) for row in made[7][:, 0, :, 0]} == {tuple(row) for row in of_top[:, 0, :, 0]}


@pytest.mark.parametrize(("matches", "names"), [(0, ["top", "bottom"]), (2, ["top", "low"])])
def test_without_matches_or_partners_every_view_is_completed(matches, names, views):
    every = {view.name: view for view in views[0]}
    every["low"] = SimpleNamespace(name="low", operator=operators.build("avg_pool", SHAPE, factor=2))
    made = completed_for_shared(
        [every[name] for name in names], shown(matches), [np.zeros((3, *SHAPE)) for _ in names]
    )
    assert list(made) == [3, 4]  # 0 clean, 1 and 2 the views


@pytest.mark.parametrize("completed", [{}, {7: 30, 5: 10}])
def test_shares_are_by_weight_and_by_measured_values(completed, tmp_path):
    config = digits_compare.get_config("tiny-shared")
    config.shared.update(clean_weight=3.0, later_clean_weight=1.5, completed_share=0.6)
    data = load_data(config, QUIET)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    run = Run(plan, config, data, tmp_path, QUIET, StopRequest())
    images = {number: np.zeros((count, 8, 8, 1), np.float32) for number, count in completed.items()}
    mixed = shared_data(run, images).dataset
    sources = np.bincount(mixed.take(np.arange(mixed.size)).source, minlength=8)
    sizes = [data.views[view.name].dataset.size for view in plan.shared_views]
    # Averages of 2 x 2 hold 16 values of 64, halves 32; a clean image 64.
    values = sum(
        n * (16 if v.name == "low_res" else 32) for n, v in zip(sizes, plan.shared_views, strict=True)
    )
    others = sum(sizes) / (0.4 if completed else 1.0)
    clean = others * (1.5 if completed else 3.0) * 64 * data.clean.dataset.size / values
    whole = 0.75 * (others - sum(sizes)) if completed else 0.0
    assert list(sources[1:4]) == sizes
    np.testing.assert_allclose(sources[0], clean, atol=0.51)
    np.testing.assert_allclose(sources[7], whole, atol=0.51)
    np.testing.assert_allclose(sources[5], whole / 3, atol=0.51)


def test_parts_are_matched_by_a_law_of_all_measurements(tmp_path, monkeypatch):
    """What the law is fitted to; that it is kept, counted and read; and that the likeliest are put together."""
    config = digits_compare.get_config("tiny-shared")
    config.shared.law.update(laps=2, components=3, rank=5, prior=7.0)
    config.shared.matches, config.shared.em.examples = 2, 25
    data = load_data(config, QUIET)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    run = Run(plan, config, data, tmp_path, QUIET, StopRequest())
    (tmp_path / "fits").mkdir()
    asked = []

    def fit(views, *settings):
        asked.append((views, settings))
        return fit_ppca_mixture(views, *settings)

    monkeypatch.setattr(view_stages, "fit_ppca_mixture", fit)
    (made,) = matched_for_shared(run).values()
    ((views, settings),) = asked
    assert settings[:5] == (3, 5, 2, config.seed, 7.0)
    sizes = {view.name: min(25, data.views[view.name].dataset.size) for view in plan.shared_views}
    assert [len(view.u) for view in views] == [*sizes.values(), 25]
    assert [view.rank for view in views] == [v.rank for v in plan.shared_views] + [64]
    by_name = dict(zip((*sizes, "clean"), views, strict=True))
    low, top, bottom, clean = (by_name[name] for name in ("low_res", "top", "bottom", "clean"))
    np.testing.assert_array_equal(clean.u, data.clean.dataset.take(np.arange(25)).y)
    np.testing.assert_array_equal(top.project(top.u), top.u)
    assert not top.u[:, 4:].any() and not bottom.u[:, :4].any()
    np.testing.assert_allclose(low.u[:, 0, 0], low.u[:, 1, 1])
    law = saved(tmp_path / "fits" / "shared_law.npz", PPCAMixture, lambda: pytest.fail("not kept"))
    # The views are in the order of their names.
    rows, columns = assignments(-log_ratio(law, bottom, top), 2)
    np.testing.assert_array_equal(made, bottom.u[rows] + top.u[columns])
    assert completion_flops(tmp_path, "shared") == completion_flops(tmp_path, "shared/lap1") == law.flops > 0
    assert completion_flops(tmp_path, "shared/lap2") == completion_flops(tmp_path, "view/top") == 0
    np.testing.assert_array_equal(next(iter(matched_for_shared(run).values())), made)
    assert len(asked) == 1


def test_views_that_meet_everywhere_are_refused_before_training():
    config = digits_compare.get_config("tiny-shared")
    board = np.indices((8, 8)).sum(axis=0) % 2
    for name, cells in (("top", board), ("bottom", 1 - board)):
        config.views[name].operator = ConfigDict({"name": "mask", "mask": tuple(map(tuple, cells.tolist()))})
    config.shared.matches = 1
    data = load_data(config, QUIET)
    with pytest.raises(
        ConfigError, match="shared.ask_border: bottom and top: every pixel lies at the border"
    ):
        make_plan(config, data.image_shape, data.operators, data.noise)
    config.shared.matches, config.shared.law.laps = 0, 2
    with pytest.raises(ConfigError, match="law.laps: .* there are none; nearest valid: 0"):
        make_plan(config, data.image_shape, data.operators, data.noise)
    config.shared.matches, config.shared.ask_border = 1, True
    config.shared.law.update(laps=2, rank=64)
    with pytest.raises(ConfigError, match="law.rank: an image has 64 values; nearest valid: 63, got 64"):
        make_plan(config, data.image_shape, data.operators, data.noise)
    config.shared.law.rank = 4
    assert make_plan(config, data.image_shape, data.operators, data.noise).shared.ask_border
