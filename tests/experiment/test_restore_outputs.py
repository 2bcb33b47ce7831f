"""What `--mode=restore` leaves for its user: images that can be told apart; and a written model as its prior."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from configs import digits_residual
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.priors import Prior
from jaxdiff.experiment.restore_images import picture_names, save_images
from jaxdiff.experiment.restore_input import Input, open_input
from jaxdiff.experiment.restore_plan import make_restore_plan
from jaxdiff.experiment.restore_results import make_priors, run_restore
from jaxdiff.experiment.restoring import restore_all
from jaxdiff.experiment.stages import Run
from jaxdiff.export import SamplerDefaults, save
from jaxdiff.networks import build_network
from jaxdiff.training.stopping import StopRequest

SHAPE = (8, 8, 1)
CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network with parameters of its own, the directory that holds it, and the denoiser by hand."""
    network = build_network("mlp", 1, width=8, blocks=1, zero_init=False)
    x = jnp.zeros((1, *SHAPE))
    params = jax.jit(network.init)(jax.random.key(1), x, jnp.ones(1))["params"]
    directory = tmp_path_factory.mktemp("models") / "small"
    save(directory, network, params, SHAPE, 0.4, (0.01, 80.0), SamplerDefaults(steps=4))

    def denoise(params, x, sigma):
        return precondition(lambda x, c, cond: network.apply({"params": params}, x, c), 0.4)(x, sigma)

    return str(directory), Prior("by hand", params, denoise)


def asked(prior, folder, **changes):
    """Config, run and plan of a short restoration of the images in `folder`."""
    config = digits_residual.get_config("tiny")
    config.restore.update(priors=(prior,), count=0, draws=2, batch=4, shown=2, input=f"folder:{folder}")
    config.restore.settings.mmps.steps = 2
    config.data.max_bad_share = 0.3
    config.restore.operator.name = "dust"
    config.restore.update(changes)
    plan = make_plan(config, SHAPE)
    return config, plan, make_restore_plan(config, plan)


def go(prior, folder, workdir, **changes):
    """The mode, given trained parts; restore.json and its folder."""
    config, plan, restoration = asked(prior, folder, **changes)
    given = open_input(config, plan, None, restoration)
    run = Run(plan, config, None, workdir, CONSOLE, StopRequest())
    page = run_restore(run, Parts(), given, restoration, ["python", "launch.py"])
    return json.loads((page.parent / "restore.json").read_text()), page.parent


@pytest.fixture
def photos(tmp_path):
    """Images in folders, two of them with one stem, one that is broken and not restored."""
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.png", "a.jpg", "tour/day 1/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(path)
    (tmp_path / "photos" / "aa.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_every_restored_image_is_a_file_of_its_own_named_after_its_source(tmp_path, photos, written):
    """Mutation: names of all files, the broken one too, in place of those that were used."""
    results, folder = go(written[0], photos, tmp_path / "run", **{"name": "x"})
    # The broken file is no example.
    files = ["a.jpg", "a.png", "b.png", "tour/day 1/c.png"]
    assert results["examples"] == {"rows": [0, 1, 2, 3], "files": files}
    cells = {row["method"]: row["file"] for row in results["rows"]}
    assert set(cells) == {"pinv", "one_step", "mmps"} and cells["pinv"] == "dust-pinv.npz"
    for file in cells.values():
        with np.load(folder / file) as stored:
            assert stored["rows"].tolist() == [0, 1, 2, 3] and stored["files"].tolist() == files
            mean = stored["mean"]
        pictures = (folder / file).with_suffix("")
        assert {p.name for p in pictures.iterdir()} == {
            "a-000000.png",
            "a-000001.png",
            "b.png",
            "tour_day_1_c.png",
        }
        for name, image in zip(("a-000000", "a-000001", "b", "tour_day_1_c"), mean, strict=True):
            pixels = np.asarray(Image.open(pictures / f"{name}.png"))
            assert pixels.shape == (8, 8)  # gray, and not enlarged
            np.testing.assert_allclose(pixels / 127.5 - 1, np.clip(image[..., 0], -1, 1), atol=0.005)
    # Another name of the same pixels: nothing is computed, everything is named anew.
    (photos / "b.png").rename(photos / "bb.png")
    before = (folder / cells["mmps"]).stat().st_mtime_ns
    results, folder = go(written[0], photos, tmp_path / "run", **{"name": "x"})
    assert results["examples"]["files"][2] == "bb.png"
    with np.load(folder / cells["mmps"]) as stored:
        assert stored["files"][2] == "bb.png" and "cost/seconds" in stored
        np.testing.assert_array_equal(stored["mean"], mean)
    assert before < (folder / cells["mmps"]).stat().st_mtime_ns
    assert "b.png" not in {p.name for p in (folder / "dust-pinv").iterdir()}


def test_pictures_are_left_out_where_they_are_not_wanted(tmp_path, photos, written):
    _, folder = go(written[0], photos, tmp_path / "run", save_images=False)
    assert [path for path in folder.iterdir() if path.is_dir()] == []


def test_names_without_files_are_numbers_and_complex_images_are_magnitudes(tmp_path):
    given = Input(None, np.array([3, 12]), None, {}, {}, {})
    assert picture_names(given) == ["000003", "000012"]
    images = np.zeros((2, 4, 4, 2), np.float32)
    images[0, ..., 0], images[0, ..., 1], images[1, ..., 0] = 3.0, 4.0, -2.5
    save_images(tmp_path / "cell", given, images, 2 * images)  # the largest magnitude of A^+ y, 10, is white
    found = {p.stem: np.asarray(Image.open(p)) for p in (tmp_path / "cell").iterdir()}
    assert found["000003"][0, 0] == pytest.approx(127.5, abs=1) and found["000012"][0, 0] == pytest.approx(
        64, abs=1
    )
    assert found["000003"].shape == (4, 4)


def test_a_written_model_restores_as_the_model_that_was_written(tmp_path, photos, written):
    """Mutation: another sigma_data in the directory, or its noise range left out, fails."""
    directory, by_hand = written
    config, plan, restoration = asked(directory, photos)
    given = open_input(config, plan, None, restoration)
    run = Run(plan, config, None, tmp_path, CONSOLE, StopRequest())
    prior = make_priors(run, Parts(), restoration, SHAPE)[directory]
    assert prior.taught_from == 0.01
    for method in ("one_step", "mmps"):
        of = (
            method,
            given.operators["dust"],
            given.measured["dust"],
            given.rows,
            restoration,
            lambda count: None,
        )
        found, _ = restore_all(prior, *of)
        expected, _ = restore_all(by_hand, *of)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
        assert np.abs(found["mean"]).max() > 0.05
