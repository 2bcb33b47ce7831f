"""A keyed hash of integers: the one source of order in `data/`, the same on every machine.

The finalizer of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators").
"""

import zlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keyed_hash(values: np.ndarray, *key: int | str) -> np.ndarray:
    """uint64 hash of each integer in `values` under a key made of integers and words."""
    state = np.zeros(1, np.uint64)
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else int(part) % 2**64
        state = _mix(state + GOLDEN + np.asarray([number], np.uint64))
    return _mix((np.asarray(values).astype(np.uint64) + np.uint64(1)) * GOLDEN + state)


def permutation(n: int, *key: int | str) -> np.ndarray:
    """The numbers 0..n-1 in the order of their hash, int64 (n,)."""
    return np.argsort(keyed_hash(np.arange(n), *key), kind="stable")


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
