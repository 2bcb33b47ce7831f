"""Meshes, micro-batches, processes: what a result may and may not depend on."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.methods import denoising
from jaxdiff.operators import Measurement
from jaxdiff.training import distributed_check, processes
from jaxdiff.training.accumulation import accumulated_gradient, micro_batches
from jaxdiff.training.sharding import batch_sharding, check_batch, make_mesh, state_sharding
from jaxdiff.training.state import OptimizerSettings, init_state, make_optimizer
from jaxdiff.training.step import make_train_step

ROOT = Path(__file__).parents[2]
DATA = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        return nn.Dense(x.shape[-1])(nn.silu(nn.Dense(16)(jnp.concatenate([x, c_noise[:, None]], axis=1))))


def measurement(y):
    return Measurement(y=y, params=None, sigma_y=np.zeros(y.shape[:-1], np.float32))


def factory(frozen):
    return denoising(Net(), NoiseDistribution(), 0.5)


def noiseless(params, batch, key):
    """A loss that is a mean over examples and draws nothing."""
    sigma = jnp.linspace(0.1, 2.0, 7)[(10 * jnp.abs(batch.y[:, 0])).astype(int) % 7]
    denoised = factory({}).denoiser(params)(batch.y + sigma[:, None], sigma)
    return jnp.mean(jnp.square(denoised - batch.y)), {"largest": jnp.abs(denoised).mean()}


@functools.cache
def params():
    return jax.jit(factory({}).init)(jax.random.key(0), measurement(DATA[:1]))


@pytest.mark.parametrize("count", [2, 4])
def test_micro_batches_give_the_gradient_of_the_batch(count):
    mesh, batch, key = make_mesh(), measurement(DATA), jax.random.key(1)
    whole = jax.jit(jax.value_and_grad(noiseless, has_aux=True))(params(), batch, key)
    parts = jax.jit(accumulated_gradient(noiseless, count, mesh))(params(), batch, key)
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_the_loop_of_accelerators_gives_what_is_written_out_on_a_cpu(monkeypatch):
    mesh, batch, key = make_mesh(), measurement(DATA), jax.random.key(1)
    loss = factory({}).loss
    written_out = jax.jit(accumulated_gradient(loss, 4, mesh))(params(), batch, key)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    looped = jax.jit(accumulated_gradient(loss, 4, mesh))(params(), batch, key)
    for left, right in zip(jax.tree.leaves(written_out), jax.tree.leaves(looped), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_each_micro_batch_draws_noise_of_its_own():
    """The gradient is the mean over micro-batches with keys fold_in(key, a), and not that of one draw for all."""
    mesh, key, loss = make_mesh(), jax.random.key(1), factory({}).loss
    accumulated = jax.jit(accumulated_gradient(loss, 2, mesh))(params(), measurement(DATA), key)[1]
    gradient = jax.jit(jax.grad(lambda p, b, k: loss(p, b, k)[0]))
    halves = [gradient(params(), measurement(DATA[a::2]), jax.random.fold_in(key, a)) for a in range(2)]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    for left, right in zip(jax.tree.leaves(accumulated), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
    same = jax.tree.map(
        lambda a, b: (a + b) / 2, *[gradient(params(), measurement(DATA[a::2]), key) for a in range(2)]
    )
    differing = [
        np.abs(a - b).max() for a, b in zip(jax.tree.leaves(accumulated), jax.tree.leaves(same), strict=True)
    ]
    assert max(differing) > 1e-3


def test_rows_of_a_micro_batch_stay_on_their_devices():
    mesh = make_mesh()
    batch = jax.device_put(DATA, batch_sharding(mesh))
    parts = jax.jit(lambda b: micro_batches(b, 2, mesh))(batch)
    assert parts.shape == (2, 16, 6)
    for number in range(2):
        np.testing.assert_array_equal(parts[number], DATA[number::2])
    for shard in parts.addressable_shards:
        mine = next(s.data for s in batch.addressable_shards if s.device == shard.device)
        np.testing.assert_array_equal(
            np.asarray(shard.data), np.asarray(mine).reshape(2, 2, 6).swapaxes(0, 1)
        )


def test_accumulation_in_the_step_equals_the_whole_batch_on_one_and_eight_devices():
    optimizer = make_optimizer(OptimizerSettings(lr=1e-2, steps=10))
    results = {}
    for devices, count in ((8, 1), (8, 2), (1, 4)):
        mesh = make_mesh(jax.devices()[:devices])
        state = init_state(jax.tree.map(jnp.copy, params()), optimizer)  # the step is given its buffers
        state = jax.device_put(state, state_sharding(mesh, state, "fsdp", 16))

        def quiet(frozen):
            return factory(frozen)._replace(loss=noiseless)

        step = make_train_step(quiet, optimizer, mesh, state, 32, 100.0, 0.0, "fsdp", 16, count)
        state, metrics = step(state, measurement(DATA[None]), {}, jax.random.key(3))
        results[devices, count] = state.params, metrics["loss"]
    for other in ((8, 2), (1, 4)):
        for left, right in zip(*(jax.tree.leaves(results[k]) for k in ((8, 1), other)), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5)


def test_batches_and_state_are_split_over_any_mesh():
    devices = np.array(jax.devices()).reshape(4, 2)
    mesh = jax.sharding.Mesh(devices, ("hosts", "chips"))
    shapes = {
        "kernel": jax.ShapeDtypeStruct((24, 6), jnp.float32),
        "odd": jax.ShapeDtypeStruct((7, 3), jnp.float32),
    }
    rule = state_sharding(mesh, shapes, "fsdp", min_size=1)
    assert rule["kernel"].shard_shape((24, 6)) == (3, 6) and rule["odd"].is_fully_replicated
    assert batch_sharding(mesh, 1).shard_shape((5, 16, 2)) == (5, 2, 2)


def test_a_batch_that_devices_and_micro_batches_do_not_divide():
    said = "batch 24 cannot be split over 8 devices and 2 micro-batches; nearest valid: 32"
    with pytest.raises(ValueError, match=said):
        check_batch(24, make_mesh(), "stage toy", 2)
    check_batch(32, make_mesh(), "stage toy", 2)


def test_starting_processes_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="--distributed: 'maybe' is none of auto, on, off"):
        processes.start("maybe")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID must be set beside"):
        processes.start("auto")
    processes.start("off")  # asks nobody
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
    processes.start("auto")
    with pytest.raises(ValueError, match="--distributed=on: this is no Cloud TPU pod"):
        processes.start("on")
    monkeypatch.setattr(jax.distributed, "initialize", broken_cluster)
    with pytest.raises(ValueError, match="process_id=7"):
        processes.start("auto")


def no_cluster(*given):
    raise ValueError("coordinator_address should be defined.")


def broken_cluster(*given):
    raise ValueError("process_id and num_processes must be nonnegative. Got process_id=7")


def test_the_three_variables_are_what_jax_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: told.append(given))
    for name, value in zip(processes.NEEDED, ("127.0.0.1:1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    processes.start("auto")
    assert told == [("127.0.0.1:1", 2, 1)]


def test_differences_are_found_and_named():
    one = {f"{name}/0": np.ones(3) for name in distributed_check.TOLERANCES}
    other = {**one, "gradient/0": np.array([1.0, 1.0, 1.1])}
    bad = [row for row in distributed_check.differences(one, other) if not row.ok]
    assert [row.name for row in bad] == ["gradient"] and bad[0].value == pytest.approx(0.1)
    assert distributed_check.same_bits(one, other) == ["gradient/0"]
    nan = distributed_check.differences(one, {**one, "samples/0": np.full(3, np.nan)})
    assert [row.name for row in nan if not row.ok] == ["samples"]


def test_a_process_that_fails_ends_the_others():
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    waiting = [sys.executable, "-c", "import time; time.sleep(600)"]
    started = [subprocess.Popen(command) for command in (failing, waiting)]
    assert distributed_check.wait(started, 60)[0] == 3
    assert started[1].poll() is not None
    slow = [subprocess.Popen(waiting)]
    with pytest.raises(TimeoutError, match="1 processes are not done"):
        distributed_check.wait(slow, 0.2)
    assert slow[0].poll() is not None


RESTORE = """
import sys, json
from pathlib import Path
import jax, numpy as np
sys.path.insert(0, {root!r})
from tests.training import test_scale as t
print(json.dumps(t.go_on(Path({directory!r}), {steps})))
"""


def go_on(directory, steps):
    """Train to `steps` from what is in `directory`, on the devices of this process; sums that identify the state."""
    from jaxdiff.training.loop import Stage, TrainSettings, train_stage

    settings = TrainSettings(
        steps=steps,
        batch=16,
        optimizer=OptimizerSettings(lr=1e-2, steps=10, decay="constant"),
        steps_per_dispatch=1,
        checkpoint_every=2,
        sharding="fsdp",
        fsdp_min_size=16,
    )

    def batches(start, length):
        for step in range(start, 100):
            yield measurement(DATA[np.random.default_rng([7, step]).integers(0, 32, (1, 16))])

    stage = Stage("toy", factory, {}, batches, measurement(DATA[:1]), settings)
    state = train_stage(stage, jax.random.key(0), directory)
    leaves = [
        np.asarray(leaf).astype(np.float64) for leaf in jax.tree.leaves((state.params, state.opt_state))
    ]
    split = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    return {"devices": jax.device_count(), "split": split, "sums": [float(np.sum(leaf)) for leaf in leaves]}


def on_devices(count, directory, steps):
    code = RESTORE.format(root=str(ROOT), directory=str(directory), steps=steps)
    environ = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_checkpoints_go_on_on_another_number_of_devices(tmp_path):
    first = on_devices(8, tmp_path / "moved", 2)
    assert first["devices"] == 8 and first["split"] > 0
    # Nothing left to do: what is restored on one device is what eight had saved.
    again = on_devices(1, tmp_path / "moved", 2)
    assert again["devices"] == 1 and again["split"] == 0 and again["sums"] == first["sums"]
    on_devices(1, tmp_path / "moved", 4)
    last = on_devices(2, tmp_path / "moved", 6)
    whole = on_devices(1, tmp_path / "whole", 6)
    np.testing.assert_allclose(last["sums"], whole["sums"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_give_what_one_gives(count):
    command = [sys.executable, "-m", "jaxdiff.training.distributed_check", f"--processes={count}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EQUAL within the tolerances" in done.stdout and "every bit is the same" in done.stdout
