"""Completing the views of a lap: one file and one key for each view, and what it cost."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import digits_compare
from jaxdiff import operators
from jaxdiff.data.mixture import array_dataset
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.experiment.completing import completed_images, completed_views, completion_flops
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


def shown(matches):
    return SharedPlan(4.0, 2.0, 0.6, 0.0, 4, matches, seam_weight=1.0, later=None, em=SETTINGS)


def test_views_that_show_the_two_parts_are_matched_and_others_completed(views):
    found, _ = views
    low = SimpleNamespace(name="low", operator=operators.build("avg_pool", SHAPE, factor=2))
    top, bottom = found
    asked = []

    def draws(views):
        asked.append([view.name for view in views])
        rng = np.random.default_rng(1)
        return [rng.uniform(-1, 1, (4, *SHAPE)).astype(np.float32) for _ in views]

    made = completed_for_shared([bottom, low, top], shown(2), draws)
    assert asked == [["bottom", "low", "top"]] and list(made) == [0, 5] and made[0].shape == (8, *SHAPE)
    of_bottom, of_low, of_top = draws([bottom, low, top])
    np.testing.assert_array_equal(made[5], of_low)  # 0 clean, 1 to 3 the views, 4 to 6 completed from each
    # The bottom row of each is a measured bottom row, the top row a measured top row.
    assert {tuple(row) for row in made[0][:, 1, :, 0]} == {tuple(row) for row in of_bottom[:, 1, :, 0]}
    assert {tuple(row) for row in made[0][:, 0, :, 0]} == {tuple(row) for row in of_top[:, 0, :, 0]}


@pytest.mark.parametrize(("matches", "names"), [(0, ["top", "bottom"]), (2, ["top", "low"])])
def test_without_matches_or_partners_every_view_is_completed(matches, names, views):
    every = {view.name: view for view in views[0]}
    every["low"] = SimpleNamespace(name="low", operator=operators.build("avg_pool", SHAPE, factor=2))
    made = completed_for_shared(
        [every[name] for name in names], shown(matches), lambda views: [np.zeros((3, *SHAPE)) for _ in views]
    )
    assert list(made) == [3, 4]  # 0 clean, 1 and 2 the views


@pytest.mark.parametrize("completed", [{}, {0: 30, 5: 10}])
def test_shares_are_by_weight_and_by_measured_values(completed, tmp_path):
    config = digits_compare.get_config("tiny-shared")
    config.shared.update(clean_weight=3.0, later_clean_weight=1.5, completed_share=0.6)
    data = load_data(config, QUIET)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    run = Run(plan, config, data, tmp_path, QUIET, StopRequest())
    images = {number: np.zeros((count, 8, 8, 1), np.float32) for number, count in completed.items()}
    mixed = shared_data(run, images).dataset
    sources = np.bincount(mixed.take(np.arange(mixed.size)).source, minlength=7)
    sizes = [data.views[view.name].dataset.size for view in plan.shared_views]
    # Averages of 2 x 2 hold 16 values of 64, halves 32; a clean image 64.
    values = sum(
        n * (16 if v.name == "low_res" else 32) for n, v in zip(sizes, plan.shared_views, strict=True)
    )
    others = sum(sizes) / (0.4 if completed else 1.0)
    clean = others * (1.5 if completed else 3.0) * 64 * data.clean.dataset.size / values
    whole = 0.75 * (others - sum(sizes)) if completed else 0.0
    assert list(sources[1:4]) == sizes
    np.testing.assert_allclose(sources[0], clean + whole, atol=1.01)
    np.testing.assert_allclose(sources[5], whole / 3, atol=0.51)
