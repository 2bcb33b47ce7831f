"""What several draws of a posterior say, and whether what they say is true.

Of S draws x_(1) <= ... <= x_(S) of one number, the interval [x_(k), x_(S + 1 - k)] is stated to hold the truth with
probability

    (S + 1 - 2 k) / (S + 1),

exactly, if truth and draws are draws of one posterior: the truth's rank among them is then uniform. The coverage is
the share of numbers for which it does hold the truth: below the stated one the draws are too sure, above it too vague.
Numbers of one example depend on each other; an interval for the coverage is to be made over examples.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Interval(NamedTuple):
    """Bounds (B, ...) for each number, and the probability with which they are stated to hold the truth."""

    lower: jax.Array
    upper: jax.Array
    stated: float


def posterior_mean(draws: jax.Array) -> jax.Array:
    """Mean over draws (S, B, ...): (B, ...)."""
    return jnp.mean(draws, axis=0)


def posterior_std(draws: jax.Array) -> jax.Array:
    """Standard deviation over draws (S, B, ...), S >= 2, divided by S - 1: (B, ...).

    Raises:
        ValueError: one draw only.
    """
    if draws.shape[0] < 2:
        raise ValueError(f"posterior_std: needs at least 2 draws, got {draws.shape[0]}")
    return jnp.std(draws, axis=0, ddof=1)


def credible_interval(draws: jax.Array, level: float = 0.9) -> Interval:
    """The central interval of draws (S, B, ...) whose stated probability is nearest to `level` among those S allow.

    Raises:
        ValueError: level is not in (0, 1), or fewer than 2 draws.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"credible_interval: level is a probability in (0, 1), got {level}")
    count = draws.shape[0]
    if count < 2:
        raise ValueError(f"credible_interval: needs at least 2 draws, got {count}")
    k = min(max(round((1 - level) * (count + 1) / 2), 1), count // 2)
    ordered = jnp.sort(draws, axis=0)
    return Interval(ordered[k - 1], ordered[count - k], (count + 1 - 2 * k) / (count + 1))


def coverage(interval: Interval, truth: jax.Array) -> jax.Array:
    """Share of each example's numbers that lie in the interval, (B,); to be compared with `interval.stated`."""
    inside = (interval.lower <= truth) & (truth <= interval.upper)
    return jnp.mean(inside.reshape(len(truth), -1), axis=1)
