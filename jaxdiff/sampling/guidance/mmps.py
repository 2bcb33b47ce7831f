"""MMPS: moment matching posterior sampling (Rozet et al. 2024), `sampling.posterior` with rematerialised gradients."""

import jax

from jaxdiff.operators import LinearOperator
from jaxdiff.sampling.posterior import Denoiser, posterior_denoiser


def mmps(
    denoiser: Denoiser, operator: LinearOperator, y: jax.Array, sigma_y: jax.Array, *, cg_steps: int = 4
) -> Denoiser:
    """The denoiser of X given y; exact where X is Gaussian. See `posterior_denoiser`.

    Args:
        cg_steps: conjugate-gradient steps, a product with J^T each; 1 (CIFAR-10) and 3 (MRI) in the paper.
    """
    return posterior_denoiser(denoiser, operator, y, sigma_y, cg_steps, rematerialize=True)
