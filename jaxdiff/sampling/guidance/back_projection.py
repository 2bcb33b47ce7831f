"""Regularised back-projection A^T (A A^T + r I)^-1 v, what the Gaussian posteriors of a linear measurement share."""

import jax

from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator


def back_projection(operator: LinearOperator, view: jax.Array, ratio: jax.Array, cg_steps: int) -> jax.Array:
    """A^T (A A^T + r I)^-1 v for v (B, *out_shape), r (B,) >= 0; returns (B, *in_shape).

    A^T v / (c + r) where A A^T = c Pi, in closed form: what of v lies outside of range(A) is lost in A^T. Otherwise
    `cg_steps` conjugate-gradient steps, which need A and A^T alone, no network: exact with as many steps as A A^T
    has distinct eigenvalues, and with fewer the small singular values are regularised more.

    As the Bayes rule: for X ~ N(m, s^2 I) and y = A X + sigma_y n, E[X | y] = m + the back-projection of y - A m with
    r = sigma_y^2 / s^2.
    """
    if operator.c is not None:
        back = operator.adjoint(view)
        return back / expand(operator.c + ratio, back)

    def matvec(v):
        return operator(operator.adjoint(v)) + expand(ratio, v) * v

    return operator.adjoint(conjugate_gradient(matvec, view, cg_steps, keep_best=True))
