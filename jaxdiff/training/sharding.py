"""Where arrays live: batches split over all devices of a mesh, state replicated or fully sharded (FSDP)."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

STATE_RULES = ("replicated", "fsdp")
FSDP_MIN_SIZE = 2**16  # elements; smaller leaves cost more to gather than to keep


def make_mesh(devices: list | None = None) -> Mesh:
    """A mesh of all devices (of all processes) with the single axis `data`."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh, batch_axis: int = 0) -> NamedSharding:
    """Splits axis `batch_axis` over all devices of the mesh, whatever its axes."""
    return NamedSharding(mesh, PartitionSpec(*([None] * batch_axis), mesh.axis_names))


def state_sharding(mesh: Mesh, tree: Any, rule: str = "replicated", min_size: int = FSDP_MIN_SIZE) -> Any:
    """A sharding for every leaf of `tree` (arrays or ShapeDtypeStructs).

    'fsdp' splits the longest axis that the number of devices divides, of leaves with at least `min_size`
    elements.

    Raises:
      ValueError: an unknown rule.
    """
    if rule not in STATE_RULES:
        raise ValueError(f"sharding: unknown rule '{rule}'; known: {', '.join(STATE_RULES)}")
    count = mesh.size

    def choose(leaf):
        axes = [i for i, length in enumerate(leaf.shape) if length % count == 0]
        if rule == "replicated" or count == 1 or not axes or np.prod(leaf.shape) < min_size:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda i: leaf.shape[i])
        return batch_sharding(mesh, longest)

    return jax.tree.map(choose, tree)


def check_batch(batch_size: int, mesh: Mesh, where: str, accumulate: int = 1) -> None:
    """Raises ValueError, with the nearest valid size, where devices and micro-batches do not divide the batch."""
    parts = mesh.size * accumulate
    if batch_size % parts:
        nearest = max(1, round(batch_size / parts)) * parts
        over = f"{mesh.size} devices" + (f" and {accumulate} micro-batches" if accumulate > 1 else "")
        raise ValueError(f"{where}: batch {batch_size} cannot be split over {over}; nearest valid: {nearest}")


def global_batch(local: Any, sharding: NamedSharding) -> Any:
    """This process's part of a batch (NumPy leaves) as global device arrays."""
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), local)
