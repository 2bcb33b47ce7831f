"""A mixture of low-rank Gaussians fitted to partial measurements alone, by expectation maximisation.

    X = m_k + W_k z + s_k e,    z ~ N(0, I_r), e ~ N(0, I_d), component k with probability w_k                    (1)

(mixtures of probabilistic principal component analysers, Tipping and Bishop 1999), seen through views y = A X, each
with an operator of its own and A A^T = c I. In image space, with the projector P = A^+ A, that is u = A^+ y = P X, and

    z | u, k    ~ N(C W_k^T (u - P m_k) / s_k^2, C),    C = (I + W_k^T P W_k / s_k^2)^-1
    X | u, z, k ~ N(u + (I - P)(m_k + W_k z), s_k^2 (I - P))                                                      (2)

so the E-step is exact, and halves, averages and whole images (P = I) teach one law together. M-step: the regression of
X on (z, 1) with these moments, and with a prior N(0, s_k^2 / prior) on each value of W_k, without which components
with few members make too much of chance. No lap lowers likelihood times prior.

A Gaussian alone knows how parts of an image vary together, and not that there are kinds of images; a mixture knows
both, and says by `log_ratio` how much likelier two parts are together than apart. Nothing is d by d: a lap costs
O(n d r) for each component, on the host in float64. Views as they are learnt by the method 'shared', without noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.cluster import KMeans

LEAST_SHARE = 1e-6  # least s^2, in the mean square of what is measured: constant pixels have no variance
FEWEST = 1e-3  # a component with less of all examples together stays as it is
STARTS = 4  # of k-means


class Lifted(NamedTuple):
    """Measurements of one view, in image space.

    Attributes:
        project: P, on images (n, *shape).
        u: A^+ y = P x, (n, *shape).
        rank: of P.
    """

    project: Callable[[np.ndarray], np.ndarray]
    u: np.ndarray
    rank: int


@dataclasses.dataclass
class PPCAMixture:
    """The law (1).

    Attributes:
        weights: w, (K,), sum 1.
        means: m, (K, *shape).
        loadings: W, (K, r, *shape).
        variances: s^2, (K,).
        flops: multiplications and additions of the laps that it took to fit.
    """

    weights: np.ndarray
    means: np.ndarray
    loadings: np.ndarray
    variances: np.ndarray
    flops: float | np.ndarray = 0.0


class _Posterior(NamedTuple):
    """Of one component, given measurements of one view; Z = (z, 1)."""

    log_joint: np.ndarray  # log w_k p(u | k), (n,)
    mean: np.ndarray  # E Z, (n, r + 1)
    cov: np.ndarray  # (r + 1, r + 1)
    hidden: np.ndarray  # (I - P)(W, m), (r + 1, d)


def _flat(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(len(images), -1)


def _projected(law: PPCAMixture, view: Lifted, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(W, m) and P (W, m), (r + 1, d) each."""
    affine = np.concatenate([law.loadings[k], law.means[k][None]])
    return _flat(affine), _flat(view.project(affine))


def _posterior(law: PPCAMixture, view: Lifted, k: int) -> _Posterior:
    affine, seen = _projected(law, view, k)
    loading, mean, variance = seen[:-1], seen[-1], float(law.variances[k])
    centred = _flat(view.u) - mean
    precision = np.eye(len(loading)) + loading @ loading.T / variance
    inner = centred @ loading.T / variance
    z = np.linalg.solve(precision, inner.T).T
    distance = np.sum(centred**2, axis=1) / variance - np.sum(inner * z, axis=1)
    log_det = view.rank * np.log(2 * np.pi * variance) + np.linalg.slogdet(precision)[1]
    cov = np.zeros((len(affine), len(affine)))
    cov[:-1, :-1] = np.linalg.inv(precision)
    known = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    return _Posterior(np.log(law.weights[k]) - 0.5 * (distance + log_det), known, cov, affine - seen)


def log_joint(law: PPCAMixture, view: Lifted) -> np.ndarray:
    """log w_k p(u | k), (n, K), in nats and in orthonormal coordinates of the range of P."""
    return np.stack([_posterior(law, view, k).log_joint for k in range(len(law.weights))], axis=1)


def log_likelihood(law: PPCAMixture, views: Sequence[Lifted]) -> float:
    """log p of all measurements of all views together, in nats."""
    return float(sum(logsumexp(log_joint(law, view), axis=1).sum() for view in views))


def expected(law: PPCAMixture, view: Lifted) -> np.ndarray:
    """E[X | u], (n, *shape)."""
    posteriors = [_posterior(law, view, k) for k in range(len(law.weights))]
    shares = softmax(np.stack([p.log_joint for p in posteriors], axis=1), axis=1)
    hidden = sum(shares[:, k, None] * (p.mean @ p.hidden) for k, p in enumerate(posteriors))
    return view.u + hidden.reshape(view.u.shape)


def log_ratio(law: PPCAMixture, first: Lifted, second: Lifted) -> np.ndarray:
    """log p(x_i + y_j) - log p(x_i) - log p(y_j), (N, M), for every x_i of `first` and y_j of `second`.

    The projectors of the two views add up to I: x_i + y_j is a whole image. Above 0: likelier together than apart.
    """
    together = []
    for k, variance in enumerate(np.asarray(law.variances, np.float64)):
        loading, squares, inner = _flat(law.loadings[k]), [], []
        for view in (first, second):
            centred = _flat(view.u) - _projected(law, view, k)[1][-1]
            squares.append(np.sum(centred**2, axis=1) / variance)
            inner.append(centred @ loading.T / variance)
        precision = np.eye(len(loading)) + loading @ loading.T / variance
        # |x|^2 / s^2 - (a + b)^T C (a + b) for all pairs at once
        own = [
            s - np.sum(a * np.linalg.solve(precision, a.T).T, axis=1)
            for s, a in zip(squares, inner, strict=True)
        ]
        cross = inner[0] @ np.linalg.solve(precision, inner[1].T)
        distance = own[0][:, None] + own[1] - 2 * cross
        log_det = loading.shape[1] * np.log(2 * np.pi * variance) + np.linalg.slogdet(precision)[1]
        together.append(np.log(law.weights[k]) - 0.5 * (distance + log_det))
    apart = [logsumexp(log_joint(law, view), axis=1) for view in (first, second)]
    return logsumexp(together, axis=0) - apart[0][:, None] - apart[1]


class _Moments(NamedTuple):
    """Of one component over all examples, each weighed by its responsibility; Z = (z, 1)."""

    count: float
    zz: np.ndarray  # E Z Z^T, (r + 1, r + 1)
    xz: np.ndarray  # E X Z^T, (d, r + 1)
    xx: float  # E |X|^2


def _moments(view: Lifted, posterior: _Posterior, share: np.ndarray, variance: float) -> _Moments:
    u, (_, z, cov, hidden) = _flat(view.u), posterior
    count = float(share.sum())
    zz = (share[:, None] * z).T @ z + count * cov
    xz = hidden.T @ zz + u.T @ (share[:, None] * z)
    rest = variance * (u.shape[1] - view.rank)
    xx = np.sum((hidden @ hidden.T) * zz) + share @ np.sum(u**2, axis=1) + count * rest
    return _Moments(count, zz, xz, float(xx))


def _regressed(moments: Sequence[_Moments], prior: float) -> tuple[np.ndarray, float]:
    """(W, m), (r + 1, d), and s^2, of largest expected likelihood times prior."""
    count, zz, xz, xx = (sum(parts) for parts in zip(*moments, strict=True))
    weight = prior * np.diag([1.0] * (len(zz) - 1) + [0.0])
    affine = np.linalg.solve(zz + weight, xz.T)
    # The prior is one on r more values of N(0, s^2) for each pixel.
    values = (count + (len(zz) - 1 if prior else 0)) * xz.shape[0]
    return affine, (xx - float(np.sum(affine.T * xz))) / values


def em_lap(
    law: PPCAMixture, views: Sequence[Lifted], prior: float = 0.0, shares: Sequence[np.ndarray] | None = None
) -> PPCAMixture:
    """One lap of EM.

    Args:
        law: where it starts.
        views: the measurements.
        prior: how many examples the prior of the loadings counts for.
        shares: responsibilities of each view's examples, (n, K), where `law` has one component, which they split into
            K; None: those that `law` gives.
    """
    posteriors = [[_posterior(law, view, k) for k in range(len(law.weights))] for view in views]
    if shares is None:
        shares = [softmax(np.stack([p.log_joint for p in of], axis=1), axis=1) for of in posteriors]
    least = LEAST_SHARE * sum(np.sum(_flat(v.u) ** 2) for v in views) / sum(len(v.u) * v.rank for v in views)
    components, shape, found = shares[0].shape[1], law.means.shape[1:], []
    for k in range(components):
        old = k if len(law.weights) > 1 else 0
        moments = [
            _moments(view, of[old], share[:, k], float(law.variances[old]))
            for view, share, of in zip(views, shares, posteriors, strict=True)
        ]
        count = sum(part.count for part in moments)
        if count < FEWEST:
            found.append((count, law.means[old], law.loadings[old], law.variances[old]))
            continue
        affine, variance = _regressed(moments, prior)
        affine = affine.reshape(-1, *shape)
        found.append((count, affine[-1], affine[:-1], max(variance, least)))
    counts, means, loadings, variances = (np.stack(part) for part in zip(*found, strict=True))
    # Four products of (n, d) and (d, r + 1) for each component: P (W, m), u W, E z and E X Z.
    flops = law.flops + 6.0 * components * means[0].size * (loadings.shape[1] + 1) * sum(
        len(v.u) for v in views
    )
    weights = np.maximum(counts / counts.sum(), np.finfo(np.float64).tiny)
    return PPCAMixture(weights, means, loadings, variances, flops)


def fit_ppca_mixture(
    views: Sequence[Lifted],
    components: int,
    rank: int,
    laps: int,
    seed: int,
    prior: float,
    progress: Callable[[int], None] = lambda done: None,
) -> PPCAMixture:
    """The law (1) of partial measurements: `laps` with one component, a split by k-means of E[X | u], and `laps` more.

    Args:
        views: the measurements, of one view or several; what no view shows together with anything stays unknown.
        components: K.
        rank: r, of each component.
        laps: of EM, each time. With halves alone tens of them: EM nears its fixed point by the share that is seen.
        seed: of the start.
        prior: how many examples the prior of the loadings counts for.
        progress: progress(laps done so far) after each, of `laps` in all, or of twice as many with a split.

    Raises:
        ValueError: no views, a setting below 1, a negative prior, or more components than measurements.
    """
    for name, value in (("components", components), ("rank", rank), ("laps", laps)):
        if value < 1:
            raise ValueError(f"fit_ppca_mixture: {name} must be at least 1, got {value}")
    if prior < 0:
        raise ValueError(f"fit_ppca_mixture: prior must not be negative, got {prior}")
    count = sum(len(view.u) for view in views)
    if count < components:
        raise ValueError(f"fit_ppca_mixture: {components} components of {count} measurements")
    law = _start(views, rank, seed)
    for lap in range(laps):
        law = em_lap(law, views, prior)
        progress(lap + 1)
    if components == 1:
        return law
    guesses = [_flat(expected(law, view)) for view in views]
    found = KMeans(components, n_init=STARTS, random_state=seed).fit(np.concatenate(guesses))
    law = em_lap(law, views, prior, [np.eye(components)[found.predict(guess)] for guess in guesses])
    for lap in range(laps):
        law = em_lap(law, views, prior)
        progress(laps + lap + 1)
    return law


def _start(views: Sequence[Lifted], rank: int, seed: int) -> PPCAMixture:
    """Each pixel's mean where it is seen, and small random loadings."""
    shape = views[0].u.shape[1:]
    reached = [np.asarray(view.project(np.ones((1, *shape))), np.float64)[0] for view in views]
    seen = sum(len(view.u) * of for view, of in zip(views, reached, strict=True))
    mean = sum(np.asarray(view.u, np.float64).sum(axis=0) for view in views) / np.maximum(seen, 1.0)
    squares = sum(np.sum((view.u - of * mean) ** 2) for view, of in zip(views, reached, strict=True))
    variance = max(squares / sum(len(view.u) * view.rank for view in views), np.finfo(np.float64).tiny)
    loadings = np.sqrt(variance / rank) * np.random.default_rng(seed).normal(size=(1, rank, *shape))
    return PPCAMixture(np.ones(1), mean[None], loadings, np.array([variance]))
