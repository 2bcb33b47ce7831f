"""What the oracle tests of the methods share: linear networks and the exact minimiser of a quadratic loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.operators import Measurement


class Linear(nn.Module):
    """F = W (x, image) + b."""

    size: int

    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        inputs = x if cond is None else jnp.concatenate([x, cond["image"]], axis=-1)
        return nn.Dense(self.size, kernel_init=nn.initializers.zeros)(inputs)


class LinearByCoverage(nn.Module):
    """F = W_k x + b_k with k the row of `patterns` (K, d) that the coverage image is nearest to: one map a mask."""

    patterns: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        patterns = jnp.asarray(self.patterns, jnp.float32)
        count, size = patterns.shape
        weight = self.param("weight", nn.initializers.zeros, (count, size, size))
        bias = self.param("bias", nn.initializers.zeros, (count, size))
        image = cond["image"].reshape(len(x), 1, size)
        index = jnp.argmin(jnp.sum(jnp.square(image - patterns), axis=-1), axis=1)
        flat = x.reshape(len(x), size)
        return (jnp.einsum("bij,bj->bi", weight[index], flat) + bias[index]).reshape(x.shape)


def one_level(sigma):
    return NoiseDistribution(P_mean=float(np.log(sigma)), P_std=0.0)


def batch_of(y, params=None, sigma_y=None):
    sigma_y = jnp.zeros(len(y)) if sigma_y is None else jnp.broadcast_to(sigma_y, (len(y),))
    return Measurement(y=y, params=params, sigma_y=sigma_y)


def minimise(method, batch, key=1, size=500):
    """The minimiser of a quadratic loss, summed over batches of `size`: one Newton step (least norm where the
    inputs are collinear)."""
    count = max(1, len(batch.y) // size)
    parts = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, -1, *leaf.shape[1:]), batch)
    keys = jax.random.split(jax.random.key(key), count)
    flat, restore = ravel_pytree(method.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], parts)))

    def derivatives(item):
        part, part_key = item

        def loss(flat):
            return method.loss(restore(flat), part, part_key)[0]

        return jax.hessian(loss)(flat), jax.grad(loss)(flat)

    hessian, gradient = jax.jit(
        lambda: [leaf.mean(axis=0) for leaf in jax.lax.map(derivatives, (parts, keys))]
    )()
    step = np.linalg.lstsq(np.asarray(hessian, np.float64), -np.asarray(gradient, np.float64), rcond=1e-6)[0]
    return restore(flat + jnp.asarray(step, jnp.float32))
