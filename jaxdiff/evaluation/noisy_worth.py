"""How many clean examples one noisy example is worth, for learning a Gaussian mixture in one dimension.

Setting of "How Much is a Noisy Image Worth?" (Daras et al. 2025, arXiv 2411.02780): examples x ~ p, noisy ones
x + sigma z with known sigma, p = sum_k w_k N(m_k, std^2), weights and means unknown, std known; v = std^2 + sigma^2.

1. I_sigma = sum over x of score score^T, the Fisher information of one example: with r_k(x) = P(k | x),
       d log p / d m_k = r_k (x - m_k) / v,      d log p / d w_k = r_k / w_k - r_K / w_K   (k < K).
   An efficient estimate of u^T theta from N examples has variance u^T I_sigma^-1 u / N, so that one noisy example is
       worth(u, sigma) = u^T I_0^-1 u / u^T I_sigma^-1 u     clean ones.
2. Rates. Around N(mean, v) a change of theta that moves the moments of the components' means by d mu_j has information
   sum_j d mu_j^2 / (j! v^j) to leading order for v -> infinity. There are 2K - 1 parameters and as many moments
   are needed to tell them apart; the direction that first shows in moment j is worth ~ v^-j. The worst is worth
   sigma^-(4K-2): a power of sigma whose exponent grows with the number of components, hence "exponentially worse"
   in K. Two equal components show all three rates: mean sigma^-2, separation sigma^-4, weight sigma^-6.
3. Beside clean examples. A set of which a share s is clean has information s I_0 + (1 - s) I_sigma per example. Its
   efficient size relative to a clean set, u^T I_0^-1 u / u^T (s I_0 + (1 - s) I_sigma)^-1 u, is at least
   s + (1 - s) worth(u, sigma), because 1 / u^T A^-1 u is concave in A. For large sigma it tends to
   s + (1 - s) u^T I_0^-1 I_sigma I_0^-1 u / u^T I_0^-1 u: what a noisy example adds falls only as the best
   direction that u takes part in, sigma^-2 in general.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

NAMES = ("mean", "separation", "weight")  # theta of `Pair`
RATES = (2, 4, 6)  # exponents of sigma of their worth, equal weights (equation 2)


class Pair(NamedTuple):
    """Two components: distance of their means, weight of the upper one, their standard deviation; mean zero."""

    separation: float
    weight: float = 0.5
    std: float = 1.0

    def theta(self) -> np.ndarray:
        """(mean, separation, weight)."""
        return np.array([0.0, self.separation, self.weight])


def check_pair(pair: Pair) -> None:
    """Raises ValueError where the parameters of the pair cannot be estimated."""
    if not (pair.separation > 0 and 0 < pair.weight < 1 and pair.std > 0):
        raise ValueError(f"a pair needs separation > 0, 0 < weight < 1 and std > 0, got {tuple(pair)}")


def information_root(
    weights: np.ndarray, means: np.ndarray, std: float, sigma: float, nodes: int = 2001
) -> np.ndarray:
    """G (nodes, 2K - 1) with G^T G = I_sigma for theta = (m_1..m_K, w_1..w_K-1), by the trapezoid rule.

    The root keeps the relative precision of small eigenvalues that I_sigma itself would lose.
    """
    weights, means = np.asarray(weights, np.float64), np.asarray(means, np.float64)
    v = std**2 + sigma**2
    x, step = np.linspace(means.min() - 10 * np.sqrt(v), means.max() + 10 * np.sqrt(v), nodes, retstep=True)
    logs = np.log(weights) - (x[:, None] - means) ** 2 / (2 * v) - 0.5 * np.log(2 * np.pi * v)
    log_density = logsumexp(logs, axis=1)
    share = np.exp(logs - log_density[:, None])  # r_k(x)
    per_weight = share / weights
    score = np.hstack([share * (x[:, None] - means) / v, per_weight[:, :-1] - per_weight[:, -1:]])
    return np.sqrt(step * np.exp(log_density))[:, None] * score


def pair_root(pair: Pair, sigma: float) -> np.ndarray:
    """The root of the information on (mean, separation, weight), (nodes, 3)."""
    w, gap = pair.weight, pair.separation
    # m_1 = mean - w gap, m_2 = mean + (1 - w) gap, w_1 = 1 - w.
    jacobian = np.array([[1.0, -w, -gap], [1.0, 1 - w, -gap], [0.0, 0.0, -1.0]])
    return information_root([1 - w, w], [-w * gap, (1 - w) * gap], pair.std, sigma) @ jacobian


def variances(root: np.ndarray) -> np.ndarray:
    """The diagonal of (G^T G)^-1: efficient variances per example."""
    size = np.linalg.norm(root, axis=0)
    triangle = np.linalg.qr(root / size, mode="r")
    return np.sum(np.linalg.inv(triangle) ** 2, axis=1) / size**2


def worth(pair: Pair, sigma: float) -> np.ndarray:
    """Clean examples per noisy one for (mean, separation, weight), (3,) (equation 1)."""
    return variances(pair_root(pair, 0.0)) / variances(pair_root(pair, sigma))


def joint_root(pair: Pair, sigma: float, clean_share: float) -> np.ndarray:
    """The root of the information per example of a set with a share of clean examples."""
    shares = ((clean_share, 0.0), (1 - clean_share, sigma))
    return np.vstack([np.sqrt(share) * pair_root(pair, level) for share, level in shares if share])


def mixed_size(pair: Pair, sigma: float, clean_share: float) -> np.ndarray:
    """Efficient size of a set with a share of clean examples, relative to a clean one, (3,) (equation 3)."""
    return variances(pair_root(pair, 0.0)) / variances(joint_root(pair, sigma, clean_share))


def marginal_worth(pair: Pair, sigma: float) -> np.ndarray:
    """What the first noisy example adds to a clean set, in clean examples, (3,) (equation 3)."""
    clean, noisy = pair_root(pair, 0.0), pair_root(pair, sigma)
    inverse = np.linalg.inv(clean.T @ clean)
    return np.sum((noisy @ inverse) ** 2, axis=0) / np.diag(inverse)


def least_information(components: int, sigma: float, spacing: float = 2.0, std: float = 1.0) -> float:
    """Smallest eigenvalue of I_sigma for equally weighted, equally spaced components."""
    means = spacing * (np.arange(components) - (components - 1) / 2)
    root = information_root(np.full(components, 1 / components), means, std, sigma)
    return float(np.linalg.svd(root, compute_uv=False)[-1] ** 2)


def log_slope(function: Callable[[float], np.ndarray | float], sigma: float, ratio: float = 1.05):
    """-d ln f / d ln sigma, the local exponent of the decay, by a central difference."""
    upper, lower = function(sigma * ratio), function(sigma / ratio)
    return -(np.log(upper) - np.log(lower)) / (2 * np.log(ratio))
