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
    x: jax.Array, sigma: jax.Array, z: jax.Array, sigma_data: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What F sees: (c_in x, c_noise, (x - z) / sigma); the last is the noise that the views believe in.

    z itself is within F's reach as a difference of the first and the last; given as predicted noise it has
    unit size at every sigma, and at small sigma, where z and x are nearly equal, it does not drown.
    """
    scale = edm_preconditioning(sigma, sigma_data)
    return expand(scale.c_in, x) * x, scale.c_noise, (x - z) / expand(sigma, x)


def residual_denoiser(
    base: Callable[[jax.Array, jax.Array], jax.Array],
    network: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    sigma_data: float,
    gate: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The denoiser of equation 1.

    Args:
      base: z(x, sigma), the fused views.
      network: raw F(x, c_noise, image): noisy input, noise embedding input, conditioning image; each (B,
          ...).
      sigma_data: standard deviation of the data (the scale of c_out).
      gate: g(sigma) -> (B,) or (B, 1); None for 1.

    Returns:
      D(x, sigma); gradients flow through the whole of it, z included (guidance needs them).
    """

    def denoise(x, sigma):
        z = base(x, sigma)
        rho = correction(network, x, sigma, z, sigma_data)
        if gate is not None:
            rho = expand(jnp.reshape(gate(sigma), sigma.shape), x) * rho
        return z + rho

    return denoise


def correction(network, x: jax.Array, sigma: jax.Array, z: jax.Array, sigma_data: float) -> jax.Array:
    """rho = c_out(sigma) F(c_in x, c_noise, z), the residual before the gate, (B, ...)."""
    scaled, c_noise, image = residual_input(x, sigma, z, sigma_data)
    c_out = edm_preconditioning(sigma, sigma_data).c_out
    return expand(c_out, x) * network(scaled, c_noise, image)
