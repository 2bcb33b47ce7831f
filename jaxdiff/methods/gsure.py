"""GSURE: a denoiser learnt without any clean image, by Stein's unbiased estimate of its error.

With y = A x + sigma_y n and P = A^+ A, u = A^+ y is P x with noise of covariance sigma_y^2 A^+ A^+T. Noise is
added in image space, on what A shows:

    u_sigma = A^+ y + tau P z,      noise of u_sigma: e ~ N(0, C),   C = tau^2 P + sigma_y^2 A^+ A^+T     (1)

Stein's lemma, E <e, D(u_sigma)> = E tr(C dD/du), gives the error of D without x:

    E |P D - P x|^2 = E { |P D - u_sigma|^2 + 2 tr(C dD/du) - tr C }                                      (2)
    L = E lambda(sigma) { |P D - u_sigma|^2 + 2 b^T (dD/du) b - b^T b } / d,     E b b^T = C         (3)

(Stein 1981; Eldar 2009 for A; Kawar et al. 2023, GSURE-based diffusion training, arXiv 2305.13128), d the
number of values of an image. The probe b (Hutchinson) costs one `jax.jvp`. L has the expectation of the
supervised loss, constant included; its minimiser is P E[P X | u_sigma, A].

Where A A^T = c Pi, tau^2 = sigma^2 - sigma_y^2 / c makes C = sigma^2 P: u_sigma = P (x + sigma z'), and D is
the denoiser at sigma. This needs sigma >= sigma_y / sqrt(c): a place of the batch whose sigma is below that
takes an example with less noise, or a higher sigma (`ranges`). Otherwise (blur) tau = sigma, and the noise of
u_sigma is coloured where sigma_y > 0: (2) and (3) hold as they stand, but D is then the denoiser at sigma
only as far as sigma_y A^+ n is small against sigma, which weak directions of A forbid. A^+ is then an
iteration (`op.pinv`), run some four times a step.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Method, mean_square, raw_network
from jaxdiff.methods.ranges import assign, take, usable_range
from jaxdiff.networks import init_key
from jaxdiff.operators.linear import LinearOperator

# Leaves all sigma >= sigma_y / sqrt(c): nothing here is divided by tau.
_ANY_GAIN = 1e6


def gsure(
    network: nn.Module, noise: NoiseDistribution, sigma_data: float, operator: LinearOperator
) -> Method:
    """The method `gsure`; `denoiser(params)` is the one of whole noisy images, nothing hidden.

    The network is given u_sigma, preconditioned as an image, and for a random family the coverage P 1 beside
    it (for masks the mask itself). What it answers where the coverage is whole was learnt from the examples
    that A shows whole, and beyond them is what the network makes of the others.

    Args:
      network: raw F(x, c_noise, cond, train), cond = {'image': coverage (B, *in_shape)} for a random family,
        else None. Forward mode must work: build a U-Net with forward_mode=True (`networks/convolution.py`).
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      operator: A; the parameters of a random family and sigma_y come with each measurement.

    Raises:
      ValueError: a network built without forward mode.
    """
    if getattr(network, "forward_mode", True) is False:
        raise ValueError(
            "gsure: takes a derivative in forward mode; build the network with forward_mode=True"
        )

    def condition(coverage):
        return {"image": coverage} if operator.per_example else None

    def init(key, batch):
        image = jnp.zeros((batch.y.shape[0], *operator.in_shape), batch.y.dtype)
        level = jnp.ones(image.shape[0])
        return network.init(init_key(key), image, level, condition(image), train=False)["params"]

    def loss(params, batch, key):
        assign_key, noise_key, probe_key, dropout_key = jax.random.split(key, 4)
        sigma, index = assign(assign_key, noise, *_usable(batch, operator.c))
        batch = take(batch, index)
        seen = operator.with_params(batch.params)
        y, shape = seen.restrict(batch.y), (len(sigma), *operator.in_shape)
        added = expand(_added(sigma, batch.sigma_y, operator.c), y)
        u = seen.pinv(y + added * seen(jax.random.normal(noise_key, shape, y.dtype)))
        probe = seen.pinv(_view_probe(probe_key, seen, sigma, batch.sigma_y))
        cond = condition(seen.pinv(seen(jnp.ones(shape, y.dtype)))) if operator.per_example else None
        denoise = precondition(raw_network(network, params, dropout_key), sigma_data)
        denoised, moved = jax.jvp(lambda u: denoise(u, sigma, cond), (u,), (probe,))
        fit = mean_square(seen.pinv(seen(denoised)) - u)
        divergence = jnp.mean(probe * moved, axis=tuple(range(1, u.ndim)))
        weight = edm_weight(sigma, sigma_data)
        return (weight * (fit + 2 * divergence - mean_square(probe))).mean(), {"fit": (weight * fit).mean()}

    def denoiser(params):
        denoise = precondition(raw_network(network, params), sigma_data)
        return lambda x, sigma: denoise(x, sigma, condition(jnp.ones_like(x)))

    return Method(init, loss, denoiser)


def _usable(batch, c):
    """The noise levels at which each example may be used, lower (B,) and upper (B,)."""
    if c is None:
        return usable_range(batch.replace(sigma_y=jnp.zeros_like(batch.sigma_y)), _ANY_GAIN)
    return usable_range(batch, _ANY_GAIN, c)


def _added(sigma, sigma_y, c):
    """tau of equation 1, (B,)."""
    if c is None:
        return sigma
    return jnp.sqrt(jnp.maximum(jnp.square(sigma) - jnp.square(sigma_y) / c, 0.0))


def _view_probe(key, operator, sigma, sigma_y):
    """A b of equation 3. Signs in place of normal numbers: the same covariance, less variance of b^T J b."""
    key_x, key_y = jax.random.split(key)
    batch = sigma.shape[0]
    signs = operator(jax.random.rademacher(key_x, (batch, *operator.in_shape), sigma.dtype))
    if operator.c is not None:
        return expand(sigma, signs) * signs  # both parts of C are multiples of P: one draw
    own = jax.random.rademacher(key_y, signs.shape, sigma.dtype)
    return expand(sigma, signs) * signs + expand(sigma_y, own) * own
