"""A step without a finite loss and gradient changes nothing; too many in a row stop the run and name its examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.data.loader import rows_at
from jaxdiff.methods import Method
from jaxdiff.operators import Measurement
from jaxdiff.training.loop import NonFiniteLoss, Stage, TrainSettings, train_stage
from jaxdiff.training.metrics import read_metrics
from jaxdiff.training.sharding import make_mesh
from jaxdiff.training.state import OptimizerSettings, init_state, make_optimizer
from jaxdiff.training.step import make_train_step
from tests.faults import harness

BATCH, SIZE = 8, 24


def regression(poison):
    """w x against 1, with a batch's flag in place of sigma_y: where it is set, `poison` makes a NaN."""

    def loss(params, batch, key):
        value = jnp.mean(jnp.square(params["w"] * batch.y - 1))
        flag = jnp.max(batch.sigma_y)
        if poison == "loss":
            return jnp.where(flag > 0, jnp.nan, value), {}
        # The slope of sqrt at 0 is infinite, and 0 times that is NaN; its value is 0.
        nothing = jnp.sum(jnp.square(params["w"] - jax.lax.stop_gradient(params["w"])))
        return value + jnp.sqrt(nothing + 1 - flag), {}

    return lambda frozen: Method(lambda key, batch: {"w": jnp.zeros(3)}, loss, lambda params: None)


def rows(step):
    return rows_at(np.arange(step * BATCH, (step + 1) * BATCH), SIZE, 5)


def batches(poisoned):
    def make(start, length):
        step = start
        while True:
            steps = range(step, step + length)
            y = np.stack([np.random.default_rng(s).normal(size=(BATCH, 3)) for s in steps])
            flags = np.array([[float(s + 1 in poisoned)] * BATCH for s in steps])
            yield Measurement(y=y.astype(np.float32), params=None, sigma_y=flags.astype(np.float32))
            step += length

    return make


def stage(poison, poisoned, **changes):
    settings = TrainSettings(
        steps=20,
        batch=BATCH,
        optimizer=OptimizerSettings(lr=0.1, steps=20),
        checkpoint_every=10,
        steps_per_dispatch=5,
    )
    example = jax.tree.map(lambda leaf: leaf[0, :1], next(batches(())(0, 1)))
    return Stage(
        "toy", regression(poison), {}, batches(poisoned), example, settings._replace(**changes), None, rows
    )


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_poisoned_step_leaves_every_bit_but_the_step_as_it_was(poison):
    optimizer, mesh = make_optimizer(OptimizerSettings(lr=0.1, steps=20)), make_mesh()
    fresh = init_state({"w": jnp.ones(3)}, optimizer)
    step = make_train_step(regression(poison), optimizer, mesh, fresh, BATCH, 100.0, 0.0)
    sound, bad = (next(batches(poisoned)(0, 1)) for poisoned in ((), (1,)))
    before, _ = step(jax.tree.map(jnp.copy, fresh), sound, {}, jax.random.key(0))
    kept = jax.tree.map(np.asarray, before)
    after, metrics = step(before, bad, {}, jax.random.key(0))
    assert bool(metrics["skipped"][0]) and int(after.step) == int(kept.step) + 1
    assert np.isfinite(metrics["loss"][0]) == (poison == "gradient")
    for left, right in zip(
        jax.tree.leaves(kept.replace(step=after.step)), jax.tree.leaves(after), strict=True
    ):
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()
    moved, metrics = step(after, sound, {}, jax.random.key(0))
    assert not bool(metrics["skipped"][0]) and not np.array_equal(moved.params["w"], kept.params["w"])


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_poisoned_steps_are_counted(tmp_path, poison):
    state = train_stage(stage(poison, {3, 7, 8, 20}), jax.random.key(0), tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r.get("skipped", 0) for r in records] == [1, 2, 0, 1]
    assert [r.get("skipped_in_row", 0) for r in records] == [0, 0, 0, 1]
    assert all(np.isfinite(r["loss"]) for r in records) and np.isfinite(state.params["w"]).all()


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_as_many_in_a_row_as_allowed_stop_the_run_with_stage_step_and_examples(tmp_path, poison):
    poisoned = {3, 4, *range(8, 12)}
    with pytest.raises(NonFiniteLoss) as caught:
        train_stage(stage(poison, poisoned, max_skipped=4), jax.random.key(0), tmp_path)
    message = str(caught.value)
    assert "stage toy, step 11: 4 steps in a row" in message and ", ".join(map(str, rows(10))) in message


@pytest.mark.slow
def test_a_run_that_diverges_says_where_and_keeps_what_was_sound(tmp_path):
    ended = harness.run(
        tmp_path / "run", "--config.train.lr=1e30", "--config.train.clip=0", "--config.train.warmup=0"
    )
    assert ended.code == 1 and "Traceback" not in ended.output, ended.output
    assert "stage view/low_res, step " in ended.output and "10 steps in a row" in ended.output
    assert "examples (rows of the stage's data): " in ended.output
    again = harness.run(
        tmp_path / "run", "--config.train.lr=1e30", "--config.train.clip=0", "--config.train.warmup=0"
    )
    assert again.code == 1 and again.output.split("error:")[1] == ended.output.split("error:")[1]
