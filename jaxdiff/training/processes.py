"""Several processes on one job: how they start, who writes, what they agree on.

Every process runs the same program on its share of the data. Process 0 alone writes configs, metrics and reports, and
speaks; checkpoints are written by all (Orbax). The workdir must be one that all processes see: a shared file system or
gs://.
"""

import itertools
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff.training.sharding import make_mesh

CHOICES = ("auto", "on", "off")
_CALLS = itertools.count()  # the service wants numbers that rise by one; steps begin anew in every stage
NEEDED = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def start(distributed: str | bool) -> None:
    """Call `jax.distributed.initialize`; before anything touches a device.

    Args:
      distributed: 'off' (or False): one process. 'on' (or True): what JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
        JAX_PROCESS_ID say, else what JAX finds by itself (Cloud TPU, GKE, SLURM, Open MPI, Kubernetes). 'auto': the
        same, and one process where it finds nothing.

    Raises:
      ValueError: 'on', and nothing says who the other processes are; or one of the three variables is missing.
    """
    distributed = {True: "on", False: "off"}.get(distributed, distributed)
    if distributed not in CHOICES:
        raise ValueError(f"--distributed: '{distributed}' is none of {', '.join(CHOICES)}")
    if distributed == "off" or jax.distributed.is_initialized():
        return
    given = {name: os.environ.get(name) for name in NEEDED}
    if any(given.values()):
        if missing := [name for name, value in given.items() if not value]:
            raise ValueError(f"--distributed: {' and '.join(missing)} must be set beside the others")
        address, count, number = given.values()
        jax.distributed.initialize(address, int(count), int(number))
        return
    try:
        jax.distributed.initialize()
    except ValueError as error:
        # What JAX says where no cluster is found.
        if "should be defined" not in str(error):
            raise
        if distributed == "on":
            raise ValueError(
                "--distributed=on: this is no Cloud TPU pod, GKE, SLURM or MPI job that JAX knows of; set "
                f"{', '.join(NEEDED)}, or leave --distributed out"
            ) from None


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Return once every process has come here; `what` names the place in error messages."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def of_first(value: Any) -> Any:
    """The `value` (numbers, arrays; the same shapes everywhere) that process 0 has."""
    return multihost_utils.broadcast_one_to_all(value) if jax.process_count() > 1 else value


def stop_agreed(asked: bool) -> bool:
    """Whether all processes stop here: one of them has got SIGTERM, and the others know of it.

    Call it after every dispatch, in all processes. The coordination service carries the notice and chooses a call that
    no process has passed yet; with one process it is `asked`.
    """
    if jax.process_count() == 1:
        return asked
    return multihost_utils.reached_preemption_sync_point(next(_CALLS))


def on_this_host(tree: Any) -> Any:
    """Arrays of this process's own devices: those spread over processes are gathered, others stay as they are.

    All processes must call it.
    """
    if jax.process_count() == 1:
        return tree

    def local(leaf):
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if not leaf.is_fully_replicated:
            everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
            leaf = jax.jit(lambda a: a, out_shardings=everywhere)(leaf)
        return jax.device_put(leaf.addressable_data(0), here)

    here = NamedSharding(make_mesh(jax.local_devices()), PartitionSpec())
    return jax.tree.map(local, tree)
