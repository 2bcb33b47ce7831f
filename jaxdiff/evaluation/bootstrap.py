"""Confidence intervals over held-out images, and over training seeds and held-out images together."""

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


def resampled_means(
    values: np.ndarray, seed: int, n_resamples: int = 4000, batch_values: int = 4_000_000
) -> np.ndarray:
    """Means of K quantities over resampled training seeds and resampled held-out images, (n_resamples, K).

    Seeds and images are crossed: the same images are measured for every seed. Both are drawn with
    replacement, independently (Owen 2007, "The pigeonhole bootstrap"), and the same draw serves all K
    quantities: they stay paired. S resampled seeds vary less than S new ones, by the factor (S - 1) / S; so
    each seed's deviation from the mean over seeds is enlarged by sqrt(S / (S - 1)) first. One seed is kept as
    it is.

    Args:
        values: (K, S, N), S training seeds, N >= 2 images.
        seed: of the resampling.
        n_resamples: draws.
        batch_values: bounds the memory of a batch of draws.

    Raises:
        ValueError: not (K, S, N), too few images, or values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or values.shape[1] < 1 or values.shape[2] < 2:
        raise ValueError(
            f"values must be (seeds, images), at least 1 and 2 of them; got shape {values.shape[1:]}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {values.size} values are not finite")
    _, seeds, images = values.shape
    center = values.mean(axis=1, keepdims=True)
    values = center + (values - center) * np.sqrt(seeds / max(1, seeds - 1))
    rng, means = np.random.default_rng(seed), []
    while sum(map(len, means)) < n_resamples:
        size = min(n_resamples - sum(map(len, means)), max(1, batch_values // images))
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size) / seeds
        of_images = rng.multinomial(images, np.full(images, 1 / images), size) / images
        # (K, size, S): the images are averaged first, so that nothing of size (K, size, N) is made.
        over_images = np.einsum("bn,ksn->kbs", of_images, values, optimize=True)
        means.append(np.einsum("kbs,bs->bk", over_images, of_seeds))
    return np.concatenate(means)


def over_seeds_and_images(
    values: np.ndarray, seed: int, level: float = 0.95, n_resamples: int = 4000
) -> dict[str, float | list[float]]:
    """The mean of (S, N) values with its interval over training seeds and held-out images.

    Returns:
        {'mean', 'low', 'high', 'per_seed'}, 'per_seed' the S means over images. With one seed the
        interval is over images alone; with two or three it is known to be somewhat narrow.

    Raises:
        ValueError: as `resampled_means`, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.95, not 95), got {level}")
    values = np.asarray(values, np.float64)
    draws = resampled_means(values[None], seed, n_resamples)[:, 0]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    per_seed = [float(mean) for mean in values.mean(axis=1)]
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "per_seed": per_seed}


def paired_over_seeds(
    values_a: np.ndarray, values_b: np.ndarray, seed: int, level: float = 0.95, n_resamples: int = 4000
) -> dict[str, float | list[float]]:
    """Mean of a - b, paired by training seed and held-out image, as `over_seeds_and_images`.

    Raises:
        ValueError: if the two do not have the same shape (S, N); otherwise as `over_seeds_and_images`.
    """
    values_a, values_b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if values_a.shape != values_b.shape:
        raise ValueError(
            f"paired_over_seeds needs the same seeds and images twice, got {values_a.shape}, {values_b.shape}"
        )
    return over_seeds_and_images(values_a - values_b, seed, level, n_resamples)
