"""The residual on clean data: EDM-weighted denoising error of z + rho, with the size of rho as a price.

    L = E lambda(sigma) { || z + rho - x0 ||^2 + mu || rho ||^2 + nu || d rho / d x  v ||^2 }
        + mu' E' lambda(sigma) || rho ||^2,    v ~ N(0, I)                                                    (1)

z = stop_gradient(base(x, sigma)). Without a price (mu = mu' = nu = 0), dropout, weight decay and early stopping a
fit of rho equals a fit from scratch, for any class of networks closed under adding z: what the views are worth enters
through the regularisation, the capacity and the start. The Jacobian term keeps rho smooth, as differences of
scores need (Sobolev regularisation); v is a Hutchinson probe, scaled by sigma so that the term has the units
of the others.

E' is over made inputs x' + sigma n: a part of one measurement beside the rest of another (`data.mixture.mixed_parts`).
Clean images are few, such inputs without end, and they say what the residual should be where nothing new is known.
They are no images, so they pay the price and are asked for nothing else; `source` tells them (0: a clean image).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.composition.residual import correction, residual_denoiser
from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.methods.base import Method, mean_square, raw_network
from jaxdiff.networks import init_key
from jaxdiff.operators.measurement import Measurement


def require_prices(method: str, **prices: float) -> None:
    """Raises ValueError for a negative one."""
    for name, value in prices.items():
        if value < 0:
            raise ValueError(f"{method}: {name} must not be negative, got {value}")


def mean_over(values: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mean of those of the values (B,) that are chosen (B,) bool; 0 where none is."""
    return jnp.where(chosen, values, 0.0).sum() / jnp.maximum(chosen.sum(), 1)


def from_clean(batch: Measurement) -> jax.Array:
    """Which examples of a batch are clean images and not made inputs, (B,) bool."""
    return jnp.ones(len(batch.y), bool) if batch.source is None else batch.source == 0


def residual(
    network: nn.Module,
    noise: NoiseDistribution,
    sigma_data: float,
    base: Callable[[jax.Array, jax.Array], jax.Array],
    penalty: float = 0.0,
    jacobian_penalty: float = 0.0,
    made_penalty: float = 0.0,
) -> Method:
    """The method `residual`.

    Args:
      network: raw F(x, c_noise, cond, train) with cond = {'image': (B, ..., M C)}.
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the clean data.
      base: (x, sigma) -> (M, B, ...), frozen: z, the fused views, first, then what else F may look at.
      penalty: mu of equation 1, >= 0.
      jacobian_penalty: nu of equation 1, >= 0; costs one more forward-mode pass.
      made_penalty: mu' of equation 1, >= 0; for batches with made inputs.

    Raises:
      ValueError: a negative penalty.
    """
    require_prices("residual", penalty=penalty, jacobian_penalty=jacobian_penalty, made_penalty=made_penalty)

    def raw(params, dropout_key=None):
        apply = raw_network(network, params, dropout_key)
        return lambda x, c_noise, image: apply(x, c_noise, {"image": image})

    def init(key, batch):
        sigma = noise.sample_sigma(key, batch.y.shape[0])
        count = jax.eval_shape(base, batch.y, sigma).shape[0]
        image = jnp.concatenate([batch.y] * count, axis=-1)
        return network.init(init_key(key), batch.y, sigma, {"image": image}, train=False)["params"]

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key, probe_key = jax.random.split(key, 4)
        x0 = batch.y
        sigma = noise.sample_sigma(sigma_key, x0.shape[0])
        x = x0 + expand(sigma, x0) * jax.random.normal(noise_key, x0.shape, x0.dtype)
        apply = raw(params, dropout_key)

        def views_and_residual(x):
            known = base(x, sigma)
            return known[0], correction(apply, x, sigma, known, sigma_data)

        slope = jnp.zeros_like(sigma)
        if jacobian_penalty > 0:
            # The whole slope of rho in x, through z as well: F sees both, and could hide its slope in either.
            probe = expand(sigma, x) * jax.random.normal(probe_key, x.shape, x.dtype)
            (z, rho), (_, moved) = jax.jvp(views_and_residual, (x,), (probe,))
            slope = mean_square(moved)
        else:
            z, rho = views_and_residual(x)
        z = jax.lax.stop_gradient(z)
        weight, clean = edm_weight(sigma, sigma_data), from_clean(batch)
        error = mean_over(weight * mean_square(z + rho - x0), clean)
        size = mean_over(weight * mean_square(rho), clean)
        views_error = mean_over(weight * mean_square(z - x0), clean)
        value = error + penalty * size + jacobian_penalty * mean_over(weight * slope, clean)
        metrics = {"error": error, "residual_size": size, "views_error": views_error}
        if made_penalty > 0:
            metrics["made_size"] = mean_over(weight * mean_square(rho), ~clean)
            value = value + made_penalty * metrics["made_size"]
        return value, metrics

    def denoiser(params):
        return residual_denoiser(base, raw(params), sigma_data)

    return Method(init, loss, denoiser)
