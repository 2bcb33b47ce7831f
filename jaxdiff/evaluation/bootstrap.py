"""Confidence intervals over held-out images."""

from __future__ import annotations

import numpy as np
from scipy.stats import bootstrap


def bootstrap_mean(
    values: np.ndarray, seed: int, level: float = 0.95, n_resamples: int = 4000
) -> dict[str, float]:
    """The mean of independent values with its percentile bootstrap interval.

    Args:
        values: (N,), one number per image, N >= 2.
        seed: of the resampling.
        level: confidence level in (0, 1).
        n_resamples: bootstrap resamples.

    Returns:
        {'mean', 'low', 'high'}, floats in the units of `values`.

    Raises:
        ValueError: for fewer than two values, values that are not finite, or a level outside (0, 1).
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"bootstrap_mean needs at least two values, (N,); got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"bootstrap_mean: {np.sum(~np.isfinite(values))} of {len(values)} values are not finite"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.95, not 95), got {level}")
    interval = bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, 4_000_000 // len(values)),  # bounds the memory of the resamples
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {"mean": float(values.mean()), "low": float(interval.low), "high": float(interval.high)}


def paired_difference(
    values_a: np.ndarray, values_b: np.ndarray, seed: int, level: float = 0.95, n_resamples: int = 4000
) -> dict[str, float]:
    """Mean of a - b over the same images, with its interval: what they share (image, noise) cancels.

    Raises:
        ValueError: if the two do not have the same shape; otherwise as `bootstrap_mean`.
    """
    values_a, values_b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if values_a.shape != values_b.shape:
        raise ValueError(
            f"paired_difference needs the same images twice, got {values_a.shape}, {values_b.shape}"
        )
    return bootstrap_mean(values_a - values_b, seed, level, n_resamples)
