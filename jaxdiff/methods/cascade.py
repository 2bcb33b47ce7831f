"""A cascade, the classic rival for one view: p(x) = p(v) p(x | v), v = A x.

p(v) is the view's own model; p(x | v) is learnt from the clean examples, with the view as a condition:

    L = E lambda(sigma) || D(x0 + sigma z, sigma | A x0) - x0 ||^2
    (1)

The network sees the lifted view A^+ v beside the noisy image. What the view fixes is exact by construction:
D <- D + A^+ (v - A D). The nats of the two factors add up (the chain rule of the Kullback-Leibler divergence),
so that a cascade has a certificate by parts and no denoiser of x_sigma alone.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Method, mean_square, raw_network
from jaxdiff.networks import init_key
from jaxdiff.operators import LinearOperator

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


def consistent_with(operator: LinearOperator, denoised: jax.Array, view: jax.Array) -> jax.Array:
    """The image nearest to `denoised` whose view is `view`: D + A^+ (v - A D)."""
    return denoised + operator.pinv(view - operator(denoised))


def cascade(
    network: nn.Module, noise: NoiseDistribution, sigma_data: float, operator: LinearOperator
) -> Method:
    """The method `cascade`; `denoiser(params)` takes a view v (B, *out_shape) and returns D(x, sigma | v).

    Args:
      network: raw F(x, c_noise, cond, train) with cond = {'image': A^+ v (B, *in_shape)}.
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      operator: the view's A, the same for all examples.
    """

    def given(params, view, dropout_key=None) -> Denoiser:
        denoise = precondition(raw_network(network, params, dropout_key), sigma_data)
        image = operator.pinv(view)
        return lambda x, sigma: consistent_with(operator, denoise(x, sigma, {"image": image}), view)

    def init(key, batch):
        return network.init(init_key(key), batch.y, batch.sigma_y + 1.0, {"image": batch.y}, train=False)[
            "params"
        ]

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = batch.y
        sigma = noise.sample_sigma(sigma_key, x0.shape[0])
        x = x0 + expand(sigma, x0) * jax.random.normal(noise_key, x0.shape, x0.dtype)
        denoised = given(params, operator(x0), dropout_key)(x, sigma)
        return (edm_weight(sigma, sigma_data) * mean_square(denoised - x0)).mean(), {}

    def denoiser(params):
        return lambda view: given(params, view)

    return Method(init, loss, denoiser)
