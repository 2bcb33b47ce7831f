"""One step of the reverse process from an estimate of the clean example, and what the guidances share.

    x' = D + (s / sigma) (x - D) + u z,    u = eta sigma' sqrt(1 - sigma'^2 / sigma^2),   s^2 = sigma'^2 - u^2    (1)

takes x at sigma to sigma' < sigma. eta = 0: DDIM, which is Euler's step of the deterministic sampler; eta = 1: the
ancestral step, a draw from N with the mean and variance of x' given x and x_0 = D (Song et al. 2021,
arXiv 2010.02502, eq. 12 and 16, in variance-exploding coordinates).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# (x (B, ...), sigma, sigma' < sigma, keys (B,)) -> x at sigma'. The levels are scalars, the same for the batch; a step
# may split the keys, they are new at every step.
Step = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def advance(
    x: jax.Array, denoised: jax.Array, now: jax.Array, after: jax.Array, white: jax.Array, eta: float
) -> jax.Array:
    """x' of equation 1, from sigma = `now` to sigma' = `after`; `white` is z, of the shape of x."""
    up = eta * after * jnp.sqrt(jnp.maximum(1.0 - jnp.square(after / now), 0.0))
    down = jnp.sqrt(jnp.maximum(jnp.square(after) - jnp.square(up), 0.0))
    return denoised + (down / now) * (x - denoised) + up * white


def white_noise(keys: jax.Array, shape: tuple[int, ...], number: int = 0) -> jax.Array:
    """N(0, I) for each of `keys` (B,), (B, *shape); another draw for another `number`."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape))(keys)


def levels(sigma: jax.Array, x: jax.Array) -> jax.Array:
    """A scalar level as the (B,) that a denoiser takes."""
    return jnp.full(x.shape[0], sigma, x.dtype)


def require_share(where: str, name: str, value: float) -> None:
    """Raises ValueError where `value` is not in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{where}: {name} is in [0, 1]; got {value}, nearest valid: {min(max(value, 0), 1):g}"
        )


def require_positive(where: str, name: str, value: float) -> None:
    """Raises ValueError where `value` is not positive and finite."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{where}: {name} must be positive and finite, got {value}")
