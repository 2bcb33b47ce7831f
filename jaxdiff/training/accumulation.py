"""Gradient accumulation: the gradient of a batch as the mean over micro-batches, one after another.

    grad L = 1/A sum_a grad L(rows a, a + A, a + 2 A, ...; fold_in(key, a))

For a loss that is a mean over examples this is the gradient of the whole batch, up to rounding, wherever the loss draws
nothing. Where it draws noise, each micro-batch draws its own from its own key: an estimate of the same gradient, with
the same variance, but not the same numbers as with another A. A = 1 is the plain gradient, with the plain key.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdiff.training.sharding import batch_sharding


def micro_batches(batch: Any, count: int, mesh: Mesh) -> Any:
    """Leaves (B, ...) as (count, B / count, ...), split over the devices as the batch is.

    Micro-batch a holds the rows a, a + count, ...: some of every device's, so that no row moves.
    """
    sharding = batch_sharding(mesh, 1)

    def split(leaf):
        parts = jnp.moveaxis(leaf.reshape(-1, count, *leaf.shape[1:]), 1, 0)
        return jax.lax.with_sharding_constraint(parts, sharding)

    return jax.tree.map(split, batch)


def accumulated_gradient(
    loss: Callable[..., Any], count: int, mesh: Mesh
) -> Callable[..., tuple[tuple[jax.Array, dict[str, jax.Array]], Any]]:
    """`jax.value_and_grad(loss, has_aux=True)` over `count` micro-batches: loss, metrics and gradient are means.

    Args:
      loss: (params, batch, key) -> (loss, metrics).
      count: micro-batches; it must divide the batch.
      mesh: devices that the batch is split over.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if count == 1:
        return gradient

    def mean(params, batch, key):
        parts = micro_batches(batch, count, mesh)

        def of_part(number, part):
            return gradient(params, part, jax.random.fold_in(key, number))

        def step(total, item):
            return jax.tree.map(jnp.add, total, of_part(*item)), None

        def part_at(number):
            return jax.tree.map(lambda leaf: leaf[number], parts)

        total = of_part(0, part_at(0))
        if jax.default_backend() == "cpu":
            # Written out: inside a loop XLA's CPU backend leaves the fast convolutions (see `make_train_step`).
            for number in range(1, count):
                total, _ = step(total, (number, part_at(number)))
        else:
            rest = jax.tree.map(lambda leaf: leaf[1:], parts)
            total, _ = jax.lax.scan(step, total, (jnp.arange(1, count), rest))
        return jax.tree.map(lambda value: value / count, total)

    return mean
