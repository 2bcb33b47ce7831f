"""The table at the end of a run, in at most 80 columns, also when the output goes to a file."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxdiff.report.numbers import (
    ABSENT,
    MINUS,
    decimals,
    duration,
    extent,
    fixed,
    interval,
    present,
    short_count,
    spread,
)
from jaxdiff.report.outcome import pair_names, verdict

WIDTH = 80


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )


def _ascii(cell: str) -> str:
    """Plain hyphens: the output may go to a file or to a terminal that knows nothing else."""
    return cell.replace(ABSENT, "-").replace(MINUS, "-")


def methods_table(results: Mapping) -> Table:
    """Methods, then candidates: nats over the Gaussian with interval, time, images, parameters."""
    entries = results.get("methods") or {}
    scores = [method.get("nats_over_gaussian") for method in entries.values()]
    places = decimals(score for score in scores if score is not None)
    table = _table("Nats per image over the Gaussian denoiser (held-out images)")
    table.add_column("method", overflow="fold", max_width=24)
    for name in ("nats", "95 % interval", "time", "images", "params"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(entries.items(), key=lambda item: item[1].get("kind") == "candidate")
    for name, method in ordered:
        score = method.get("nats_over_gaussian")
        cells = ["-", "-"]
        if score is not None:
            cells = [fixed(interval(score)[0], places), extent(name, score, places)]
        cells += [duration(method.get("seconds")), short_count(method.get("images_seen"))]
        cells = [_ascii(cell) for cell in [*cells, short_count(method.get("parameters"))]]
        style = "dim" if method.get("kind") == "candidate" else "bold" if name == "residual" else None
        table.add_row(escape(name), *cells, style=style)
    return table


def comparisons_table(results: Mapping) -> Table:
    """Paired differences with their intervals and what they say."""
    entries = results.get("comparisons") or {}
    places = decimals(entries.values())
    table = _table("Paired differences in nats per image")
    table.add_column("first - second", overflow="fold", max_width=34)
    table.add_column("nats", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("better", overflow="fold")
    for key, entry in entries.items():
        first, second = pair_names(key)
        word = verdict(first, second, entry).split(":")[0].removesuffix(" is better")
        mean = _ascii(fixed(interval(entry)[0], places, signed=True))
        table.add_row(
            escape(f"{first} - {second}" if second else first),
            mean,
            _ascii(spread(entry, places)),
            escape(word),
        )
    return table


def print_summary(results: Mapping, report_path: str | Path, console: Console) -> None:
    """Print the outcome of a run on `console`: methods, paired differences, the path of the report.

    Both tables keep within 80 columns (fewer on a narrower console). The path stands alone on its line and is
    never broken, so that it can be copied.
    """
    results = present(results)
    width = min(WIDTH, console.width)
    console.print()
    if results.get("methods"):
        console.print(methods_table(results), width=width)
        console.print()
    if results.get("comparisons"):
        console.print(comparisons_table(results), width=width)
        console.print()
    console.print("Report:", highlight=False)
    console.print(str(report_path), soft_wrap=True, markup=False, highlight=False)
