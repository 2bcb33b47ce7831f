"""Data sets put together: clean data among measurements, several sources in one stage.

What an example may be used for travels with it: sigma_y, sigma_min, sigma_max, and the number of its source.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from jaxdiff.data.dataset import Dataset
from jaxdiff.operators import LinearOperator, Measurement


def as_measured(clean: Dataset, operator: LinearOperator) -> Dataset:
    """Clean images as measurements by the member of a family that hides nothing, A = I.

    Raises:
        ValueError: the family has no such member.
    """
    if not operator.per_example:
        operator.whole(1)
        return clean
    operator.whole(1)  # raises before anything is read

    def take(rows):
        batch = clean.take(rows)
        params = jax.tree.map(np.asarray, operator.whole(len(rows)).params)
        return batch.replace(params=params)

    return clean._replace(take=take, clean=False)


def annotated(
    dataset: Dataset, sigma_min: float = 0.0, sigma_max: float = np.inf, source: int = 0
) -> Dataset:
    """The data set whose examples carry these noise levels and this source number."""

    def take(rows):
        batch, ones = dataset.take(rows), np.ones(len(rows), np.float32)
        return batch.replace(
            sigma_min=sigma_min * ones,
            sigma_max=sigma_max * ones,
            source=np.full(len(rows), source, np.int32),
        )

    return dataset._replace(take=take)


def repeated(dataset: Dataset, size: int) -> Dataset:
    """The rows of a data set over and over, `size` rows in all: a larger share of a mixture.

    Raises:
        ValueError: `size` is less than one.
    """
    if size < 1:
        raise ValueError(f"{dataset.name}: cannot be repeated to {size} rows")
    return dataset._replace(size=size, take=lambda rows: dataset.take(np.asarray(rows) % dataset.size))


def array_dataset(name: str, images: np.ndarray) -> Dataset:
    """Images in memory as clean examples, (n, H, W, C) in [-1, 1]."""

    def take(rows):
        return Measurement(y=images[rows], params=None, sigma_y=np.zeros(len(rows), np.float32))

    return Dataset(name, len(images), take, clean=True, cached=True, mirrors=True)


def concatenated(name: str, parts: Sequence[Dataset]) -> Dataset:
    """All rows of the parts, one after another; batches mix them in the proportion of their sizes.

    Raises:
        ValueError: no parts, or their examples differ in shape or in what they carry.
    """
    if not parts:
        raise ValueError(f"{name}: no data sets to put together")
    forms = [jax.tree.map(lambda leaf: leaf.shape[1:], part.take(np.arange(1))) for part in parts]
    for part, form in zip(parts, forms, strict=True):
        if form != forms[0]:
            raise ValueError(
                f"{name}: examples of '{part.name}' are {form}, those of '{parts[0].name}' {forms[0]}"
            )
    starts = np.cumsum([0, *(part.size for part in parts)])

    def take(rows):
        rows = np.asarray(rows)
        owner = np.searchsorted(starts, rows, side="right") - 1
        pieces, places = [], []
        for number, part in enumerate(parts):
            mine = np.flatnonzero(owner == number)
            if mine.size:
                pieces.append(part.take(rows[mine] - starts[number]))
                places.append(mine)
        order = np.argsort(np.concatenate(places), kind="stable")
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *pieces)

    return Dataset(
        name,
        int(starts[-1]),
        take,
        clean=all(part.clean for part in parts),
        cached=all(part.cached for part in parts),
        mirrors=all(part.mirrors for part in parts),
    )


def mixed_parts(name: str, first: Dataset, second: Dataset, part: np.ndarray, rounds: int = 16) -> Dataset:
    """Images whose `part` is of an example of `first` and whose rest is of one of `second`.

    Row k puts together the examples k mod N and (k + k // lcm(N, M)) mod M, which meets each of the N M pairs once and
    favours no example. What comes out is no image: neither at the border nor in what they show do the parts fit.

    Args:
        name: of the data set.
        first, second: images (H, W, C) that hold values in their part at least, such as A^+ y.
        part: (H, W, C), above 0 where `first` counts.
        rounds: how often an example of the larger set is met, at most.
    """
    count, others, mine = first.size, second.size, np.asarray(part) > 0
    both = math.lcm(count, others)

    def take(rows):
        rows = np.asarray(rows)
        a, b = first.take(rows % count), second.take((rows + rows // both) % others)
        return a.replace(y=np.where(mine, a.y, b.y))

    size = min(count * others, rounds * max(count, others))
    return Dataset(name, size, take, clean=False, cached=first.cached and second.cached, mirrors=True)
