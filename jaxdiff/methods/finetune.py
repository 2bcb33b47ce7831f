"""Fine-tuning, the classic rival: train on A^+ y as if it were clean, then go on with the clean examples.

    first:   L = E lambda(sigma) || D(A^+ y + sigma z, sigma) - A^+ y ||^2
    then:    L = E lambda(sigma) || D(x0 + sigma z, sigma) - x0 ||^2,     from the first one's parameters.

The first stage learns another law than that of the clean data (blurred, zero-filled, noisy images); whether
the second forgets it is a matter of its budget and of how much clean data there is.
"""

import jax
import jax.numpy as jnp

from jaxdiff.methods.base import Method, Params
from jaxdiff.operators import LinearOperator
from jaxdiff.operators.measurement import Measurement


def restored(batch: Measurement, operator: LinearOperator) -> Measurement:
    """A^+ y in place of y, as if it were a clean image: (B, *in_shape), no parameters, no noise."""
    x = operator.with_params(batch.params).pinv(batch.y)
    return Measurement(y=x, params=None, sigma_y=jnp.zeros_like(batch.sigma_y))


def seen_in(batch: Measurement, operator: LinearOperator) -> jax.Array:
    """Which values of A^+ y are those of x, whatever the rest of x is, (B, *in_shape) bool: (A^+ A 1) = 1 there.

    For masks and crops exactly what they show; for averages and blurs everything, as far as A^+ y tells.
    """
    drawn, ones = operator.with_params(batch.params), jnp.ones((len(batch.y), *operator.in_shape))
    return jnp.abs(drawn.pinv(drawn(ones)) - 1.0) < 0.01


def finetune(method: Method, start: Params) -> Method:
    """The second stage: `method` from the parameters `start`, whatever the key."""
    return method._replace(init=lambda key, batch: start)
