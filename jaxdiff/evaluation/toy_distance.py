"""Relative entropy and total variation of densities in one or two dimensions, by quadrature.

    KL(p || q) = int p (log p - log q) dx,     TV(p, q) = 1/2 int |p - q| dx

on a box, by the midpoint rule: of any order where the densities are smooth and vanish at the box's edge. A
density enters as log p(points), points (M, d) -> (M,), such as that of `diffusion.mixture.GaussianMixture`.

Samples have no density: they are counted in cells, with one more cell for all that is outside the box, and
compared with the probabilities that the density gives the cells,

    KL = sum_c f_c log(f_c / p_c),     TV = 1/2 sum_c |f_c - p_c|,     f_c = share of the samples in c.

Merging points into cells only lowers both (data processing): they are lower bounds of the distance of the
sampler's law, raised by the noise of counting. For n samples of p itself and K cells, E KL is about
(K - 1) / (2 n) (Miller 1955) and E TV about sum_c sqrt(p_c (1 - p_c) / (2 pi n)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

LogDensity = Callable[[np.ndarray], np.ndarray]
MASS_TOLERANCE = 1e-3


class Grid(NamedTuple):
    """Equal cells: midpoints (M, d) in row-major order, the volume of a cell, the edges of each axis."""

    points: np.ndarray
    volume: float
    edges: tuple[np.ndarray, ...]


def make_grid(low: Sequence[float], high: Sequence[float], cells: int) -> Grid:
    """`cells` equal cells along each axis of the box from `low` to `high`, each (d,), d = 1 or 2.

    Raises:
        ValueError: an empty box, other dimensions, or no cells.
    """
    low, high = np.atleast_1d(np.asarray(low, np.float64)), np.atleast_1d(np.asarray(high, np.float64))
    if low.shape != high.shape or low.shape not in ((1,), (2,)) or not np.all(low < high):
        raise ValueError(f"make_grid needs a box low < high in 1 or 2 dimensions, got {low} to {high}")
    if cells < 1:
        raise ValueError(f"make_grid: cells must be at least 1, got {cells}")
    edges = tuple(np.linspace(a, b, cells + 1) for a, b in zip(low, high, strict=True))
    middles = np.meshgrid(*((e[1:] + e[:-1]) / 2 for e in edges), indexing="ij")
    points = np.stack([axis.ravel() for axis in middles], axis=1)
    return Grid(points, float(np.prod((high - low) / cells)), edges)


def density_distances(log_p: LogDensity, log_q: LogDensity, grid: Grid) -> dict[str, float]:
    """{'kl': KL(p || q) in nats, 'tv': TV(p, q)} of two normalized densities.

    Raises:
        ValueError: p or q does not integrate to 1 on the grid (within 1e-3): the box is too small, the cells
            are too wide, or the density is not normalized.
    """
    p, q = (_values(log_density, grid) for log_density in (log_p, log_q))
    for name, log_values in (("p", p), ("q", q)):
        mass = np.exp(log_values).sum() * grid.volume
        if not abs(mass - 1) <= MASS_TOLERANCE:
            raise ValueError(
                f"density_distances: {name} integrates to {mass:.6g} on the grid, not to 1: widen the box, take "
                "more cells, or normalize the density"
            )
    with np.errstate(invalid="ignore"):  # where p = 0 nothing is added, whatever q is
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), 0.0)
    tv = 0.5 * np.abs(np.exp(p) - np.exp(q)).sum() * grid.volume
    return {"kl": float(terms.sum() * grid.volume), "tv": float(tv)}


def sample_distances(
    samples: np.ndarray, log_p: LogDensity, grid: Grid, subdivide: int = 16
) -> dict[str, float]:
    """Distances of samples to a density, by cells, and what as many exact samples would get.

    Args:
        samples: (n, d).
        log_p: of a normalized density.
        grid: the cells that samples are counted in; n should be many times their number.
        subdivide: midpoints along each axis of a cell for its probability under p.

    Returns:
        {'kl', 'tv', 'kl_noise', 'tv_noise'}: KL(samples || p) and TV over cells, and the expectation of both
        for n samples of p itself.

    Raises:
        ValueError: samples of another dimension, none, not finite, or where p has no mass at all.
    """
    samples = np.asarray(samples, np.float64)
    d = len(grid.edges)
    if samples.ndim != 2 or samples.shape[1] != d or len(samples) == 0 or not np.isfinite(samples).all():
        raise ValueError(f"sample_distances needs finite samples (n, {d}), got shape {samples.shape}")
    counts = np.histogramdd(samples, bins=grid.edges)[0].ravel()
    shares = np.append(counts, len(samples) - counts.sum()) / len(samples)
    inside = cell_probabilities(log_p, grid, subdivide)
    if inside.sum() > 1 + MASS_TOLERANCE:
        raise ValueError(f"sample_distances: p integrates to {inside.sum():.6g} on the grid, more than 1")
    p = np.append(inside, max(0.0, 1 - inside.sum()))
    seen = shares > 0
    if np.any(p[seen] <= 0):
        raise ValueError(
            "sample_distances: samples lie where p has no mass; widen the box or the cells, or KL is infinite"
        )
    n, cells = len(samples), np.count_nonzero(p)
    return {
        "kl": float(np.sum(shares[seen] * np.log(shares[seen] / p[seen]))),
        "tv": float(0.5 * np.abs(shares - p).sum()),
        "kl_noise": (cells - 1) / (2 * n),
        "tv_noise": float(np.sqrt(p * np.maximum(1 - p, 0) / (2 * np.pi * n)).sum()),
    }


def cell_probabilities(log_p: LogDensity, grid: Grid, subdivide: int) -> np.ndarray:
    """The integral of p over each cell, (M,), by `subdivide` midpoints along each axis of a cell."""
    d, cells = len(grid.edges), [len(e) - 1 for e in grid.edges]
    low, high = [e[0] for e in grid.edges], [e[-1] for e in grid.edges]
    fine = make_grid(low, high, cells[0] * subdivide)
    values = np.exp(_values(log_p, fine)) * fine.volume
    shape = [size for count in cells for size in (count, subdivide)]
    return values.reshape(shape).sum(axis=tuple(range(1, 2 * d, 2))).ravel()


def _values(log_density: LogDensity, grid: Grid) -> np.ndarray:
    values = np.asarray(log_density(grid.points), np.float64)
    if values.shape != (len(grid.points),) or np.isnan(values).any():
        raise ValueError(
            f"a log density must map points {grid.points.shape} to {(len(grid.points),)} numbers, got shape "
            f"{values.shape}, {np.isnan(values).sum()} of them NaN"
        )
    return values
