"""A measurement y = A x + sigma_y n: what a data set of partial or corrupted examples holds."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class Measurement:
    """y = A x + sigma_y n for a batch; x itself is nowhere in it.

    All that a loss must know of an example travels with it: there is no side table to fall out of step.

    Attributes:
        y: (B, *out_shape), exactly 0 where the operator hides.
        params: the operator's parameters, leaves with a batch axis (`op.with_params(m.params)`), or None.
        sigma_y: (B,) standard deviation of the measurement's own noise, in the units of y (images are in
            [-1, 1]).
        sigma_min, sigma_max: (B,) the noise levels between which an example with other damage than noise (a
            JPEG's, an unknown blur's, a crop's missing surroundings) may train a denoiser; None: all.
        source: (B,) int32, which of several data sets an example comes from, 0 for the clean one; None where
            there is one only.
    """

    y: jax.Array
    params: Any
    sigma_y: jax.Array
    sigma_min: Any = None
    sigma_max: Any = None
    source: Any = None
