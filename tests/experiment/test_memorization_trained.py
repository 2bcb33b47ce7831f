"""A network trained on 50 digits to the end copies them, and is flagged; one trained on 3,700 is not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from configs import digits_noisy_mix
from jaxdiff.data.pixels import to_bytes
from jaxdiff.evaluation.memorization import similarity, similarity_verdict
from jaxdiff.experiment.data import load_data

ROOT = Path(__file__).parents[2]


def features(images):
    """Pixels, centred."""
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    return flat - flat.mean(axis=1, keepdims=True)


def verdict(tmp_path, examples, steps):
    """Trains on so many examples, draws samples, and asks whether they are copies of them."""
    command_line = [
        f"--config.views.clean.examples={float(examples)}",
        f"--config.train.steps={steps}",
        "--config.data.tuning=0",  # nothing stops the training early
        "--config.sample.count=200",
        "--config.sample.batch=200",
        "--config.sample.method=view/clean",
        "--config.sample.s_churn=0",
        "--config.sample.steps=18",
    ]
    workdir = tmp_path / str(examples)
    for mode in ("train", "sample"):
        done = subprocess.run(
            [sys.executable, "launch.py", "--config=configs/digits_noisy_mix.py:all_clean", f"--mode={mode}"]
            + [f"--workdir={workdir}", *command_line],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    with np.load(next((workdir / "samples").glob("view_clean_200*.npz"))) as stored:
        samples = stored["images"]
    config = digits_noisy_mix.get_config("all_clean")
    config.data.tuning = 0
    config.views.clean.examples = float(examples)
    data = load_data(config, Console(quiet=True))
    trained_on = to_bytes(np.asarray(data.views["clean"].example(examples).y))
    found = similarity(features(samples), features(trained_on), features(to_bytes(data.held_out)))
    return similarity_verdict(found)


@pytest.mark.slow
def test_a_network_that_learnt_50_images_by_heart_is_flagged_and_one_of_3700_is_not(tmp_path):
    few = verdict(tmp_path, 50, 4000)
    many = verdict(tmp_path, 3700, 2000)
    assert few.flagged, few.reason
    assert not many.flagged, many.reason
