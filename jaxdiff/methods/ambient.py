"""Ambient Diffusion: a denoiser of whole images from examples of which no one is whole.

The network is shown less than was measured, A~ = B A with B drawn anew at every step, and is asked for all
that was measured (Daras et al. 2023, arXiv 2305.19256):

    L = E lambda(sigma) || A D(A~ (x + sigma z), A~, sigma) - A x ||^2 / c.
    (1)

Given A~, every direction is in A with some probability, so that the minimiser is E[X | A~ x_sigma, A~], also
where A~ sees nothing. The network's input is the back-projection of what is seen, P~ x_sigma = A~^+ A~ x_sigma
(A~^T A~ x_sigma where A A^T is not c I); the coverage m = P~ 1 (for masks the mask itself) is given beside it as it
is. A pixel that is not shown is one in infinite noise, and preconditioned and weighted as such: with EDM's c_out(sigma)
it would need F of size 1 / sigma, and EDM's lambda(sigma) would let its error, which no small sigma makes small, drown
the others (both weightings have the same minimiser):

    D(u, sigma) = c_skip u + (m c_out(sigma) + (1 - m) sigma_data) F(c_in u, c_noise, m)
    lambda = 1 / c_out(sigma)^2 where A~ measures, 1 / sigma_data^2 where A alone does
    (2)

In k-space the lines that are not shown are what is in infinite noise: the mask of lines is given beside the input, and
the place of m F in (2) is taken by P~ F.

Any operator with a further corruption will do (`op.further_corrupt`).

A denoiser of whole noisy images is wanted for composition, evaluation and free sampling, but no example showed the
network a whole image, and asked for one it answers badly. So whole images are denoised through K fixed members A_k of
the family that the network knows, which together see everything, and the answers meet as views do, by least squares:

    D(x, sigma) = argmin_z sum_k || A_k z - A_k D(A_k x, A_k, sigma) ||^2 / c     nearest to the mean of the D_k
    (3)

For masks: each pixel is the mean over the masks that show it.

Noise in the measurement, y = A x + sigma_y n, is allowed where A A^T = c I: as in `tweedie`, entries of A x that
the network has seen are estimated by (1 - r) A D + r y_sigma, r = sigma_y^2 / (c sigma^2); those it has not seen
by A D.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import edm_preconditioning
from jaxdiff.methods.base import Denoiser, Method, Params, raw_network
from jaxdiff.methods.ranges import assign, take, usable_range
from jaxdiff.networks import init_key
from jaxdiff.operators import LinearOperator, describe
from jaxdiff.sampling.masked import MaskedDenoiser, member


def back_project(operator: LinearOperator, y: jax.Array) -> jax.Array:
    """A^+ y where A A^T = c I, else A^T y; in image space, (B, *in_shape)."""
    return operator.adjoint(y) if operator.c is None else operator.pinv(y)


def coverage(operator: LinearOperator, batch: int) -> jax.Array:
    """What a network is told of an operator, (B, *in_shape): the back-projection of A 1, for masks the mask; for
    families with `coverage_params` what these say, for k-space the mask of its lines."""
    if operator.coverage_params is not None:
        told = partial(operator.coverage_params, in_shape=operator.in_shape, **dict(operator.args))
        return jax.vmap(told)(operator.params)
    ones = jnp.ones((batch, *operator.in_shape), jnp.float32)
    return back_project(operator, operator(ones))


def ambient(
    network: nn.Module,
    noise: NoiseDistribution,
    sigma_data: float,
    operator: LinearOperator,
    delta: float = 0.1,
    max_gain: float = 4.0,
    masks: int = 8,
    shown: float = 0.0,
) -> Method:
    """The method `ambient`; `denoiser(params)` is one of whole noisy images.

    Args:
      network: raw F(x, c_noise, cond, train) with cond = {'image': coverage (B, *in_shape)}.
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      operator: the family of A; the parameters come with each measurement.
      delta: share of what A sees that B hides, in (0, 1).
      max_gain: see `tweedie`.
      masks: K of equation 3, as many evaluations of the network; 0: the network is asked for the whole image at once,
        as if nothing were hidden.
      shown: share of the pixels that each of the K shows; 0: as A~ in training. A little more than that was better at
        middle noise levels on the digits (0.5 for 0.36), much more is worse everywhere.

    Raises:
      ValueError: the family has no further corruption, delta is not in (0, 1), or masks is negative.
    """
    if operator.corrupt_params is None:
        raise ValueError(
            f"ambient: {describe(operator)} has no further corruption A~ = B A; use a random family such as "
            "pixel_mask, or another method (gsure, em)"
        )
    if not 0.0 < delta < 1.0:
        raise ValueError(f"ambient: delta is the share that is hidden further, in (0, 1); got {delta}")
    if masks < 0:
        raise ValueError(f"ambient: masks must not be negative, got {masks}")
    gain = 1.0 if operator.c is None else operator.c

    def init(key, batch):
        image = jnp.zeros((batch.y.shape[0], *operator.in_shape), batch.y.dtype)
        return network.init(init_key(key), image, batch.sigma_y + 1.0, {"image": image}, train=False)[
            "params"
        ]

    def loss(params, batch, key):
        assign_key, corrupt_key, noise_key, dropout_key = jax.random.split(key, 4)
        sigma, index = assign(assign_key, noise, *usable_range(batch, max_gain, gain))
        batch = take(batch, index)
        seen = operator.with_params(batch.params)
        shown = seen.further_corrupt(jax.random.split(corrupt_key, len(sigma)), delta)
        y, level = batch.y, expand(sigma, batch.y)
        share = expand(jnp.square(batch.sigma_y), y) / (gain * jnp.square(level))
        # With the noise of the measurement itself this is sigma A~ z in all.
        white = jax.random.normal(noise_key, (len(sigma), *operator.in_shape), y.dtype)
        added = level * jnp.sqrt(1 - share) * shown(white)
        noisy = shown.restrict(y + added)
        denoise = masked_denoiser(network, sigma_data, params, dropout_key)
        predicted = seen(denoise(back_project(shown, noisy), sigma, shown))
        visible = shown.reached(len(sigma))
        estimate = jnp.where(visible, (1 - share) * predicted + share * noisy, predicted)
        reached = seen.reached(len(sigma))
        error = jnp.where(reached, jnp.square(estimate - y), 0.0) / gain
        weight = jnp.where(visible, expand(edm_weight(sigma, sigma_data), y), sigma_data**-2)
        return jnp.sum(weight * error) / jnp.maximum(jnp.sum(reached), 1), {}

    def denoiser(params):
        denoise = masked_denoiser(network, sigma_data, params)
        if masks == 0:
            return lambda x, sigma: denoise(x, sigma, None)
        return through_members(given_operator(denoise), operator.cover(masks, delta, shown))

    return Method(init, loss, denoiser)


def masked_denoiser(
    network: nn.Module, sigma_data: float, params: Params, dropout_key: jax.Array | None = None
) -> MaskedDenoiser:
    """D(u, sigma, A~) of equation 2, given the back-projection u = P~ x_sigma, (B, ...); A~ = None hides nothing."""
    apply = raw_network(network, params, dropout_key)

    def denoise(u, sigma, operator):
        c = edm_preconditioning(sigma, sigma_data)
        told = jnp.ones_like(u) if operator is None else coverage(operator, u.shape[0])
        raw = apply(expand(c.c_in, u) * u, c.c_noise, {"image": told}).astype(u.dtype)
        if operator is None or operator.coverage_params is None:
            seen = jnp.clip(told, 0.0, 1.0) * raw
        else:
            seen = back_project(operator, operator(raw))
        return expand(c.c_skip, u) * u + expand(c.c_out, u) * seen + sigma_data * (raw - seen)

    return denoise


def given_operator(denoise: MaskedDenoiser) -> MaskedDenoiser:
    """(x, sigma, A~) -> E[X | A~ x_sigma, A~] for whole noisy images x: what the samplers of masks ask for."""

    def masked(x, sigma, operator):
        return denoise(back_project(operator, operator(x)), sigma, operator)

    return masked


def through_members(denoise: MaskedDenoiser, members: LinearOperator, cg_steps: int = 8) -> Denoiser:
    """The denoiser of equation 3.

    Args:
      denoise: (x, sigma, A) -> E[X | A x_sigma, A].
      members: K members of the family, parameters with leading axis K.
      cg_steps: conjugate-gradient steps; for masks, as many as there are different counts of masks that show a pixel.
    """
    count = jax.tree.leaves(members.params)[0].shape[0]

    def denoiser(x, sigma):
        batch = x.shape[0]
        # One member at a time: K answers are kept, not K networks' activations.
        answers = jax.lax.map(lambda k: denoise(x, sigma, member(members, k, batch)), jnp.arange(count))
        mean = answers.mean(axis=0)

        def gram(one, values):  # A_k^T A_k / c
            return one.adjoint(one(values)) if one.c is None else one.pinv(one(values))

        def total(values):
            def add(so_far, item):
                number, answer = item
                return so_far + gram(member(members, number, batch), answer), None

            return jax.lax.scan(add, jnp.zeros_like(mean), (jnp.arange(count), values))[0]

        right = total(answers - mean)
        return mean + conjugate_gradient(
            lambda u: total(jnp.broadcast_to(u, (count, *u.shape))), right, cg_steps
        )

    return denoiser
