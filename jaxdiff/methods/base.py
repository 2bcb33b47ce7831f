"""What a method is: three pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


def mean_square(values: jax.Array) -> jax.Array:
    """Mean square over all but the batch axis, (B,)."""
    return jnp.mean(jnp.square(values), axis=tuple(range(1, values.ndim)))
