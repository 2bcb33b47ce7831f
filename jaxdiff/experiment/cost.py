"""What a stage costs for one image: operations of its loss, and of a step of training (the loss and its gradient)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.evaluation.flops import count_flops
from jaxdiff.experiment.arrays import write_atomically


class Cost(NamedTuple):
    """Operations for one image: of the loss (frozen denoisers included), and of the loss and its gradient."""

    forward: float
    train: float


def stage_cost(
    factory: Callable[[Any], Any], frozen: Any, example: Any, batch: int, params: Any = None
) -> Cost:
    """The cost of a stage, counted for a batch and divided by it; `params` (shapes) where they are known already."""

    def shape(leaf):
        return jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype)

    measured, key = jax.tree.map(shape, example), jax.random.key(0)
    if params is None:
        params = jax.eval_shape(lambda frozen, b: factory(frozen).init(key, b), frozen, measured)

    def loss(params, frozen, measured):
        return factory(frozen).loss(params, measured, key)[0]

    given = (params, frozen, measured)
    return Cost(count_flops(loss, *given) / batch, count_flops(jax.grad(loss), *given) / batch)


def write_cost(path: Path, factory: Callable[[Any], Any], frozen: Any, example: Any, batch: int) -> None:
    """Keep the cost of a stage in `path`."""
    text = json.dumps(stage_cost(factory, frozen, example, batch)._asdict())
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_cost(path: Path) -> Cost:
    """What `write_cost` kept; 0 for a stage trained before there was such a file."""
    return Cost(**json.loads(path.read_text())) if path.exists() else Cost(0.0, 0.0)


def denoiser_flops(denoiser: Callable[..., jax.Array], arrays: Any, image_shape: tuple[int, ...]) -> float:
    """Operations of one evaluation of `denoiser(arrays, x, sigma)` for one image (of a batch of 8)."""
    x = jax.ShapeDtypeStruct((8, *image_shape), jnp.float32)
    return count_flops(denoiser, arrays, x, jax.ShapeDtypeStruct((8,), jnp.float32)) / 8
