"""A Gaussian fitted to corrupted measurements alone, by expectation maximisation.

Measurements y = A x + sigma_y n, with A and sigma_y of each example's own (EM: Dempster, Laird and Rubin
1977). With X ~ N(m, S) the law of X given y is

    N(mu, (I - K A) S),    K = S A^T (A S A^T + sigma_y^2 I)^+,    mu = m + K (y - A m)

E-step: draws of it by perturbation ("perturb and MAP", Papandreou and Yuille 2010), without ever forming its
covariance: with e0 ~ N(0, S) and n ~ N(0, sigma_y^2 I), e = e0 - K (A e0 + n) has that covariance, and
x = mu + e. K is applied by conjugate gradients in measurement space. Draws come in pairs mu + e, mu - e:
their mean is mu exactly, so that the new mean has no Monte-Carlo noise, and e does not mix with mu in the new
covariance.

M-step: `fit_gaussian` on the completed examples. EM draws near its fixed point by a factor of the missing
share of the information in each lap: 60 % of the pixels hidden takes tens of laps.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.gaussian import Gaussian, fit_gaussian
from jaxdiff.diffusion.noise import expand

_EXACT = jax.lax.Precision.HIGHEST
_FLOOR = 1e-3  # least sigma_y of the solver, in standard deviations of X: noiseless systems would be singular


class Chunk(NamedTuple):
    """As many measurements as fit in memory at once.

    Attributes:
        operator: a linear operator with the parameters of these examples: A x by call, A^T y by `adjoint`, y
            with 0 where A has no row by `restrict`; a pytree.
        y: (B, *out_shape).
        sigma_y: (B,) standard deviation of the noise of y, >= 0.
    """

    operator: Any
    y: jax.Array
    sigma_y: jax.Array


def covariance_product(gaussian: Gaussian, x: jax.Array) -> jax.Array:
    """S x for x (B, ...), in O(d k)."""
    flat = x.reshape(x.shape[0], -1)
    inside = jnp.matmul(flat, gaussian.basis, precision=_EXACT) * (gaussian.eigenvalues - gaussian.floor)
    return (jnp.matmul(inside, gaussian.basis.T, precision=_EXACT) + gaussian.floor * flat).reshape(x.shape)


def posterior_draws(
    gaussian: Gaussian, chunk: Chunk, key: jax.Array, pairs: int = 1, cg_steps: int = 64
) -> jax.Array:
    """Exact draws of X given y, in antithetic pairs: (2 pairs, B, ...).

    Args:
        gaussian: the law of X.
        chunk: operator, y and sigma_y of B examples; entries of y that A cannot reach stay out.
        key: one key for the chunk.
        pairs: mu + e and mu - e this many times over.
        cg_steps: as many as A S A^T has distinct eigenvalues is exact, rank + 1 for masks, pooling and crops.
    """
    operator, y, sigma_y = chunk
    y = operator.restrict(jnp.asarray(y))
    spread = jnp.sqrt(jnp.maximum(jnp.max(gaussian.eigenvalues, initial=0.0), gaussian.floor))
    noise = expand(jnp.maximum(jnp.asarray(sigma_y, y.dtype), _FLOOR * spread) ** 2, y)

    def matvec(view):
        return operator(covariance_product(gaussian, operator.adjoint(view))) + noise * view

    def gain(view):  # K
        solution = conjugate_gradient(matvec, operator.restrict(view), cg_steps)
        return covariance_product(gaussian, operator.adjoint(solution))

    mean = jnp.broadcast_to(gaussian.mean, (y.shape[0], *gaussian.mean.shape))
    mean = mean + gain(y - operator(mean))

    def deviation(key):
        key_x, key_n = jax.random.split(key)
        start = gaussian.sample(key_x, y.shape[0]) - gaussian.mean
        return start - gain(operator(start) + jnp.sqrt(noise) * jax.random.normal(key_n, y.shape, y.dtype))

    deviations = jax.lax.map(deviation, jax.random.split(key, pairs))
    return jnp.concatenate([mean + deviations, mean - deviations])


def standard_gaussian(shape: tuple[int, ...]) -> Gaussian:
    """N(0, I) over examples of this shape: the widest law that images in [-1, 1] can call for."""
    size = int(np.prod(shape))
    return Gaussian(jnp.zeros(shape), jnp.zeros((size, 0)), jnp.zeros(0), jnp.asarray(1.0))


def fit_gaussian_em(
    chunks: Iterable[Chunk],
    laps: int,
    key: jax.Array,
    rank: int | None = None,
    method: str = "ppca",
    start: Gaussian | None = None,
    pairs: int = 1,
    cg_steps: int = 64,
) -> Gaussian:
    """The Gaussian of X from measurements alone: `laps` of EM.

    One chunk at a time is on the device; the host holds 2 `pairs` completed images for each example.

    Args:
        chunks: `Chunk`s or tuples (operator, y, sigma_y), gone through once in every lap, in the same order
            (a list, or an object that reads them anew).
        laps: EM iterations, >= 1.
        key: for the draws; chunk i of lap l uses fold_in(fold_in(key, l), i).
        rank, method: of `fit_gaussian`; 'ledoit_wolf' shrinks by the number of completed images, which are
            not independent, so a little too little.
        start: the Gaussian of the first E-step; None for N(0, I).
        pairs: antithetic pairs of draws for each example; more of them lower the noise of the covariance.
        cg_steps: see `posterior_draws`.

    Returns:
        The last lap's fit. It fluctuates about the fixed point by the Monte-Carlo noise of that lap's draws.

    Raises:
        ValueError: laps, pairs or cg_steps below 1, no chunks, chunks that can be gone through only once, and
            whatever `fit_gaussian` refuses.
    """
    for name, value in (("laps", laps), ("pairs", pairs), ("cg_steps", cg_steps)):
        if value < 1:
            raise ValueError(f"fit_gaussian_em: {name} must be at least 1, got {value}")
    if iter(chunks) is chunks:
        raise ValueError(
            "fit_gaussian_em: chunks are gone through in every lap; give a list, not an iterator"
        )
    gaussian = start
    for lap in range(laps):
        completed = []
        for index, chunk in enumerate(chunks):
            chunk = Chunk(*chunk)
            if gaussian is None:
                gaussian = standard_gaussian(chunk.operator.in_shape)
            chunk_key = jax.random.fold_in(jax.random.fold_in(key, lap), index)
            draws = np.asarray(_draws(gaussian, chunk, chunk_key, pairs, cg_steps))
            completed.append(draws.reshape(-1, *draws.shape[2:]))
        if not completed:
            raise ValueError("fit_gaussian_em: there are no measurements to fit to")
        gaussian = fit_gaussian(np.concatenate(completed), method, rank)
    return gaussian


@partial(jax.jit, static_argnums=(3, 4))
def _draws(gaussian, chunk, key, pairs, cg_steps):
    return posterior_draws(gaussian, chunk, key, pairs, cg_steps)
