"""Batches in an order that is a pure function of (seed, step), made ready by a background thread.

Place g = step * batch_size + slot of an endless line of epochs: epoch e = g // n is the numbers 0..n-1 in the
order of their hash under (seed, e). Every example comes once an epoch, a batch may hold the end of one epoch
and the start of the next, and a data set smaller than a batch is repeated in a new order each time. To
resume, only the step is needed.
"""

from functools import lru_cache
from typing import Any

import grain
import jax
import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.data.hashing import keyed_hash, permutation
from jaxdiff.operators import Measurement


class Batches:
    """Iterator over dispatches: each is a `Measurement` of NumPy arrays with leading axes (steps, batch).

    An error in the background thread is raised by `next`. Close it, or use it in a `with` statement.
    """

    def __init__(self, dispatches: "_Dispatches", prefetch: int):
        options = grain.ReadOptions(num_threads=min(1, prefetch), prefetch_buffer_size=prefetch)
        self._iterator = iter(grain.MapDataset.source(dispatches).to_iter_dataset(options))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Measurement:
        if self._iterator is None:
            raise ValueError("these batches are closed")
        return next(self._iterator)

    def close(self) -> None:
        """Stop reading ahead; what is being read is finished and dropped. A second call does nothing."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    steps_per_dispatch: int = 1,
    num_steps: int | None = None,
    *,
    process_index: int = 0,
    process_count: int = 1,
    flip: bool = False,
    prefetch: int = 2,
) -> Batches:
    """Batches for the steps from `start_step` on, several steps stacked for one dispatch.

    Args:
        dataset: what to batch.
        batch_size: global batch, all processes together.
        seed: of the order.
        start_step: first step.
        steps_per_dispatch: K, the leading axis of what is yielded; the last dispatch may be shorter.
        num_steps: where to stop (a step number, not a count); None: never.
        process_index, process_count: this process gets slots [p B / P, (p + 1) B / P) of every batch; the
            order of the whole does not depend on the number of processes.
        flip: mirror each example left to right with probability 1/2, by a hash of (seed, step, slot); y and its
            mask together, so that no example gets a second measurement.
        prefetch: dispatches made ready ahead; 0: no thread.

    Returns:
        An iterator of `Measurement`, leaves (K, B / P, ...); `close` it when done.

    Raises:
        ValueError: flips of a view, a batch that the processes do not divide, numbers out of range.
    """
    if flip and not dataset.mirrors:
        raise ValueError(
            f"{dataset.name}: flip needs whole images, or masks that come with each example; the operator of "
            "this view is fixed to the frame"
        )
    if batch_size < 1 or steps_per_dispatch < 1 or start_step < 0 or prefetch < 0:
        raise ValueError(
            f"{dataset.name}: need batch_size >= 1, steps_per_dispatch >= 1, start_step >= 0, prefetch >= 0; "
            f"got {batch_size}, {steps_per_dispatch}, {start_step}, {prefetch}"
        )
    if not 0 <= process_index < process_count or batch_size % process_count:
        raise ValueError(
            f"{dataset.name}: batch {batch_size} cannot be split over {process_count} processes "
            f"(this is number {process_index})"
        )
    local = batch_size // process_count
    slots = np.arange(process_index * local, (process_index + 1) * local)
    end = 2**62 if num_steps is None else num_steps
    dispatches = _Dispatches(dataset, batch_size, seed, start_step, steps_per_dispatch, end, slots, flip)
    return Batches(dispatches, prefetch)


def rows_at(places: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The rows at places g of the endless line of epochs of n rows; same shape as `places`."""
    epochs, inside = np.divmod(places, n)
    rows = np.empty_like(places)
    for epoch in range(int(epochs.min()), int(epochs.max()) + 1):
        here = epochs == epoch
        rows[here] = _epoch_order(n, seed, epoch)[inside[here]]
    return rows


@lru_cache(maxsize=16)
def _epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    return permutation(n, "order", seed, epoch)


class _Dispatches:
    """Random access by dispatch, as Grain wants it: dispatch d holds steps start + d K, ..., + K - 1."""

    def __init__(self, dataset, batch_size, seed, start, length, end, slots, flip):
        self._dataset, self._batch, self._seed, self._slots, self._flip = (
            dataset,
            batch_size,
            seed,
            slots,
            flip,
        )
        self._start, self._length, self._end = start, length, end

    def __len__(self) -> int:
        return max(0, -(-(self._end - self._start) // self._length))

    def __getitem__(self, dispatch: int) -> Measurement:
        first = self._start + dispatch * self._length
        steps = np.arange(first, min(first + self._length, self._end))
        places = steps[:, None] * self._batch + self._slots
        rows = rows_at(places, self._dataset.size, self._seed)
        taken: Any = self._dataset.take(rows.reshape(-1))
        if self._flip:
            mirror = (keyed_hash(places.reshape(-1), "flip", self._seed) >> np.uint64(63)).astype(bool)
            taken = taken.replace(**_mirrored({"y": taken.y, "params": taken.params}, mirror))
        return jax.tree.map(lambda leaf: leaf.reshape(*places.shape, *leaf.shape[1:]), taken)


def _mirrored(arrays: Any, mirror: np.ndarray) -> Any:
    """Those examples (n, H, W, C) for which `mirror` (n,) is true, left to right; numbers stay as they are."""

    def one(leaf):
        return np.where(mirror[:, None, None, None], leaf[:, :, ::-1], leaf) if leaf.ndim == 4 else leaf

    return jax.tree.map(one, arrays)
