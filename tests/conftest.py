"""Eight fake CPU devices for the sharding tests, and quick compiling; set before anything else touches JAX."""

import os

# Most of the tests' time is compiling, a quarter of that LLVM's optimising of programs that run once.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import chex  # noqa: E402
import jax  # noqa: E402

chex.set_n_cpu_devices(8)


def pytest_configure(config):
    """What was compiled is kept beside pytest's own cache: the second run of the tests takes half the time."""
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
