"""The train step: loss, gradient, optimiser, moving average; several steps in one dispatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxdiff.training.accumulation import accumulated_gradient
from jaxdiff.training.sharding import FSDP_MIN_SIZE, batch_sharding, state_sharding
from jaxdiff.training.state import TrainState


def ema_decay(step: jax.Array, batch_size: int, halflife: float, rampup: float) -> jax.Array:
    """Decay per step of a moving average with its half-life in images (Karras et al. 2022, appendix F).

    beta = 0.5^(batch / min(halflife, rampup * images seen)); rampup 0 switches the ramp off, halflife 0 the
    average.
    """
    seen = (step + 1).astype(jnp.float32) * batch_size
    span = jnp.minimum(halflife, seen * rampup) if rampup > 0 else jnp.float32(halflife)
    return jnp.exp2(-batch_size / jnp.maximum(span, 1e-8))


def make_train_step(
    factory: Callable[[Any], Any],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    abstract_state: TrainState,
    batch_size: int,
    ema_halflife: float,
    ema_rampup: float,
    rule: str = "replicated",
    min_size: int = FSDP_MIN_SIZE,
    accumulate: int = 1,
) -> Callable[[TrainState, Any, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted `dispatch(state, batches, frozen, key) -> (state, metrics)`.

    `batches` has leading axes (K, B): K steps run in one `lax.scan`. The key of a step is fold_in(key,
    state.step), so the result does not depend on K. A step whose loss or gradient is not finite leaves all but
    state.step as it was; the metric `skipped` says so. `state` is donated. `frozen` (earlier stages'
    parameters) goes in as an argument and not as a
    constant: it is neither compiled into the program nor traced again when it changes.

    Args:
      factory: frozen -> Method.
      optimizer: an optax transformation.
      mesh: devices; batches are split on its axis `data`.
      abstract_state: shapes of the state.
      batch_size: global batch.
      ema_halflife, ema_rampup: see `ema_decay`.
      rule, min_size: where the state lives, see `state_sharding`.
      accumulate: micro-batches, see `accumulated_gradient`.
    """

    def one_step(state, batch, frozen, key):
        method = factory(frozen)
        gradient = accumulated_gradient(method.loss, accumulate, mesh)
        (loss, metrics), grads = gradient(state.params, batch, jax.random.fold_in(key, state.step))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        beta = ema_decay(state.step, batch_size, ema_halflife, ema_rampup)
        ema = jax.tree.map(lambda e, p: e + (1 - beta) * (p - e), state.ema, params)
        grad_norm = optax.tree.norm(grads)
        sound = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        taken = {"params": params, "ema": ema, "opt_state": opt_state}
        before = {name: getattr(state, name) for name in taken}
        # A step that is not sound changes nothing but the step's number: data and keys stay functions of that.
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), taken, before)
        state = state.replace(step=state.step + 1, **kept)
        return state, {"loss": loss, "grad_norm": grad_norm, "skipped": ~sound, **metrics}

    def dispatch(state, batches, frozen, key):
        if jax.tree.leaves(batches)[0].shape[0] == 1:
            # No loop for one step: inside a loop, even of length one, XLA's CPU backend leaves the fast convolutions.
            state, metrics = one_step(state, jax.tree.map(lambda leaf: leaf[0], batches), frozen, key)
            return state, jax.tree.map(lambda leaf: leaf[None], metrics)
        return jax.lax.scan(lambda s, b: one_step(s, b, frozen, key), state, batches)

    shardings = state_sharding(mesh, abstract_state, rule, min_size)
    return jax.jit(
        dispatch,
        in_shardings=(shardings, batch_sharding(mesh, 1), None, None),
        out_shardings=(shardings, None),
        donate_argnums=(0,),
    )
