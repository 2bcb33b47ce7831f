"""PiGDM: pseudo-inverse guidance (Song et al. 2023, "Pseudoinverse-guided diffusion models", ICLR).

The law of X given X_sigma = x is taken as N(D(x), r^2 I), r^2 = sigma^2 s^2 / (sigma^2 + s^2), which is what it is for
data of N(m, s^2 I). Then

    D_post(x, sigma) = D + (sigma^2 / r^2) J^T A^T (A A^T + (sigma_y^2 / r^2) I)^-1 (y - A D),   J = dD/dx.

Exact for isotropic Gaussian data of standard deviation s and every A. Otherwise biased: of y - A D, where all is
seen without noise, a direction in which the data have variance v takes v (s^2 + sigma^2) / (s^2 (v + sigma^2)): too
much where they vary more than s, too little where they vary less.

The paper has s = 1 and steps in variance-preserving coordinates with an extra weight r^2, which moves x by
sqrt(alpha) J^T A^+ (y - A D) where sigma_y = 0; here it is the posterior score itself, for any sampler.
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling.guidance.back_projection import back_projection
from jaxdiff.sampling.guidance.step import require_positive
from jaxdiff.sampling.posterior import FLOOR, Denoiser, checked


def pigdm(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    sigma_data: float = 0.5,
    cg_steps: int = 32,
) -> Denoiser:
    """The denoiser of X given y, to be sampled like any other; one product with J^T each call.

    Args:
        denoiser, operator, y, sigma_y: as in `posterior_denoiser`. sigma_y is raised to FLOOR r, so that A without
            noise and with small singular values is no singular system.
        sigma_data: s; 0.5 is EDM's for images in [-1, 1], 1 the paper's.
        cg_steps: of `back_projection`, for operators without A A^T = c I; they cost no evaluation of D.

    Raises:
        ValueError: sigma_data is not positive, cg_steps < 1, or what does not fit the operator.
    """
    require_positive("pigdm", "sigma_data", sigma_data)
    if cg_steps < 1:
        raise ValueError(f"pigdm: cg_steps must be at least 1, got {cg_steps}")
    y, sigma_y = checked(operator, y, sigma_y)

    def posterior(x, sigma):
        denoised, pull_back = jax.vjp(jax.checkpoint(lambda x: denoiser(x, sigma)), x)
        left = sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)  # r^2
        ratio = jnp.maximum(jnp.square(sigma_y) / left, FLOOR**2)
        moved = back_projection(operator, y - operator(denoised), ratio, cg_steps)
        # sigma^2 / r^2 before the product with J^T, which is about r^2 / sigma^2: nothing small is multiplied up.
        gain = expand(1.0 + jnp.square(sigma / sigma_data), x)
        (pulled,) = pull_back((gain * moved).astype(denoised.dtype))
        return denoised + pulled

    return posterior
