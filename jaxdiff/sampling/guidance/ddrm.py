"""DDRM: denoising diffusion restoration models (Kawar et al. 2022, arXiv 2201.11793), y in the coordinates of A's SVD.

For each coordinate, with singular value s, b = (U^T y) / s of noise sigma_s = sigma_y / s, and d that of D:

    s = 0                    x' = d + sqrt(1 - eta^2) (sigma' / sigma) (x - d)   + eta sigma' z
    sigma' <  sigma_s        x' = d + sqrt(1 - eta^2) (sigma' / sigma_s) (b - d) + eta sigma' z
    sigma' >= sigma_s        x' = (1 - eta_b) d + eta_b b + sqrt(sigma'^2 - eta_b^2 sigma_s^2) z

(eq. 7 and 8). The paper has sigma_T above all sigma_s; coordinates that are noisier are started as the others here.

Exact in the limit of many steps only with eta = 0, sigma_y = 0 and data in which what is seen and what is not are
independent. eta > 0 is a constant share of new noise in every step, however short: with more steps the draws get
narrower. With sigma_y > 0 the seen coordinates are narrower than the posterior (of no spread at all with eta = 0 and
eta_b = 1).
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling.guidance.spectrum import spectrum
from jaxdiff.sampling.guidance.step import Step, levels, require_share, white_noise
from jaxdiff.sampling.posterior import Denoiser, checked


def ddrm(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    eta: float = 0.85,
    eta_b: float = 1.0,
) -> Step:
    """The step of DDRM; one evaluation of D each, no gradient.

    Args:
        denoiser, y, sigma_y: as in `posterior_denoiser`.
        operator: one with A A^T = c I, a periodic blur, or one small enough for a dense decomposition (`spectrum`).
        eta, eta_b: in [0, 1]; 0.85 and 1 in the paper, with 20 steps.

    Raises:
        ValueError: eta or eta_b is outside [0, 1], the operator is too large to decompose, or what does not fit it.
    """
    require_share("ddrm", "eta", eta)
    require_share("ddrm", "eta_b", eta_b)
    y, sigma_y = checked(operator, y, sigma_y)
    coordinates = spectrum(operator, y.shape[0])
    singular = coordinates.singular
    seen = singular > 0
    known = coordinates.view(y)
    example = jnp.zeros((y.shape[0], *operator.in_shape))
    spread = expand(sigma_y, example) / jnp.where(seen, singular, 1.0)  # sigma_s

    def step(x, now, after, keys):
        denoised = coordinates.to(denoiser(x, levels(now, x)))
        white = coordinates.to(white_noise(keys, x.shape[1:]))
        keep = (1 - eta**2) ** 0.5 * after
        unseen = keep / now * (coordinates.to(x) - denoised)
        noisier = keep / jnp.maximum(spread, jnp.finfo(x.dtype).tiny) * (known - denoised)
        below = denoised + jnp.where(seen, noisier, unseen) + eta * after * white
        rest = jnp.sqrt(jnp.maximum(after**2 - jnp.square(eta_b * spread), 0.0))
        above = denoised + eta_b * (known - denoised) + rest * white
        return coordinates.back(jnp.where(seen & (after >= spread), above, below))

    return step
