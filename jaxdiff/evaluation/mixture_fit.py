"""Maximum likelihood for two components with noise, over many simulated data sets: the measured side of `noisy_worth`.

The examples of a data set are drawn as counts in fine bins, so that a set may hold 10^9 of them, and the likelihood
is that of the counts. Sets are made so large that the Fisher bound promises `precision`: smaller ones do worse than
the bound, and how much worse is another question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from jaxdiff.evaluation.noisy_worth import (
    NAMES,
    Pair,
    check_pair,
    joint_root,
    mixed_size,
    variances,
    worth,
)


class Counts(NamedTuple):
    """R data sets at one noise level: inner edges (B - 1,) of the bins, counts (R, B), v = std^2 + sigma^2."""

    edges: np.ndarray
    counts: np.ndarray
    variance: float


def probabilities(edges: np.ndarray, variance: float, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each bin, (R, B), and its derivatives by theta, (R, 3, B), for theta (R, 3)."""
    mean, gap, w = theta.T[..., None]
    std = np.sqrt(variance)
    parts, slopes = [], []
    for center in (mean - w * gap, mean + (1 - w) * gap):
        at = (edges - center) / std
        inner, ends = ((0, 0), (1, 1)), ((0, 0), (0, 1))
        parts.append(np.diff(np.pad(ndtr(at), inner, constant_values=ends), axis=1))
        slopes.append(-np.diff(np.pad(np.exp(-0.5 * at**2) / (np.sqrt(2 * np.pi) * std), inner), axis=1))
    low, high = (1 - w) * slopes[0], w * slopes[1]  # by each component's own mean
    by_weight = parts[1] - parts[0] - gap * (low + high)
    slope = np.stack([low + high, (1 - w) * high - w * low, by_weight], axis=1)
    return (1 - w) * parts[0] + w * parts[1], slope


def draw(
    pair: Pair, sigma: float, examples: int, sets: int, rng: np.random.Generator, bins: int = 384
) -> Counts:
    """`sets` data sets of `examples` draws of x + sigma z each, in equal bins over seven sqrt(v) to either side."""
    v = pair.std**2 + sigma**2
    w, gap = pair.weight, pair.separation
    edges = np.linspace(-w * gap - 7 * np.sqrt(v), (1 - w) * gap + 7 * np.sqrt(v), bins - 1)
    p = np.maximum(probabilities(edges, v, pair.theta()[None])[0][0], 0)
    return Counts(edges, rng.multinomial(int(examples), p / p.sum(), size=sets), v)


def moment_estimate(data: Counts) -> np.ndarray:
    """theta (R, 3) of each data set from its first three moments: a start that knows nothing of the truth.

    With A = w (1 - w) gap^2 = mu_2 - v and t = mu_3 / A = (1 - 2 w) gap: gap^2 = 4 A + t^2.
    """
    step = data.edges[1] - data.edges[0]
    centers = np.concatenate([data.edges - step / 2, data.edges[-1:] + step / 2])
    p = data.counts / data.counts.sum(axis=1, keepdims=True)
    mean = p @ centers
    deviation = centers - mean[:, None]
    spread = np.sum(p * deviation**2, axis=1) - step**2 / 12 - data.variance  # Sheppard's correction
    spread = np.maximum(spread, 1e-3 * data.variance)
    skew = np.sum(p * deviation**3, axis=1) / spread
    gap = np.sqrt(4 * spread + skew**2)
    return np.stack([mean, gap, 0.5 - skew / (2 * gap)], axis=1)


def _score(parts: Sequence[Counts], theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (R, 3) of the log-likelihood and expected information (R, 3, 3)."""
    gradient, information = np.zeros((len(theta), 3, 1)), np.zeros((len(theta), 3, 3))
    for part in parts:
        p, slope = probabilities(part.edges, part.variance, theta)
        relative = slope / np.maximum(p, 1e-300)[:, None]
        gradient += relative @ part.counts[..., None]
        information += part.counts.sum(axis=1)[:, None, None] * (relative @ slope.transpose(0, 2, 1))
    return gradient[..., 0], information


def maximum_likelihood(parts: Sequence[Counts], steps: int = 50, tolerance: float = 1e-3) -> np.ndarray:
    """theta (R, 3) of each data set, by Fisher scoring from the moment estimate of the first of `parts`.

    EM climbs the same likelihood, but each of its steps leaves the share of information that noise has hidden of the
    way to go: hopeless where a noisy example is worth 10^-4 clean ones.

    Args:
        parts: the same R sets at different noise levels.
        steps: at most.
        tolerance: a set is done when a step is shorter than so many standard errors.

    Raises:
        ValueError: where a hundredth of the sets or more does not converge: too small for their noise.
    """
    theta = moment_estimate(parts[0])
    active = np.arange(len(theta))
    reach = np.sqrt(parts[0].variance)
    least = 1e-2 * reach  # a separation of zero has no information on the weight
    for _ in range(steps):
        at = theta[active]
        gradient, information = _score([p._replace(counts=p.counts[active]) for p in parts], at)
        # A component that a small set has lost leaves a singular matrix; elsewhere this changes no digit of the end.
        information += (1e-9 * np.einsum("rii->ri", information) + 1e-30)[..., None] * np.eye(3)
        move = np.linalg.solve(information, gradient[..., None])[..., 0]
        moved = at + np.clip(move, -reach, reach)
        moved[:, 1] = np.maximum(moved[:, 1], np.maximum(0.1 * at[:, 1], least))
        moved[:, 2] = np.clip(moved[:, 2], 0.1 * at[:, 2], 1 - 0.1 * (1 - at[:, 2]))
        theta[active] = moved
        active = active[np.sum(gradient * move, axis=1) > tolerance**2]
        if not len(active):
            return theta
    if len(active) >= 0.01 * len(theta):
        raise ValueError(
            f"maximum likelihood: {len(active)} of {len(theta)} data sets did not converge; "
            "too few examples for this noise"
        )
    return theta


def set_size(pair: Pair, root: np.ndarray, precision: float) -> int:
    """Examples by which the bound promises a standard error of `precision` of the separation and of the weight."""
    scale = np.array([pair.separation, pair.separation, min(pair.weight, 1 - pair.weight)])
    return int(np.ceil(np.max(variances(root) / (precision * scale) ** 2)))


def error_per_example(
    pair: Pair, sigma: float, clean_share: float, sets: int, precision: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """N times the mean squared error of (mean, separation, weight), and its relative standard error, (3,) each.

    Args:
        sigma: of the noisy examples; clean_share: share of clean ones (one at least where it is not 0).
    """
    examples = set_size(pair, joint_root(pair, sigma, clean_share), precision)
    clean = int(np.ceil(clean_share * examples))
    sizes = {level: n for level, n in ((0.0, clean), (sigma, examples - clean)) if n}
    parts = [draw(pair, level, n, sets, rng) for level, n in sizes.items()]
    errors = (maximum_likelihood(parts) - pair.theta()) ** 2
    mean = errors.mean(axis=0)
    return examples * mean, errors.std(axis=0, ddof=1) / np.sqrt(sets) / mean


def check(pair: Pair, sigmas: Sequence[float], clean_share: float, sets: int, precision: float) -> None:
    """Raises ValueError for a pair, noise level, share, number of sets or precision that makes no sense."""
    check_pair(pair)
    if not (len(sigmas) and min(sigmas) > 0):
        raise ValueError(f"needs positive noise levels, got {tuple(sigmas)}")
    if not (0 < clean_share < 1 and sets >= 2 and 0 < precision <= 0.1):
        raise ValueError(
            "needs 0 < clean_share < 1, at least 2 sets and 0 < precision <= 0.1, got "
            f"{clean_share}, {sets} and {precision}"
        )


def measure_pair(
    pair: Pair,
    sigmas: Sequence[float],
    clean_share: float,
    sets: int,
    precision: float,
    seed: int | Sequence[int],
    progress: Callable[[], None] = lambda: None,
) -> dict:
    """Worth of noisy examples, alone and beside clean ones, measured and exact.

    Returns:
        {'separation', 'sigma': [...], 'clean_share', and for 'alone' and 'mixed' {name: {'mean', 'se', 'exact'}}} with
        lists over sigma: alone, clean examples per noisy one; mixed, size of a set with that share of clean examples
        relative to a clean set. The standard errors contain that of the clean sets, which all points share.

    Raises:
        ValueError: by `check`.
    """
    check(pair, sigmas, clean_share, sets, precision)
    rng = np.random.default_rng(seed)
    clean, clean_se = error_per_example(pair, 0.0, 1.0, 4 * sets, precision, rng)
    progress()
    found = {"separation": pair.separation, "sigma": [float(s) for s in sigmas], "clean_share": clean_share}
    for kind, share in (("alone", 0.0), ("mixed", clean_share)):
        columns = []
        for sigma in sigmas:
            error, se = error_per_example(pair, sigma, share, sets, precision, rng)
            exact = mixed_size(pair, sigma, share) if share else worth(pair, sigma)
            ratio = clean / error
            columns.append([ratio, ratio * np.hypot(se, clean_se), exact])
            progress()
        table = np.array(columns)  # (S, 3 columns, 3 parameters)
        found[kind] = {
            name: {key: table[:, j, i].tolist() for j, key in enumerate(("mean", "se", "exact"))}
            for i, name in enumerate(NAMES)
        }
    return found


def fit_rate(sigmas: np.ndarray, values: np.ndarray, se: np.ndarray | None = None) -> tuple[float, float]:
    """The exponent a of a fit of values ~ sigma^-a, and its standard error; equal relative weights without `se`."""
    values = np.asarray(values, np.float64)
    x, y = np.log(np.asarray(sigmas, np.float64)), np.log(values)
    weights = np.ones_like(y) if se is None else (values / np.asarray(se)) ** 2
    center = np.average(x, weights=weights)
    lever = weights * (x - center)
    scale = lever @ (x - center)
    return float(-(lever @ y) / scale), float(scale**-0.5)
