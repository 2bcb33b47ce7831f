"""Compressed sensing: y = G x with G one of a few fixed random matrices, a device with several codes."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff.operators.linear import LinearOperator, make


def sensing(
    in_shape: tuple[int, ...],
    measurements: float,
    matrices: int = 16,
    seed: int = 0,
    orthonormal: bool = False,
) -> LinearOperator:
    """Random projections: x of n numbers -> (m,), y = G_k x, the code k drawn for each example.

    The rows of G_k are N(0, I / n), of about unit length (Candes and Tao 2006, Donoho 2006); c = None.
    Orthonormal rows have the same span and c = 1. y is not confined to [-1, 1]: an entry has the mean square
    of x's entries. A measurement holds the index k and which rows are in use (all, unless further corrupted),
    params = {"matrix": int32, "rows": (m,) bool}. The matrices are made anew from the seed in every call, one
    at a time for the whole batch, m n random numbers each. Rows that are not in use are exactly 0 in y.

    Further corruption drops each row with probability delta. Given k, all rows of G_k may have been seen but
    no others, so E[A^T A | A~] has rank m: of each code what is learnt lies in the span of its m rows, and
    what lies beyond comes from the other codes through the network alone.

    Args:
        in_shape: any shape of n numbers.
        measurements: m as a count above 1, or as a share of n in (0, 1].
        matrices: number of codes.
        seed: of the matrices.
        orthonormal: with rows made orthonormal; m <= n then.

    Raises:
        ValueError: `measurements` is neither a share nor a whole number, is above n with orthonormal rows,
            or there are no matrices.
    """
    rows = _count(measurements, math.prod(in_shape), orthonormal)
    if isinstance(matrices, bool) or not isinstance(matrices, int) or matrices < 1:
        raise ValueError(
            f"sensing: matrices={matrices!r} is the number of codes, 1 or more; nearest valid: "
            f"{max(1, round(matrices))}"
        )
    args = {"measurements": rows, "matrices": matrices, "seed": int(seed), "orthonormal": bool(orthonormal)}
    return make(
        "sensing",
        in_shape,
        _sense,
        args,
        c=1.0 if orthonormal else None,
        draw_params=_draw_code,
        corrupt_params=_drop_rows,
    )


def _sense(params, x: jax.Array, measurements, matrices, seed, orthonormal) -> jax.Array:
    # All codes and then the choice: batched over examples, each matrix is made once, not once an example.
    y = _project(x.reshape(-1), measurements, matrices, seed, orthonormal)[params["matrix"]]
    return jnp.where(params["rows"], y, jnp.zeros((), y.dtype))


# Compiled here, so that calls outside of `jax.jit` do not compile the loop each time.
@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _project(x, rows, matrices, seed, orthonormal) -> jax.Array:
    """(matrices, rows): G_k x for every code k."""

    def project(code):
        matrix = _matrix(code, rows, x.size, seed, orthonormal).astype(x.dtype)
        return jnp.matmul(matrix, x, precision="highest")

    return jax.lax.map(project, jnp.arange(matrices))


def _matrix(code, rows, size, seed, orthonormal) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), code)
    matrix = jax.random.normal(key, (rows, size)) / size**0.5
    return jnp.linalg.qr(matrix.T)[0].T if orthonormal else matrix


def _draw_code(key, in_shape, measurements, matrices, **_settings):
    code = jax.random.randint(key, (), 0, matrices, jnp.int32)
    return {"matrix": code, "rows": jnp.ones(measurements, bool)}


def _drop_rows(key, params, delta, **_settings):
    kept = jax.random.uniform(key, params["rows"].shape) >= delta
    return {**params, "rows": params["rows"] & kept}


def _count(measurements, size, orthonormal) -> int:
    if 0 < measurements <= 1:
        return max(1, round(measurements * size))
    largest = size if orthonormal else math.inf
    if measurements != measurements // 1 or not 1 < measurements <= largest:
        nearest = min(max(2, round(measurements)), largest)
        raise ValueError(
            f"sensing: measurements={measurements} is no share in (0, 1] of the example's {size} numbers "
            f"nor a count above 1{f' and up to {size}' if orthonormal else ''}; nearest valid: {nearest}"
        )
    return int(measurements)
