"""Stacking and the gate: one mechanism, convex weights over candidate denoisers in every noise band.

With candidates D_1..D_K and errors e_k = D_k - x0 on clean *tuning* images, band s has the Gram matrix
G_s[k, l] = E<e_k, e_l>, and the weights are

    w_s = argmin_w  w^T G_s w    subject to  w >= 0, sum w = 1.
    (1)

On the images they are fitted on they are never worse than the best candidate, and on others only by the
tuning noise; so they must be fitted on images that trained nothing. For the two candidates z and z + rho,
(1) is the gate

    g(sigma) = E<x0 - z, rho> / E|rho|^2, clipped to [0, 1].
    (2)

Candidates differ in what they cost: a Gaussian next to nothing, a fusion of views a network for each. With T(k) the
tier of candidate k, 0 the cheapest, a band stacked from the tiers up to T loses

    L_s(T) = d ln sigma / sigma^2  (min_{w: w_k = 0 where T(k) > T}  w^T G_s w  -  min_w  w^T G_s w)
    (3)

nats per image, d ln sigma the width of the band. Bands are lowered one tier at a time, the least loss first, while the
sum stays within a tolerance; the networks beyond a band's tier are not run there at all (`where_needed`). The best
weights project onto a convex set, so the loss is also a bound on how far the two denoisers are from each other on the
tuning images: E |D_T - D_best|^2 d ln sigma / sigma^2 <= L_s(T).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jaxdiff.composition.bands import BandTable, smooth_over_bands
from jaxdiff.diffusion.noise import expand


def simplex_least_squares(gram: np.ndarray) -> np.ndarray:
    """argmin w^T G w over the simplex, (K,), for one positive semi-definite Gram matrix (K, K).

    Non-negative least squares gives the direction: min_{v >= 0} v^T G v - 2 * 1^T v has v* = w* / (w*^T G
    w*), so scaling v* to sum to one gives w*.
    """
    gram = np.asarray(gram, np.float64)
    count = len(gram)
    scale = np.trace(gram) / count
    if scale <= 0:
        return np.full(count, 1.0 / count)
    # G = R^T R by its eigenvalues: a Gram matrix summed in single precision can have some that are slightly
    # negative. The floor only decides between candidates that are equal to rounding.
    values, vectors = np.linalg.eigh(gram / scale)
    root = np.sqrt(np.maximum(values, 1e-9))
    direction, _ = nnls(root[:, None] * vectors.T, vectors.sum(axis=0) / root)
    return direction / direction.sum()


def frugal_weights(
    gram: np.ndarray, sigmas: np.ndarray, tiers: Sequence[int], tolerance: float
) -> np.ndarray:
    """Weights (S, K) over the simplex that give up at most `tolerance` nats for cheaper candidates (equation 3)."""
    tiers, bands, weights, errors = np.asarray(tiers), len(gram), [], []
    for tier in sorted(set(tiers.tolist())):
        among = np.flatnonzero(tiers <= tier)
        weights.append(np.zeros(gram.shape[:2]))
        weights[-1][:, among] = [simplex_least_squares(g[np.ix_(among, among)]) for g in gram]
        errors.append(np.einsum("sk,skl,sl->s", weights[-1], gram, weights[-1]))
    nats = np.maximum(np.stack(errors) - errors[-1], 0.0) * np.gradient(np.log(sigmas)) / np.square(sigmas)
    level, left = np.full(bands, len(weights) - 1), tolerance
    while level.any():
        dearer = np.where(level > 0, nats[level - 1, range(bands)] - nats[level, range(bands)], np.inf)
        band = int(np.argmin(dearer))
        if dearer[band] > left:
            break
        level[band], left = level[band] - 1, left - dearer[band]
    return np.stack(weights)[level, range(bands)]


def fit_stacking(
    gram: np.ndarray,
    sigmas: np.ndarray,
    smooth: float = 1.0,
    tiers: Sequence[int] = (),
    tolerance: float = 0.0,
) -> BandTable:
    """Stacking weights (equation 1, or 3) for every band.

    Args:
      gram: error Gram matrices of the candidates on tuning images, (S, K, K).
      sigmas: the bands' noise levels, (S,).
      smooth: kernel width in bands; bands are put on one scale (their mean diagonal) before they are
          averaged.
      tiers: of each candidate, what it costs (equation 3); () for no difference.
      tolerance: nats per image that may be given up for cheaper candidates (equation 3), >= 0; 0: none, whatever the
        best weights cost.

    Returns:
      A table of weights (S, K): non-negative, each row sums to one.

    Raises:
      ValueError: a negative tolerance, or not one tier for each candidate.
    """
    if tolerance < 0 or (len(tiers) and len(tiers) != np.shape(gram)[-1]):
        raise ValueError(
            f"stacking: tolerance {tolerance}, tiers {tuple(tiers)} of {np.shape(gram)[-1]} candidates"
        )
    gram = np.asarray(gram, np.float64)
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None]
    pooled = smooth_over_bands(gram / np.maximum(scale, 1e-300), smooth)
    if len(tiers) and tolerance > 0:
        weights = frugal_weights(pooled * scale, sigmas, tiers, tolerance)
    else:
        weights = np.stack([simplex_least_squares(g) for g in pooled])
    return BandTable(np.asarray(sigmas, np.float32), weights.astype(np.float32))


def fit_gate(gram: np.ndarray, sigmas: np.ndarray, smooth: float = 1.0) -> BandTable:
    """The gate (equation 2) from the Gram matrices (S, 2, 2) of the errors of (z, z + rho); values (S, 1)."""
    stacked = fit_stacking(np.asarray(gram)[:, :2, :2], sigmas, smooth)
    return BandTable(stacked.sigmas, stacked.values[:, 1:])


def stack(candidates: jax.Array, weights: BandTable, sigma: jax.Array) -> jax.Array:
    """sum_k w_k(sigma) D_k: candidates (K, B, ...) at noise levels sigma (B,) to one denoised (B, ...)."""
    at = weights(sigma)
    return sum(expand(at[:, k], candidate) * candidate for k, candidate in enumerate(candidates))


def where_needed(weights: jax.Array, make: Callable[[], jax.Array], like: jax.Array) -> jax.Array:
    """make(), or zeros of the shape of `like` without evaluating it, where all `weights` are 0.

    Weights are functions of the noise level, which a sampler gives to all examples alike: at a level where a candidate
    has none, its networks are not run.
    """
    return jax.lax.cond(jnp.any(weights != 0), make, lambda: jnp.zeros_like(like))
