"""The residual: what the views together do not know, learnt from the clean examples.

    D(x, sigma) = z(x, sigma) + g(sigma) c_out(sigma) F_theta(c_in x, c_noise, z)
    (1)

z, the fused views, takes the place of EDM's c_skip x; F's last layer starts at zero, so that training starts
at the views; z is also an input of F. c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2) (Karras et al.
2022, table 1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.diffusion.preconditioning import edm_preconditioning


def residual_input(
    x: jax.Array, sigma: jax.Array, known: jax.Array, sigma_data: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What F sees: (c_in x, c_noise, the noise (x - D) / sigma that z and the single views believe in).

    Each D is within F's reach as a difference of x and its noise; given as noise it has unit size at every
    sigma, and at small sigma, where D and x are nearly equal, it does not drown.

    Args:
      x: (B, ..., C).
      sigma: (B,).
      known: (M, B, ..., C), z first.
      sigma_data: standard deviation of the data.

    Returns:
      Scaled input (B, ..., C), c_noise (B,), image of the noises (B, ..., M C).
    """
    scale = edm_preconditioning(sigma, sigma_data)
    noises = (x - known) / expand(sigma, x)
    return expand(scale.c_in, x) * x, scale.c_noise, jnp.concatenate(list(noises), axis=-1)


def residual_denoiser(
    base: Callable[[jax.Array, jax.Array], jax.Array],
    network: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    sigma_data: float,
    gate: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The denoiser of equation 1.

    Args:
      base: (x, sigma) -> (M, B, ...): z, the fused views, first, then what else F may look at.
      network: raw F(x, c_noise, image): noisy input, noise embedding input, conditioning image; each (B,
          ...).
      sigma_data: standard deviation of the data (the scale of c_out).
      gate: g(sigma) -> (B,) or (B, 1); None for 1.

    Returns:
      D(x, sigma); gradients flow through the whole of it, z included (guidance needs them).
    """

    def denoise(x, sigma):
        known = base(x, sigma)
        rho = correction(network, x, sigma, known, sigma_data)
        if gate is not None:
            rho = expand(jnp.reshape(gate(sigma), sigma.shape), x) * rho
        return known[0] + rho

    return denoise


def correction(network, x: jax.Array, sigma: jax.Array, known: jax.Array, sigma_data: float) -> jax.Array:
    """rho = c_out(sigma) F(...), the residual before the gate, (B, ...)."""
    scaled, c_noise, image = residual_input(x, sigma, known, sigma_data)
    c_out = edm_preconditioning(sigma, sigma_data).c_out
    return expand(c_out, x) * network(scaled, c_noise, image)
