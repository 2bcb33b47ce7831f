"""The error of a residual fitted on n clean examples on top of exact views: the parallel law, exact and measured.

X ~ N(0, S), two views of d coordinates each, coordinate j of one correlated by rho with coordinate j of the
other: S = [[I, rho I], [rho I, I]], p = 2d values. At noise sigma, x = X + sigma Z, Sigma = S + sigma^2 I, the
residual score is r = B x = (score of all) - (sum of the views' scores); errors are E|r^ - r|^2 over fresh x.

1. Views alone (r^ = 0): R0 = d 2 k^2 / ((1 + sigma^2)(1 - k^2)), k = rho / (1 + sigma^2); d ln R0 / d ln rho =
   2 / (1 - k^2), 2 for small rho. 1/2 int R0 d(sigma^2) = -d/2 log(1 - rho^2) nats.
2. Fit by least squares on n clean examples with one noise draw each: regress (X - z(x)) / sigma^2, z the views'
   denoiser, on x. Given x, this is r + noise of covariance W / sigma^4, W = Cov(X | x) = sigma^2 S Sigma^-1,
   whatever x: so B^ is unbiased and, by the mean of an inverse Wishart matrix,
       V(n) = E|r^ - r|^2 = tr(W) sigma^-4 p / (n - p - 1).
   z is linear in x, so that the fit of the residual IS the fit from scratch: views alone buy nothing.
3. The parallel law. Let r^ = r + e with E<e, r> = 0 and E|e|^2 = V. Then
       E|a r^ - r|^2 = (1 - a)^2 R0 + a^2 V,  least at a = R0 / (R0 + V), where it is R0 V / (R0 + V):
   exact at every n for any unbiased fit and the best constant a, which depends on R0 and V alone. It is what one
   number can do: shrinking each direction of B^ by its own factor, or knowing more of r, may do better.
4. Ridge with one price for all n, lambda |B|^2 with lambda = (1 + sigma^2) (n - p - 1) V(n) / R0, shrinks every
   direction by n (1 + sigma^2) / (n (1 + sigma^2) + lambda) where x^T x is n (1 + sigma^2) I: the law for small rho
   and p / n -> 0. What it is elsewhere is measured.
5. Every noise draw (what training in many epochs converges to): least squares over all Z for the n given X is
   B^ = (I - z) / sigma^2 taken at S_n = X^T X / n in place of S, biased by O(1/n), with
       V(n) = [tr(P S P S P) + tr(S P) tr(P S P)] / n + O(n^-2),  P = Sigma^-1;
   E<e, r> = O(R0^(1/2) / n) is small beside R0 and V where they meet (R0 ~ 1/n): the law holds to leading order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import trapezoid

from jaxdiff.composition import View
from jaxdiff.diffusion.gaussian import Gaussian, gaussian_from_covariance
from jaxdiff.evaluation import theory
from jaxdiff.evaluation.toy import gaussian_views, pixel_views, summed_scores

_LEVELS = np.geomspace(1e-3, 1e3, 97)  # as in `evaluation.toy`: what is left out is below 1e-4 nats
_CHUNK = 4_000_000  # values held at a time


def block_covariance(rho: float, width: int) -> np.ndarray:
    """S, (2d, 2d), for d = width."""
    return np.kron([[1.0, rho], [rho, 1.0]], np.eye(width))


def views_power(rho: float, sigma: float, width: int = 1) -> float:
    """R0 (equation 1)."""
    return float(width * theory.pair_residual_power(rho, sigma))


def views_nats(rho: float, width: int = 1) -> float:
    """-d/2 log(1 - rho^2)."""
    return float(-0.5 * width * np.log1p(-(rho**2)))


def scratch_power(rho: float, sigma: float, n: np.ndarray, width: int = 1) -> np.ndarray:
    """V(n) of least squares with one noise draw an example (equation 2); n > 2d + 1."""
    own = 1 + rho * np.array([1.0, -1.0])
    posterior = width * np.sum(own / (own + sigma**2)) / sigma**2  # tr(W) / sigma^4
    return posterior * 2 * width / (np.asarray(n, np.float64) - 2 * width - 1)


def all_draws_power(rho: float, sigma: float, n: np.ndarray, width: int = 1) -> np.ndarray:
    """V(n) with every noise draw, to leading order (equation 5)."""
    own = 1 + rho * np.array([1.0, -1.0])
    precision = 1 / (own + sigma**2)
    first = width * np.sum(own**2 * precision**3)
    second = width**2 * np.sum(own * precision) * np.sum(own * precision**2)
    return (first + second) / np.asarray(n, np.float64)


def parallel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """a b / (a + b) (equation 3)."""
    return first * second / (first + second)


def correlated_blocks(rho: float, width: int) -> tuple[Gaussian, list[View]]:
    """The model as an image of 2d pixels and one view of each half, with exact denoisers."""
    gaussian = gaussian_from_covariance(np.zeros((1, 2 * width, 1)), block_covariance(rho, width))
    return gaussian, gaussian_views(gaussian, pixel_views([(0, width), (width, width)], (1, 2 * width, 1)))


def score_matrices(rho: float, width: int, sigmas: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Full score and sum of the views' scores as matrices (S, p, p), read off the project's functions (linear here)."""
    gaussian, views = correlated_blocks(rho, width)
    p = 2 * width
    basis = jnp.eye(p).reshape(p, 1, p, 1)

    @jax.jit
    def at(sigma):
        levels = jnp.full(p, sigma)
        scores = gaussian.score(basis, levels), summed_scores(views, basis, levels)
        return [score.reshape(p, p).T for score in scores]

    full, summed = jax.lax.map(at, jnp.asarray(sigmas, jnp.float32))
    return np.asarray(full, np.float64), np.asarray(summed, np.float64)


class Model(NamedTuple):
    """The pair of views at one correlation: scores as matrices (S, p, p) at the noise levels (sigma, *levels)."""

    rho: float
    sigma: float
    width: int
    full: np.ndarray
    summed: np.ndarray

    def covariance(self) -> np.ndarray:
        return block_covariance(self.rho, self.width)


def linear_model(rho: float, sigma: float, width: int) -> Model:
    """The model with its scores at sigma and at the levels of the integral over the noise."""
    return Model(rho, sigma, width, *score_matrices(rho, width, [sigma, *_LEVELS]))


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Mean of independent repetitions and its standard error."""
    return {"mean": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values)))}


def measure_views(model: Model, samples: int, rng: np.random.Generator) -> dict:
    """R0 and the budget in nats from draws of |r|^2: {'rho', 'power', 'nats'}, each {'mean', 'se', 'exact'}."""
    rho, sigma, width = model.rho, model.sigma, model.width
    clean = rng.normal(size=(samples, 2 * width)) @ np.linalg.cholesky(model.covariance()).T
    noise = rng.normal(size=clean.shape)
    squares = np.stack(
        [
            np.sum(((clean + level * noise) @ b.T) ** 2, axis=1)
            for level, b in zip((sigma, *_LEVELS), model.full - model.summed, strict=True)
        ]
    )
    nats = trapezoid(_LEVELS[:, None] ** 2 * squares[1:], np.log(_LEVELS), axis=0)
    return {
        "rho": rho,
        "power": mean_and_error(squares[0]) | {"exact": views_power(rho, sigma, width)},
        "nats": mean_and_error(nats) | {"exact": views_nats(rho, width)},
    }


def _powers(difference: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """E|M x|^2 = tr(M Sigma M^T) of each of (R, p, p), over fresh points."""
    return np.einsum("rij,jk,rik->r", difference, noisy, difference, optimize=True)


def _draws(
    covariance: np.ndarray, n: int, repetitions: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Clean sets (R, n, p), in chunks of the repetitions."""
    root = np.linalg.cholesky(covariance).T
    at_once = max(1, _CHUNK // (n * len(root)))
    for first in range(0, repetitions, at_once):
        yield rng.normal(size=(min(at_once, repetitions - first), n, len(root))) @ root


def measure_fits(model: Model, n: int, repetitions: int, rng: np.random.Generator) -> dict:
    """Errors of residuals fitted on n clean examples, in independent repetitions.

    Returns:
        {'rho', 'n', and for each fit {'mean', 'se', 'exact'}}: 'scratch' (equation 2), 'shrunk' (3), 'ridge' (4; no
        exact value), 'all_draws' (5) and 'all_draws_shrunk' (the law with its V; both exact to leading order).
    """
    rho, sigma, width = model.rho, model.sigma, model.width
    summed, covariance = model.summed[0], model.covariance()
    truth = model.full[0] - summed
    p = len(truth)
    noisy = covariance + sigma**2 * np.eye(p)
    power = views_power(rho, sigma, width)
    fresh, every = (float(f(rho, sigma, n, width)) for f in (scratch_power, all_draws_power))
    price = (1 + sigma**2) * (n - p - 1) * fresh / power
    found: dict[str, list] = {
        name: [] for name in ("scratch", "shrunk", "ridge", "all_draws", "all_draws_shrunk")
    }
    for clean in _draws(covariance, n, repetitions, rng):
        x = clean + sigma * rng.normal(size=clean.shape)
        # (X - z(x)) / sigma^2 with z(x) = x + sigma^2 (sum of the views' scores)
        target = (clean - x) / sigma**2 - x @ summed.T
        gram, cross = x.transpose(0, 2, 1) @ x, x.transpose(0, 2, 1) @ target
        fit = np.linalg.solve(gram, cross).transpose(0, 2, 1)
        ridge = np.linalg.solve(gram + price * np.eye(p), cross).transpose(0, 2, 1)
        seen = clean.transpose(0, 2, 1) @ clean / n
        draws = -np.linalg.inv(seen + sigma**2 * np.eye(p)) - summed
        for name, matrix in (
            ("scratch", fit),
            ("shrunk", power / (power + fresh) * fit),
            ("ridge", ridge),
            ("all_draws", draws),
            ("all_draws_shrunk", power / (power + every) * draws),
        ):
            found[name].append(_powers(matrix - truth, noisy))
    exact = {
        "scratch": fresh,
        "shrunk": parallel(power, fresh),
        "all_draws": every,
        "all_draws_shrunk": parallel(power, every),
    }
    cells = {name: mean_and_error(np.concatenate(values)) for name, values in found.items()}
    return {"rho": rho, "n": n} | {
        name: cell | ({"exact": float(exact[name])} if name in exact else {}) for name, cell in cells.items()
    }


def check_dial(rhos: Sequence[float], counts: Sequence[int], sigma: float, width: int) -> None:
    """Raises ValueError where the dial makes no sense, or its errors have no finite variance."""
    if not all(0 < rho < 1 for rho in rhos) or len(rhos) < 2:
        raise ValueError(f"needs two or more correlations in (0, 1), got {tuple(rhos)}")
    if width < 1 or sigma <= 0:
        raise ValueError(f"needs width >= 1 and sigma > 0, got {width} and {sigma}")
    least = (
        2 * width + 8
    )  # the fourth moment of an inverse Wishart matrix: standard errors that mean something
    if not counts or min(counts) < least:
        raise ValueError(f"least squares over {2 * width} values needs n >= {least}, got {tuple(counts)}")


def measure_dial(
    rhos: Sequence[float],
    counts: Sequence[int],
    sigma: float,
    width: int,
    repetitions: int,
    samples: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> dict:
    """The dial of correlation and number of clean examples.

    Returns:
        {'sigma', 'width', 'views': [measure_views], 'cells': [measure_fits]}; progress() after each entry.

    Raises:
        ValueError: by `check_dial`, or for fewer than two repetitions or samples.
    """
    check_dial(rhos, counts, sigma, width)
    if min(repetitions, samples) < 2:
        raise ValueError(f"needs at least 2 repetitions and samples, got {repetitions} and {samples}")
    rng = np.random.default_rng(seed)
    views, cells = [], []
    for rho in rhos:
        model = linear_model(rho, sigma, width)
        views.append(measure_views(model, samples, rng))
        progress()
        for n in counts:
            cells.append(measure_fits(model, n, repetitions, rng))
            progress()
    return {"sigma": sigma, "width": width, "views": views, "cells": cells}
