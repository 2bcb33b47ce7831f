"""Laws of quality against numbers of clean and of partial images, and their least-squares fit.

Quality q is in nats over a fixed Gaussian reference, higher is better; n is the number of clean images, m
that of one source's partial images. Every law here says

    q(n, m) = T - a e(n, m)^-alpha,        e(n, 0) = n,                                                  (1)

so that m = 0 leaves the usual power law with an irreducible term T, and e is an *effective number of clean
images*. A law is a choice of e:

    clean_only   e = n                                              partial images are worth nothing     (2)
    exchange     e = n + k m / (1 + m / M)                          the first is worth k clean images, all
                                                                    that there could ever be k M         (3)
    parallel     e^alpha = n^alpha + r(m),  r(m) = a / R0(m),       errors in parallel, R0 V / (R0 + V) with
                 R0(m) = F + B m^-beta                              V = a n^-alpha, views with a floor F (4)

The exchange rate, how many clean images one more partial image replaces, is

    (dq/dm) / (dq/dn) = (de/dm) / (de/dn)                                                                (5)

and needs neither T nor a. Effective data as the unit of transfer: Hernandez et al. 2021, arXiv 2102.01293.
Equations 3 and 4 are written in n/n0 and m/m0 (n0 the geometric mean, m0 the largest size measured).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares


class Law(NamedTuple):
    """e of equation 1 in scaled units x = n/n0, y = m/m0.

    Attributes:
        name, formula: for people.
        lower, upper: bounds of the law's own parameters (after T, log a and alpha).
        size: (own, alpha, x, y) -> (e, de/dx, de/dy).
        needed: (own, alpha, e, y) -> x, the inverse of `size` in x; NaN where no x > 0 would do.
        named: (own, alpha, n0, m0) -> the parameters of the formula under their names.
    """

    name: str
    formula: str
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    size: Callable
    needed: Callable
    named: Callable


class Scale(NamedTuple):
    """Units in which a law is fitted, so that every parameter is of order one."""

    n_clean: float
    n_source: float
    center: float
    spread: float


class Fit(NamedTuple):
    """A fitted law: parameters (T, log a, alpha, own ...) in the units of `scale`, and the robust width."""

    law: Law
    parameters: np.ndarray
    scale: Scale
    width: float


def _clean_size(own, alpha, x, y):
    return x + 0 * y, np.ones_like(x + y), np.zeros_like(x + y)


# Harm is possible down to a tenth of the smallest measured clean set (`_bounds`): a rate that could not be
# negative could not have an interval that includes zero.
def _exchange_size(own, alpha, x, y):
    worth, bend = own
    slope = worth * (1 + bend) / (1 + bend * y)
    size = np.maximum(x + slope * y, 1e-6)
    return size, np.ones_like(size), slope / (1 + bend * y)


def _exchange_needed(own, alpha, size, y):
    worth, bend = own
    x = size - worth * (1 + bend) * y / (1 + bend * y)
    return np.where(x > 0, x, np.nan)


def _exchange_named(own, alpha, n0, m0):
    worth, bend = own
    return {"k": worth * (1 + bend) * n0 / m0, "M": m0 / bend if bend > 0 else np.inf}


def _parallel_precision(own, y):
    """r (equation 4) and dr/dy, for r = s y^beta / (phi y^beta + 1 - phi)."""
    log_strength, floor, beta = own
    power = y**beta
    below = floor * power + 1 - floor
    with np.errstate(divide="ignore"):
        slope = np.exp(log_strength) * (1 - floor) * beta * np.power(y, beta - 1) / below**2
    return np.exp(log_strength) * power / below, slope


def _parallel_size(own, alpha, x, y):
    precision, slope = _parallel_precision(own, y)
    size = np.maximum(x**alpha + precision, 1e-12) ** (1 / alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        return size, (size / x) ** (1 - alpha), size ** (1 - alpha) * slope / alpha


def _parallel_needed(own, alpha, size, y):
    left = size**alpha - _parallel_precision(own, y)[0]
    return np.where(left > 0, np.maximum(left, 0) ** (1 / alpha), np.nan)


def _parallel_named(own, alpha, n0, m0):
    log_strength, floor, beta = own
    scale = n0**-alpha / np.exp(log_strength)
    return {"F / a": floor * scale, "B / a": (1 - floor) * scale * m0**beta, "beta": beta}


CLEAN_ONLY = Law(
    "clean_only", "q = T − a n^−α", (), (),
    _clean_size, lambda own, alpha, size, y: size + 0 * y, lambda *_: {},
)  # fmt: skip
EXCHANGE = Law(
    "exchange", "q = T − a (n + k m / (1 + m/M))^−α", (-np.inf, 0.0), (1e3, 1e3),
    _exchange_size, _exchange_needed, _exchange_named,
)  # fmt: skip
PARALLEL = Law(
    "parallel", "q = T − R₀V / (R₀ + V), V = a n^−α, R₀ = F + B m^−β", (-12.0, 0.0, 0.05), (12.0, 0.999, 3.0),
    _parallel_size, _parallel_needed, _parallel_named,
)  # fmt: skip
LAWS = (EXCHANGE, PARALLEL)


def scale_of(n_clean: np.ndarray, n_source: np.ndarray, quality: np.ndarray) -> Scale:
    """Units from the measurements: geometric mean of n, largest m, middle and range of q."""
    spread = float(np.ptp(quality)) or 1.0
    center = float(np.max(quality)) - spread / 2
    n0 = float(np.exp(np.mean(np.log(n_clean[n_clean > 0]))))
    return Scale(n0, float(np.max(n_source)) or 1.0, center, spread)


def _model(law: Law, parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    top, log_error, alpha, *own = parameters
    return top - np.exp(log_error) * law.size(own, alpha, x, y)[0] ** -alpha


def _bounds(law: Law, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = np.array([0.4, -12.0, 0.05, *law.lower]), np.array([10.0, 8.0, 3.0, *law.upper])
    if law.name == "exchange":
        lower[3] = -0.9 * np.min(x[y > 0], initial=1.0)
        # A source used up before the smallest measured size would have an exchange rate of exactly zero beyond
        # it, known with certainty: M is at least half of that size.
        upper[4] = 2 / np.min(y[y > 0], initial=1.0)
    return lower, upper


def _starts(law: Law, lower: np.ndarray, upper: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random starts where fits are usually found, well inside the bounds, (count, parameters)."""
    rng = np.random.default_rng(seed)
    ranges = {
        "clean_only": [],
        "exchange": [(0.0, 3.0), (0.0, 4.0)],
        "parallel": [(-3.0, 3.0), (0.0, 0.8), (0.2, 1.5)],
    }[law.name]
    low, high = np.array([(0.5, 1.5), (-2.0, 0.5), (0.2, 1.2), *ranges]).T
    return np.clip(rng.uniform(low, high, (count, len(low))), lower + 1e-6, upper - 1e-6)


def fit_law(
    law: Law,
    n_clean: np.ndarray,
    n_source: np.ndarray,
    quality: np.ndarray,
    standard_error: np.ndarray | None = None,
    starts: int = 12,
    seed: int = 0,
    near: Fit | None = None,
) -> Fit:
    """The law nearest to the measurements: bounded least squares, soft-L1 loss, the best of several starts.

    Args:
        law: one of CLEAN_ONLY, EXCHANGE, PARALLEL.
        n_clean, n_source, quality: (R,), sizes and nats of R runs.
        standard_error: (R,), positive, relative weights 1 / standard_error; equal without it.
        starts: random starts.
        seed: of the random starts.
        near: an earlier fit to similar data: its units and robust width are kept, and it is a start as well.
    """
    n_clean, n_source, quality = (np.asarray(v, np.float64) for v in (n_clean, n_source, quality))
    scale = near.scale if near else scale_of(n_clean, n_source, quality)
    x, y, z = n_clean / scale.n_clean, n_source / scale.n_source, (quality - scale.center) / scale.spread
    weight = np.ones_like(z)
    if standard_error is not None:
        weight = np.median(standard_error) / np.asarray(standard_error, np.float64)
    lower, upper = _bounds(law, x, y)

    def solve(start, tolerance=1e-5 if near else 1e-10, **loss):  # a refit need not be known to ten digits
        start = np.clip(start, lower + 1e-9, upper - 1e-9)
        residuals = lambda p: weight * (_model(law, p, x, y) - z)  # noqa: E731
        return least_squares(
            residuals, start, bounds=(lower, upper), x_scale="jac", max_nfev=200, ftol=tolerance, **loss
        )

    begin = list(_starts(law, lower, upper, starts, seed))
    width = near.width if near else None
    if width is None:
        best = min((solve(start, tolerance=1e-4) for start in begin), key=lambda found: found.cost)
        best = solve(best.x)
        # 2.5 robust standard deviations: what lies within counts as in plain least squares.
        width = 2.5 * max(1.4826 * float(np.median(np.abs(best.fun))), 1e-3)
        begin = [best.x]
    else:
        begin = [near.parameters, *begin]
    robust = [solve(start, loss="soft_l1", f_scale=width) for start in begin]
    return Fit(law, min(robust, key=lambda found: found.cost).x, scale, width)


def _sizes(fit: Fit, n_clean, n_source):
    x = np.asarray(n_clean, np.float64) / fit.scale.n_clean
    y = np.asarray(n_source, np.float64) / fit.scale.n_source
    return fit.law.size(fit.parameters[3:], fit.parameters[2], x, y)


def predict(fit: Fit, n_clean, n_source) -> np.ndarray:
    """q(n, m) in nats (equation 1); arrays broadcast."""
    top, log_error, alpha = fit.parameters[:3]
    return fit.scale.center + fit.scale.spread * (
        top - np.exp(log_error) * _sizes(fit, n_clean, n_source)[0] ** -alpha
    )


def effective_size(fit: Fit, n_clean, n_source) -> np.ndarray:
    """e(n, m): the number of clean images that alone would give the same quality."""
    return fit.scale.n_clean * _sizes(fit, n_clean, n_source)[0]


def clean_slope(fit: Fit, n_clean, n_source) -> np.ndarray:
    """dq/dn, nats for one more clean image."""
    _, log_error, alpha = fit.parameters[:3]
    size, by_clean, _ = _sizes(fit, n_clean, n_source)
    slope = np.exp(log_error) * alpha * size ** (-alpha - 1) * by_clean
    return fit.scale.spread * slope / fit.scale.n_clean


def exchange_rate(fit: Fit, n_clean, n_source) -> np.ndarray:
    """(dq/dm) / (dq/dn), clean images for one more partial one (equation 5).

    Infinite at m = 0 in the parallel law with beta < 1: ask `next_worth` for the first so many instead.
    """
    _, by_clean, by_source = _sizes(fit, n_clean, n_source)
    return by_source / by_clean * fit.scale.n_clean / fit.scale.n_source


def next_worth(fit: Fit, n_clean, n_source, more) -> np.ndarray:
    """Clean images that `more` further partial images replace: n' - n with e(n', m) = e(n, m + more)."""
    size = effective_size(fit, n_clean, np.asarray(n_source) + more)
    return clean_for_size(fit, size, n_source) - n_clean


def clean_for_size(fit: Fit, size, n_source) -> np.ndarray:
    """The n with e(n, m) = `size`; NaN where the partial images alone reach more."""
    y = np.asarray(n_source, np.float64) / fit.scale.n_source
    x = fit.law.needed(fit.parameters[3:], fit.parameters[2], np.asarray(size) / fit.scale.n_clean, y)
    return fit.scale.n_clean * x


def clean_needed(fit: Fit, quality, n_source) -> np.ndarray:
    """The iso-quality contour n(m) with q(n, m) = `quality`; NaN where no n > 0 has that quality."""
    top, log_error, alpha = fit.parameters[:3]
    left = top - (np.asarray(quality, np.float64) - fit.scale.center) / fit.scale.spread
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(left > 0, (left / np.exp(log_error)) ** (-1 / alpha), np.nan)
    return clean_for_size(fit, fit.scale.n_clean * size, n_source)


def named_parameters(fit: Fit) -> dict[str, float]:
    """T, a and alpha of equation 1 and the law's own parameters, in nats and numbers of images."""
    top, log_error, alpha, *own = fit.parameters
    scale = fit.scale
    shared = {
        "T": scale.center + scale.spread * top,
        "a": scale.spread * np.exp(log_error) * scale.n_clean**alpha,
    }
    shared |= {"alpha": alpha} | fit.law.named(own, alpha, scale.n_clean, scale.n_source)
    return {name: float(value) for name, value in shared.items()}


def at_bound(fit: Fit, name: str) -> bool:
    """Whether 'top' or 'alpha' ran into its bound: the measurements do not determine it."""
    index = {"top": 0, "alpha": 2}[name]
    low, high = ((0.4, 10.0), None, (0.05, 3.0))[index]
    return bool(min(fit.parameters[index] - low, high - fit.parameters[index]) < 1e-3 * (high - low))
