"""Exact answers for toy models: residual scores, total correlation, relative entropy.

1. X ~ N(0, S), views A_i. The lifted score of view i is -A_i^T Cov(A_i X_sigma)^-1 A_i x: a composition of
   views is linear, -L x, and the residual, full score less composition, has
   E|r|^2 = tr[(P - L) P^-1 (P - L)^T] with P = (S + sigma^2 I)^-1.
2. Two unit coordinates with correlation rho, one view each, k = rho / (1 + sigma^2):
   r = -(k^2 x_1 - k x_2, k^2 x_2 - k x_1) / ((1 + sigma^2)(1 - k^2)),
   E|r|^2 = 2 k^2 / ((1 + sigma^2)(1 - k^2)).
3. 1/2 int E|r_sigma|^2 d(sigma^2) over (0, inf) = KL(p || product of view marginals), the total correlation.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxdiff.diffusion.noise import expand


def pair_residual_power(rho: float, sigma: np.ndarray) -> np.ndarray:
    """E|r|^2 of the correlated pair at noise sigma (equation 2)."""
    variance = 1 + np.asarray(sigma, np.float64) ** 2
    k = rho / variance
    return 2 * k**2 / (variance * (1 - k**2))


def pair_residual(rho: float, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The residual score of the correlated pair (equation 2), for x (B, ...) with two values, sigma (B,)."""
    variance = 1 + expand(sigma, x) ** 2
    k = rho / variance
    other = x.reshape(len(x), 2)[:, ::-1].reshape(x.shape)
    return -(k**2 * x - k * other) / (variance * (1 - k**2))


def view_precision(
    covariance: np.ndarray, matrices: Sequence[np.ndarray], sigma: float, average: bool = False
) -> np.ndarray:
    """L (d, d), with composed score -L x at noise sigma (equation 1).

    Args:
        covariance: S, (d, d).
        matrices: the views' A_i, (d_i, d), of full row rank.
        average: False for the plain sum of lifted scores; True for Q^+ times it, Q = sum_i A_i^+ A_i, which
            counts what several views share once.
    """
    noisy = covariance + sigma**2 * np.eye(len(covariance))
    total = sum(a.T @ np.linalg.solve(a @ noisy @ a.T, a) for a in matrices)
    if not average:
        return total
    return np.linalg.pinv(sum(np.linalg.pinv(a) @ a for a in matrices)) @ total


def residual_power(covariance: np.ndarray, composed: np.ndarray, sigma: float) -> float:
    """E|full score - composed score|^2 at noise sigma; the composed score is -`composed` x (equation 1)."""
    noisy = covariance + sigma**2 * np.eye(len(covariance))
    missing = np.linalg.inv(noisy) - composed
    return float(np.trace(missing @ noisy @ missing.T))


def gaussian_total_correlation(covariance: np.ndarray, blocks: Sequence[Sequence[int]]) -> float:
    """KL(N(m, S) || product of its marginals on disjoint blocks of coordinates), in nats."""
    parts = sum(np.linalg.slogdet(covariance[np.ix_(block, block)])[1] for block in blocks)
    return float(parts - np.linalg.slogdet(covariance)[1]) / 2


def gaussian_kl(mean_p, covariance_p, mean_q, covariance_q, sigma: float = 0.0) -> float:
    """KL(p_sigma || q_sigma) of two Gaussians with noise sigma added to both, in nats."""
    noise = sigma**2 * np.eye(len(mean_p))
    p, q = covariance_p + noise, covariance_q + noise
    shift = np.asarray(mean_q) - np.asarray(mean_p)
    log_ratio = np.linalg.slogdet(q)[1] - np.linalg.slogdet(p)[1]
    return float(np.trace(np.linalg.solve(q, p)) - len(p) + shift @ np.linalg.solve(q, shift) + log_ratio) / 2


def sign_mixture(
    rho: float, center: float = 2.0, std: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (4,), means (4, 2) and covariances (4, 2, 2) of the mixture at (+-center, +-center).

    The two signs agree with probability (1 + rho) / 2; each coordinate alone is a balanced mixture.
    """
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    weights = (1 + rho * signs.prod(axis=1)) / 4
    return weights, center * signs.astype(np.float64), np.tile(std**2 * np.eye(2), (4, 1, 1))


def hermite_points(dimensions: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, dimensions) and weights (n,) of Gauss-Hermite quadrature for N(0, I)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    weights = weights / weights.sum()
    points = np.stack(np.meshgrid(*[nodes] * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    product = np.stack(np.meshgrid(*[weights] * dimensions, indexing="ij"), axis=-1).reshape(-1, dimensions)
    return points, product.prod(axis=1)


def mixture_total_correlation(rho: float, center: float = 2.0, std: float = 0.5, order: int = 200) -> float:
    """Total correlation of the two coordinates of `sign_mixture`, in nats.

    With t(x) = tanh(center x / std^2) the density ratio p(x, y) / (p(x) p(y)) is 1 + rho t(x) t(y), and the
    total correlation is the mean of its logarithm, by Gauss-Hermite quadrature over each component.
    """
    weights, means, _ = sign_mixture(rho, center, std)
    points, point_weights = hermite_points(2, order)
    signs = np.tanh(center * (means[:, None] + std * points) / std**2)  # (4, n, 2)
    return float(weights @ (np.log1p(rho * signs.prod(axis=-1)) @ point_weights))
