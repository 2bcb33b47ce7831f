"""Samples in shards: the images whatever the shards, batches and devices; resumable; never mixed."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import digits_residual
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.experiment import streaming
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sampling import draw_samples, make_drawer
from jaxdiff.experiment.streaming import is_whole, stream_samples
from jaxdiff.training.sharding import make_mesh
from jaxdiff.training.stopping import Interrupted, StopRequest

SHAPE = (8, 8, 1)
PARTS = Parts(reference=gaussian_from_covariance(np.full(SHAPE, 0.3), 0.04 * np.eye(64)))


def made_run(**sample):
    config = digits_residual.get_config("tiny")
    config.sample.update({"count": 20, "batch": 8, "shard_size": 8, "s_churn": 4.0, "seed": 3, **sample})
    return SimpleNamespace(
        plan=make_plan(config, SHAPE), config=config, console=Console(quiet=True), stop=StopRequest()
    )


def stream(directory, **sample):
    return stream_samples(made_run(**sample), PARTS, "gaussian", directory)


def images(directory):
    shards = sorted(directory.glob("shard-*.npz"))
    return np.concatenate([np.load(path)["images"] for path in shards])


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return stream(tmp_path_factory.mktemp("samples"))


def test_shards_hold_all_images_whatever_their_size_and_that_of_batches(streamed, tmp_path):
    names = sorted(path.name for path in streamed.glob("*.npz"))
    assert names == [f"shard-0000{k}-of-00003.npz" for k in range(3)] and (streamed / "first.png").exists()
    found = images(streamed)
    assert found.shape == (20, *SHAPE) and found.dtype == np.uint8 and found.std() > 10
    other = images(stream(tmp_path / "other", batch=16, shard_size=16))
    assert np.abs(other.astype(int) - found.astype(int)).max() <= 1
    run = made_run()
    alone = draw_samples(run.plan, PARTS, run.config, "gaussian", 20)
    assert np.abs((alone + 1) * 127.5 - found).max() <= 1.01


def test_one_device_draws_the_images_of_eight(streamed):
    run = made_run()
    draw = make_drawer(run.plan, run.config, "gaussian", make_mesh(jax.devices()[:1]), 20)
    one = np.concatenate(list(draw(PARTS, 0, 20)))
    assert np.abs((one + 1) * 127.5 - images(streamed)).max() <= 1.01


def test_finished_shards_stay_and_torn_ones_are_made_again(streamed, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(streamed, directory)
    first, second, third = sorted(directory.glob("shard-*.npz"))
    before, whole = images(directory), second.read_bytes()
    for torn in (whole[: len(whole) // 2], whole[:-200] + b"\0" * 200, b""):
        second.write_bytes(torn)
        assert not is_whole(second, 8)
    third.unlink()
    kept = first.stat().st_mtime_ns
    stream(directory)
    assert first.stat().st_mtime_ns == kept and is_whole(second, 8) and not is_whole(second, 7)
    np.testing.assert_array_equal(images(directory), before)


@pytest.mark.parametrize(("change", "named"), [({"steps": 5}, "sample"), ({"count": 16}, "count")])
def test_samples_of_other_settings_are_not_mixed(streamed, change, named):
    with pytest.raises(ConfigError, match=f"holds samples of another {named}; set config.sample.seed"):
        stream(streamed, **change)


def test_samples_of_another_model_are_not_mixed(streamed):
    other = Parts(reference=gaussian_from_covariance(np.full(SHAPE, 0.31), 0.04 * np.eye(64)))
    with pytest.raises(ConfigError, match="another model"):
        stream_samples(made_run(), other, "gaussian", streamed)


def test_a_stop_keeps_whole_shards(tmp_path, monkeypatch):
    run, write = made_run(), streaming._write

    def write_and_ask(*given):
        write(*given)
        run.stop.signal = 15

    monkeypatch.setattr(streaming, "_write", write_and_ask)
    with pytest.raises(Interrupted, match="SIGTERM: 1 of 3 shards"):
        stream_samples(run, PARTS, "gaussian", tmp_path / "stopped")
    assert [p.name for p in (tmp_path / "stopped").glob("shard-*")] == ["shard-00000-of-00003.npz"]


def test_every_process_makes_shards_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for name in ("wait_for_all", "on_this_host"):
        monkeypatch.setattr(streaming, name, lambda value: value)
    monkeypatch.setattr(streaming, "is_there", lambda path: path.exists())
    made = []
    for number in range(2):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        stream(tmp_path / "both")
        made.append(sorted(p.name for p in (tmp_path / "both").glob("shard-*")))
    assert made[0] == ["shard-00000-of-00003.npz", "shard-00002-of-00003.npz"] and len(made[1]) == 3
    assert json.loads((tmp_path / "both" / "request.json").read_text())["count"] == 20


def test_states_with_noise_are_kept_as_they_are(tmp_path):
    directory = stream(tmp_path / "noisy", stop="noisy", sigma_min=0.5)
    with np.load(next(directory.glob("shard-00000*"))) as stored:
        assert stored["images"].dtype == np.float32 and stored["sigma"] == 0.5
        assert stored["images"].std() > 0.4
