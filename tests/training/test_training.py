"""The loop: devices, dispatches and restarts do not change the result; what goes wrong is named."""

import io
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.methods import denoising
from jaxdiff.operators import Measurement
from jaxdiff.training import loop
from jaxdiff.training.checkpoint import CheckpointMismatch, DamagedCheckpoints, StageCheckpoints
from jaxdiff.training.loop import NonFiniteLoss, Stage, TrainSettings, train_stage
from jaxdiff.training.metrics import MetricsWriter, read_metrics
from jaxdiff.training.sharding import batch_sharding, check_batch, make_mesh, state_sharding
from jaxdiff.training.state import OptimizerSettings, init_state, learning_rate, make_optimizer
from jaxdiff.training.step import ema_decay, make_train_step
from jaxdiff.training.stopping import Interrupted, StopRequest

DATA = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        h = nn.Dense(16)(jnp.concatenate([x, c_noise[:, None]], axis=1))
        h = nn.Dropout(0.2, deterministic=not train)(nn.silu(h))
        return nn.Dense(x.shape[-1])(h)


def factory(frozen):
    return denoising(Net(), NoiseDistribution(), 0.5)


def measurement(y):
    return Measurement(y=y, params=None, sigma_y=np.zeros(y.shape[:-1], np.float32))


def batches(start, length):
    step = start
    while True:
        rows = [np.random.default_rng([7, s]).integers(0, len(DATA), 16) for s in range(step, step + length)]
        yield measurement(DATA[np.stack(rows)])
        step += length


def stage(steps=10, tune=True, **changes):
    optimizer = OptimizerSettings(lr=1e-2, warmup=2, steps=10, weight_decay=0.01)
    settings = TrainSettings(
        steps=steps, batch=16, optimizer=optimizer, steps_per_dispatch=5, checkpoint_every=5, tune_every=5
    )._replace(**changes)

    def score(frozen, params):
        x = jnp.asarray(DATA[:8])
        return -jnp.mean(jnp.square(factory(frozen).denoiser(params)(x + 0.5, jnp.full((8,), 0.5)) - x))

    return Stage("toy", factory, {}, batches, measurement(DATA[:1]), settings, score if tune else None)


def assert_same_bits(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


@pytest.mark.parametrize("rule", ["replicated", "fsdp"])
def test_eight_devices_equal_one(rule):
    optimizer = make_optimizer(OptimizerSettings(lr=1e-2, steps=10))
    results = []
    for devices in (jax.devices(), jax.devices()[:1]):
        mesh = make_mesh(devices)
        state = init_state(factory({}).init(jax.random.key(0), measurement(DATA[:1])), optimizer)
        state = jax.device_put(state, state_sharding(mesh, state, rule, min_size=16))
        step = make_train_step(factory, optimizer, mesh, state, 16, 100.0, 0.0, rule, min_size=16)
        batch = jax.device_put(next(batches(0, 5)), batch_sharding(mesh, 1))
        state, metrics = step(state, batch, {}, jax.random.key(3))
        split = any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
        assert split == (rule == "fsdp" and len(devices) == 8)
        results.append((state, metrics))
    (state8, metrics8), (state1, metrics1) = results
    np.testing.assert_allclose(metrics8["loss"], metrics1["loss"], rtol=1e-5)
    for left, right in zip(jax.tree.leaves(state8.params), jax.tree.leaves(state1.params), strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5)


@pytest.mark.parametrize("rule", ["replicated", "fsdp"])
def test_gradients_on_eight_devices_are_those_on_one(rule):
    """Of the loss itself, before an optimiser divides by their size."""
    found = []
    for devices in (jax.devices(), jax.devices()[:1]):
        mesh = make_mesh(devices)
        params = jax.jit(factory({}).init)(jax.random.key(0), measurement(DATA[:1]))
        params = jax.device_put(params, state_sharding(mesh, params, rule, min_size=16))
        batch = jax.device_put(jax.tree.map(lambda a: a[0], next(batches(0, 1))), batch_sharding(mesh))
        gradient = jax.jit(lambda p, b: jax.grad(lambda p: factory({}).loss(p, b, jax.random.key(3))[0])(p))
        found.append(jax.tree.map(np.asarray, gradient(params, batch)))
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(found[1]))
    assert scale > 0
    for left, right in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.slow
def test_steps_per_dispatch_do_not_change_the_result(tmp_path):
    runs = [train_stage(stage(steps_per_dispatch=k), jax.random.key(0), tmp_path / str(k)) for k in (1, 5)]
    for left, right in zip(*(jax.tree.leaves(r.params) for r in runs), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_five_steps_restore_five_steps_is_bitwise_ten(tmp_path):
    whole = train_stage(stage(), jax.random.key(0), tmp_path / "whole")
    train_stage(stage(steps=5), jax.random.key(0), tmp_path / "parts")
    resumed = train_stage(stage(), jax.random.key(0), tmp_path / "parts")
    assert_same_bits(whole, resumed)
    kept = [r["step"] for r in read_metrics(tmp_path / "parts" / "metrics.jsonl")]
    assert kept == [r["step"] for r in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    again = train_stage(stage(), jax.random.key(0), tmp_path / "parts")  # nothing left to do
    assert_same_bits(whole, again)


def test_the_time_to_the_first_step_is_said(tmp_path):
    text = io.StringIO()
    train_stage(stage(steps=5, tune=False), jax.random.key(0), tmp_path, Console(file=text, width=200))
    found = re.search(r"toy: first step after (\d+\.\d) s, (\d+\.\d) s of it compiling", text.getvalue())
    assert found and 0 <= float(found[2]) <= float(found[1])


def test_stop_request_saves_and_the_next_run_goes_on(tmp_path):
    whole = train_stage(
        stage(checkpoint_every=10, steps_per_dispatch=1), jax.random.key(0), tmp_path / "whole"
    )
    stop = StopRequest()

    def stopping(start, length):
        for index, batch in enumerate(batches(start, length)):
            if index == 3:
                stop.signal = 15
            yield batch

    with pytest.raises(Interrupted, match="SIGTERM: stage toy saved at step 4 of 10"):
        asked = stage(checkpoint_every=10, steps_per_dispatch=1)._replace(batches=stopping)
        train_stage(asked, jax.random.key(0), tmp_path / "parts", stop=stop)
    resumed = train_stage(
        stage(checkpoint_every=10, steps_per_dispatch=1), jax.random.key(0), tmp_path / "parts"
    )
    assert_same_bits(whole, resumed)


def test_best_is_the_moving_average_with_the_highest_score(tmp_path):
    worse_and_worse = stage()._replace(
        tune=lambda frozen, params: -jnp.sum(jnp.square(params["Dense_0"]["bias"]))
    )
    state = train_stage(worse_and_worse, jax.random.key(0), tmp_path / "a")
    assert int(state.best_step) == 5 and int(state.step) == 10
    state = train_stage(stage(tune=False), jax.random.key(0), tmp_path / "b")
    assert int(state.best_step) == 10
    assert_same_bits(state.best, state.ema)


def test_what_a_stage_begins_with_may_stay_the_best(tmp_path):
    worse_and_worse = stage()._replace(
        tune=lambda frozen, params: -jnp.sum(jnp.square(params["Dense_0"]["bias"])), tune_start=True
    )
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "tuning_score": 1.0}\n'
    )  # of a run killed before it saved
    state = train_stage(worse_and_worse, jax.random.key(0), tmp_path)
    init_key, _ = jax.random.split(jax.random.key(0))
    assert int(state.best_step) == 0 and int(state.step) == 10
    assert_same_bits(state.best, factory({}).init(init_key, worse_and_worse.example))
    assert float(np.abs(state.ema["Dense_0"]["bias"]).max()) > 0
    scores = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if "tuning_score" in r]
    assert scores == [0, 5, 10]


def test_patience_stops_a_stage_that_does_not_get_better(tmp_path):
    worse_and_worse = stage(steps=40, patience=2)._replace(
        tune=lambda frozen, params: -jnp.sum(jnp.square(params["Dense_0"]["bias"]))
    )
    state = train_stage(worse_and_worse, jax.random.key(0), tmp_path)
    assert int(state.best_step) == 5 and int(state.step) == 15 and loop.steps_done(tmp_path) == 15
    assert_same_bits(train_stage(worse_and_worse, jax.random.key(0), tmp_path), state)


def poisoned(first, last):
    """Batches whose examples are NaN in the steps first, ..., last (counted from 1)."""

    def make(start, length):
        for index, batch in enumerate(batches(start, length)):
            steps = start + index * length + 1 + np.arange(length)
            bad = (steps >= first) & (steps <= last)
            yield batch.replace(y=np.where(bad[:, None, None], np.nan, batch.y).astype(np.float32))

    return make


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, caplog):
    hurt = stage(tune=False)._replace(batches=poisoned(4, 5), rows=lambda step: np.arange(step, step + 3))
    state = train_stage(hurt, jax.random.key(0), tmp_path)
    carried = jax.tree.leaves((state.params, state.ema, state.opt_state))
    assert int(state.step) == 10 and all(np.isfinite(leaf).all() for leaf in carried)
    assert int(state.opt_state[1][0].count) == 8
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r.get("skipped", 0) for r in records] == [2, 0] and records[0]["skipped_in_row"] == 2
    assert (
        "step 4 skipped: loss nan" in caplog.text
        and "examples (rows of the stage's data): 3, 4, 5" in caplog.text
    )


def test_too_many_steps_in_a_row_name_stage_step_and_examples_and_keep_the_last_good_state(tmp_path):
    rows = lambda step: np.arange(step, step + 3)  # noqa: E731
    hurt = stage(max_skipped=3)._replace(batches=poisoned(6, 10), rows=rows)
    with pytest.raises(NonFiniteLoss, match=r"stage toy, step 8: 3 steps in a row .*loss nan.*: 7, 8, 9\. "):
        train_stage(hurt, jax.random.key(0), tmp_path / "parts")
    resumed = train_stage(stage(), jax.random.key(0), tmp_path / "parts")
    assert_same_bits(train_stage(stage(), jax.random.key(0), tmp_path / "whole"), resumed)


def test_steps_in_a_row_are_counted_across_a_restart(tmp_path):
    hurt = stage(max_skipped=4, steps=5)._replace(batches=poisoned(4, 10))
    train_stage(hurt, jax.random.key(0), tmp_path)
    with pytest.raises(NonFiniteLoss, match="step 7: 4 steps in a row"):
        train_stage(stage(max_skipped=4)._replace(batches=poisoned(4, 10)), jax.random.key(0), tmp_path)


def test_a_loss_that_jumps_is_recorded(tmp_path, caplog):
    def jumping(start, length):
        for index, batch in enumerate(batches(start, length)):
            yield batch.replace(y=batch.y * (1000 if start + index * length == 15 else 1))

    settings = dict(steps=20, steps_per_dispatch=1, checkpoint_every=20, spike_factor=30.0)
    train_stage(stage(tune=False, **settings)._replace(batches=jumping), jax.random.key(0), tmp_path)
    spikes = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if "loss_spike" in r]
    assert spikes == [16] and "step 16: loss" in caplog.text


def test_damaged_newest_checkpoint_is_set_aside(tmp_path, caplog):
    whole = train_stage(stage(), jax.random.key(0), tmp_path / "whole")
    train_stage(stage(), jax.random.key(0), tmp_path / "parts")
    newest = tmp_path / "parts" / "checkpoints" / "10"
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:3])
    resumed = train_stage(stage(), jax.random.key(0), tmp_path / "parts")
    assert_same_bits(whole, resumed)
    assert "set aside" in caplog.text and "10" in caplog.text
    assert (tmp_path / "parts" / "checkpoints" / "damaged" / "10").is_dir()


def test_all_checkpoints_damaged_is_a_clear_error(tmp_path):
    train_stage(stage(), jax.random.key(0), tmp_path)
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    before = sorted((tmp_path / "checkpoints").rglob("*"))
    for _ in range(2):  # the second run must not take what the first one left for a fresh start
        with pytest.raises(DamagedCheckpoints, match="no readable checkpoint"):
            train_stage(stage(), jax.random.key(0), tmp_path)
    assert sorted((tmp_path / "checkpoints").rglob("*")) == before


def test_checkpoints_of_another_network_are_not_called_damaged(tmp_path):
    train_stage(stage(), jax.random.key(0), tmp_path)
    other = Measurement(y=DATA[:1, :4], params=None, sigma_y=np.zeros(1, np.float32))
    with pytest.raises(CheckpointMismatch, match=r"undamaged, and does not fit this run .*has shape"):
        train_stage(stage()._replace(example=other), jax.random.key(0), tmp_path)
    assert not (tmp_path / "checkpoints" / "damaged").exists()


def test_checkpoints_without_a_list_of_an_older_version_are_read(tmp_path):
    whole = train_stage(stage(), jax.random.key(0), tmp_path)
    for path in (tmp_path / "checkpoints").rglob("manifest.json"):
        path.unlink()
    assert_same_bits(whole, train_stage(stage(), jax.random.key(0), tmp_path))
    assert (tmp_path / "checkpoints" / "10" / "manifest.json").exists()


def test_saved_state_survives_donation_of_its_buffers(tmp_path):
    state = {"w": jnp.arange(4.0)}
    with StageCheckpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        jax.jit(lambda s: jax.tree.map(lambda a: a * 0, s), donate_argnums=0)(state)
        checkpoints.wait()
        restored = checkpoints.restore(
            jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), {"w": jnp.zeros(4)})
        )
    np.testing.assert_array_equal(restored["w"], np.arange(4.0))


def test_one_trace_for_all_steps(tmp_path):
    traces = []

    def counting(frozen):
        method = factory(frozen)

        def loss(params, batch, key):
            traces.append(batch.y.shape)
            return method.loss(params, batch, key)

        return method._replace(loss=loss)

    train_stage(stage(tune=False)._replace(factory=counting), jax.random.key(0), tmp_path)
    assert len(traces) == 1


def test_batch_that_the_devices_do_not_divide():
    with pytest.raises(ValueError, match="batch 13 cannot be split over 8 devices; nearest valid: 16"):
        check_batch(13, make_mesh(), "stage toy")


def test_learning_rate_warms_up_and_decays():
    rate = learning_rate(OptimizerSettings(lr=1.0, warmup=10, steps=100, decay="cosine"))
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(10)) == pytest.approx(1.0)
    assert float(rate(55)) == pytest.approx(0.5, abs=0.01) and float(rate(100)) == pytest.approx(
        0.0, abs=1e-6
    )
    with pytest.raises(ValueError, match="unknown decay 'linear'"):
        learning_rate(OptimizerSettings(decay="linear"))


def test_moving_average_halves_in_its_half_life():
    assert float(ema_decay(jnp.array(10_000), 50, 500.0, 0.0)) ** 10 == pytest.approx(0.5)
    assert float(ema_decay(jnp.array(0), 50, 500.0, 0.1)) < 0.01  # ramp-up: young averages forget quickly


def test_dispatch_length_divides_all_intervals():
    assert (
        loop.dispatch_length(
            TrainSettings(100, 8, OptimizerSettings(), 16, checkpoint_every=50, tune_every=20), True
        )
        == 10
    )
    assert loop.dispatch_length(TrainSettings(7, 8, OptimizerSettings(), 16, checkpoint_every=7), False) == 7
    assert (
        loop.dispatch_length(TrainSettings(100, 8, OptimizerSettings(), 0, checkpoint_every=50), False) == 1
    )  # CPU


def test_metrics_cut_short_by_a_kill_are_read_up_to_there(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": 2.0})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    assert list(tmp_path.glob("events.out.tfevents.*"))
