"""EDM preconditioning: a raw network F becomes a denoiser D.

    D(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma), cond)

c_in gives the network inputs of unit variance, c_out and c_skip give it targets of unit variance
(Karras et al. 2022, eq. 7 and Table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand


class Preconditioning(NamedTuple):
    """The four coefficients, each of the shape of sigma."""

    c_skip: jax.Array
    c_out: jax.Array
    c_in: jax.Array
    c_noise: jax.Array


def edm_preconditioning(sigma: jax.Array, sigma_data: float) -> Preconditioning:
    """EDM's coefficients, for data of standard deviation `sigma_data`.

    Args:
        sigma: positive noise levels, any shape. c_noise = ln(sigma) / 4 is not finite at sigma = 0.
    """
    variance = sigma**2 + sigma_data**2
    scale = jax.lax.rsqrt(variance)
    return Preconditioning(
        c_skip=sigma_data**2 / variance,
        c_out=sigma * sigma_data * scale,
        c_in=scale,
        c_noise=jnp.log(sigma) / 4,
    )


def precondition(raw_apply: Callable[..., jax.Array], sigma_data: float) -> Callable[..., jax.Array]:
    """Make the denoiser D of a raw network.

    Args:
        raw_apply: F(x, c_noise, cond), with x (B, ...) of unit variance, c_noise (B,), cond anything or None.
        sigma_data: standard deviation of the data, in the units of x in [-1, 1].

    Returns:
        D(x, sigma, cond=None), with x (B, ...), sigma (B,); same shape as x.

    Raises:
        ValueError: if `sigma_data` is not positive.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data must be positive, got {sigma_data}")

    def denoiser(x: jax.Array, sigma: jax.Array, cond=None) -> jax.Array:
        c = edm_preconditioning(sigma, sigma_data)
        raw = raw_apply(expand(c.c_in, x) * x, c.c_noise, cond)
        return expand(c.c_skip, x) * x + expand(c.c_out, x) * raw.astype(x.dtype)

    return denoiser
