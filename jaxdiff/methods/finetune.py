"""Fine-tuning, the classic rival: train on A^+ y as if it were clean, then go on with the clean examples.

    first:   L = E lambda(sigma) || D(A^+ y + sigma z, sigma) - A^+ y ||^2
    then:    L = E lambda(sigma) || D(x0 + sigma z, sigma) - x0 ||^2,     from the first one's parameters.

or, held to what was learnt first, D_0 (`held`),

    then:    L = E lambda { || D - x0 ||^2 + mu || D - D_0 ||^2 } + mu' E' lambda || D - D_0 ||^2              (1)

with E' over made inputs, as in `residual`. D_0 may as well imitate what the views say (`distill`), in place of the
first line.

The first stage learns another law than that of the clean data (blurred, zero-filled, noisy images); whether
the second forgets it is a matter of its budget and of how much clean data there is.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Method, Params, mean_square, raw_network
from jaxdiff.methods.residual import from_clean, mean_over, require_prices
from jaxdiff.operators import LinearOperator
from jaxdiff.operators.measurement import Measurement


def restored(batch: Measurement, operator: LinearOperator) -> Measurement:
    """A^+ y in place of y, as if it were a clean image: (B, *in_shape), no parameters, no noise."""
    x = operator.with_params(batch.params).pinv(batch.y)
    return Measurement(y=x, params=None, sigma_y=jnp.zeros_like(batch.sigma_y))


def seen_in(batch: Measurement, operator: LinearOperator) -> jax.Array:
    """Which values of A^+ y are those of x, whatever the rest of x is, (B, *in_shape) bool: (A^+ A 1) = 1 there.

    For masks and crops exactly what they show; for averages and blurs everything, as far as A^+ y tells.
    """
    drawn, ones = operator.with_params(batch.params), jnp.ones((len(batch.y), *operator.in_shape))
    return jnp.abs(drawn.pinv(drawn(ones)) - 1.0) < 0.01


def finetune(method: Method, start: Params) -> Method:
    """The second stage: `method` from the parameters `start`, whatever the key."""
    return method._replace(init=lambda key, batch: start)


def held(
    network: nn.Module,
    noise: NoiseDistribution,
    sigma_data: float,
    start: Params,
    penalty: float,
    made_penalty: float = 0.0,
) -> Method:
    """The second stage of equation 1: from the parameters `start` of D_0, with a price on the way gone from there.

    Args:
      network: raw F(x, c_noise, cond, train); D and D_0 are preconditioned as EDM.
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      start: parameters of D_0, frozen in it.
      penalty, made_penalty: mu and mu' of equation 1, >= 0.

    Raises:
      ValueError: a negative penalty.
    """
    require_prices("finetune", penalty=penalty, made_penalty=made_penalty)

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0, clean = batch.y, from_clean(batch)
        sigma = noise.sample_sigma(sigma_key, x0.shape[0])
        x = x0 + expand(sigma, x0) * jax.random.normal(noise_key, x0.shape, x0.dtype)
        denoised = precondition(raw_network(network, params, dropout_key), sigma_data)(x, sigma)
        before = jax.lax.stop_gradient(precondition(raw_network(network, start), sigma_data)(x, sigma))
        weight = edm_weight(sigma, sigma_data)
        way = weight * mean_square(denoised - before)
        error, size = mean_over(weight * mean_square(denoised - x0), clean), mean_over(way, clean)
        made_size = mean_over(way, ~clean)
        value = error + penalty * size + made_penalty * made_size
        return value, {"error": error, "way": size, "made_way": made_size}

    def denoiser(params):
        return precondition(raw_network(network, params), sigma_data)

    return Method(lambda key, batch: start, loss, denoiser)
