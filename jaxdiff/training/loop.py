"""The one training loop: restore, dispatch, log one dispatch late, tune, save, stop on request."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.files import write_atomically
from jaxdiff.progress import StageProgress
from jaxdiff.training.checkpoint import StageCheckpoints
from jaxdiff.training.metrics import MetricsWriter, NoWriter
from jaxdiff.training.processes import is_first, stop_agreed
from jaxdiff.training.sharding import (
    FSDP_MIN_SIZE,
    batch_sharding,
    check_batch,
    global_batch,
    make_mesh,
    state_sharding,
)
from jaxdiff.training.state import OptimizerSettings, TrainState, init_state, make_optimizer
from jaxdiff.training.step import make_train_step
from jaxdiff.training.stopping import Interrupted, StopRequest
from jaxdiff.training.watch import NonFiniteLoss, Watch

__all__ = ["NonFiniteLoss", "Stage", "TrainSettings", "train_stage"]

DONE = "done.txt"


class TrainSettings(NamedTuple):
    """Plain numbers of one stage; see configs/default.py for their meaning."""

    steps: int
    batch: int
    optimizer: OptimizerSettings
    steps_per_dispatch: int = 0
    ema_halflife: float = 50_000.0
    ema_rampup: float = 0.05
    checkpoint_every: int = 500
    tune_every: int = 100
    patience: int = 0
    sharding: str = "replicated"
    accumulate: int = 1
    fsdp_min_size: int = FSDP_MIN_SIZE
    max_skipped: int = 10
    spike_factor: float = 30.0


class Stage(NamedTuple):
    """One method on one selection of the data with one budget.

    Attributes:
      name: such as 'view/low_res'.
      factory: frozen -> Method.
      frozen: parameters of earlier stages, a pytree.
      batches: start_step, steps_per_dispatch -> iterator of batches (NumPy, leading axes (K, B)); may have
          `close`.
      example: one small batch (B >= 1), for the shapes.
      settings: the budget.
      tune: (frozen, params) -> score on tuning images, the higher the better; None for no early stopping.
      rows: step -> rows of the data that it sees, for messages; None where nobody knows.
      tune_start: whether the parameters that it begins with are looked at, too: where another stage has trained them,
          they may stay the best.
    """

    name: str
    factory: Callable[[Any], Any]
    frozen: Any
    batches: Callable[[int, int], Iterator[Any]]
    example: Any
    settings: TrainSettings
    tune: Callable[[Any, Any], jax.Array] | None = None
    rows: Callable[[int], np.ndarray] | None = None
    tune_start: bool = False


def dispatch_length(settings: TrainSettings, tuned: bool) -> int:
    """Steps per dispatch: the largest number up to the asked one that divides steps, saving and tuning
    intervals.

    0 asks for the device's best: 16, but 1 on a CPU, where XLA runs a convolution's gradient inside a loop
    many times slower than outside.
    """
    asked = settings.steps_per_dispatch or (1 if jax.default_backend() == "cpu" else 16)
    common = math.gcd(settings.steps, settings.checkpoint_every)
    if tuned:
        common = math.gcd(common, settings.tune_every)
    return max(k for k in range(1, min(asked, common) + 1) if common % k == 0)


def mark_done(directory: Path, step: int) -> None:
    """Leave a note that the stage is over, after its last checkpoint is on disk."""
    if is_first():
        write_atomically(directory / DONE, lambda temporary: temporary.write_text(f"{step}\n"))


def steps_done(directory: Path) -> int | None:
    """The step at which the stage in `directory` was over; None where it is not yet."""
    path = directory / DONE
    text = path.read_bytes().decode(errors="replace").strip() if path.exists() else ""
    return int(text) if text.isdecimal() else None


def is_over(state: TrainState, settings: TrainSettings, tuned: bool) -> bool:
    """Whether the budget is spent, or the tuning score has not risen for `patience` looks (0: never stops early)."""
    step = int(state.step)
    since_best = step - int(state.best_step)
    out_of_patience = (
        tuned and settings.patience > 0 and since_best >= settings.patience * settings.tune_every
    )
    return step >= settings.steps or out_of_patience


def _abstract(state, shardings):
    def leaf(value, sharding):
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    return jax.tree.map(leaf, state, shardings)


def train_stage(
    stage: Stage,
    key: jax.Array,
    directory: Path,
    console: Console | None = None,
    stop: StopRequest | None = None,
) -> TrainState:
    """Train one stage to the end of its budget, from its newest checkpoint where there is one.

    Args:
      stage: what to train.
      key: the stage's key; the step's key is folded in, nothing is threaded through the loop.
      directory: for checkpoints and metrics.
      console: where the progress goes.
      stop: looked at between dispatches.

    Returns:
      The final state; `state.best` is what later stages use (the last moving average where nothing is tuned).

    Raises:
      Interrupted: stopped on request, after saving.
      NonFiniteLoss: too many steps in a row; names the stage, the step and its examples.
      CannotWrite: the disk is full or read-only.
      DamagedCheckpoints, CheckpointMismatch: no checkpoint can be used.
      ValueError: the batch cannot be split over the devices.
    """
    settings, mesh = stage.settings, make_mesh()
    if steps_done(directory) is None:  # what is trained can be read on any number of devices
        check_batch(settings.batch, mesh, f"stage {stage.name}", settings.accumulate)
    stop = StopRequest() if stop is None else stop
    length = dispatch_length(settings, stage.tune is not None)
    optimizer = make_optimizer(settings.optimizer)
    method = stage.factory(stage.frozen)

    def fresh(key):
        return init_state(method.init(key, stage.example), optimizer)

    init_key, step_key = jax.random.split(key)
    shapes = jax.eval_shape(fresh, init_key)
    shardings = state_sharding(mesh, shapes, settings.sharding, settings.fsdp_min_size)
    with StageCheckpoints(directory / "checkpoints") as checkpoints:
        state = checkpoints.restore(_abstract(shapes, shardings))
        if state is None:
            state = jax.jit(fresh, out_shardings=shardings)(init_key)
        if is_over(state, settings, stage.tune is not None):
            mark_done(directory, int(state.step))
            return state
        check_batch(settings.batch, mesh, f"stage {stage.name}", settings.accumulate)
        step = make_train_step(
            stage.factory,
            optimizer,
            mesh,
            shapes,
            settings.batch,
            settings.ema_halflife,
            settings.ema_rampup,
            settings.sharding,
            settings.fsdp_min_size,
            settings.accumulate,
        )
        with stop.listening():
            return _run(stage, state, step, step_key, mesh, length, checkpoints, directory, console, stop)


def _run(stage, state, step, key, mesh, length, checkpoints, directory, console, stop):
    settings, start = stage.settings, int(state.step)
    writer = MetricsWriter(directory, start) if is_first() else NoWriter(directory, start)
    watch = Watch(stage.name, settings.max_skipped, settings.spike_factor, stage.rows, writer.kept)
    batches = stage.batches(start, length)
    sharding = batch_sharding(mesh, 1)
    tune = None if stage.tune is None else jax.jit(stage.tune)
    if start == 0 and tune is not None and stage.tune_start:
        state = _keep_best(state, tune(stage.frozen, state.ema), writer, 0)
    pending, compiled, compile_seconds, began = None, None, 0.0, time.monotonic()
    progress = StageProgress(
        stage.name, settings.steps, start, per_step=settings.batch, unit="images", console=console
    )
    try:
        with progress as bar:
            for at in range(start, settings.steps, length):
                batch = global_batch(next(batches), sharding)
                if compiled is None:
                    compiled = step.lower(state, batch, stage.frozen, key).compile()
                    compile_seconds = time.monotonic() - began
                state, metrics = compiled(state, batch, stage.frozen, key)
                if at == start:
                    jax.block_until_ready(metrics)
                    passed = time.monotonic() - began
                    bar.say(
                        f"{stage.name}: first step after {passed:.1f} s, {compile_seconds:.1f} s of it compiling"
                    )
                # Read the numbers of the dispatch before this one: the device never waits for the host.
                if pending is not None:
                    began = _log(watch, writer, bar, pending, began)
                pending, done = (at + length, metrics, compile_seconds), at + length
                compile_seconds = 0.0
                if tune is not None and (done % settings.tune_every == 0 or done == settings.steps):
                    state = _keep_best(state, tune(stage.frozen, state.ema), writer, done)
                    last = is_over(state, settings, True)
                else:
                    last = done == settings.steps
                stopping = stop_agreed(bool(stop))
                if last or stopping or done % settings.checkpoint_every == 0:
                    # Raises before a bad state is saved.
                    began, pending = _log(watch, writer, bar, pending, began), None
                    if last and tune is None:
                        state = state.replace(best=jax.tree.map(jnp.copy, state.ema), best_step=state.step)
                    checkpoints.save(done, state)
                if last:
                    break
                if stopping:
                    checkpoints.wait()
                    name = signal.Signals(stop.signal or signal.SIGTERM).name
                    raise Interrupted(f"{name}: stage {stage.name} saved at step {done} of {settings.steps}")
        checkpoints.wait()
        mark_done(directory, done)
    finally:
        writer.close()
        if hasattr(batches, "close"):
            batches.close()
    return state


def _log(watch, writer, bar, pending, began):
    """Write the metrics of one dispatch (means over its steps); returns the time now."""
    done, metrics, compile_seconds = pending
    values = {key: np.asarray(value, np.float64) for key, value in jax.device_get(metrics).items()}
    record = watch.look(done, values)
    now = time.monotonic()
    spent = {"seconds": now - began} | ({"compile_seconds": compile_seconds} if compile_seconds else {})
    writer.write(done, {**record, **spent})
    bar.update(done, f"loss {record['loss']:.4f}" if "loss" in record else "skipped")
    return now


def _keep_best(state, score, writer, done):
    """Copy the moving average to `best` where it has the highest score on the tuning images so far."""
    score = jnp.asarray(score, jnp.float32)
    better = bool(score > state.best_score)
    writer.write(done, {"tuning_score": float(score)})
    if not better:
        return state
    best = jax.tree.map(jnp.copy, state.ema)
    return state.replace(best=best, best_score=score, best_step=jnp.copy(state.step))
