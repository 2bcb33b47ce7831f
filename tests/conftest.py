"""Eight fake CPU devices for the sharding tests; set before anything else touches JAX."""

import mmap
import os
from pathlib import Path

import chex
import jax
import jaxlib

chex.set_n_cpu_devices(8)
QUICK = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": "false"}


def known_to_xla(flag):
    """Whether the XLA that is installed has this flag: it ends the process over one that it does not know."""
    for library in Path(jaxlib.__file__).parent.glob("*.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(flag.encode()) >= 0:
                return True
    return False


def pytest_configure(config):
    """Most of the time of the default tests is compiling, half of it for the speed of programs that run once; what was
    compiled is kept beside pytest's own cache, so that the second run takes half the time."""
    if config.getoption("markexpr") == "not slow":
        flags = [f"--{flag}={value}" for flag, value in QUICK.items() if known_to_xla(flag)]
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_terminal_summary(terminalreporter):
    """What the tests have counted (`record_property`), at the end."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    lines = [f"{name}: {value}" for report in called for name, value in report.user_properties]
    if lines:
        terminalreporter.section("counts")
        terminalreporter.write_line("\n".join(lines))
