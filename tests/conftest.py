"""Eight fake CPU devices for the sharding tests; set before anything else touches JAX."""

import chex

chex.set_n_cpu_devices(8)


def pytest_terminal_summary(terminalreporter):
    """What the tests have counted (`record_property`), at the end."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    lines = [f"{name}: {value}" for report in called for name, value in report.user_properties]
    if lines:
        terminalreporter.section("counts")
        terminalreporter.write_line("\n".join(lines))
