"""Fusion: the point where all views meet, started at a Gaussian denoiser.

    z(x, sigma) = argmin_z  sum_i w_i(sigma) || A_i z - D_i(A_i x; sigma sqrt(c_i)) ||^2 / c_i
                  nearest to D_G(x; sigma)
                  (1)

With the projectors P_i = A_i^+ A_i and Q = sum_i w_i P_i this is a correction of D_G,

    z = D_G + Q^+ sum_i w_i A_i^+ (D_i - r_i),        r_i = A_i D_G,
    (2)

solved in closed form where the P_i commute (`commuting`), else by conjugate gradients from zero: directions that no
view covers keep D_G, overlapping views are averaged instead of being counted twice. *Anchored* fusion is (2)
with r_i the Gaussian's own
marginal denoiser in view i: it corrects the Gaussian only where the view is not Gaussian, and so keeps the
second-order correlation between views, that (1) forgets.

The plain sum of lifted scores (Ma 2025, arXiv 2505.11825, for the idea) is here as the baseline that it is:
as sigma grows the true score tends to -x / sigma^2, so weighted projectors must sum to the identity, which a
plain sum of overlapping views does not.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdiff.composition import commuting
from jaxdiff.composition.lifting import View, is_valid, lift, view_denoised, view_sigma
from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.noise import expand


def valid_weights(views: Sequence[View], weights: jax.Array | None, sigma: jax.Array) -> jax.Array:
    """Weights w_i(sigma), (B, V), with 0 where a view is not valid, scaled so that the largest is 1.

    Only ratios of weights matter in (1); scaling keeps the conjugate gradients well away from rounding.
    """
    if weights is None:
        weights = jnp.ones((sigma.shape[0], len(views)), sigma.dtype)
    valid = jnp.stack([is_valid(view, sigma) for view in views], axis=1)
    weights = jnp.where(valid, weights, 0.0)
    return weights / jnp.maximum(jnp.max(weights, axis=1, keepdims=True), 1e-30)


def _corrected(views, start, corrections, weights, cg_steps):
    """start + Q^+ sum_i w_i A_i^+ corrections_i (equation 2)."""
    operators = [view.operator for view in views]
    sets = commuting.common_sets(operators)
    if sets is not None:
        lifted = [operator.pinv(c) for operator, c in zip(operators, corrections, strict=True)]
        return start + commuting.solve(operators, sets, weights, lifted)

    def weighted(index, value):
        return expand(weights[:, index], start) * views[index].operator.pinv(value)

    def matvec(u):
        return sum(weighted(i, view.operator(u)) for i, view in enumerate(views))

    right = sum(weighted(i, correction) for i, correction in enumerate(corrections))
    return start + conjugate_gradient(matvec, right, cg_steps)


def fuse(
    views: Sequence[View],
    x: jax.Array,
    sigma: jax.Array,
    start: jax.Array,
    weights: jax.Array | None = None,
    denoised: Sequence[jax.Array] | None = None,
    cg_steps: int = 8,
) -> jax.Array:
    """Weighted least-squares fusion (equation 1), (B, ...).

    Args:
      views: the views; their operators have A A^T = c I.
      x: noisy input, (B, ...).
      sigma: noise level, (B,).
      start: D_G(x, sigma), (B, ...): what stays where no view looks.
      weights: w_i(sigma), (B, V); None for equal weights.
      denoised: the views' denoised outputs where they are known already.
      cg_steps: conjugate-gradient steps where the views' projectors do not commute; as many as Q has distinct
        non-zero eigenvalues is exact.
    """
    denoised = view_denoised(views, x, sigma) if denoised is None else denoised
    corrections = [d - view.operator(start) for view, d in zip(views, denoised, strict=True)]
    return _corrected(views, start, corrections, valid_weights(views, weights, sigma), cg_steps)


def anchored_fusion(
    views: Sequence[View],
    x: jax.Array,
    sigma: jax.Array,
    start: jax.Array,
    weights: jax.Array | None = None,
    denoised: Sequence[jax.Array] | None = None,
    cg_steps: int = 8,
) -> jax.Array:
    """Anchored fusion: equation 2 with r_i = D_{G,i}(A_i x; sigma sqrt(c_i)), `view.gaussian`'s denoiser.

    Exact for Gaussian data whatever the views, and for independent views when the Gaussian is block-diagonal.
    Arguments as in `fuse`.
    """
    denoised = view_denoised(views, x, sigma) if denoised is None else denoised
    corrections = [
        d - view.gaussian.denoiser(view.operator(x), view_sigma(view, sigma))
        for view, d in zip(views, denoised, strict=True)
    ]
    return _corrected(views, start, corrections, valid_weights(views, weights, sigma), cg_steps)


def sum_of_scores(
    views: Sequence[View], x: jax.Array, sigma: jax.Array, denoised: Sequence[jax.Array] | None = None
) -> jax.Array:
    """The denoiser whose score is the plain sum of lifted scores: x + sum_i A_i^+ (D_i(A_i x) - A_i x).

    A baseline: with overlapping views it counts the overlap twice and is worse than no views from sigma of
    about 1 up.
    """
    denoised = view_denoised(views, x, sigma) if denoised is None else denoised
    return x + sum(lift(view, x, sigma, d) - x for view, d in zip(views, denoised, strict=True))
