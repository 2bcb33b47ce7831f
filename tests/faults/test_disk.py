"""A disk that is full or read-only: one message, exit code 74, nothing lost, and the same command goes on after."""

import errno
import os
import shutil
import subprocess

import pytest

from tests.faults import harness

CANNOT_WRITE = 74
MEGABYTES = 24


def mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, in memory."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("a small tmpfs can be mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave=0):
    """A file that takes all the room that is there, but for `leave` bytes."""
    free = shutil.disk_usage(folder).free - leave
    # Unbuffered, and in small pieces at the end: a run that writes at the same time may take the last of the room.
    with open(folder / "ballast", "wb", buffering=0) as ballast:
        try:
            for size in (2**20, 2**12):
                while free >= size:
                    free -= ballast.write(bytes(size))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return folder / "ballast"


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 2**14, 2**16])
def test_a_full_disk_stops_the_run_with_one_message_and_loses_nothing(disk, halfway, expected, leave):
    workdir = shutil.copytree(halfway, disk / "run")
    ballast, before = fill(disk, leave), harness.steps(workdir)
    ended = harness.run(workdir)
    assert ended.code == CANNOT_WRITE, ended.output
    assert "no space left on the device" in ended.output and str(workdir) in ended.output
    assert "run the same command again" in ended.output and "Traceback" not in ended.output, ended.output
    assert set(before) & set(harness.steps(workdir)), "a good checkpoint is still there"
    ballast.unlink()
    ended = harness.run(workdir)
    assert ended.code == 0 and "damaged" not in ended.output, ended.output
    harness.assert_same_bits(workdir, expected)


@pytest.mark.slow
def test_a_disk_that_fills_up_during_the_run(disk, whole, expected):
    workdir = disk / "run"
    process = harness.start(workdir)
    stage = harness.STAGES[0]
    directory = harness.checkpoints(workdir, stage)
    assert harness.wait_until(lambda: directory.exists() and len(harness.steps(workdir, stage)) > 1, process)
    ballast = fill(disk)
    ended = harness.finish(process)
    assert ended.code == CANNOT_WRITE and "no space left on the device" in ended.output, ended.output
    assert "Traceback" not in ended.output and harness.steps(workdir, stage)
    ballast.unlink()
    ended = harness.run(workdir)
    assert ended.code == 0, ended.output
    harness.assert_same_bits(workdir, expected)


@pytest.mark.slow
def test_a_read_only_workdir_is_one_message_and_untouched(disk, halfway, expected):
    workdir = shutil.copytree(halfway, disk / "run")
    before = harness.snapshot(workdir)
    assert mount("-o", "remount,ro", str(disk)).returncode == 0
    ended = harness.run(workdir)
    assert ended.code == CANNOT_WRITE and "the file system is read-only" in ended.output, ended.output
    assert "Traceback" not in ended.output and harness.snapshot(workdir) == before
    assert mount("-o", "remount,rw", str(disk)).returncode == 0
    assert harness.run(workdir).code == 0
    harness.assert_same_bits(workdir, expected)
