"""Which share of the gap between a few clean images and all of them a method closes.

    gap closed = (nats(method) - nats(clean_only)) / (nats(all_clean) - nats(clean_only))                (1)

with `clean_only` trained on the few clean images alone and `all_clean` on clean images in place of the
partial ones. 0: the partial images were worth nothing; 1: as much as if they had been clean; below 0 they did
harm. The Gaussian reference of the nats cancels, and so does much of what seeds and images share: all three
are resampled together.
"""

from __future__ import annotations

import numpy as np

from jaxdiff.evaluation.bootstrap import over_seeds_and_images, resampled_means


class NoGap(ValueError):
    """clean_only and all_clean cannot be told apart: there is nothing to close a share of."""


def gap_closed(
    method: np.ndarray,
    clean_only: np.ndarray,
    all_clean: np.ndarray,
    seed: int,
    level: float = 0.95,
    n_resamples: int = 4000,
) -> dict[str, float | list[float]]:
    """Equation 1 with its interval over training seeds and held-out images.

    Args:
        method, clean_only, all_clean: nats per image of the same seeds and images, (S, N).
        seed: of the resampling.
        level: confidence level in (0, 1).
        n_resamples: bootstrap resamples.

    Returns:
        {'mean', 'low', 'high', 'per_seed'}: 'mean' is the ratio of the means, not a mean of ratios;
        'per_seed' the ratio of each seed's means (NaN where that seed's gap is zero).

    Raises:
        NoGap: the gap's own interval includes zero.
        ValueError: shapes that differ, or values that are not finite.
    """
    values = [np.asarray(v, np.float64) for v in (method, clean_only, all_clean)]
    shapes = [v.shape for v in values]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        names = ("method", "clean_only", "all_clean")
        said = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
        raise ValueError(f"gap_closed needs the same seeds and images three times, (S, N); got {said}")
    gap = over_seeds_and_images(values[2] - values[1], seed, level, n_resamples)
    if gap["low"] <= 0 <= gap["high"]:
        raise NoGap(
            f"the gap between all_clean and clean_only is {gap['mean']:.3g} nats ({gap['low']:.3g} to "
            f"{gap['high']:.3g}): an interval that includes zero leaves no gap to close"
        )
    draws = resampled_means(np.stack(values), seed, n_resamples)
    shares = (draws[:, 0] - draws[:, 1]) / (draws[:, 2] - draws[:, 1])
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    means = np.stack(values).mean(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_seed = (means[0] - means[1]) / (means[2] - means[1])
    total = means.mean(axis=1)
    return {
        "mean": float((total[0] - total[1]) / (total[2] - total[1])),
        "low": float(low),
        "high": float(high),
        "per_seed": [float(share) for share in per_seed],
    }
