"""Denoising score matching in the EDM form, on clean images or in the space of a view.

    L = E lambda(sigma) || D_theta(y + sigma Pi n, sigma) - y ||^2,   lambda = (sigma^2 + sigma_data^2) /
    (sigma sigma_data)^2

(Karras et al. 2022, equation 2 and table 1). Pi is the projector on the range of the view's operator: the
identity for pooling and crops; for a zero-filled mask it keeps hidden pixels at zero, where the view has no
noise and no data.
"""

from typing import Any

import flax.linen as nn
import jax

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Method, mean_square, raw_network
from jaxdiff.networks import init_key


def denoising(
    network: nn.Module, noise: NoiseDistribution, sigma_data: float, operator: Any = None
) -> Method:
    """The method `denoising`.

    Args:
      network: raw F(x, c_noise, cond, train); output of the input's shape.
      noise: distribution of ln sigma, in the space of `y`.
      sigma_data: standard deviation of `y`.
      operator: the view's operator where its range is not the whole view space (zero-filled masks), else
          None.
    """

    def project(values):
        return values if operator is None else operator.project(values)

    def init(key, batch):
        sigma = noise.sample_sigma(key, batch.y.shape[0])
        return network.init(init_key(key), batch.y, sigma, None, train=False)["params"]

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key = jax.random.split(key, 3)
        y = batch.y
        sigma = noise.sample_sigma(sigma_key, y.shape[0])
        noisy = y + expand(sigma, y) * project(jax.random.normal(noise_key, y.shape, y.dtype))
        denoised = project(precondition(raw_network(network, params, dropout_key), sigma_data)(noisy, sigma))
        value = (edm_weight(sigma, sigma_data) * mean_square(denoised - y)).mean()
        return value, {}

    def denoiser(params):
        denoise = precondition(raw_network(network, params), sigma_data)
        return lambda x, sigma: project(denoise(x, sigma))

    return Method(init, loss, denoiser)
