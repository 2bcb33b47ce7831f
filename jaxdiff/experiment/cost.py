"""What a stage costs: operations of one evaluation of its loss, for one image."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.evaluation.flops import count_flops
from jaxdiff.experiment.arrays import write_atomically


def forward_flops(factory: Callable[[Any], Any], frozen: Any, example: Any, batch: int) -> float:
    """Operations of the loss (forward; frozen denoisers included), for one image of a batch."""

    def shape(leaf):
        return jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype)

    measured, key = jax.tree.map(shape, example), jax.random.key(0)
    params = jax.eval_shape(lambda frozen, b: factory(frozen).init(key, b), frozen, measured)

    def loss(frozen, params, measured):
        return factory(frozen).loss(params, measured, key)[0]

    return count_flops(loss, frozen, params, measured) / batch


def write_cost(path: Path, factory: Callable[[Any], Any], frozen: Any, example: Any, batch: int) -> None:
    """Keep `forward_flops` of a stage in `path`."""
    text = json.dumps({"forward_flops_per_image": forward_flops(factory, frozen, example, batch)})
    write_atomically(path, lambda temporary: temporary.write_text(text))


def read_cost(path: Path) -> float:
    """What `write_cost` kept; 0 for a stage trained before there was such a file."""
    return float(json.loads(path.read_text())["forward_flops_per_image"]) if path.exists() else 0.0


def denoiser_flops(denoiser: Callable[..., jax.Array], arrays: Any, image_shape: tuple[int, ...]) -> float:
    """Operations of one evaluation of `denoiser(arrays, x, sigma)` for one image (of a batch of 8)."""
    x = jax.ShapeDtypeStruct((8, *image_shape), jnp.float32)
    return count_flops(denoiser, arrays, x, jax.ShapeDtypeStruct((8,), jnp.float32)) / 8
