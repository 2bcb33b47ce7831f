"""A damaged newest checkpoint is named, set aside, the one before it used; where all are, nothing is touched."""

import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.training.checkpoint import DamagedCheckpoints, StageCheckpoints
from jaxdiff.training.manifest import MARK
from tests.faults import harness

SHAPES = {"w": (64, 8), "b": (3,), "step": ()}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """One bit of one byte."""
    data, rng = bytearray(path.read_bytes()), random.Random(path.name)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def delete(path):
    path.unlink()


HURTS = (truncate, flip, delete)


def state_at(step):
    return {
        name: jnp.asarray(np.random.default_rng([step, i]).normal(size=shape), jnp.float32)
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def saved_twice(directory):
    with StageCheckpoints(directory) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state_at(step))


def restored(directory):
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state_at(1))
    with StageCheckpoints(directory) as checkpoints:
        return checkpoints.restore(abstract)


def files(directory):
    return sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())


def same(state, step):
    return all(np.array_equal(state[name], value) for name, value in state_at(step).items())


@pytest.mark.slow
@pytest.mark.parametrize("hurt", HURTS)
def test_whatever_file_of_the_newest_is_hurt_it_is_named_and_the_one_before_used(
    tmp_path, caplog, hurt, record_property
):
    saved_twice(tmp_path / "whole")
    names, found = files(tmp_path / "whole" / "2"), 0
    for number, name in enumerate(names):
        directory = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        before = (directory / "2" / name).read_bytes()
        hurt(directory / "2" / name)
        caplog.clear()
        state = restored(directory)
        if same(state, 2):
            # What nobody reads: the mark of the commit, its time in Orbax's note, the list itself where it is gone.
            harmless = name.name in (MARK, "_CHECKPOINT_METADATA") or (hurt, str(name)) == (
                delete,
                "manifest.json",
            )
            assert harmless, (name, len(before))
            continue
        found += 1
        assert same(state, 1), name
        assert f"{directory / '2'} is damaged" in caplog.text and (directory / "damaged" / "2").is_dir()
        assert str(name) in caplog.text
    record_property(f"files of a checkpoint, {hurt.__name__}", f"{found} of {len(names)} named and set aside")
    assert found >= len(names) - 3


@pytest.mark.parametrize("hurt", HURTS)
def test_all_damaged_is_an_error_and_changes_nothing(tmp_path, hurt):
    saved_twice(tmp_path)
    for step in ("1", "2"):
        hurt(
            max(
                (path for path in (tmp_path / step).rglob("*") if path.is_file()),
                key=lambda p: p.stat().st_size,
            )
        )
    before = harness.snapshot(tmp_path)
    for _ in range(2):
        with pytest.raises(DamagedCheckpoints, match=r"no readable checkpoint \(step 2: .*; step 1: "):
            restored(tmp_path)
    assert harness.snapshot(tmp_path) == before


def biggest(directory):
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("hurt", HURTS)
def test_a_run_with_a_damaged_newest_checkpoint_ends_with_the_same_bits(stopped, expected, hurt):
    newest = harness.checkpoints(stopped) / str(harness.steps(stopped)[-1])
    hurt(biggest(newest))
    ended = harness.run(stopped)
    assert ended.code == 0 and f"{newest} is damaged" in ended.output and "set aside" in ended.output, (
        ended.output
    )
    harness.assert_same_bits(stopped, expected)


@pytest.mark.slow
def test_a_run_with_damaged_checkpoints_only_stops_and_overwrites_nothing(stopped):
    for step in harness.steps(stopped):
        flip(biggest(harness.checkpoints(stopped) / str(step)))
    before = harness.snapshot(stopped)
    ended = harness.run(stopped)
    assert ended.code == 2 and "no readable checkpoint" in ended.output and "Traceback" not in ended.output
    assert harness.snapshot(stopped) == before


@pytest.mark.slow
def test_a_damaged_fit_is_named_and_made_again(stopped, expected):
    flip(stopped / "fits" / "gaussian.npz")
    ended = harness.run(stopped)
    assert ended.code == 0, ended.output
    harness.assert_same_bits(stopped, expected)
