"""One run at a time in a workdir: a live owner is named, a dead one's lock is taken over, nothing is left behind."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from jaxdiff.experiment import lock
from jaxdiff.experiment.lock import LOCK, WorkdirInUse, locked
from tests.faults import harness


def left_by(workdir, **changes):
    """A lock that another process left."""
    workdir.mkdir(exist_ok=True)
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": lock.started(os.getpid()),
        "since": time.time(),
    }
    (workdir / LOCK).write_text(json.dumps(owner | changes))


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_workdir_is_locked_and_free_again(tmp_path):
    with locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
        with (
            pytest.raises(
                WorkdirInUse, match=f"process {os.getpid()} on {socket.gethostname()}, for 0 s, last sign"
            ),
            locked(tmp_path / "run"),
        ):
            raise AssertionError("two owners")
    assert not (tmp_path / "run").exists()  # it was made for the lock alone


def test_what_is_in_a_workdir_stays(tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(ValueError, match="of the run"), locked(tmp_path):
        raise ValueError("of the run")
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize(
    "changes",
    [{"pid": None}, {"started": "1"}, {"host": "elsewhere", "pid": 1}],
    ids=["gone", "reused", "silent"],
)
def test_a_dead_owner_is_replaced_with_a_message(tmp_path, caplog, changes):
    if "pid" in changes and changes["pid"] is None:
        changes = {"pid": dead_process()}
    left_by(tmp_path, **changes)
    old = time.time() - lock.STALE_SECONDS - 1
    os.utime(tmp_path / LOCK, (old, old))
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert "taken over" in caplog.text and not (tmp_path / LOCK).exists()


def test_an_owner_on_another_host_that_shows_life_is_left_alone(tmp_path):
    left_by(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(WorkdirInUse, match="process 1 on elsewhere"), locked(tmp_path):
        raise AssertionError("two owners")
    assert json.loads((tmp_path / LOCK).read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}'])
def test_half_a_lock_is_taken_over(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_signs_of_life_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (1, 1))
        until = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime == 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > 1


def _contend(folder, others, refused, results):
    """Whoever gets the lock keeps it until all others have been refused: one who came late would get it by right."""
    try:
        with locked(folder):
            until = time.monotonic() + 20
            while refused.value < others and time.monotonic() < until:
                time.sleep(0.01)
            results.put("got it")
    except WorkdirInUse:
        with refused.get_lock():
            refused.value += 1
        results.put("refused")


def test_of_many_at_once_over_a_dead_owner_one_gets_it(tmp_path):
    left_by(tmp_path, pid=dead_process())
    context = multiprocessing.get_context("fork")
    results, refused = context.Queue(), context.Value("i", 0)
    children = [context.Process(target=_contend, args=(tmp_path, 7, refused, results)) for _ in range(8)]
    for child in children:
        child.start()
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert sorted(found) == ["got it"] + 7 * ["refused"]


@pytest.mark.slow
def test_a_second_run_is_refused_while_the_first_lives_and_goes_on_when_it_is_dead(tmp_path, expected):
    workdir = tmp_path / "run"
    first = harness.start(workdir)
    assert harness.wait_until(lambda: saved_once(workdir), first)
    second = harness.run(workdir)
    assert second.code == 75 and f"is in use by process {first.pid} on" in second.output, second.output
    assert "sign of life" in second.output and first.poll() is None
    harness.kill(first)
    third = harness.run(workdir)
    assert third.code == 0 and f"left by process {first.pid}" in third.output, third.output
    assert "taken over" in third.output and not (workdir / LOCK).exists()
    harness.assert_same_bits(workdir, expected)


def saved_once(workdir):
    directory = harness.checkpoints(workdir, harness.STAGES[0])
    return directory.exists() and bool(harness.steps(workdir, harness.STAGES[0]))
