"""The toy with exact answers: a table of measured against exact."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxdiff.evaluation.toy import gaussian_toy
from jaxdiff.experiment.arrays import write_atomically


def print_rows(title: str, rows: list[dict], console: Console) -> None:
    """A table of measured, exact and tolerance."""
    table = Table(title=title)
    for name in ("quantity", "measured", "exact", "tolerance", ""):
        table.add_column(name, justify="left" if name == "quantity" else "right")
    for row in rows:
        numbers = (f"{row[key]:.5g}" for key in ("measured", "exact", "tolerance"))
        table.add_row(row["quantity"], *numbers, "ok" if row["ok"] else "FAIL")
    console.print(table)


def run(config: Any, workdir: Path, console: Console, command_line: list[str]) -> int:
    """Print the table and write results.json; 0 where every row is within its tolerance, else 1."""
    toy = config.toy
    rows = gaussian_toy(toy.rho, toy.samples, config.seed)
    print_rows(config.title, rows, console)
    results = {"title": config.title, "command": " ".join(command_line), "seed": config.seed, "rows": rows}
    path = workdir / "results.json"
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(results, indent=1)))
    console.print(f"{path}", highlight=False)
    return 0 if all(row["ok"] for row in rows) else 1
