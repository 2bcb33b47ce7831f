"""The cross table: models trained and tested from one command, resumable, with its page."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import brain_mri, default
from jaxdiff.evaluation.restoration import restoration_scores
from jaxdiff.experiment import crosstable
from jaxdiff.experiment.cells import is_done, request
from jaxdiff.experiment.checks import ConfigError, check_names
from jaxdiff.experiment.command import main
from jaxdiff.experiment.data import load_data, restored_data
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.reconstruction import Prior, methods_for
from jaxdiff.operators import build

pytest.importorskip("nilearn")
pywt = pytest.importorskip("pywt")
FILE = str(Path(brain_mri.__file__))
CONSOLE = Console(quiet=True)


def smoke(variant="smoke", **changes):
    config = brain_mri.get_config(variant)
    config.crosstable.update(changes)
    return config


def test_every_variant_is_a_config_that_fits_together():
    for size in ("", "tiny", "smoke"):
        parent = brain_mri.get_config(size)
        assert len(parent.crosstable.runs) >= 3
        for run in parent.crosstable.runs:
            config = brain_mri.get_config(run)
            check_names(config)
            side = config.data.image_size or 320
            operator = crosstable.tested_operator(config, 4, (side, side, 2))
            assert operator.out_shape[0] == config.data.coils
    published = {2: 54, 4: 16, 6: 8, 8: 5}
    for acceleration, dropped in published.items():
        view = brain_mri.get_config(f"r{acceleration}").views.mri
        operator = build("fourier", (4, 320, 2), acceleration=view.operator.acceleration)
        drawn = operator.draw(jax.random.split(jax.random.key(0), 1))
        less = drawn.further_corrupt(jax.random.split(jax.random.key(1), 1), view.delta)
        assert int(drawn.params["lines"].sum() - less.params["lines"].sum()) == dropped
    with pytest.raises(ValueError, match="unknown variant ':r5'"):
        brain_mri.get_config("r5")


@pytest.mark.slow
def test_one_command_trains_tests_and_writes_a_page_and_again_does_nothing(tmp_path, capsys):
    """Cells run in this process here, as `python -m jaxdiff.experiment.cells` would run them."""
    config = smoke(runs=("smoke-r4",))
    cells = crosstable.cells_of(config, f"{FILE}:smoke")
    assert list(cells) == ["baselines", "smoke-r4"]
    for cell in cells.values():
        directory = tmp_path / cell.name
        directory.mkdir()
        asked = request(cell)
        crosstable.reconstruct_cell(ConfigDict(asked["config"]), directory, tmp_path, asked, CONSOLE)
        assert is_done(cell, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert main(config, f"{FILE}:smoke", str(tmp_path), "crosstable", False, ["python", "launch.py"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    table = json.loads((tmp_path / "crosstable.json").read_text())
    rows = {(row["run"], row["method"], row["acceleration"]): row for row in table["rows"]}
    assert set(rows) == {
        (run, method, acceleration)
        for run, method in [
            (None, "zero_filled"),
            (None, "wavelet"),
            ("smoke-r4", "one_step"),
            ("smoke-r4", "ambient_dps"),
        ]
        for acceleration in (2, 4)
    }
    # What is easier is better, and the scores are those of the pictures.
    assert rows[None, "zero_filled", 2]["nrmse"]["mean"] < rows[None, "zero_filled", 4]["nrmse"]["mean"]
    assert rows[None, "wavelet", 2]["nrmse"]["mean"] < rows[None, "zero_filled", 2]["nrmse"]["mean"]
    with np.load(tmp_path / "baselines" / "test_R2.npz") as stored:
        again = restoration_scores(stored["truth"], stored["zero_filled/images"])
        np.testing.assert_allclose(stored["zero_filled/nrmse"][[0, 4]], again["nrmse"])
        assert stored["zero_filled/nrmse"].shape == (5,)
    with np.load(tmp_path / "smoke-r4" / "test_R4.npz") as stored:
        assert stored["ambient_dps/sd"].shape == (2, 32, 32, 1) and (stored["ambient_dps/sd"] > 0).any()
    page = (tmp_path / "crosstable.html").read_text()
    assert "Reconstructions at R = 4" in page and "smoke-r4, one step" in page
    assert "zero filled" in capsys.readouterr().out
    # A killed cell keeps what it has reconstructed; another request does not.
    kept = tmp_path / "baselines" / "test_R2.npz"
    (tmp_path / "baselines" / "measured.json").unlink()
    (tmp_path / "baselines" / "test_R4.npz").unlink()
    asked = request(cells["baselines"])
    crosstable.reconstruct_cell(ConfigDict(asked["config"]), tmp_path / "baselines", tmp_path, asked, CONSOLE)
    assert kept.stat().st_mtime_ns == before[kept] and (tmp_path / "baselines" / "test_R4.npz").exists()
    changed = asked | {"config": asked["config"] | {"title": "another"}}
    crosstable.reconstruct_cell(
        ConfigDict(changed["config"]), tmp_path / "baselines", tmp_path, changed, CONSOLE
    )
    assert kept.stat().st_mtime_ns != before[kept]


def test_a_broken_volume_is_a_named_error_before_any_cell_starts(tmp_path, capsys, monkeypatch):
    """Mutation: without `open_once` the cells start, and the error is at the end of a log."""
    pytest.importorskip("h5py"), pytest.importorskip("sigpy")
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    started = []
    monkeypatch.setattr(crosstable, "run_cells", lambda *_, **__: started.append(True))
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "cut.h5").write_bytes(b"no volume")
    config = smoke()
    config.data.source = f"fastmri:{tmp_path / 'volumes'}"
    arguments = (config, f"{FILE}:smoke", str(tmp_path / "run"), "crosstable", False, ["python", "launch.py"])
    assert main(*arguments) == 2 and not started
    said = "".join("".join(capsys.readouterr()).split())  # however the lines are broken
    assert "cut.h5" in said and "notanHDF5file" in said and "1of1filescannotbeused" in said


def test_the_data_is_opened_once_by_what_is_left_to_do(tmp_path, monkeypatch):
    opened, done = [], set()
    monkeypatch.setattr(crosstable, "open_clean", lambda config: opened.append(config.data.source))
    monkeypatch.setattr(crosstable, "is_done", lambda cell, root: cell.name in done)
    cells = crosstable.cells_of(smoke(), f"{FILE}:smoke")
    assert len(cells) > 2
    crosstable.open_once(cells, tmp_path)
    assert opened == [smoke().data.source]  # all of one source: once
    done |= set(cells)
    crosstable.open_once(cells, tmp_path)
    assert len(opened) == 1


def test_all_cells_are_tested_on_the_same_measurements():
    """Whatever they are trained on; and the held-out slab is far from what is trained on."""
    measured = []
    for run in ("smoke-full", "smoke-r4"):
        config = brain_mri.get_config(run)
        data = load_data(config, CONSOLE)
        operator = crosstable.tested_operator(config, 4, data.image_shape)
        measured.append(data.measured_part("held_out", operator, 1).take(np.arange(4)))
        assert data.counts["view/mri"] == 80 - 3 * 8 - 12 - 6 and data.counts["held_out"] == 12
    jax.tree.map(np.testing.assert_array_equal, *measured)


def test_a_wavelet_view_is_trained_on_its_reconstructions():
    config = brain_mri.get_config("smoke-wavelet4")
    data = load_data(config, CONSOLE)
    view = make_plan(config, data.image_shape, data.operators, data.noise).views[0]
    stage = data.views["mri"]
    found = restored_data(view, stage, 2**30).example(4)
    assert found.y.shape == (4, 32, 32, 2) and found.params is None
    zero_filled = restored_data(view.__class__(**{**vars(view), "restored_by": "pinv"}), stage, 2**30)
    assert np.abs(found.y - zero_filled.example(4).y).max() > 0.05
    # A network that is not told what it sees has no answer in one step, but is a prior of whole images.
    asked = ("zero_filled", "one_step", "ambient_dps", "dps", "mmps")
    assert methods_for(Prior(view, None), asked) == ["dps", "mmps"]
    assert methods_for(Prior(dataclasses.replace(view, method="ambient"), None), asked) == [
        "one_step",
        "ambient_dps",
    ]
    assert methods_for(None, asked) == ["zero_filled"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ()}, "runs is empty"),
        ({"runs": ("smoke-r5",)}, "unknown variant ':smoke-r5'"),
        ({"runs": ("baselines",)}, "no run may be called 'baselines'"),
        ({"methods": ("zero_filed",)}, r"crosstable.methods\[0\].*did you mean 'zero_filled'"),
        ({"methods": ()}, "methods is empty"),
        ({"accelerations": ()}, "at least one acceleration"),
    ],
)
def test_what_cannot_be_asked_for(changes, message):
    with pytest.raises(ConfigError, match=message):
        crosstable.cells_of(smoke(**changes), f"{FILE}:smoke")


def test_an_acceleration_that_leaves_no_centre_or_a_view_that_has_none():
    config = smoke()
    with pytest.raises(
        ConfigError, match="config.crosstable.accelerations: .*fewer than the 2 of the centre"
    ):
        crosstable.tested_operator(config, 20, (32, 32, 2))
    with pytest.raises(ConfigError, match="crosstable.view"):
        config.crosstable.view = "mir"
        crosstable.tested_operator(config, 4, (32, 32, 2))
    config.crosstable.view = "masked"
    config.views.masked = default.view({"name": "pixel_mask", "p": 0.5}, 1.0, "ambient")
    with pytest.raises(ConfigError, match="unknown pixel_mask argument 'acceleration'"):
        crosstable.tested_operator(config, 4, (32, 32, 2))


def test_a_wavelet_reconstruction_is_for_what_is_taken_as_clean():
    config = smoke("smoke-r4")
    config.views.mri.restored_by = "wavelet"
    with pytest.raises(ConfigError, match="'wavelet' is for the method 'naive'"):
        check_names(config)


def test_slabs_that_do_not_fit_are_refused():
    config = smoke("smoke-r4")
    config.data.gap = 30
    with pytest.raises(ConfigError, match="config"):
        load_data(config, CONSOLE)
