"""The CelebA pipeline, shrunken, on colour photographs: as a folder, and as a TFDS data set of ArrayRecord files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tfds_format import prepare

ROOT = Path(__file__).parents[2]
SHORT = (
    "--config.train.max_steps=2",
    "--config.sample.count=4",
    "--config.sample.steps=4",
    "--config.evaluate.max_images=8",
)


def make_folder(path):
    command = [sys.executable, "scripts/photographs.py", str(path), "--count", "120", "--size", "24"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return path


def launch(workdir, *arguments):
    command = [
        sys.executable,
        "launch.py",
        "--config=configs/celeba_residual.py:tiny",
        f"--workdir={workdir}",
    ]
    return subprocess.run(
        [*command, *SHORT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"JAXDIFF_TRACEBACK": "1"},
    )


def check(done, workdir):
    assert done.returncode == 0, done.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert results["data"]["image_shape"] == [16, 16, 3]
    assert {view["operator"] for view in results["views"].values()} == {
        "avg_pool(factor=2)",
        "grayscale(weights=(0.299, 0.587, 0.114))",
        "crop(top=4, left=4, height=8, width=8)",
        "overlay(kind=watermark, size=0.4)",
        "identity()",
    }
    with Image.open(workdir / "samples" / "residual.png") as grid:
        assert grid.size[0] > 100


@pytest.mark.slow
def test_folder(tmp_path):
    source = make_folder(tmp_path / "photographs")
    check(launch(tmp_path / "run", f"--config.data.source=folder:{source}"), tmp_path / "run")


@pytest.mark.slow
def test_tfds_array_records(tmp_path):
    folder = make_folder(tmp_path / "photographs")
    data_dir = tmp_path / "tfds"
    prepare(data_dir, [file.read_bytes() for file in sorted(folder.glob("*.png"))], name="celeb_a")
    done = launch(tmp_path / "run", f"--config.data.data_dir={data_dir}")
    check(done, tmp_path / "run")
