"""What the runs share: one that nobody disturbed, and one stopped half way, each made once."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.faults import harness


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The workdir of a run that nobody disturbed (it fills the compile cache, too)."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    ended = harness.run(workdir)
    assert ended.code == 0, ended.output
    return workdir


@pytest.fixture(scope="session")
def expected(whole):
    """What an undisturbed run ends with."""
    return harness.final_arrays(whole)


@pytest.fixture(scope="session")
def halfway(whole, tmp_path_factory) -> Path:
    """The workdir of a run that was told to stop in its second stage."""
    workdir = tmp_path_factory.mktemp("halfway") / "run"
    process = harness.start(workdir)
    directory = harness.checkpoints(workdir)
    assert harness.wait_until(lambda: directory.exists() and len(harness.steps(workdir)) > 1, process)
    process.send_signal(signal.SIGTERM)
    ended = harness.finish(process)
    assert ended.code == 75 and "Run the same command again" in ended.output, ended.output
    return workdir


@pytest.fixture
def stopped(halfway, tmp_path) -> Path:
    """A copy of `halfway` to be hurt."""
    return shutil.copytree(halfway, tmp_path / "run")
