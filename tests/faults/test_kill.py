"""SIGKILL at random moments, many of them during a save: the run ends with the bits of one that nobody disturbed."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults import harness

KILLS = int(os.environ.get("JAXDIFF_KILLS", 100))
WORKERS = 2  # runs at a time
WHOLE_SECONDS = 14.0  # about what an undisturbed run takes
KILLS_EACH = 15  # after so many a run is left in peace, so that several are compared however slow the machine


def hurt(workdir, rng):
    """Start or go on with a run and kill it.

    Two of three kills wait for a save and strike within it, the others come at any moment of the run.

    Returns:
      'saving' or 'anywhere' as the kill found the run, 'done' where the run was over first.
    """
    left = harness.unnamed(workdir)  # by an earlier kill, until this run tidies up

    def saving():
        return bool(harness.unnamed(workdir) - left)

    process = harness.start(workdir)
    if rng.random() < 2 / 3:
        if harness.wait_until(saving, process):
            time.sleep(rng.uniform(0.0, 0.02))
    else:
        moment = time.monotonic() + rng.uniform(0.0, WHOLE_SECONDS)
        harness.wait_until(lambda: time.monotonic() >= moment, process)
    found = "done" if process.poll() is not None else "anywhere"
    if found == "done":
        ended = harness.finish(process)
        assert ended.code == 0, ended.output
        return found
    harness.kill(process)
    return "saving" if saving() else found


def worker(folder, kills, seed, expected):
    """Runs one after another, each killed up to `KILLS_EACH` times and then left in peace; returns counts."""
    rng, counts, runs = random.Random(seed), {"saving": 0, "anywhere": 0, "done": 0}, 0
    while counts["saving"] + counts["anywhere"] < kills:
        workdir, runs, suffered = folder / str(runs), runs + 1, 0
        while suffered < KILLS_EACH and counts["saving"] + counts["anywhere"] < kills:
            result = hurt(workdir, rng)
            counts[result] += 1
            if result == "done":
                break
            suffered += 1
        else:
            ended = harness.run(workdir)
            assert ended.code == 0, ended.output
        harness.assert_same_bits(workdir, expected)
    return counts | {"runs": runs}


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path, expected, record_property):
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [
            pool.submit(worker, tmp_path / f"worker{i}", (KILLS + i) // WORKERS, i, expected)
            for i in range(WORKERS)
        ]
        counts = [job.result() for job in jobs]
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    record_property("kills during a save", total["saving"])
    record_property("kills at other moments", total["anywhere"])
    record_property("runs compared bit for bit after kills", total["runs"])
    assert total["saving"] + total["anywhere"] == KILLS
    assert total["saving"] >= KILLS / 5 and total["runs"] >= KILLS // 12
