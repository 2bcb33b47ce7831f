"""Flags for GPUs: added where there is a CUDA plugin, never in place of what the user has set; names that XLA knows."""

import os
import subprocess
import sys

import pytest

from jaxdiff.gpu_flags import FLAGS, with_gpu_flags

ALL = " ".join(f"--{name}={value}" for name, value in FLAGS.items())
SECOND = ALL.split()[1]
BY_HAND = "--xla_gpu_enable_latency_hiding_scheduler=false"


@pytest.mark.parametrize(
    ("environment", "cuda", "expected"),
    [
        ({}, False, None),
        ({}, True, ALL),
        ({"XLA_FLAGS": "--xla_dump_to=/x"}, True, f"--xla_dump_to=/x {ALL}"),
        ({"XLA_FLAGS": BY_HAND}, True, f"{BY_HAND} {SECOND}"),
        ({"XLA_FLAGS": ALL}, True, None),
        ({"JAX_PLATFORMS": "cpu"}, True, None),
        ({"JAX_PLATFORMS": "cuda,cpu"}, True, ALL),
    ],
)
def test_flags(environment, cuda, expected):
    assert with_gpu_flags(environment, cuda) == expected


def test_xla_knows_the_names_and_values():
    """This XLA reads its flags for GPUs on a CPU, too; at one that it does not know it ends the process."""
    command = [sys.executable, "-c", "import jax; print(jax.numpy.ones(3).sum())"]
    environment = os.environ | {"XLA_FLAGS": ALL, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "3.0", done.stderr[-500:]
