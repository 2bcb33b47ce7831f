"""Sampling with a denoiser that wants to be told what it may see: E[X | A x_sigma, A].

    fixed mask     D(x, sigma) = D(A_0 x, A_0, sigma), one A_0 for the whole trajectory
    multi-mask     D(x, sigma) = D_0 - s g / 2,    g = d/dx sum_k |D(A_0 x, A_0) - D(A_k x, A_k)|^2 / K
                   (D(A_k x, A_k) held fixed)

(Ambient Diffusion, Daras et al. 2023, arXiv 2305.19256, sections 3.3 and 3.4: the first is its sampler, the second its
"reconstruction guidance", here as a correction of the denoiser in units of the image.)
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdiff.operators import LinearOperator

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
MaskedDenoiser = Callable[[jax.Array, jax.Array, LinearOperator], jax.Array]


def member(members: LinearOperator, number: int | jax.Array, batch: int) -> LinearOperator:
    """Member `number` of K members of a family (parameters with leading axis K), for a batch of examples."""
    params = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[number], (batch, *leaf.shape[1:])), members.params
    )
    return members.replace(params=params)


def fixed_mask(denoise: MaskedDenoiser, operator: LinearOperator) -> Denoiser:
    """The denoiser that sees `operator`'s part of x, whatever the noise level; its parameters fit the batch."""
    return lambda x, sigma: denoise(x, sigma, operator)


def multi_mask_guidance(
    denoise: MaskedDenoiser, operator: LinearOperator, others: Sequence[LinearOperator], scale: float
) -> Denoiser:
    """The fixed-mask denoiser, moved towards agreement with what it would say of other parts of x.

    Args:
      denoise: (x, sigma, A) -> E[X | A x_sigma, A].
      operator: A_0.
      others: A_1 ... A_K.
      scale: s >= 0; 0 is `fixed_mask`.

    Raises:
      ValueError: a negative scale, or no others.
    """
    if scale < 0:
        raise ValueError(f"multi_mask_guidance: scale must not be negative, got {scale}")
    if not others:
        raise ValueError("multi_mask_guidance: needs at least one other mask")

    def denoiser(x, sigma):
        targets = [denoise(x, sigma, other) for other in others]

        def disagreement(x):
            here = denoise(x, sigma, operator)
            return sum(jnp.sum(jnp.square(here - target)) for target in targets) / len(targets), here

        gradient, here = jax.grad(disagreement, has_aux=True)(x)
        return here - 0.5 * scale * gradient

    return denoiser
