"""Two attacks on a denoiser: can it restore damaged training images better than held-out ones?

    denoising     x + sigma z, sigma so large that little of x is left   ->  D(x + sigma z, sigma)
    completion    y = A x with most pixels hidden                        ->  a sample of X given y

A model of the law restores both equally well; one that remembers its training images completes those. The
error of an image is |restored - x|^2 / values, the mean over several draws. From the errors of the training
images t and of the held-out images h,

    gap = mean(h) - mean(t),     AUC = P(t < h) + 1/2 P(t = h)

AUC is the probability that an attacker who is shown one image of each kind names the training image by its
error: 1/2 for guessing; its interval is DeLong's. The images are the sample: the interval holds for the
one model that is attacked.

Sources: restoration of heavily damaged training images: Daras et al. 2024 (arXiv 2404.10177);
membership by the loss: Yeom et al. 2018, Carlini et al. 2023 (arXiv 2301.13188); interval: DeLong et
al. 1988.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, rankdata

from jaxdiff.evaluation.certificate import denoising_errors
from jaxdiff.evaluation.memorization import Verdict
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling import posterior_denoiser, sample

Apply = Callable[[Any, jax.Array, jax.Array], jax.Array]  # apply(params, x, sigma), a plain function
Progress = Callable[[int, int], None]
FEWEST = 10  # images of each kind; with fewer the interval of the AUC means nothing


class Attack(NamedTuple):
    """Restoration errors, mean square per value, and how well they tell training images from held-out ones.

    Attributes:
        name: 'denoising' or 'completion'.
        train, held_out: (n,), (m,) errors by image.
        gap, gap_low, gap_high: mean(held_out) - mean(train) and its interval, of the normal law.
        auc, auc_low, auc_high: and DeLong's interval.
        level: of both intervals.
    """

    name: str
    train: np.ndarray
    held_out: np.ndarray
    gap: float
    gap_low: float
    gap_high: float
    auc: float
    auc_low: float
    auc_high: float
    level: float


def denoising_attack(
    apply: Apply,
    params: Any,
    train: np.ndarray,
    held_out: np.ndarray,
    sigma: float,
    seed: int,
    repeats: int = 4,
    level: float = 0.95,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Attack:
    """Denoise both kinds of images from the noise level `sigma`.

    Args:
        apply: apply(params, x, sigma) -> (B, ...); for a denoiser without parameters
            `lambda _, x, sigma: denoiser(x, sigma)` and params = ().
        params: any pytree.
        train, held_out: images in [-1, 1], (n, ...), (m, ...), at least 10 of each.
        sigma: heavy noise: several times the spread of the images' values, where a model of the law sees
            little.
        seed: of the noise.
        repeats: draws of the noise for each image.
        level: of the intervals.
        batch_size: images a call.
        progress: progress(done, total) in batches.

    Raises:
        ValueError: too few images, other shapes, sigma <= 0 or repeats < 1.
    """
    _check(train, held_out, repeats)
    # One seed for both: images are numbered through, so that no noise is used twice.
    images = np.concatenate([np.asarray(train), np.asarray(held_out)])
    errors = np.zeros(len(images))
    for repeat in range(repeats):
        report = None if progress is None else partial(_of_all, progress, repeat, repeats)
        noise_seed = seed * 1_000_003 + repeat
        errors += denoising_errors(apply, params, images, [sigma], noise_seed, batch_size, report)[:, 0]
    errors /= repeats * images[0].size
    return compare_errors("denoising", errors[: len(train)], errors[len(train) :], level)


def completion_attack(
    apply: Apply,
    params: Any,
    train: np.ndarray,
    held_out: np.ndarray,
    operator: LinearOperator,
    sigmas: np.ndarray,
    seed: int,
    repeats: int = 2,
    cg_steps: int = 4,
    level: float = 0.95,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Attack:
    """Complete both kinds of images from y = A x, by sampling with the `posterior_denoiser`.

    Args:
        apply, params, train, held_out, level, progress: as in `denoising_attack`.
        operator: A; parameters of its own (a mask for each image) are drawn from the seed.
        sigmas: the sampler's grid, such as `karras_schedule(16)`.
        seed: of the masks and the sampler's noise; image i has its own, whatever kind it is.
        repeats: completions of each image, each of its own mask.
        cg_steps: of `posterior_denoiser`.
        batch_size: images a call.

    Raises:
        ValueError: too few images, other shapes than the operator's, a bad grid, repeats or cg_steps < 1.
    """
    _check(train, held_out, repeats)
    images = np.concatenate([np.asarray(train, np.float32), np.asarray(held_out, np.float32)])
    if images.shape[1:] != tuple(operator.in_shape):
        raise ValueError(
            f"completion_attack: the operator is for images {tuple(operator.in_shape)}, got {images.shape[1:]}"
        )
    sigmas, size = np.asarray(sigmas), min(batch_size, len(images))

    @jax.jit
    def restoration_errors(params, x0, numbers):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(numbers)
        mask_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        drawn = operator.draw(mask_keys)
        given = posterior_denoiser(partial(apply, params), drawn, drawn(x0), jnp.zeros(len(x0)), cg_steps)
        start = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(noise_keys) * sigmas[0]
        restored = sample(given, start, sigmas)
        return jnp.mean(jnp.square(restored - x0), axis=tuple(range(1, x0.ndim)))

    numbers = np.arange(repeats * len(images))
    errors = np.empty(len(numbers))
    starts = range(0, len(numbers), size)
    for done, start in enumerate(starts, start=1):
        rows = np.minimum(
            np.arange(start, start + size), len(numbers) - 1
        )  # filled up: one shape, one compilation
        batch = restoration_errors(params, images[rows % len(images)], rows.astype(np.uint32))
        errors[rows] = np.asarray(batch)
        if progress is not None:
            progress(done, len(starts))
    errors = errors.reshape(repeats, len(images)).mean(axis=0)
    return compare_errors("completion", errors[: len(train)], errors[len(train) :], level)


def compare_errors(name: str, train: np.ndarray, held_out: np.ndarray, level: float = 0.95) -> Attack:
    """Gap and AUC with their intervals, from the errors of each kind.

    Raises:
        ValueError: fewer than 10 of either kind, values that are not finite, or level outside (0, 1).
    """
    train, held_out = np.asarray(train, np.float64), np.asarray(held_out, np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.95, not 95), got {level}")
    if min(len(train), len(held_out)) < FEWEST:
        raise ValueError(
            f"an attack needs {FEWEST} images of each kind, got {len(train)} and {len(held_out)}"
        )
    if not (np.isfinite(train).all() and np.isfinite(held_out).all()):
        raise ValueError(f"{name} attack: some restoration errors are not finite")
    n, m, z = len(train), len(held_out), norm.ppf((1 + level) / 2)
    gap = held_out.mean() - train.mean()
    gap_error = np.sqrt(train.var(ddof=1) / n + held_out.var(ddof=1) / m)
    # DeLong's placements: for each image the share of the other kind on its right side, from ranks.
    ranks = rankdata(np.concatenate([train, held_out]))
    of_train = 1 - (ranks[:n] - rankdata(train)) / m
    of_held_out = (ranks[n:] - rankdata(held_out)) / n
    auc = of_train.mean()
    auc_error = np.sqrt(of_train.var(ddof=1) / n + of_held_out.var(ddof=1) / m)
    low, high = np.clip([auc - z * auc_error, auc + z * auc_error], 0, 1)
    numbers = (gap, gap - z * gap_error, gap + z * gap_error, auc, low, high, level)
    return Attack(name, train, held_out, *map(float, numbers))


def attack_verdict(found: Attack, level: float = 0.01, tolerated: float = 0.6) -> Verdict:
    """Flagged where the AUC exceeds `tolerated` beyond chance: one-sided test at `level`.

    Args:
        found: from either attack.
        level: of the test.
        tolerated: an AUC that every trained model may have; 0.5 flags any difference that can be measured.

    Raises:
        ValueError: level outside (0, 0.5) or tolerated outside [0.5, 1).
    """
    if not 0 < level < 0.5 or not 0.5 <= tolerated < 1:
        raise ValueError(f"level must lie in (0, 0.5) and tolerated in [0.5, 1), got {level}, {tolerated}")
    bound = compare_errors(found.name, found.train, found.held_out, 1 - 2 * level).auc_low
    reason = (
        f"{found.name}: the error tells a training image from a held-out one with probability {found.auc:.3f} "
        f"({found.auc_low:.3f} to {found.auc_high:.3f}); lower bound at level {level:g}: {bound:.3f}, "
        f"tolerated {tolerated:g}"
    )
    return Verdict(bool(bound > tolerated), reason)


def _check(train, held_out, repeats) -> None:
    train, held_out = np.shape(train), np.shape(held_out)
    if len(train) < 2 or train[1:] != held_out[1:]:
        raise ValueError(f"an attack needs two sets of images of one shape, got {train} and {held_out}")
    if min(train[0], held_out[0]) < FEWEST:
        raise ValueError(f"an attack needs {FEWEST} images of each kind, got {train[0]} and {held_out[0]}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")


def _of_all(progress, repeat, repeats, done, batches) -> None:
    progress(repeat * batches + done, repeats * batches)
