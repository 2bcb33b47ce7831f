"""What a stage is given: measurements by row, and never the clean image of a view."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from rich.progress import track

from jaxdiff.data.damage import Damage
from jaxdiff.data.measure import measure, measure_k_space
from jaxdiff.data.measured import MeasurementSource
from jaxdiff.data.sources import Source
from jaxdiff.operators import LinearOperator, Measurement

CACHE_BYTES = 2**30
READ = 256  # examples read at a time
SHOW_PROGRESS_FROM = 2000


class Dataset(NamedTuple):
    """Measurements by row.

    Attributes:
        name: for messages.
        size: number of rows.
        take: rows (n,) -> `Measurement` of NumPy arrays with leading axis n; may be called from any thread.
        clean: the examples are whole images: y = x, no parameters, no noise.
        cached: all of it is in memory.
        mirrors: mirroring y, and the parameters with it, gives a measurement of the mirrored image: the same one,
            not a second.
    """

    name: str
    size: int
    take: Callable[[np.ndarray], Measurement]
    clean: bool
    cached: bool
    mirrors: bool = False


def clean_dataset(
    source: Source, indices: np.ndarray, cache_bytes: int = CACHE_BYTES, name: str = "clean"
) -> Dataset:
    """Clean examples as measurements with y = x, params None and sigma_y = 0.

    Args:
        source: where the examples are.
        indices: (n,) into the source; row r of the data set is example indices[r].
        cache_bytes: kept in memory up to this size.
        name: for messages.

    Raises:
        ValueError: no indices, or an index that the source does not have.
    """
    indices = _checked(source, indices, name)

    def make(rows):
        x = source.gather(indices[rows])
        return Measurement(y=x, params=None, sigma_y=np.zeros(len(x), np.float32))

    return _dataset(name, indices, make, True, cache_bytes, True)


def view_dataset(
    source: Source,
    indices: np.ndarray,
    operator: LinearOperator,
    seed: int,
    sigma_y: float = 0.0,
    cache_bytes: int = CACHE_BYTES,
    name: str = "view",
    damage: Damage | None = None,
) -> Dataset:
    """A view of a source: y = A x + sigma_y n, one fixed measurement for each example (see `measure`).

    Of a source that has measured k-space itself (`fastmri`), `multicoil_fourier` takes lines of that and its coil maps,
    and simulates nothing.

    Measured once and kept where the measurements fit in `cache_bytes`, else measured whenever a row is asked
    for; both give the same numbers.

    Args:
        source: where the clean examples are.
        indices: (n,) into the source; row r of the data set is example indices[r].
        operator: the view's A.
        seed: of the view's measurements.
        sigma_y: standard deviation of the measurement noise.
        cache_bytes: kept in memory up to this size.
        name: for messages.
        damage: non-linear damage to x before it is measured (see `damage`); its draw is fixed for each example.

    Raises:
        ValueError: no indices, an index that the source does not have, or an operator for another shape.
    """
    indices = _checked(source, indices, name)
    if tuple(operator.in_shape) != tuple(source.shape):
        raise ValueError(
            f"{name}: operator '{operator.name}' is for {operator.in_shape}, {source.name} has {source.shape}"
        )

    measured = hasattr(source, "k_space") and operator.name == "multicoil_fourier"
    if measured and sigma_y:
        raise ValueError(f"{name}: the k-space of {source.name} has its own noise; leave sigma_y 0")

    def make(rows):
        if measured:
            return measure_k_space(operator, *source.k_space(indices[rows]), indices[rows], seed)
        x = source.gather(indices[rows])
        if damage is not None:
            x = damage(x, indices[rows], seed)
        return measure(operator, x, indices[rows], seed, sigma_y)

    return _dataset(name, indices, make, False, cache_bytes, mirrors(operator))


def measured_dataset(
    source: MeasurementSource, indices: np.ndarray, cache_bytes: int = CACHE_BYTES, name: str = "view"
) -> Dataset:
    """Measurements as they lie on disk (see `measured`).

    Args:
        source: where the measurements are.
        indices: (n,) into the source.
        cache_bytes: kept in memory up to this size.
        name: for messages.

    Raises:
        ValueError: no indices, or an index that the source does not have.
    """
    indices = _checked(source, indices, name)

    def make(rows):
        return source.gather(indices[rows])

    return _dataset(name, indices, make, False, cache_bytes, mirrors(source.operator))


def mirrors(operator: LinearOperator) -> bool:
    """Whether a mirrored measurement, its parameters mirrored with it, is one of the mirrored image.

    So it is for whole images and for masks that come with each example; a fixed mask or crop would move.
    """
    if operator.name == "identity":
        return True
    if not operator.per_example or operator.in_shape != operator.out_shape:
        return False
    drawn = jax.eval_shape(lambda key: operator.draw(key[None]).params, jax.random.key(0))
    return all(leaf.shape[1:3] == operator.in_shape[:2] for leaf in jax.tree.leaves(drawn))


def _checked(source: Source | MeasurementSource, indices: np.ndarray, name: str) -> np.ndarray:
    indices = np.asarray(indices, np.int64)
    if indices.ndim != 1 or len(indices) == 0:
        raise ValueError(f"{name}: no examples (indices of shape {indices.shape})")
    if indices.min() < 0 or indices.max() >= len(source):
        raise ValueError(f"{name}: indices up to {indices.max()}, {source.name} has {len(source)} examples")
    return indices


def _dataset(name, indices, make, clean, cache_bytes, mirrors) -> Dataset:
    size = len(indices)
    one = make(np.arange(1))
    if size * sum(leaf.nbytes for leaf in jax.tree.leaves(one)) > cache_bytes:
        return Dataset(name, size, make, clean, False, mirrors)
    kept = jax.tree.map(lambda leaf: np.empty((size, *leaf.shape[1:]), leaf.dtype), one)
    starts = range(0, size, READ)
    if size >= SHOW_PROGRESS_FROM:
        starts = track(starts, description=f"measuring {name}", transient=True)
    for start in starts:
        rows = np.arange(start, min(start + READ, size))
        for whole, part in zip(jax.tree.leaves(kept), jax.tree.leaves(make(rows)), strict=True):
            whole[rows] = part
    return Dataset(name, size, lambda rows: jax.tree.map(lambda leaf: leaf[rows], kept), clean, True, mirrors)
