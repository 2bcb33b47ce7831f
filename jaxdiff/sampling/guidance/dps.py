"""DPS: diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687), a step against the misfit of D.

    x' = step(x, D) - scale w nabla_x |y - A D(x)|           norm = 'plain'       (the published code)
    x' = step(x, D) - scale w nabla_x |y - A D(x)|^2         norm = 'squared'     (a constant zeta of the paper)
    x' = step(x, D - scale sigma^2 nabla_x |y - A D|^2 / (2 sigma_y^2))           norm = 'likelihood'

with step(x, D) that of `advance`. The paper's Algorithm 1 has zeta' nabla |.|^2 / |.| = 2 zeta' nabla |.|: its zeta' is
half of the scale of 'plain'.

'likelihood' is what the derivation says, p(y | x_sigma) taken as N(A D, sigma_y^2 I) as if D were X itself. It is the
only one that looks at sigma_y (in the units of y; images in [-1, 1]), and it is stiff: the steps must be so small that
sigma |sigma' - sigma| |A J A^T| < sigma_y^2, or it diverges. The others replace the unknown weight by a tuned one.

w = sqrt((1 + sigma^2)(1 + sigma'^2)) for process 'vp': a gradient step in the variance-preserving coordinates
x / sqrt(1 + sigma^2) of the paper, written in ours; w = 1 for process 've' (`ambient_dps`).
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator
from jaxdiff.registry import unknown
from jaxdiff.sampling.guidance.step import Step, advance, levels, require_positive, require_share, white_noise
from jaxdiff.sampling.posterior import Denoiser, checked

NORMS = ("plain", "squared", "likelihood")
PROCESSES = ("vp", "ve")


def dps(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    norm: str = "plain",
    scale: float = 0.5,
    eta: float = 1.0,
    process: str = "vp",
) -> Step:
    """The step of DPS; one evaluation of D and one product with J^T each.

    Args:
        denoiser, operator, y, sigma_y: as in `posterior_denoiser`. sigma_y is used with norm = 'likelihood' alone.
        norm: 'plain', 'squared' or 'likelihood'.
        scale: of the gradient. 0.5 inpainting, 0.3 super-resolution and blur in the published code ('plain', 1000
            steps; with N steps about 1000 / N times as much). 1 is the derivation's for 'likelihood'.
        eta: of `advance`; 1 in the paper.
        process: the coordinates in which the gradient is taken: 'vp' in the paper, 've' in Ambient DPS.

    Raises:
        ValueError: an unknown norm or process, a scale that is not positive, eta outside [0, 1], sigma_y = 0 with
            norm = 'likelihood', or what does not fit the operator.
    """
    if norm not in NORMS:
        raise unknown(norm, NORMS, "dps norm")
    if process not in PROCESSES:
        raise unknown(process, PROCESSES, "dps process")
    require_positive("dps", "scale", scale)
    require_share("dps", "eta", eta)
    y, sigma_y = checked(operator, y, sigma_y)
    if norm == "likelihood" and not isinstance(sigma_y, jax.core.Tracer) and not bool(jnp.all(sigma_y > 0)):
        raise ValueError(
            "dps: norm='likelihood' divides by sigma_y^2 and needs sigma_y > 0; use 'plain' or 'squared'"
        )

    def step(x, now, after, keys):
        denoised, misfit, gradient = misfit_gradient(denoiser, operator, y, x, levels(now, x))
        white = white_noise(keys, x.shape[1:])
        if norm == "likelihood":
            shift = expand(scale * now**2 / (2 * sigma_y**2), x) * gradient
            return advance(x, denoised - shift, now, after, white, eta)
        weight = scale * (jnp.sqrt((1 + now**2) * (1 + after**2)) if process == "vp" else 1.0)
        if norm == "plain":  # nabla |r| = nabla |r|^2 / (2 |r|), and 0 where y is met
            gradient = gradient / expand(2 * jnp.maximum(misfit, jnp.finfo(x.dtype).tiny ** 0.5), x)
        return advance(x, denoised, now, after, white, eta) - weight * gradient

    return step


def misfit_gradient(
    denoiser: Denoiser, operator: LinearOperator, y: jax.Array, x: jax.Array, sigma: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """D (B, ...), |y - A D| (B,) and nabla_x |y - A D(x)|^2 = -2 J^T A^T (y - A D), (B, ...)."""
    # `jax.checkpoint`: the network's activations are made anew in the backward pass and not kept.
    denoised, pull_back = jax.vjp(jax.checkpoint(lambda x: denoiser(x, sigma)), x)
    residual = y - operator(denoised)
    (pulled,) = pull_back(operator.adjoint(residual).astype(denoised.dtype))
    size = jnp.sqrt(jnp.sum(jnp.square(residual), axis=tuple(range(1, residual.ndim))))
    return denoised, size, -2 * pulled
