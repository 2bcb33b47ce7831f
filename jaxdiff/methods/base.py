"""What a method is: three pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.operators.measurement import Measurement

Params = Any
Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


class Method(NamedTuple):
    """A way to learn a denoiser from a batch of measurements.

    Attributes:
      init: (key, batch) -> params.
      loss: (params, batch, key) -> (scalar loss, dict of scalar metrics).
      denoiser: params -> D(x, sigma), without dropout.
    """

    init: Callable[[jax.Array, Measurement], Params]
    loss: Callable[[Params, Measurement, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
    denoiser: Callable[[Params], Denoiser]


def raw_network(
    network: nn.Module, params: Params, dropout_key: jax.Array | None = None
) -> Callable[..., jax.Array]:
    """F(x, c_noise, cond) with these parameters; with dropout where there is a key for it (training)."""
    train = dropout_key is not None
    rngs = {"dropout": dropout_key} if train else None

    def apply(x, c_noise, cond=None):
        return network.apply({"params": params}, x, c_noise, cond, train=train, rngs=rngs)

    return apply


def mean_square(values: jax.Array, seen: jax.Array | None = None) -> jax.Array:
    """Mean square over all but the batch axis, (B,); of the values that are `seen` (bool, (B, ...)) only."""
    squares = jnp.square(values)
    if seen is not None:
        squares = jnp.where(seen, squares, 0.0)
    return jnp.mean(squares, axis=tuple(range(1, values.ndim)))
