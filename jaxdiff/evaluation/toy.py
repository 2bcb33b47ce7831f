"""The toy experiment: the project's own pieces on data whose exact answers are known, as a table of rows.

Views are operators with exact view-space denoisers, lifted and composed by `jaxdiff.composition`, sampled by
`jaxdiff.sampling`; the exact column comes from `jaxdiff.evaluation.theory`, which shares no code with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import norm, qmc

from jaxdiff import composition, operators
from jaxdiff.composition import View
from jaxdiff.diffusion.gaussian import Gaussian, gaussian_from_covariance
from jaxdiff.diffusion.mixture import GaussianMixture
from jaxdiff.diffusion.noise import expand, karras_schedule
from jaxdiff.evaluation import theory
from jaxdiff.sampling.samplers import sample

Row = dict[str, str | float | bool]
Function = Callable[[jax.Array, jax.Array], jax.Array]

# Integrals over the noise: at these ends sigma^2 E|r|^2 is below 1e-4 for the models here, and between them
# the trapezoid rule in ln sigma converges exponentially.
_LEVELS = np.geomspace(1e-3, 1e3, 97)


def row(quantity: str, measured: float, exact: float, tolerance: float) -> Row:
    """One line of the table."""
    ok = bool(abs(measured - exact) <= tolerance)
    return {
        "quantity": quantity,
        "measured": float(measured),
        "exact": float(exact),
        "tolerance": float(tolerance),
        "ok": ok,
    }


def pixel_views(widths: Sequence[tuple[int, int]], shape: tuple[int, int, int]) -> list:
    """Crops (left, width) of an image of one row, as operators."""
    return [operators.build("crop", shape, top=0, left=left, height=1, width=width) for left, width in widths]


def gaussian_views(gaussian: Gaussian, crops: Sequence) -> list[View]:
    """A view with the Gaussian's exact marginal denoiser for each operator."""
    marginals = [gaussian.marginal(op, op.c, op.out_shape) for op in crops]
    return [
        View(op, marginal.denoiser, gaussian=marginal) for op, marginal in zip(crops, marginals, strict=True)
    ]


def correlated_pair(rho: float) -> tuple[Gaussian, list[View]]:
    """Two unit coordinates with correlation rho, as an image of two pixels, and one view of each pixel."""
    gaussian = gaussian_from_covariance(np.zeros((1, 2, 1)), np.array([[1.0, rho], [rho, 1.0]]))
    return gaussian, gaussian_views(gaussian, pixel_views([(0, 1), (1, 1)], (1, 2, 1)))


def summed_scores(views: Sequence[View], x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The plain sum of the views' lifted scores."""
    return sum(composition.lifted_score(view, x, sigma) for view in views)


def fused_score(views: Sequence[View], x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The score of the least-squares fusion, for views that cover every pixel: the start is irrelevant."""
    fused = composition.fuse(views, x, sigma, start=jnp.zeros_like(x))
    return (fused - x) / expand(sigma, x) ** 2


def measured_residual_power(
    score: Function, composed: Function, x: np.ndarray, weights: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """E|score - composed|^2 at every noise level, (S,).

    Args:
        score, composed: functions of (x, sigma).
        x: noisy points for each level, (S, n, ...).
        weights: (n,), summing to one.
        sigmas: (S,).
    """

    @jax.jit
    def run(x, weights, sigmas):
        def level(item):
            points, sigma = item
            at = jnp.full(len(points), sigma)
            residual = score(points, at) - composed(points, at)
            return weights @ jnp.sum(residual.reshape(len(points), -1) ** 2, axis=1)

        return jax.lax.map(level, (x, sigmas))

    return np.asarray(run(*(jnp.asarray(v, jnp.float32) for v in (x, weights, sigmas))), np.float64)


def integrate_to_nats(powers: np.ndarray, sigmas: np.ndarray) -> float:
    """1/2 int E|r|^2 d(sigma^2) = int sigma^2 E|r|^2 d ln sigma, by the trapezoid rule."""
    return float(trapezoid(sigmas**2 * powers, np.log(sigmas)))


def noisy_gaussian_points(
    covariance: np.ndarray, sigmas: np.ndarray, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of X + sigma Z, (S, n, 1, d, 1), by a scrambled Sobol sequence in (X, Z); equal weights (n,)."""
    d = len(covariance)
    bits = max(1, int(np.ceil(np.log2(samples))))
    uniform = qmc.Sobol(2 * d, scramble=True, rng=np.random.default_rng(seed)).random_base2(bits)
    white = norm.ppf(np.clip(uniform, 1e-12, 1 - 1e-12))
    clean = white[:, :d] @ np.linalg.cholesky(covariance).T
    x = clean + sigmas[:, None, None] * white[:, d:]
    return x.reshape(len(sigmas), -1, 1, d, 1), np.full(len(white), 1 / len(white))


def pair_rows(rho: float, samples: int, seed: int) -> list[Row]:
    """Two unit coordinates with correlation rho, one view each: the residual and its budget in nats."""
    covariance = np.array([[1.0, rho], [rho, 1.0]])
    gaussian, views = correlated_pair(rho)
    shown = np.array([0.1, 0.5, 1.0, 2.0, 5.0])
    sigmas = np.concatenate([shown, _LEVELS])
    x, weights = noisy_gaussian_points(covariance, sigmas, samples, seed)
    powers = measured_residual_power(gaussian.score, partial(summed_scores, views), x, weights, sigmas)
    rows = [
        row(f"E|r|^2 of the pair at sigma = {sigma:g}", power, theory.pair_residual_power(rho, sigma), 1e-3)
        for sigma, power in zip(shown, powers, strict=False)
    ]
    exact = theory.gaussian_total_correlation(covariance, [[0], [1]])
    budget = integrate_to_nats(powers[len(shown) :], _LEVELS)
    return [*rows, row("total correlation of the pair (nats)", budget, exact, 1e-3)]


def sampled_rows(rho: float, samples: int, seed: int, steps: int) -> list[Row]:
    """Heun samples of the composed pair, with the exact residual and without: variances and covariance.

    The tolerance is four standard errors of a covariance, 4 sqrt((S_ii S_jj + S_ij^2) / n).
    """
    _, views = correlated_pair(rho)

    def views_only(x, sigma):
        return composition.sum_of_scores(views, x, sigma)

    def composed(x, sigma):
        return views_only(x, sigma) + expand(sigma, x) ** 2 * theory.pair_residual(rho, x, sigma)

    grid = karras_schedule(steps)
    x_init = grid[0] * jax.random.normal(jax.random.key(seed), (samples, 1, 2, 1))
    rows = []
    for name, denoiser, correlation in (
        ("views and residual", composed, rho),
        ("views alone", views_only, 0.0),
    ):
        end = jax.jit(lambda x, denoiser=denoiser: sample(denoiser, x, grid))(x_init)
        measured = np.cov(np.asarray(end, np.float64).reshape(samples, 2).T)
        for label, index, exact in (
            ("variance of x_1", (0, 0), 1.0),
            ("variance of x_2", (1, 1), 1.0),
            ("covariance", (0, 1), correlation),
        ):
            error = np.sqrt((1 + exact**2) / samples)
            rows.append(row(f"sampled {label}, {name}", measured[index], exact, 4 * error))
    return rows


def overlap_rows(samples: int, seed: int, sigma: float = 5.0) -> list[Row]:
    """AR(1) with a = 0.8 and overlapping views (0, 1), (1, 2): the plain sum of scores against the fusion."""
    covariance = 0.8 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    gaussian = gaussian_from_covariance(np.zeros((1, 3, 1)), covariance)
    views = gaussian_views(gaussian, pixel_views([(0, 2), (1, 2)], (1, 3, 1)))
    matrices = [np.eye(3)[:2], np.eye(3)[1:]]
    x, weights = noisy_gaussian_points(covariance, np.array([sigma]), samples, seed)
    rows = []
    for name, composed, average in (("plain sum", summed_scores, False), ("fusion", fused_score, True)):
        power = measured_residual_power(gaussian.score, partial(composed, views), x, weights, [sigma])[0]
        precision = theory.view_precision(covariance, matrices, sigma, average)
        exact = sigma**2 * theory.residual_power(covariance, precision, sigma)
        label = f"sigma^2 E|r|^2 at sigma = {sigma:g}, overlapping views, {name}"
        rows.append(row(label, sigma**2 * power, exact, 1e-3 if not average else 2e-5))
    return rows


def mixture_rows(rho: float, order: int = 48) -> list[Row]:
    """Total correlation of the mixture at (+-2, +-2) from the residual of its two views, by quadrature."""
    parts = theory.sign_mixture(rho)
    joint = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in parts))
    marginal = GaussianMixture(jnp.array([0.5, 0.5]), jnp.array([[2.0], [-2.0]]), jnp.full((2, 1, 1), 0.25))
    views = [View(op, marginal.denoiser) for op in pixel_views([(0, 1), (1, 1)], (1, 2, 1))]
    points, point_weights = theory.hermite_points(2, order)
    spread = np.sqrt(0.25 + _LEVELS**2)
    x = parts[1][None, :, None] + spread[:, None, None, None] * points
    weights = np.outer(parts[0], point_weights).ravel()
    x = x.reshape(len(_LEVELS), -1, 1, 2, 1)
    powers = measured_residual_power(joint.score, partial(summed_scores, views), x, weights, _LEVELS)
    label = f"total correlation of the mixture, rho = {rho:g} (nats)"
    return [row(label, integrate_to_nats(powers, _LEVELS), theory.mixture_total_correlation(rho), 1e-3)]


def gaussian_toy(
    rho: float = 0.8, samples: int = 32768, seed: int = 0, steps: int = 128, progress: Callable | None = None
) -> list[Row]:
    """Run every piece on the toy models and compare with the exact answers.

    Args:
        rho: correlation of the pair, in (-1, 1).
        samples: draws for the expectations (rounded up to a power of two) and for the sampled covariance.
        seed: of the draws.
        steps: of the Heun sampler; 128 keep its bias (0.2 % in variance) below the sampling error.
        progress: progress(done, total) after each part.

    Returns:
        Rows {'quantity', 'measured', 'exact', 'tolerance', 'ok'}, ok = |measured - exact| <= tolerance.

    Raises:
        ValueError: if rho is not in (-1, 1) or there are fewer than two samples.
    """
    if not -1 < rho < 1:
        raise ValueError(f"rho must lie in (-1, 1), got {rho}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    parts = [
        partial(pair_rows, rho, samples, seed),
        partial(sampled_rows, rho, samples, seed, steps),
        partial(overlap_rows, samples, seed),
        partial(mixture_rows, 0.5),
        partial(mixture_rows, 0.9),
    ]
    rows = []
    for done, part in enumerate(parts, start=1):
        rows += part()
        if progress is not None:
            progress(done, len(parts))
    return rows
