"""Gaussian mixtures: the exact denoiser of a distribution with several modes.

    p_sigma(x) = sum_k w_k N(x; m_k, S_k + sigma^2 I)
    D(x, sigma) = sum_k P(k | x, sigma) [m_k + S_k (S_k + sigma^2 I)^-1 (x - m_k)]

Covariances are dense: this is for toy models and tests, up to some hundred values per example.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import struct

from jaxdiff.diffusion.noise import expand

_EXACT = jax.lax.Precision.HIGHEST


@struct.dataclass
class GaussianMixture:
    """sum_k w_k N(m_k, S_k), a pytree.

    Attributes:
        weights: w, (K,), positive, sum 1.
        means: m, (K, d).
        covs: S, (K, d, d), positive semi-definite (positive definite where sigma may be 0).

    Examples are (B, ...) with d values each; any shape, flattened in row-major order.
    """

    weights: jax.Array
    means: jax.Array
    covs: jax.Array

    def _terms(self, x: jax.Array, sigma: jax.Array):
        """Per component: log(w_k N(x; ...)) (B, K), score of the component (B, K, d)."""
        expand(sigma, x)  # checks the shape of sigma
        d = self.means.shape[1]
        flat = x.reshape(x.shape[0], -1)
        if flat.shape[1] != d:
            raise ValueError(f"this mixture is over {d} values, got x of shape {tuple(x.shape)}")
        eigenvalues, basis = jnp.linalg.eigh(self.covs)  # (K, d), (K, d, d)
        variances = jnp.maximum(eigenvalues, 0.0) + sigma[:, None, None] ** 2  # (B, K, d)
        whitened = jnp.einsum("bkd,kde->bke", flat[:, None] - self.means, basis, precision=_EXACT)
        distance = jnp.sum(whitened**2 / variances, axis=-1)
        log_det = jnp.sum(jnp.log(variances), axis=-1)
        log_joint = jnp.log(self.weights) - 0.5 * (distance + log_det + d * math.log(2 * math.pi))
        scores = -jnp.einsum("bke,kde->bkd", whitened / variances, basis, precision=_EXACT)
        return log_joint, scores

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """log p_sigma(x), (B,), in nats."""
        return jax.nn.logsumexp(self._terms(x, sigma)[0], axis=1)

    def responsibilities(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """P(k | X + sigma Z = x), (B, K)."""
        return jax.nn.softmax(self._terms(x, sigma)[0], axis=1)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Gradient of log p_sigma at x, of the shape of x."""
        log_joint, scores = self._terms(x, sigma)
        return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=1), scores).reshape(x.shape)

    def denoiser(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """E[X | X + sigma Z = x] = x + sigma^2 score (Tweedie), for x (B, ...), sigma (B,)."""
        # At sigma = 80 the sum cancels to about 80 * 1e-7, small in the units of [-1, 1].
        return x + expand(sigma, x) ** 2 * self.score(x, sigma)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw n examples, (n, d)."""
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, jnp.log(self.weights), shape=(n,))
        eigenvalues, basis = jnp.linalg.eigh(self.covs)
        roots = basis * jnp.sqrt(jnp.maximum(eigenvalues, 0.0))[:, None, :]
        white = jax.random.normal(key_noise, (n, self.means.shape[1]), self.means.dtype)
        return self.means[component] + jnp.einsum("nde,ne->nd", roots[component], white, precision=_EXACT)
