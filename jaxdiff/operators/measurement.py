"""A measurement y = A x + sigma_y n: what a data set of partial or corrupted examples holds."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class Measurement:
    """y = A x + sigma_y n for a batch; x itself is nowhere in it.

    Attributes:
        y: (B, *out_shape), exactly 0 where the operator hides.
        params: the operator's parameters, leaves with a batch axis (`op.with_params(m.params)`), or None.
        sigma_y: (B,) standard deviation of the measurement's own noise, in the units of y (images are in
            [-1, 1]).
    """

    y: jax.Array
    params: Any
    sigma_y: jax.Array
