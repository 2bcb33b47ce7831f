"""What the speed benchmarks share: the command line, clocks, rates, peaks of devices, the machine in words."""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.evaluation.flops import count_flops
from jaxdiff.networks import build_network

# Operations per second of one device in dense products, from the makers' data sheets. On NVIDIA, JAX multiplies
# float32 matrices in TF32; on a TPU in bfloat16.
PEAKS = {
    "NVIDIA A100": {"float32": 156e12, "bfloat16": 312e12},
    "NVIDIA H100": {"float32": 494e12, "bfloat16": 989e12},
    "NVIDIA H200": {"float32": 494e12, "bfloat16": 989e12},
    "NVIDIA L4": {"float32": 60e12, "bfloat16": 121e12},
    "NVIDIA L40S": {"float32": 183e12, "bfloat16": 362e12},
    "Tesla V100": {"float32": 15.7e12},
    "TPU v4": {"float32": 275e12, "bfloat16": 275e12},
    "TPU v5 lite": {"float32": 197e12, "bfloat16": 197e12},
    "TPU v5": {"float32": 459e12, "bfloat16": 459e12},
    "TPU v6 lite": {"float32": 918e12, "bfloat16": 918e12},
}


class Work(NamedTuple):
    """Something to be timed: `run()` does it once and waits for its end.

    Attributes:
      run: one step of training, or one batch of samples.
      images: that one `run` trains on, or draws.
      flops: products of one `run`, two operations for each multiply-add.
      compile_seconds: what making it took.
      details: for the JSON.
    """

    run: Callable[[], Any]
    images: int
    flops: float
    compile_seconds: float
    details: dict[str, Any]


def parser(description: str, network: dict[str, Any], shape: tuple[int, ...], batch: int):
    """The options that the benchmarks have in common, with these defaults."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--network", type=json.loads, default=network, help="arguments of the U-Net, JSON")
    options.add_argument("--shape", type=int, nargs=3, default=shape, help="height, width, channels")
    options.add_argument("--batch", type=int, default=batch)
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options.add_argument("--repeat", type=int, default=20, help="how often it is timed")
    options.add_argument("--profile", type=Path, help="write a trace of three runs into this directory")
    return options


def asked_network(options: argparse.Namespace) -> Any:
    """The network that the options ask for: a U-Net where they give no 'name'."""
    arguments = {"name": "unet", **options.network}
    return build_network(out_channels=options.shape[-1], dtype=options.dtype, **arguments)


def compiled(function: Any, *args: Any) -> tuple[Any, float]:
    """The jitted `function` compiled for `args`, and the seconds that took."""
    start = time.perf_counter()
    program = function.lower(*args).compile()
    return program, time.perf_counter() - start


def forward_costs(network: Any, params: Any, shape: tuple[int, ...], batch: int) -> dict[str, float]:
    """Parameters, and operations of one forward pass for one image, counted in two ways.

    'forward_flops': 2 for each multiply-add of convolutions and matrix products, windows over the border full: what
    rates are computed from here, and how other frameworks count. 'forward_flops_xla': XLA's cost analysis, which
    leaves out the border's zeros and adds what is elementwise.
    """
    x, c_noise = (jax.ShapeDtypeStruct(size, jnp.float32) for size in ((batch, *shape), (batch,)))

    def forward(params, x, c_noise):
        return network.apply({"params": params}, x, c_noise)

    analysis = jax.jit(forward).lower(params, x, c_noise).cost_analysis()
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "forward_flops": count_flops(forward, params, x, c_noise) / batch,
        "forward_flops_xla": analysis["flops"] / batch,
    }


def seconds_of(run: Callable[[], Any], repeat: int) -> list[float]:
    """Seconds of each of `repeat` runs, by the clock."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def rates(work: Work, seconds: list[float], dtype: str = "float32") -> dict[str, Any]:
    """Images per second (median, and the rate that nine runs in ten reach), GFLOP/s, and the share of the peak."""
    median = float(np.median(seconds))
    achieved, peak = work.flops / median, peak_flops(dtype)
    return {
        "images_per_s": round(work.images / median, 2),
        "images_per_s_p10": round(work.images / float(np.percentile(seconds, 90)), 2),
        "gflop_per_s": round(achieved / 1e9, 1),
        "mfu": None if peak is None else round(achieved / peak, 4),
    }


def peak_flops(dtype: str) -> float | None:
    """Peak of all devices together, or None where it is not known (CPUs among others)."""
    kind = jax.devices()[0].device_kind
    known = [name for name in PEAKS if kind.startswith(name)]
    peak = PEAKS[max(known, key=len)].get(dtype) if known else None
    return None if peak is None else peak * jax.device_count()


def peak_memory_mb() -> float:
    """Most memory in use so far: of the device where it keeps count, else of this process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return round(statistics["peak_bytes_in_use"] / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def report(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Warm up, time, and put everything into one dictionary; a trace where one is asked for."""
    work.run()
    seconds = seconds_of(work.run, options.repeat)
    if options.profile:
        with jax.profiler.trace(str(options.profile)):
            seconds_of(work.run, 3)
    return {
        **machine(),
        **work.details,
        "batch": options.batch,
        "repeat": options.repeat,
        **rates(work, seconds, options.dtype),
        "compile_seconds": round(work.compile_seconds, 2),
        "peak_memory_mb": peak_memory_mb(),
    }


def images(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    """The data of every benchmark: noise of standard deviation 0.5, clipped to [-1, 1], float32."""
    values = 0.5 * np.random.default_rng(0).standard_normal((batch, *shape))
    return np.clip(values, -1, 1).astype(np.float32)
