"""Disjoint parts of a data set by a keyed hash of the index: clean, tuning, held-out, and each view.

Each index i has a number u(i) in [0, 1), a hash of (seed, i). Shares are intervals of u from the bottom,
counts are the largest u from the top, each in the order given. Where neighbours in the order of the source are alike
(slices of a volume), parts are runs of neighbours instead, with gaps between them (`slab_split`).
"""

from collections.abc import Mapping

import numpy as np

from jaxdiff.data.hashing import keyed_hash


def hash_split(n: int, seed: int, sizes: Mapping[str, int | float]) -> dict[str, np.ndarray]:
    """Disjoint index sets of `range(n)`.

    A count k (an int) takes exactly k indices; a share f (a float) takes f n of them up to chance (standard
    deviation sqrt(n f (1 - f))). What is stable:
    * the size of a part moves no part of the other kind, and no part of its own kind listed before it: list
      held-out first;
    * data added at the end never move an index into or out of a share, and move one out of the first count
      only where a new index takes its place.

    Args:
        n: number of examples.
        seed: of the hash.
        sizes: name -> count (int >= 0) or share (float in [0, 1]).

    Returns:
        name -> int64 indices, in the order of the hash: the first m of a part are a random subset of it.

    Raises:
        ValueError: a negative size, shares beyond 1, or more asked for than there is.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or size < 0 or (isinstance(size, float) and not size <= 1):
            raise ValueError(
                f"split: '{name}' must be a count (int >= 0) or a share (float in [0, 1]), got {size}"
            )
    shares = {name: float(size) for name, size in sizes.items() if isinstance(size, float | np.floating)}
    counts = {name: int(size) for name, size in sizes.items() if name not in shares}
    if sum(shares.values()) > 1 + 1e-9:
        raise ValueError(f"split: the shares sum to {sum(shares.values()):g}, more than 1: {_list(shares)}")
    u = keyed_hash(np.arange(n), "split", seed) / 2.0**64
    order = np.argsort(u, kind="stable")
    edges = np.cumsum([0.0, *shares.values()])
    if edges[-1] > 1 - 1e-9:
        edges[-1] = 1.0 + 1e-9  # thirds and tenths need not sum to exactly 1
    bounds = np.searchsorted(u[order], edges)
    free = n - int(bounds[-1])
    if sum(counts.values()) > free:
        raise ValueError(
            f"split: {sum(counts.values())} examples asked for ({_list(counts)}), {free} of {n} are left"
            + (f" beside the shares ({_list(shares)})" if shares else "")
        )
    parts = {name: order[a:b] for name, a, b in zip(shares, bounds[:-1], bounds[1:], strict=True)}
    downwards, start = order[::-1], 0
    for name, count in counts.items():
        parts[name] = downwards[start : start + count]
        start += count
    return {name: parts[name] for name in sizes}


def require_disjoint(parts: Mapping[str, np.ndarray]) -> None:
    """Check that no index is in two parts, nor twice in one.

    Raises:
        ValueError: one is; the message names the parts and how many indices they have in common.
    """
    every = np.concatenate([np.empty(0, np.int64), *parts.values()])
    if len(np.unique(every)) == len(every):
        return
    names = list(parts)
    for number, first in enumerate(names):
        if len(np.unique(parts[first])) < len(parts[first]):
            raise ValueError(f"split: '{first}' holds an example twice")
        for second in names[number + 1 :]:
            common = np.intersect1d(parts[first], parts[second])
            if len(common):
                raise ValueError(
                    f"split: '{first}' and '{second}' have {len(common)} examples in common, such as number {common[0]}"
                )


def _list(sizes: Mapping[str, int | float]) -> str:
    return ", ".join(f"{name} {size:g}" for name, size in sizes.items())


def slab_split(n: int, sizes: Mapping[str, int], gap: int) -> dict[str, np.ndarray]:
    """Disjoint runs of neighbouring indices of `range(n)`, at least `gap` indices between any two of them.

    For examples in an order in which neighbours are alike (slices of a volume, frames of a film). The parts follow one
    another from the middle on, in the order given, and go on from the start of the range when its end is reached: the
    first part lies in the middle. Parts of size 0 take no gap.

    Args:
        n: number of examples.
        sizes: name -> count.
        gap: indices that nobody uses, after each part.

    Returns:
        name -> int64 indices.

    Raises:
        ValueError: a negative count or gap, or more asked for than there is.
    """
    if gap < 0 or any(isinstance(size, bool) or size != int(size) or size < 0 for size in sizes.values()):
        raise ValueError(
            f"slab split: counts and gap must be whole numbers >= 0, got {_list(sizes)}, gap {gap}"
        )
    asked = sum(size + gap for size in sizes.values() if size)
    if asked > n:
        raise ValueError(f"slab split: {_list(sizes)} with gaps of {gap} are {asked} examples, there are {n}")
    parts, start = {}, n // 2
    for name, size in sizes.items():
        parts[name] = np.arange(start, start + size, dtype=np.int64) % n
        start += size + gap if size else 0
    return parts
