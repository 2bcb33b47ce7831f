"""Views and their lift into the full space.

A view V = A X with A A^T = c I sees X_sigma = X + sigma Z as V + sigma sqrt(c) Z': its denoiser D_V must be
asked at

    (A x, sigma sqrt(c)).
    (1)

The lifted score A^T s_V(A x, sigma sqrt(c)) is the gradient of log p_V(A x), and as a full-space denoiser it
reads

    D(x, sigma) = x + A^+ (D_V(A x, sigma sqrt(c)) - A x),    A^+ = A^T / c.
    (2)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


class View(NamedTuple):
    """One view: its operator, its denoiser in view space, and what the fusion needs to know of it.

    Attributes:
      operator: the linear map A, with A A^T = c I on its range (`operator.c` is not None).
      denoiser: D_V(v, sigma_v) in view space, v (B, *operator.out_shape), sigma_v (B,).
      gaussian: the Gaussian's own marginal in this view (has `.denoiser`), or None where it is not needed.
      sigma_y: the view's own measurement noise; the view is valid only for sigma sqrt(c) >= sigma_y.
      sigma_max: the view is valid only for sigma sqrt(c) <= sigma_max.
    """

    operator: Any
    denoiser: Denoiser
    gaussian: Any = None
    sigma_y: float = 0.0
    sigma_max: float = math.inf


def view_sigma(view: View, sigma: jax.Array) -> jax.Array:
    """The noise level sigma sqrt(c) at which the view's denoiser must be asked (equation 1)."""
    return sigma * view.operator.c**0.5


def is_valid(view: View, sigma: jax.Array) -> jax.Array:
    """Whether the view may be used at `sigma` (B,): sigma_y <= sigma sqrt(c) <= sigma_max."""
    level = view_sigma(view, sigma)
    return (level >= view.sigma_y) & (level <= view.sigma_max)


def view_denoised(views: Sequence[View], x: jax.Array, sigma: jax.Array) -> list[jax.Array]:
    """D_i(A_i x, sigma sqrt(c_i)) of every view, each in its own space."""
    return [view.denoiser(view.operator(x), view_sigma(view, sigma)) for view in views]


def lift(view: View, x: jax.Array, sigma: jax.Array, denoised: jax.Array | None = None) -> jax.Array:
    """One view's denoiser in full space (equation 2); directions outside the view are returned as they came.

    Args:
      view: the view.
      x: noisy input, (B, ...).
      sigma: noise level, (B,).
      denoised: the view's denoised output where it is known already, in view space.
    """
    seen = view.operator(x)
    if denoised is None:
        denoised = view.denoiser(seen, view_sigma(view, sigma))
    return x + view.operator.pinv(denoised - seen)


def lifted_score(view: View, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """A^T s_V(A x, sigma sqrt(c)) = (lift - x) / sigma^2, the gradient in x of log p_V(A x)."""
    return (lift(view, x, sigma) - x) / jnp.square(expand(sigma, x))
