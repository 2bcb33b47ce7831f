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
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.completing import (
    completed_images,
    completed_views,
    completion_flops,
    gaussian_of_measurements,
)
from jaxdiff.experiment.data import StageData, load_data
from jaxdiff.experiment.plan import EmPlan, SharedPlan, make_plan
from jaxdiff.experiment.stages import Run
from jaxdiff.experiment.view_stages import completed_for_shared, shared_data
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


def test_a_gaussian_completes_by_exact_draws(views, tmp_path):
    """(mean, covariance) of what is hidden given what is seen, over many measurements of one value."""
    (top, _), _ = views
    covariance = np.array([[0.1, 0, 0.08, 0], [0, 0.2, 0, 0.05], [0.08, 0, 0.1, 0], [0, 0.05, 0, 0.2]])
    law = gaussian_from_covariance(np.full(SHAPE, 0.1), covariance)
    seen = np.tile(np.array([0.3, -0.2], np.float32).reshape(1, 1, 2, 1), (4000, 1, 1, 1))
    data = StageData(array_dataset("top", seen))
    settings = dataclasses.replace(SETTINGS, examples=4000, batch=1000)
    given = (None, law, top.operator, data, jax.random.key(5), settings, QUIET)
    drawn = completed_images(tmp_path / "top.npz", "", *given)[..., 0]
    np.testing.assert_allclose(drawn[:, 0], seen[:, 0, :, 0], atol=2e-3)
    mean = 0.1 + np.array([0.8 * (0.3 - 0.1), 0.25 * (-0.2 - 0.1)])
    np.testing.assert_allclose(drawn[:, 1].mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(drawn[:, 1].var(axis=0), [0.1 - 0.064, 0.2 - 0.0125], rtol=0.1)
    assert np.unique(drawn[:, 1], axis=0).shape == (4000, 2)  # every batch has draws of its own


@pytest.mark.slow
def test_one_gaussian_of_all_views_knows_what_no_view_shows():
    """The covariance of top and bottom rows, from both views and a few whole images."""
    truth = gaussian_from_covariance(
        np.zeros(SHAPE), 0.1 * np.array([[1, 0, 0.8, 0], [0, 1, 0, 0.8], [0.8, 0, 1, 0], [0, 0.8, 0, 1]])
    )
    images = np.asarray(truth.sample(jax.random.key(6), 900))
    rows = [operators.build("crop", SHAPE, top=top, left=0, height=1, width=2) for top in (0, 1)]
    parts = [(rows[0], images[:300, :1]), (rows[1], images[300:600, 1:])]
    parts.append((operators.build("identity", SHAPE), images[600:]))
    views = [(operator, StageData(array_dataset("", y))) for operator, y in parts]
    settings = dataclasses.replace(SETTINGS, examples=300, batch=300, gaussian_laps=8, rank=3)
    found = gaussian_of_measurements(views, settings, jax.random.key(7)).covariance()
    np.testing.assert_allclose(found.reshape(4, 4), np.asarray(truth.covariance()).reshape(4, 4), atol=0.025)


def shown(matches):
    return SharedPlan(
        4.0, 2.0, 0.6, 0.0, 4, matches, seam_weight=1.0, ask_border=True, later=None, em=SETTINGS
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
    assert list(completed_for_shared([bottom, low, top], shown(2), draws, matched_only=True)) == [7]
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
    config.shared.matches, config.shared.em.gaussian_laps = 0, 2
    with pytest.raises(ConfigError, match="gaussian_laps: .* there are none; nearest valid: 0"):
        make_plan(config, data.image_shape, data.operators, data.noise)
    config.shared.matches, config.shared.ask_border = 1, True
    assert make_plan(config, data.image_shape, data.operators, data.noise).shared.ask_border
