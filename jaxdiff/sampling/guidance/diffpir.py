"""DiffPIR: plug-and-play restoration (Zhu et al. 2023, arXiv 2305.08995): a proximal step between two denoisings.

    x_0 = argmin_z |y - A z|^2 + rho |z - D|^2 = D + A^T (A A^T + rho I)^-1 (y - A D),    rho = lam sigma_y^2 / sigma^2
    x' = x_0 + sigma' (sqrt(1 - zeta) (x - x_0) / sigma + sqrt(zeta) z)

No gradient through the network. With lam = 1 the first line is the posterior mean as if X given X_sigma were
N(D, sigma^2 I): too broad at large sigma, where y is then followed too much, and right for small sigma in directions
in which the data vary by more than sigma.
"""

import jax
import jax.numpy as jnp

from jaxdiff.operators import LinearOperator
from jaxdiff.sampling.guidance.back_projection import back_projection
from jaxdiff.sampling.guidance.step import Step, levels, require_positive, require_share, white_noise
from jaxdiff.sampling.posterior import Denoiser, checked


def diffpir(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    lam: float = 1.75,
    zeta: float = 0.3,
    cg_steps: int = 32,
) -> Step:
    """The step of DiffPIR; one evaluation of D each.

    Args:
        denoiser, operator, y, sigma_y: as in `posterior_denoiser`.
        lam: how much less y is trusted than the model says. The published code (deblurring) has 7, with the noise of y
            in the units of [0, 1] and sigma in those of [-1, 1]: 7 / 4 where both are in the same units.
        zeta: share of new noise in [0, 1]; 0.3 in the published code (deblurring).
        cg_steps: of `back_projection`, for operators without A A^T = c I.

    Raises:
        ValueError: lam is not positive, zeta is outside [0, 1], cg_steps < 1, or what does not fit the operator.
    """
    require_positive("diffpir", "lam", lam)
    require_share("diffpir", "zeta", zeta)
    if cg_steps < 1:
        raise ValueError(f"diffpir: cg_steps must be at least 1, got {cg_steps}")
    y, sigma_y = checked(operator, y, sigma_y)

    def step(x, now, after, keys):
        denoised = denoiser(x, levels(now, x))
        ratio = lam * jnp.square(sigma_y / now)
        best = denoised + back_projection(operator, y - operator(denoised), ratio, cg_steps)
        white = white_noise(keys, x.shape[1:])
        return best + after * ((1 - zeta) ** 0.5 * (x - best) / now + zeta**0.5 * white)

    return step
