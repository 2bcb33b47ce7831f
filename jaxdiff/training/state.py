"""What a stage carries from step to step, and how the optimiser is made."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """State of one stage; everything that resuming needs.

    Attributes:
      step: optimiser steps done, int32 scalar.
      params, ema, opt_state: parameters, their exponential moving average, the optimiser's state.
      best, best_score, best_step: the moving average with the highest tuning score so far, its score and
          step.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    best: Any
    best_score: jax.Array
    best_step: jax.Array


class OptimizerSettings(NamedTuple):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), warm-up and decay of the learning rate.

    `decay` is 'constant' or 'cosine' (to zero at `steps`); weight decay leaves out biases and scales (ndim <
    2).
    """

    lr: float = 1e-3
    warmup: int = 0
    steps: int = 1
    decay: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.999


def learning_rate(settings: OptimizerSettings) -> optax.Schedule:
    """Linear warm-up, then constant or cosine decay."""
    warmup = min(settings.warmup, max(settings.steps - 1, 0))
    if settings.decay == "constant":
        after = optax.constant_schedule(settings.lr)
    elif settings.decay == "cosine":
        after = optax.cosine_decay_schedule(settings.lr, max(settings.steps - warmup, 1))
    else:
        raise ValueError(f"train.decay: unknown decay '{settings.decay}'; known: constant, cosine")
    if not warmup:
        return after
    return optax.join_schedules(
        [optax.linear_schedule(settings.lr / warmup, settings.lr, warmup), after], [warmup]
    )


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """The optimiser of every stage."""
    return optax.chain(
        optax.clip_by_global_norm(settings.clip) if settings.clip > 0 else optax.identity(),
        optax.adamw(
            learning_rate(settings),
            b1=settings.b1,
            b2=settings.b2,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim >= 2, params),
        ),
    )


def init_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """State at step 0; the moving averages start at the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        best=jax.tree.map(jnp.copy, params),
        best_score=jnp.full((), -jnp.inf, jnp.float32),
        best_step=jnp.zeros((), jnp.int32),
    )
