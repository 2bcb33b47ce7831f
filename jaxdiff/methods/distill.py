"""Distillation: one network D_s imitates a frozen denoiser D_T, whatever D_T is composed of.

    L = E w(sigma) || D_s(x0 + sigma n, sigma) - D_T(x0 + sigma n, sigma) ||^2,   w = 1 / c_out^2         (1)

with w = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, EDM's weight: the network's own output is asked for
with unit weight. The target is a function of the input, without the noise of x0, so that a minimiser of
equation 1 is D_T itself wherever x0 + sigma n has mass, and x0 need not be data: samples of the teacher do.

What an imitation loses. Where D_T is the true denoiser, the certificate of D_s is that of D_T less

    int E || D_s - D_T ||^2 / sigma^2  d ln sigma                                                          (2)

nats, as E<D_s - D_T, D_T - X> = 0 there. With ln sigma drawn by `NatsNoise`, equation 1 is equation 2: EDM's
own law of ln sigma puts too few draws at the small sigmas that carry the nats.

Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531) for the idea; equation 2 is Verdu's identity
(`evaluation/certificate.py`) for two denoisers.

A student whose network is told what it sees (`told`) is told 1 everywhere: the network that views share, asked for
whole images, can so be where it starts (`methods/shared.py`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NatsNoise, NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Denoiser, Method, mean_square, raw_network
from jaxdiff.networks import init_key


def whole(x: jax.Array) -> dict[str, jax.Array]:
    """The condition that tells a network of the coverage that x are whole images: m = 1."""
    return {"image": jnp.ones_like(x)}


def distill(
    network: nn.Module,
    noise: NatsNoise | NoiseDistribution,
    sigma_data: float,
    teacher: Denoiser,
    told: bool = False,
) -> Method:
    """The method `distill`.

    Args:
      network: raw F(x, c_noise, cond, train) of the student; output of the input's shape.
      noise: law of ln sigma.
      sigma_data: standard deviation of the student's preconditioning.
      teacher: D_T(x, sigma), frozen.
      told: whether the network is given a coverage beside x, as the one that views share is; it is 1 everywhere.
    """

    def student_of(params, dropout_key=None):
        denoise = precondition(raw_network(network, params, dropout_key), sigma_data)
        return lambda x, sigma: denoise(x, sigma, whole(x) if told else None)

    def init(key, batch):
        sigma = noise.sample_sigma(key, batch.y.shape[0])
        condition = whole(batch.y) if told else None
        return network.init(init_key(key), batch.y, sigma, condition, train=False)["params"]

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = batch.y
        sigma = noise.sample_sigma(sigma_key, x0.shape[0])
        x = x0 + expand(sigma, x0) * jax.random.normal(noise_key, x0.shape, x0.dtype)
        target = jax.lax.stop_gradient(teacher(x, sigma))
        student = student_of(params, dropout_key)(x, sigma)
        return (edm_weight(sigma, sigma_data) * mean_square(student - target)).mean(), {}

    return Method(init, loss, student_of)
