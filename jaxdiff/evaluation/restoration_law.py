"""Exact answers for restoration: mixtures of Gaussians seen through a matrix. Float64, on the host.

X ~ sum_k w_k N(m_k, S_k), y = A X + e, e ~ N(0, R). Given y, X is again a mixture,

    K_k = S_k A^T (A S_k A^T + R)^+,   m_k' = m_k + K_k (y - A m_k),   S_k' = S_k - K_k A S_k,
    w_k' ~ w_k N(y; A m_k, A S_k A^T + R)

with mean sum w' m' and covariance sum w' (S' + (m' - mean)(m' - mean)^T). A Gaussian is the mixture of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators import LinearOperator

_EXACT = jax.lax.Precision.HIGHEST


class Mixture(NamedTuple):
    """Weights (K,), means (K, d), covariances (K, d, d) in float64."""

    weights: np.ndarray
    means: np.ndarray
    covs: np.ndarray

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d)."""
        mean = self.weights @ self.means
        apart = self.means - mean
        return mean, np.einsum("k,kij->ij", self.weights, self.covs + apart[:, :, None] * apart[:, None])

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, d)."""
        component = rng.choice(len(self.weights), count, p=self.weights)
        values, basis = np.linalg.eigh(self.covs)
        roots = basis * np.sqrt(np.maximum(values, 0.0))[:, None]
        white = rng.standard_normal((count, self.means.shape[1]))
        return self.means[component] + np.einsum("nij,nj->ni", roots[component], white)


def condition(prior: Mixture, matrix: np.ndarray, y: np.ndarray, sigma_y: float) -> Mixture:
    """The law of X given y = A X + sigma_y n, for A (m, d), y (m,)."""
    moved = np.einsum("mi,kij->kmj", matrix, prior.covs)  # A S_k
    inner = moved @ matrix.T + sigma_y**2 * np.eye(len(matrix))
    inverse = np.linalg.pinv(inner, rcond=1e-12, hermitian=True)
    gain = moved.transpose(0, 2, 1) @ inverse
    residual = y - prior.means @ matrix.T
    distance = np.einsum("km,kmn,kn->k", residual, inverse, residual)
    values = np.linalg.eigvalsh(inner)
    log_det = np.sum(np.where(values > 1e-12 * values.max(), np.log(np.maximum(values, 1e-300)), 0.0), axis=1)
    log_weights = np.log(prior.weights) - 0.5 * (distance + log_det)
    weights = np.exp(log_weights - log_weights.max())
    means = prior.means + np.einsum("kdm,km->kd", gain, residual)
    return Mixture(weights / weights.sum(), means, prior.covs - gain @ moved)


def matrix_of(operator: LinearOperator) -> np.ndarray:
    """A of an operator whose examples all have the parameters of the first, (m, d)."""
    d = int(np.prod(operator.in_shape))
    params = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], d, axis=0), operator.params)
    basis = jnp.eye(d).reshape(d, *operator.in_shape)
    return np.asarray(operator.replace(params=params)(basis), np.float64).reshape(d, -1).T


def masked_denoiser(prior: Mixture, seen: np.ndarray) -> Callable[..., jax.Array]:
    """(x, sigma, A~) -> E[X | A~ x_sigma, A~] for the one mask A~ = diag(seen): what a perfect ambient prior tells.

    A~ itself is not looked at; `seen` (d,) bool is the same mask.
    """
    index = np.flatnonzero(seen)
    means = jnp.asarray(prior.means, jnp.float32)
    log_weights = jnp.log(jnp.asarray(prior.weights, jnp.float32))
    values, basis = np.linalg.eigh(prior.covs[:, index][:, :, index])  # once, so that no call decomposes
    forward = np.einsum("kdi,kij->kdj", prior.covs[:, :, index], basis)
    values, basis, forward = (jnp.asarray(a, jnp.float32) for a in (values, basis, forward))

    def denoiser(x, sigma, _operator):
        flat = x.reshape(len(x), -1)[:, index]
        apart = jnp.einsum("nki,kij->nkj", flat[:, None] - means[:, index], basis, precision=_EXACT)
        variances = values + jnp.square(sigma)[:, None, None]
        log_joint = log_weights - 0.5 * jnp.sum(jnp.square(apart) / variances + jnp.log(variances), axis=-1)
        shift = jnp.einsum("kdj,nkj->nkd", forward, apart / variances, precision=_EXACT)
        share = jax.nn.softmax(log_joint, axis=1)
        return jnp.einsum("nk,nkd->nd", share, means + shift, precision=_EXACT).reshape(x.shape)

    return denoiser
