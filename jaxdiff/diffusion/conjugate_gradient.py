"""Conjugate gradients for a batch of symmetric systems, one for each example (Hestenes and Stiefel 1952)."""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand


def conjugate_gradient(matvec, b: jax.Array, steps: int, keep_best: bool = False) -> jax.Array:
    """Q^+ b for each example of a batch, by `steps` conjugate-gradient steps from zero.

    `matvec` is symmetric and positive semi-definite and acts on each example alone; b (B, ...) lies in its
    range. A fixed number of steps keeps it differentiable and free of host decisions; an example that has
    converged stays put. `keep_best` returns the iterate of least residual, zero among them, in place of the
    last: a guard where `matvec` is symmetric and positive semi-definite only nearly, and steps may lead away.
    """

    def dot(u, v):
        return jnp.sum(u * v, axis=tuple(range(1, u.ndim)))

    tiny = jnp.finfo(b.dtype).tiny
    # Below this the residual is rounding: dividing by it would amplify noise, not converge.
    floor = dot(b, b) * jnp.finfo(b.dtype).eps ** 2 + tiny

    def step(carry, _):
        solution, residual, direction, size, best, least = carry
        moved = matvec(direction)
        curvature = dot(direction, moved)
        active = (size > floor) & (curvature > tiny)
        rate = jnp.where(active, size / jnp.where(active, curvature, 1.0), 0.0)
        solution = solution + expand(rate, b) * direction
        residual = residual - expand(rate, b) * moved
        new_size = dot(residual, residual)
        turn = jnp.where(active, new_size / jnp.where(active, size, 1.0), 0.0)
        direction = jnp.where(expand(active, b), residual + expand(turn, b) * direction, direction)
        size = jnp.where(active, new_size, size)
        better = (size < least) if keep_best else jnp.ones_like(active)
        best = jnp.where(expand(better, b), solution, best)
        return (solution, residual, direction, size, best, jnp.where(better, size, least)), None

    start = jnp.zeros_like(b)
    carry = (start, b, b, dot(b, b), start, dot(b, b))
    (_, _, _, _, best, _), _ = jax.lax.scan(step, carry, None, length=steps)
    return best
