"""Do several processes give what one gives? `python -m jaxdiff.training.distributed_check --processes 2`.

Starts real processes on this machine that talk over loopback (`jax.distributed`, gloo collectives on CPUs): each trains
a small model on its own share of every batch, evaluates and samples. Compared are losses, gradients, parameters,
denoising errors and samples

    one process with one device      with      N processes, state replicated, and again with the state sharded (fsdp)

within `TOLERANCES`, and two runs of the same N processes bit by bit, of either rule. One stage is trained, a network on
clean images. Prints the largest differences; exit code 1 where
one is too large.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

PROBE = "jaxdiff.experiment.distributed_probe"
# Largest difference over the largest value. Sums over devices are in another order, hence not the same bits; Adam
# divides by the gradient's own size, so that rounding in a gradient that is nearly zero moves a parameter visibly.
TOLERANCES = {
    "losses in training": 1e-5,
    "gradient norms in training": 1e-5,
    "loss of a batch": 1e-5,
    "gradient": 1e-5,
    "parameters": 1e-4,
    "errors": 1e-4,
    "samples": 1e-3,
}


class Difference(NamedTuple):
    """The largest difference of a group of arrays, relative to its largest value."""

    name: str
    value: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within its tolerance (a NaN is not)."""
        return self.value <= self.tolerance


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(number: int, count: int, port: int, devices: int) -> dict[str, str]:
    """Of process `number` of `count` on this machine's CPU, with `devices` fake devices each."""
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        variables.pop(name, None)
    if count > 1:
        variables["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{port}"
        variables["JAX_NUM_PROCESSES"], variables["JAX_PROCESS_ID"] = str(count), str(number)
    return variables


def start(command: Sequence[str], count: int, devices: int, folder: Path) -> list[subprocess.Popen]:
    """`count` processes of one job, each with a log in `folder`."""
    port, found = free_port(), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        with open(folder / f"log{number}.txt", "wb") as log:
            environ = environment(number, count, port, devices)
            found.append(subprocess.Popen([*command], stdout=log, stderr=subprocess.STDOUT, env=environ))
    return found


def wait(processes: Sequence[subprocess.Popen], seconds: float) -> list[int]:
    """Exit codes; once one process has failed the others, which would wait for it, are ended.

    Raises:
      TimeoutError: they are not over in time; they are killed.
    """
    deadline = time.monotonic() + seconds
    try:
        while any(process.poll() is None for process in processes):
            if any(process.returncode not in (0, None) for process in processes):
                time.sleep(1.0)  # for the others' own messages
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(processes)} processes are not done after {seconds:.0f} s")
            time.sleep(0.05)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    return [process.returncode for process in processes]


def probe(folder: Path, name: str, count: int, devices: int, rule: str, config: str) -> dict[str, np.ndarray]:
    """The numbers of `count` processes.

    Raises:
      RuntimeError: a process failed; the message has the end of its log.
    """
    out = folder / f"{name}.npz"
    command = [sys.executable, "-m", PROBE, str(out), f"--config={config}", f"--rule={rule}"]
    codes = wait(start(command, count, devices, folder / name / "logs"), seconds=900)
    for number, code in enumerate(codes):
        if code:
            log = (folder / name / "logs" / f"log{number}.txt").read_text(errors="replace")
            raise RuntimeError(f"{name}: process {number} ended with exit code {code}:\n{log[-3000:]}")
    with np.load(out, allow_pickle=False) as stored:
        return dict(stored)


def differences(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[Difference]:
    """The largest difference of every group of `TOLERANCES`."""
    found = []
    for group, tolerance in TOLERANCES.items():
        names = [name for name in one if name.split("/")[0] == group]
        scale = max(float(np.abs(one[name]).max()) for name in names)
        value = max(float(np.abs(one[name] - other[name]).max()) for name in names) / scale
        found.append(Difference(group, value, tolerance))
    return found


def same_bits(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays that differ in any bit."""
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


def _print(title: str, found: Sequence[Difference], console: Console) -> None:
    table = Table(title=title, title_justify="left")
    for name in ("quantity", "largest difference / largest value", "tolerance", ""):
        table.add_column(name, justify="left" if name == "quantity" else "right")
    for row in found:
        table.add_row(row.name, f"{row.value:.1e}", f"{row.tolerance:.0e}", "ok" if row.ok else "FAIL")
    console.print(table)


def check(processes: int, devices: int, config: str, folder: Path, console: Console) -> bool:
    """Run all, print, and say whether all is as it should be."""
    reference = probe(folder, "one", 1, 1, "replicated", config)
    good = True
    for rule in ("replicated", "fsdp"):
        found = probe(folder, rule, processes, devices, rule, config)
        if found["processes"] != processes or found["devices"] != processes * devices:
            raise RuntimeError(f"{rule}: {found['processes']} processes, {found['devices']} devices")
        if bool(found["split"]) != (rule == "fsdp"):
            raise RuntimeError(f"{rule}: {found['split']} arrays of the network are split over the devices")
        rows = differences(reference, found)
        _print(f"1 process against {processes} x {devices} device(s), {rule}", rows, console)
        good &= all(row.ok for row in rows)
        again = probe(folder, f"{rule}-again", processes, devices, rule, config)
        changed = same_bits(found, again)
        same = "every bit is the same" if not changed else f"DIFFERENT: {', '.join(changed)}"
        console.print(f"twice {processes} processes, {rule}: {same}", highlight=False)
        good &= not changed
    console.print("EQUAL within the tolerances" if good else "NOT EQUAL", highlight=False)
    return good


def main(argv: list[str]) -> int:
    """0 where all is equal, 1 where not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1, help="fake devices of each process")
    parser.add_argument("--config", default="configs/digits_residual.py:tiny", help="a small one")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        good = check(args.processes, args.devices, args.config, Path(folder), Console())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
