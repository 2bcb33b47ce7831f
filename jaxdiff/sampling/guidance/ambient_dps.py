"""Ambient DPS: posterior sampling with a prior that has seen no whole example (Aali et al. 2024, arXiv 2403.08728).

    x' = x + (sigma' - sigma) (x - D) / sigma - scale nabla_x |y - A D|,     D = D(A~ x, A~, sigma)

A~ is a member of the family that the prior was trained on, one for the whole trajectory: the prior is asked only for
what it was trained to tell, E[X | A~ x_sigma, A~]. A, of which y is the measurement, may be any operator. The gradient
is taken in the coordinates of X + sigma Z and the step is Euler's, so that this is `dps` with those settings and a
`fixed_mask` denoiser.

What A~ hides the sampler takes from E[X | A~ X] alone: those entries have no spread of their own given the others, so
that the drawn posterior is too narrow there, also where all the rest is exact.
"""

import jax

from jaxdiff.operators import LinearOperator
from jaxdiff.sampling.guidance.dps import dps
from jaxdiff.sampling.guidance.step import Step
from jaxdiff.sampling.masked import MaskedDenoiser, fixed_mask


def ambient_dps(
    denoiser: MaskedDenoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    further: LinearOperator,
    norm: str = "plain",
    scale: float = 5.0,
) -> Step:
    """The step of Ambient DPS.

    Args:
        denoiser: (x, sigma, A~) -> E[X | A~ x_sigma, A~], such as `given_operator(masked_denoiser(...))` of the method
            `ambient`.
        operator, y, sigma_y: the measurement; sigma_y as in `dps`.
        further: A~ with its parameters for the batch, such as `member(op.cover(...), 0, batch)` or
            `op.draw(keys).further_corrupt(keys, delta)`.
        norm: as in `dps`.
        scale: 5 with 'plain' and 300 steps for images in the published code; 2 with 'plain' is its 1 / |r| nabla |r|^2
            for MRI, 500 steps from sigma = 10 to 0.004.

    Raises:
        ValueError: as in `dps`; A~ takes other examples than A.
    """
    if further.in_shape != operator.in_shape:
        raise ValueError(
            f"ambient_dps: the further mask is for examples {further.in_shape}, the measurement's operator for "
            f"{operator.in_shape}"
        )
    return dps(
        fixed_mask(denoiser, further), operator, y, sigma_y, norm=norm, scale=scale, eta=0.0, process="ve"
    )
