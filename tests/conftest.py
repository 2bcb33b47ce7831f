"""Eight fake CPU devices for the sharding tests; set before anything else touches JAX."""

import os

import chex
import jax

chex.set_n_cpu_devices(8)
QUICK = "--xla_backend_optimization_level=0"


def pytest_configure(config):
    """Most of the time of the default tests is compiling, a quarter of it optimising programs that run once; what was
    compiled is kept beside pytest's own cache, so that the second run takes half the time."""
    if config.getoption("markexpr") == "not slow":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
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
