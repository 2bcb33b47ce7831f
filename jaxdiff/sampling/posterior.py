"""Posterior denoiser: E[X | X_sigma, y] from a denoiser D of X and a measurement y = A X + sigma_y n.

Tweedie's second formula gives Cov[X | X_sigma = x] = sigma^2 J with J = dD/dx. With the law of X given
X_sigma replaced by the Gaussian that has these two moments,

    E[X | X_sigma = x, y] = D(x) + sigma^2 J^T A^T v
    (sigma_y^2 I + sigma^2 A J^T A^T) v = y - A D(x)                                                    (1)

(moment matching posterior sampling, Rozet et al. 2024, arXiv 2405.13712). Exact where X is Gaussian. A
product with J^T is one reverse-mode pass (`jax.vjp`). Equation 1 is solved by conjugate gradients: J of a
true denoiser is symmetric and positive semi-definite, as they need it, that of a network only nearly. The
iterate of least residual is kept, for each example: with the last one, a U-Net of digits sends some examples
out of all bounds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]

FLOOR = 1e-3  # least noise of y that (1) is solved with, in units of the spread that X has left at sigma


def checked(operator: LinearOperator, y: jax.Array, sigma_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One measurement as a guidance takes it: y with exact zeros where A cannot reach, whatever it held; sigma_y (B,).

    Args:
        operator: A, with its parameters drawn (`op.with_params`).
        y: (B, *out_shape).
        sigma_y: (B,) standard deviation of the noise of y, in the units of y: images are in [-1, 1], so that it is
            twice what it is called where images are in [0, 1].

    Raises:
        ValueError: y or sigma_y do not fit the operator or each other, or a sigma_y is negative (where its value is
            known, that is outside of `jax.jit`).
    """
    y = operator.restrict(jnp.asarray(y))
    sigma_y = jnp.asarray(sigma_y, y.dtype)
    expand(sigma_y, y)  # checks the shape of sigma_y
    if not isinstance(sigma_y, jax.core.Tracer) and not np.all(np.asarray(sigma_y) >= 0):
        raise ValueError(f"sigma_y is a standard deviation, 0 or above; got {sigma_y}")
    return y, sigma_y


def posterior_denoiser(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    cg_steps: int = 4,
    rematerialize: bool = False,
) -> Denoiser:
    """The denoiser of X given y, D_post(x, sigma), to be sampled like any other.

    Each call evaluates D once and its vector-Jacobian product `cg_steps` + 1 times. Entries of y that A
    cannot reach (its row is zero) stay out, whatever they hold. sigma_y is raised to
    FLOOR sigma / sqrt(1 + sigma^2), which goes to 0 with sigma: noiseless measurements are
    met as exactly as sigma is small, without a singular system.

    Args:
        denoiser: D(x, sigma) of X, x (B, *in_shape), sigma (B,).
        operator: A, with its parameters drawn (`op.with_params`).
        y: (B, *out_shape).
        sigma_y: (B,) standard deviation of the noise of y, >= 0.
        cg_steps: conjugate-gradient steps; as many as A J^T A^T has distinct eigenvalues is exact.
        rematerialize: do not keep D's activations between the products with J^T but make them anew for each one
            (`jax.checkpoint`).

    Raises:
        ValueError: y or sigma_y do not fit the operator or each other, or cg_steps < 1.
    """
    if cg_steps < 1:
        raise ValueError(f"posterior_denoiser: cg_steps must be at least 1, got {cg_steps}")
    y, sigma_y = checked(operator, y, sigma_y)

    def posterior(x, sigma):
        def at_sigma(x):
            return denoiser(x, sigma)

        denoised, pull_back = jax.vjp(jax.checkpoint(at_sigma) if rematerialize else at_sigma, x)

        def jacobian_transposed(view):  # J^T A^T v
            return pull_back(operator.adjoint(view).astype(denoised.dtype))[0]

        # Both sides of (1) over sigma^2: the solution is sigma^2 v, and nothing small divides.
        floor = FLOOR / jnp.sqrt(1.0 + sigma**2)
        noise = expand(jnp.maximum(sigma_y / sigma, floor) ** 2, y)

        def matvec(view):
            return noise * view + operator(jacobian_transposed(view))

        scaled = conjugate_gradient(matvec, y - operator(denoised), cg_steps, keep_best=True)
        return denoised + jacobian_transposed(scaled)

    return posterior
