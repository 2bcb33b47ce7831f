"""Gaussian data, X ~ N(m, S): the denoiser that knows only the mean and the covariance of the data, exactly.

    S = U diag(eig) U^T + floor (I - U U^T)
    D(x, sigma) = m + S (S + sigma^2 I)^-1 (x - m)

S is kept as low rank (U, (d, k), orthonormal) plus isotropic, so a call costs O(d k). The Ledoit-Wolf
estimate (1 - a) S_emp + a mu I has exactly this form (rank < n), and so has probabilistic PCA.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from sklearn.covariance import ledoit_wolf_shrinkage

from jaxdiff.diffusion.noise import expand
from jaxdiff.registry import lookup

# Accelerators multiply float32 matrices in fewer bits by default; an exact denoiser should not.
_EXACT = jax.lax.Precision.HIGHEST
_TINY = float(np.finfo(np.float32).tiny)


@struct.dataclass
class Gaussian:
    """N(m, S) with S = U diag(eig) U^T + floor (I - U U^T); a pytree, so it can be passed through jit.

    Attributes:
        mean: m, of the shape of one example, float32.
        basis: U, (d, k), orthonormal columns, d = number of values of one example.
        eigenvalues: eig, (k,), each >= floor.
        floor: variance outside the span of U, scalar >= 0.
    """

    mean: jax.Array
    basis: jax.Array
    eigenvalues: jax.Array
    floor: jax.Array

    def _split(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Coordinates of x - m in the span of U, (B, k), and the rest, (B, d)."""
        centered = self._centered(x)
        inside = jnp.matmul(centered, self.basis, precision=_EXACT)
        return inside, centered - jnp.matmul(inside, self.basis.T, precision=_EXACT)

    def _centered(self, x: jax.Array) -> jax.Array:
        """x - m, (B, d)."""
        if x.shape[1:] != self.mean.shape:
            raise ValueError(
                f"this Gaussian is over examples of shape {tuple(self.mean.shape)}, "
                f"got x of shape {tuple(x.shape)}"
            )
        return (x - self.mean).reshape(x.shape[0], -1)

    def _join(self, inside: jax.Array, outside: jax.Array) -> jax.Array:
        flat = jnp.matmul(inside, self.basis.T, precision=_EXACT) + outside
        return flat.reshape(len(flat), *self.mean.shape)

    def _variances(self, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Eigenvalues of S + sigma^2 I: (B, k) in the span of U, (B, 1) outside; never exactly zero."""
        noise = sigma[:, None] ** 2
        return jnp.maximum(self.eigenvalues + noise, _TINY), jnp.maximum(self.floor + noise, _TINY)

    def denoiser(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """E[X | X + sigma Z = x] for x (B, ...), sigma (B,) >= 0."""
        expand(sigma, x)  # checks the shape of sigma
        centered = self._centered(x)
        span, rest = self._variances(sigma)
        outside = self.floor / rest
        # b (x - m) + U (a - b) U^T (x - m) with a, b <= 1: two products with U, where splitting x - m takes three.
        inside = jnp.matmul(centered, self.basis, precision=_EXACT) * (self.eigenvalues / span - outside)
        return self.mean + self._join(inside, centered * outside)

    def score(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Gradient of log p_sigma, -(S + sigma^2 I)^-1 (x - m); no cancellation as in (D - x) / sigma^2."""
        expand(sigma, x)
        inside, outside = self._split(x)
        span, rest = self._variances(sigma)
        return -self._join(inside / span, outside / rest)

    def log_prob(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """log N(x; m, S + sigma^2 I), (B,), in nats. Not finite at sigma = 0 where S is singular."""
        expand(sigma, x)
        inside, outside = self._split(x)
        span, rest = self._variances(sigma)
        d, k = self.basis.shape
        distance = jnp.sum(inside**2 / span, axis=1) + jnp.sum(outside**2 / rest, axis=1)
        log_det = jnp.sum(jnp.log(span), axis=1) + (d - k) * jnp.log(rest[:, 0])
        return -0.5 * (distance + log_det + d * math.log(2 * math.pi))

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Draw n examples, (n, ...)."""
        key_inside, key_outside = jax.random.split(key)
        d, k = self.basis.shape
        white = jax.random.normal(key_outside, (n, d), self.mean.dtype)
        white -= jnp.matmul(jnp.matmul(white, self.basis, precision=_EXACT), self.basis.T, precision=_EXACT)
        inside = jax.random.normal(key_inside, (n, k), self.mean.dtype) * jnp.sqrt(self.eigenvalues)
        return self.mean + self._join(inside, white * jnp.sqrt(self.floor))

    def covariance(self) -> jax.Array:
        """S as a dense (d, d) matrix."""
        scaled = self.basis * (self.eigenvalues - self.floor)
        return jnp.matmul(scaled, self.basis.T, precision=_EXACT) + self.floor * jnp.eye(self.basis.shape[0])

    def marginal(
        self, forward: Callable[[jax.Array], jax.Array], c: float | None, out_shape: tuple[int, ...]
    ) -> Gaussian:
        """The law of A X, where A A^T = c I: N(A m, A U diag(eig - floor) U^T A^T + floor c I).

        Runs on the host (float64 SVD), once. For a mask that fills hidden pixels with zeros A A^T = c I holds
        on the range of A only; the isotropic part is then also put on the hidden pixels. There A x - A m = 0,
        so the denoiser and the score are unaffected, but `log_prob` and `sample` see N(0, floor c) there.

        Args:
            forward: A on a batch, (k, *shape) -> (k, *out_shape).
            c: the constant of A A^T = c I.
            out_shape: shape of one view.

        Raises:
            ValueError: if `c` is None (A A^T is not a multiple of I) or not positive.
        """
        if c is None or not c > 0:
            raise ValueError(
                f"the marginal of a Gaussian in a view needs A A^T = c I with c > 0, got c = {c}; "
                "whiten the view or choose another operator"
            )
        k = self.basis.shape[1]
        shape = self.mean.shape
        mean = np.asarray(forward(self.mean[None]))[0]
        if mean.shape != tuple(out_shape):
            raise ValueError(
                f"forward gives views of shape {mean.shape}, expected out_shape {tuple(out_shape)}"
            )
        spread = np.sqrt(np.maximum(np.asarray(self.eigenvalues, np.float64) - float(self.floor), 0.0))
        images = np.asarray(forward(self.basis.T.reshape(k, *shape)), np.float64) if k else np.zeros(0)
        images = images.reshape(k, mean.size)
        basis, singular, _ = np.linalg.svd(images.T * spread, full_matrices=False)
        return _low_rank_gaussian(mean, basis, singular**2 + float(self.floor) * c, float(self.floor) * c)


def _low_rank_gaussian(
    mean: np.ndarray, basis: np.ndarray, eigenvalues: np.ndarray, floor: float
) -> Gaussian:
    """Assemble in float32, without the directions whose eigenvalue is the floor anyway."""
    scale = max(float(eigenvalues.max(initial=0.0)), floor)
    keep = eigenvalues - floor > 1e-12 * scale
    return Gaussian(
        mean=jnp.asarray(mean, jnp.float32),
        basis=jnp.asarray(basis[:, keep], jnp.float32),
        eigenvalues=jnp.asarray(eigenvalues[keep], jnp.float32),
        floor=jnp.asarray(floor, jnp.float32),
    )


def gaussian_from_covariance(mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    """The Gaussian with this mean (any shape, d values) and this dense covariance (d, d).

    Raises:
        ValueError: if the covariance has the wrong shape, is not symmetric or not positive semi-definite.
    """
    mean = np.asarray(mean, np.float64)
    covariance = np.asarray(covariance, np.float64)
    if covariance.shape != (mean.size, mean.size):
        raise ValueError(
            f"covariance has shape {covariance.shape}, the mean has {mean.size} values: expected "
            f"{(mean.size, mean.size)}"
        )
    if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8):
        raise ValueError("covariance is not symmetric")
    eigenvalues, basis = np.linalg.eigh((covariance + covariance.T) / 2)
    if eigenvalues[0] < -1e-6 * max(eigenvalues[-1], 0.0):
        raise ValueError(
            f"covariance is not positive semi-definite: smallest eigenvalue {eigenvalues[0]:.3g}"
        )
    eigenvalues = np.maximum(eigenvalues, 0.0)
    return _low_rank_gaussian(mean, basis, eigenvalues, float(eigenvalues[0]))


def _truncate(basis, eigenvalues, floor, rank):
    """Keep the `rank` largest eigenvalues; spread the remaining variance evenly: the trace is kept."""
    d, k = basis.shape
    if rank is None or rank >= k:
        return basis, eigenvalues, floor
    floor = (eigenvalues[rank:].sum() + (d - k) * floor) / (d - rank)
    return basis[:, :rank], eigenvalues[:rank], float(floor)


def _fit_empirical(flat, rank):
    n = len(flat)
    _, singular, rows = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    k = min(n - 1, flat.shape[1])  # centering takes one dimension
    return _truncate(rows[:k].T, singular[:k] ** 2 / n, 0.0, rank)


def _fit_ledoit_wolf(flat, rank):
    shrinkage = float(ledoit_wolf_shrinkage(flat))
    basis, eigenvalues, _ = _fit_empirical(flat, None)
    floor = shrinkage * eigenvalues.sum() / flat.shape[1]
    return _truncate(basis, (1 - shrinkage) * eigenvalues + floor, float(floor), rank)


def _fit_ppca(flat, rank):
    # The maximum-likelihood floor averages the discarded variance over d - rank directions, scikit-learn's
    # PCA over min(n, d) - rank of them, which inflates the trace when there are fewer examples than values.
    if rank is None:
        rank = max(1, min(64, len(flat) - 2, flat.shape[1] - 1))
    return _fit_empirical(flat, rank)


_FITS = {"ledoit_wolf": _fit_ledoit_wolf, "ppca": _fit_ppca, "empirical": _fit_empirical}


def fit_gaussian(x: np.ndarray, method: str = "ledoit_wolf", rank: int | None = None) -> Gaussian:
    """Fit mean and covariance to examples, on the host in float64.

    Args:
        x: (n, ...) examples in [-1, 1].
        method: 'ledoit_wolf': (1 - a) S_emp + a tr(S_emp)/d I with the optimal a (Ledoit and Wolf 2004);
            'ppca': maximum-likelihood probabilistic PCA (Tipping and Bishop 1999);
            'empirical': S_emp (divided by n) itself, singular when n <= d.
        rank: keep this many leading directions and spread the remaining variance evenly over the others. None
            keeps all (for 'ppca': 64, or as many as there can be).

    Raises:
        ValueError: for fewer than two examples, values that are not finite, an unknown method, or a rank out
            of range.
    """
    fit = lookup(_FITS, method, "method of fit_gaussian")
    x = np.asarray(x)
    if x.ndim < 2 or len(x) < 2:
        raise ValueError(f"fit_gaussian needs at least two examples, (n, ...); got shape {x.shape}")
    flat = x.reshape(len(x), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise ValueError("fit_gaussian: some values are not finite")
    if rank is not None and not 1 <= rank < min(len(x), flat.shape[1] + 1):
        raise ValueError(
            f"rank must lie in [1, {min(len(x) - 1, flat.shape[1])}] for data of shape {x.shape}, got {rank}"
        )
    basis, eigenvalues, floor = fit(flat, rank)
    return _low_rank_gaussian(flat.mean(axis=0).reshape(x.shape[1:]), basis, eigenvalues, floor)
