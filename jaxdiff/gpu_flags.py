"""Flags of XLA for GPUs, set before JAX starts: the one place that sets any.

    xla_gpu_enable_latency_hiding_scheduler   collectives (all-reduce, all-gather) run while there is work to compute
    xla_gpu_enable_command_buffer             launches are recorded once, as CUDA graphs, and replayed together

Whoever sets one of them in XLA_FLAGS keeps what they set. XLA ends the process at a flag that it does not know, so
nothing is set where no CUDA plugin of JAX is installed; the names are those of jaxlib 0.10.
"""

import importlib.util
import os
from collections.abc import Mapping

FLAGS = {
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL",
}
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def with_gpu_flags(environment: Mapping[str, str], cuda: bool) -> str | None:
    """XLA_FLAGS with what is missing of `FLAGS` added; None where nothing is to be changed.

    Args:
        environment: variables; JAX_PLATFORMS without a GPU in it counts as no GPU.
        cuda: whether a CUDA plugin is installed.
    """
    given = environment.get("XLA_FLAGS", "")
    platforms = environment.get("JAX_PLATFORMS", "")
    if not cuda or (platforms and not {"cuda", "gpu"} & set(platforms.split(","))):
        return None
    known = {flag.lstrip("-").partition("=")[0] for flag in given.split()}
    added = [f"--{name}={value}" for name, value in FLAGS.items() if name not in known]
    return " ".join(filter(None, (given, *added))) if added else None


def set_gpu_flags() -> None:
    """Set XLA_FLAGS for this process and those that it starts; without effect once JAX has looked for its devices."""
    cuda = any(importlib.util.find_spec(name) is not None for name in PLUGINS)
    flags = with_gpu_flags(os.environ, cuda)
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
