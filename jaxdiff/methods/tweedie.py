"""Data with noise of their own, mixed freely with clean data: each example trains the levels above its noise.

y = x + sigma_y n, sigma_y per example, 0 for clean. For sigma > sigma_y, x_sigma = y + sqrt(sigma^2 -
sigma_y^2) z is distributed as X + sigma Z, and by Tweedie's formula twice

    E[y | x_sigma] = (1 - sigma_y^2/sigma^2) E[X | x_sigma] + (sigma_y^2/sigma^2) x_sigma.
    (1)

    L = E lambda(sigma) w || (1 - r) D(x_sigma, sigma) + r x_sigma - y ||^2,    r = sigma_y^2 / sigma^2
    (2)

Both weightings w have the posterior mean as their minimiser: 'unit', w = 1 (Daras et al. 2025, arXiv
2411.02780), and 'exact', w = 1/(1 - r)^2 = sigma^4/(sigma^2 - sigma_y^2)^2, that of denoising score matching
on clean data (Ambient Diffusion Omni). Which example is used at which level: `ranges`. Below sigma_y only the
clean data of the mixture, and consistency, say anything (Daras et al. 2024, arXiv 2404.10177).

An example of which a part alone is an image (a crop, zero around it) has `params` = {'seen': (B, ...) bool}: the loss
is over what is seen. A network looks at the zeros around it all the same, which matters the less the smaller sigma is:
such examples come with a sigma_max (`omni`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Method, mean_square, raw_network
from jaxdiff.methods.consistency import Consistency, consistency_term
from jaxdiff.methods.ranges import assign, take, usable_range
from jaxdiff.networks import init_key
from jaxdiff.operators.measurement import Measurement
from jaxdiff.registry import lookup

WEIGHTINGS = ("unit", "exact")


def tweedie(
    network: nn.Module,
    noise: NoiseDistribution,
    sigma_data: float,
    weighting: str = "exact",
    max_gain: float = 4.0,
    consistency: Consistency | None = None,
) -> Method:
    """The method `tweedie`; with clean data alone and a consistency weight it is Consistent Diffusion Models.

    Args:
      network: raw F(x, c_noise, cond, train).
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      weighting: 'unit' or 'exact'.
      max_gain: bound of 1/(1 - r): an example is used from sigma = sigma_y sqrt(max_gain/(max_gain - 1)) up.
      consistency: settings of the consistency term, None for none; its noise is independent of that of (2).

    Raises:
      ValueError: an unknown weighting, max_gain <= 1, settings of the consistency term out of range.
    """
    lookup(dict.fromkeys(WEIGHTINGS), weighting, "weighting")
    consistency = (consistency or Consistency()).check()

    def init(key, batch):
        return network.init(init_key(key), batch.y, batch.sigma_y + 1.0, None, train=False)["params"]

    def noisy(key, batch: Measurement):
        """sigma (B,), x_sigma (B, ...) and the examples they were made of."""
        assign_key, noise_key = jax.random.split(key)
        sigma, index = assign(assign_key, noise, *usable_range(batch, max_gain))
        batch = take(batch, index)
        added = jnp.sqrt(jnp.maximum(jnp.square(sigma) - jnp.square(batch.sigma_y), 0.0))
        draw = jax.random.normal(noise_key, batch.y.shape, batch.y.dtype)
        return sigma, batch.y + expand(added, batch.y) * draw, batch

    def loss(params, batch, key):
        data_key, dropout_key, again_key, consistency_key = jax.random.split(key, 4)
        denoise = precondition(raw_network(network, params, dropout_key), sigma_data)
        sigma, x, used = noisy(data_key, batch)
        share = jnp.square(used.sigma_y / sigma)
        estimate = expand(1 - share, x) * denoise(x, sigma) + expand(share, x) * x
        weight = edm_weight(sigma, sigma_data)
        if weighting == "exact":
            weight = weight / jnp.square(1 - share)
        seen = None if used.params is None else used.params["seen"]
        value = (weight * mean_square(estimate - used.y, seen)).mean()
        metrics = {"denoising": value}
        if consistency.weight > 0:
            sigma, x, used = noisy(again_key, batch)
            term = consistency_term(
                denoise,
                x,
                sigma,
                used.sigma_y,
                noise,
                lambda s: edm_weight(s, sigma_data),
                consistency_key,
                consistency,
            )
            metrics["consistency"] = term
            value = value + consistency.weight * term
        return value, metrics

    def denoiser(params):
        return precondition(raw_network(network, params), sigma_data)

    return Method(init, loss, denoiser)
