"""What a run would do, on a terminal: config, facts, data plan, stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
LEAST_WIDTH = 200
BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def short(value: float) -> str:
    """1234567 -> '1.23 M'."""
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def size(count: float) -> str:
    """Bytes for a person: 3 * 2**30 -> '3 GiB'."""
    for unit, name in BINARY:
        if count >= unit:
            return f"{count / unit:.{3 if count < 1000 * unit else 4}g} {name}"
    return f"{count:.0f} B"


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _flat(values: Mapping, prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        elif value is not None and value != {}:
            found.append(f"{prefix}{key}={value!r}")
    return found


def print_config(config: Mapping, used: Sequence[str], console: Console) -> None:
    """Every key with its value, a paragraph for each group of `used`; keys that a stage inherits are left out."""
    console.rule("resolved config")
    single = [f"{key}={value!r}" for key, value in config.items() if not isinstance(value, Mapping)]
    groups = {key: value for key, value in config.items() if isinstance(value, Mapping) and key != "views"}
    _line(console, " ".join(single))
    for name, values in groups.items():
        if name in used and (lines := _flat(values)):
            _line(console, f"{name}: " + " ".join(lines))
    for name, values in config["views"].items():
        _line(console, f"views.{name}: " + " ".join(_flat(values)))
    if left := [name for name in groups if name not in used]:
        _line(console, f"not used here: {', '.join(left)}")


def print_facts(facts: Mapping[str, str], console: Console) -> None:
    """A sentence for each."""
    console.rule("dry run: nothing is trained or written")
    for name, text in facts.items():
        _line(console, f"{name:<12} {text}")


def print_parts(rows: Sequence[tuple[str, str, str]], console: Console) -> None:
    """The data plan."""
    table = Table(title="data plan", title_justify="left")
    for name, justify in (("part", "left"), ("examples", "right"), ("for", "left")):
        table.add_column(name, justify=justify)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _wide(console: Console, table: Table) -> None:
    # Numbers cut off tell nothing: on a narrow terminal the lines are longer than it.
    if not console.quiet:
        Console(file=console.file, width=max(console.width, LEAST_WIDTH)).print(table)


def print_stages(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Stages in the order in which they run: network, work, what becomes of them; then memory, and sums."""
    table = Table(title="stages, in this order (operations of one image)", title_justify="left")
    for name in ("stage", "parameters", "loss", "loss + gradient", "steps", "batch", "images", "work", "now"):
        table.add_column(name, justify="left" if name in ("stage", "now") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row["name"]),
            short(row["parameters"]),
            short(row["forward_flops"]) + "FLOP",
            short(row["train_flops"]) + "FLOP",
            f"{row['steps']:,}",
            row["batch"],
            short(row["images"]),
            short(row["images"] * row["train_flops"]) + "FLOP",
            row["state"],
        )
    _wide(console, table)
    total = sum(row["images"] * row["train_flops"] for row in rows)
    images = sum(row["images"] for row in rows)
    _line(
        console, f"in all: {short(images)} images, {short(total)}FLOP of training (early stopping: at most)"
    )
    print_memory(rows, console)


def print_memory(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Memory on each device, by what it is for."""
    table = Table(title="memory on each device", title_justify="left")
    names = ("stage", "state lives", "state", "gradient", "earlier stages", "activations (estimate)", "sum")
    for name in names:
        table.add_column(name, justify="left" if name in names[:2] else "right", no_wrap=True)
    for row in rows:
        memory = row["memory"]
        parts = [memory[key] for key in ("state", "gradient", "frozen", "activations")]
        table.add_row(escape(row["name"]), row["sharding"], *map(size, parts), size(sum(parts)))
    _wide(console, table)
    _line(
        console,
        "state: parameters, moving average, best and optimiser, exact. activations: what the backward pass keeps for "
        "one device's images, an estimate; XLA lowers it by fusing and needs work space besides.",
    )


def print_cells(rows: Sequence[tuple[str, str]], command: str, console: Console) -> None:
    """The runs of a comparison."""
    console.rule("dry run: nothing is trained or written")
    table = Table(title="runs, a process each", title_justify="left")
    for name in ("run", "now"):
        table.add_column(name)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    done = sum(state == "done" for _, state in rows)
    _line(console, f"{len(rows)} runs, {done} of them done. What one of them would do: {command}")
