"""Workdirs in an object store: an in-memory bucket stands for gs://; Orbax talks to real buckets by itself."""

import json

import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from configs import digits_residual
from jaxdiff.diffusion.gaussian import Gaussian, gaussian_from_covariance
from jaxdiff.experiment import arrays, command
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.sharing import alone
from jaxdiff.files import is_remote, open_workdir
from jaxdiff.training import checkpoint, loop, manifest
from jaxdiff.training.metrics import MetricsWriter, read_metrics


class Bucket(MemoryFileSystem):
    """gs:// in memory."""

    protocol = ("gs", "gcs")
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")

    def glob(self, path, **options):
        return [found.lstrip("/") for found in super().glob(path, **options)]


@pytest.fixture
def bucket(monkeypatch):
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    there = Bucket()
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: there)
    return open_workdir("gs://bucket/run")


def test_local_paths_stay_what_they_are(tmp_path):
    assert (
        open_workdir(str(tmp_path)) == tmp_path and not is_remote(tmp_path) and is_remote("gs://bucket/run")
    )


def test_files_appear_whole_and_are_read_back(bucket):
    path, record = bucket / "fits" / "gaussian.npz", gaussian_from_covariance(np.zeros(2), np.eye(2))
    first = arrays.saved(path, Gaussian, lambda: record)
    again = arrays.saved(path, Gaussian, lambda: pytest.fail("it was there"))
    np.testing.assert_array_equal(first.basis, again.basis)

    def torn(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arrays.write_atomically(bucket / "results.json", torn)
    assert not (bucket / "results.json").exists()


def test_metrics_go_on_where_they_were(bucket):
    stage = bucket / "stages" / "toy"
    writer = MetricsWriter(stage)
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1.0 / step})
    writer.close()
    writer = MetricsWriter(stage, start_step=2)
    writer.write(3, {"loss": 0.5})
    writer.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(stage / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 0.5),
        (3, 0.5),
    ]
    # Named by the second: one or two.
    assert list(stage.glob("events.out.tfevents.*")) and not writer.path.exists()
    loop.mark_done(stage, 3)
    assert loop.steps_done(stage) == 3
    with alone(stage):
        assert not (stage / ".lock").exists()


def test_a_checkpoint_in_a_bucket_has_a_list_of_its_files(bucket):
    step = bucket / "stages" / "toy" / "checkpoints" / "40"
    for name, data in {"_CHECKPOINT_METADATA": b'{"a": 1}', "default/d/part": b"12345"}.items():
        (step / name).parent.mkdir(parents=True, exist_ok=True)
        (step / name).write_bytes(data)
    manifest.write_manifest(step)
    assert json.loads((step / manifest.NAME).read_text())["default/d/part"] == [5, None]
    (step / manifest.MARK).write_text(manifest.MARKED)
    (step / "_CHECKPOINT_METADATA").write_bytes(b'{"commit_timestamp_nsecs": 7, "a": 1}')
    assert manifest.fault(step) is None
    (step / "default/d/part").write_bytes(b"123")
    assert manifest.fault(step) == "default/d/part has 3 bytes, 5 were written"
    (step / "default/d/part").unlink()
    assert manifest.fault(step) == "default/d/part is missing"


def test_a_save_to_a_bucket_lists_the_checkpoint_itself(bucket):
    saving = checkpoint.StageCheckpoints.__new__(checkpoint.StageCheckpoints)
    saving.directory, saving._saving = bucket / "checkpoints", 3
    (saving.directory / "3").mkdir(parents=True)
    (saving.directory / "3" / "part").write_bytes(b"1")
    saving._list_files()
    assert manifest.has_manifest(saving.directory / "3")


def test_modes_that_need_a_local_directory_say_so(bucket):
    for mode in command.LOCAL_MODES:
        with pytest.raises(ConfigError, match=f"--mode={mode} needs a local --workdir, got gs://bucket/run"):
            command.check_reach(mode, bucket)
    command.check_reach("all", bucket)


@pytest.mark.slow
def test_the_run_path_with_checkpoints_elsewhere(bucket, tmp_path, monkeypatch, capsys):
    """All but the checkpoints: those are Orbax's and TensorStore's, which have their own way to real buckets."""
    init = checkpoint.StageCheckpoints.__init__

    def local(self, directory, *given):
        init(self, tmp_path / str(directory).removeprefix("gs://"), *given)

    monkeypatch.setattr(checkpoint.StageCheckpoints, "__init__", local)
    config = digits_residual.get_config("tiny")
    config.sample.update(count=10, shard_size=4)

    def run(mode):
        return command.main(config, "tiny.py", str(bucket), mode, "off", ["python", "launch.py"])

    assert run("all") == 0, capsys.readouterr().err
    for name in (
        "config.json",
        "results.json",
        "arrays.npz",
        "report.html",
        "fits/fusion.npz",
        "samples/residual.png",
    ):
        assert (bucket / name).exists(), name
    assert json.loads((bucket / "results.json").read_text())["stages"]["residual"]["images_seen"] == 48
    assert run("all") == 0 and "are done" in capsys.readouterr().out
    assert run("sample") == 0 and run("report") == 0 and run("evaluate") == 0
    assert len(list((bucket / "samples" / "residual_10_seed0").glob("shard-*"))) == 3
    assert not (tmp_path / "gs:").exists()
