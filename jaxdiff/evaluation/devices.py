"""Work on many images by all the devices of this process."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def split_locally(batch: np.ndarray) -> Any:
    """The batch split over this process's devices, where there are several and their number divides it; else as it
    is."""
    devices = jax.local_devices()
    if len(devices) == 1 or len(batch) % len(devices):
        return batch
    return jax.device_put(batch, NamedSharding(Mesh(np.asarray(devices), ("data",)), PartitionSpec("data")))
