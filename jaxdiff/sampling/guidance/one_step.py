"""Restoration by one evaluation: an estimate and no draw, for comparison.

start = 'pinv':       D(A^+ y, sigma), what y lacks taken for noise of that level
start = 'posterior':  D_post(sigma z, sigma) of `posterior_denoiser` at the first level of the grid, which is
                      E[X | y] for Gaussian data as sigma grows
"""

import jax

from jaxdiff.operators import LinearOperator
from jaxdiff.registry import unknown
from jaxdiff.sampling.guidance.step import Step, levels, require_positive
from jaxdiff.sampling.posterior import Denoiser, checked, posterior_denoiser

STARTS = ("pinv", "posterior")


def one_step(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    start: str = "pinv",
    sigma: float = 0.5,
    cg_steps: int = 4,
) -> Step:
    """The step from any level to the estimate; `sampling.restore` takes it once, from the first level of its grid.

    Args:
        denoiser, operator, y, sigma_y: as in `posterior_denoiser`.
        start: 'pinv' or 'posterior'.
        sigma: the level with 'pinv'; 0.5, EDM's spread of the data, where nothing better is known.
        cg_steps: with 'posterior', of `posterior_denoiser`.

    Raises:
        ValueError: an unknown start, sigma is not positive, or what does not fit the operator.
    """
    if start not in STARTS:
        raise unknown(start, STARTS, "one_step start")
    require_positive("one_step", "sigma", sigma)
    y, sigma_y = checked(operator, y, sigma_y)
    if start == "posterior":
        posterior = posterior_denoiser(denoiser, operator, y, sigma_y, cg_steps, rematerialize=True)
        return lambda x, now, after, keys: posterior(x, levels(now, x))
    known = operator.pinv(y)
    return lambda x, now, after, keys: denoiser(known, levels(sigma, known))
