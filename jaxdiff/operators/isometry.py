"""Whether A A^T = c Pi, found by probing: the condition under which a view's denoiser has one noise level.

A A^T = c Pi, with Pi the projector on range(A), says the same as A A^T A = c A; the second form needs no
projector, and a vector drawn at random shows the difference wherever there is one.
"""

import jax
import jax.numpy as jnp

from jaxdiff.operators.linear import LinearOperator

PROBES = 16
TOLERANCE = 1e-4


def isometry_constant(op: LinearOperator, key: jax.Array, expected: float | None = None) -> float | None:
    """c with A A^T A x = c A x for `PROBES` random x and as many random parameters, or None.

    Args:
        op: the operator; random parameters are drawn anew for each probe. Its own `c` is not looked at.
        key: key of the probes.
        expected: returned in place of the float32 estimate where it agrees with it.

    Returns:
        c within float32 rounding (relative tolerance 1e-4), or None; None also when A is 0.
    """
    key_x, key_params = jax.random.split(key)
    op = op.draw(jax.random.split(key_params, PROBES))
    y = op(jax.random.normal(key_x, (PROBES, *op.in_shape)))
    twice = op(op.adjoint(y))
    size = float(jnp.vdot(y, y))
    if size == 0.0:
        return None
    c = float(jnp.vdot(y, twice)) / size
    if float(jnp.max(jnp.abs(twice - c * y))) > TOLERANCE * abs(c) * float(jnp.max(jnp.abs(y))):
        return None
    if expected is not None and abs(c - expected) <= TOLERANCE * expected:
        return expected
    return float(f"{c:.6g}")
