"""The tables at the end of a run, a comparison or a price list: at most 80 columns, also in a file."""

import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxdiff.report.compare_facts import percent
from jaxdiff.report.crosstable_page import crosstable_rows
from jaxdiff.report.memorization_page import attack_label, verdict_word
from jaxdiff.report.memorization_page import headline as memorization_headline
from jaxdiff.report.numbers import (
    ABSENT,
    MINUS,
    decimals,
    duration,
    extent,
    fixed,
    interval,
    interval_heading,
    level_of,
    present,
    short_count,
    significant,
    spread,
)
from jaxdiff.report.outcome import pair_names, verdict
from jaxdiff.report.restore_page import headline, method_name, of_operator, short_time
from jaxdiff.report.sentences import exchange_sentence, money_sentence

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
    for name in ("nats", interval_heading(level_of(results)), "time", "images", "params"):
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
    table.add_column(interval_heading(level_of(results)), justify="right", no_wrap=True)
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


def compare_table(compare: Mapping) -> Table:
    """Rows, the best first: nats with interval, share of the gap closed with interval, training work."""
    rows = [row for row in compare.get("rows") or [] if math.isfinite(interval(row.get("nats"))[0])]
    rows.sort(key=lambda row: -interval(row["nats"])[0])
    gaps = [row["gap_closed"] for row in rows if row.get("gap_closed")]
    places, gap_places = decimals(row["nats"] for row in rows), decimals(gaps)
    table = _table("Nats per image over the Gaussian denoiser, and share of the gap to all images clean")
    table.add_column("method", overflow="fold", max_width=20)
    ends = interval_heading(level_of(compare))
    for name in ("nats", ends, "gap", ends, "PFLOP"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        gap = row.get("gap_closed")
        cells = [fixed(interval(row["nats"])[0], places), spread(row["nats"], places)]
        cells += [fixed(interval(gap)[0], gap_places), spread(gap, gap_places)] if gap else ["-", "-"]
        cells.append(significant(row.get("train_pflop")))
        table.add_row(escape(str(row.get("label") or row["name"])), *map(_ascii, cells))
    return table


def worth_table(worth: Mapping) -> Table:
    """Sources: clean images for one more image, with interval; what all present ones replace; the reading."""
    table = _table("Clean images that one more image of a source is worth")
    table.add_column("source", overflow="fold", max_width=18)
    for name in ("present", "worth", interval_heading(level_of(worth)), "all replace"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reading", overflow="fold")
    for entry in worth.get("sources") or []:
        here, places = entry["present"], decimals([entry["rate"]])
        cells = [f"{short_count(here['n_clean'])} + {short_count(here['n_source'])}"]
        cells += [fixed(interval(entry["rate"])[0], places), spread(entry["rate"], places)]
        cells.append(fixed(interval(entry["replaced"])[0], 0) if here["n_source"] else "-")
        table.add_row(escape(str(entry["name"])), *map(_ascii, cells), entry["reading"])
    return table


def _print(table: Table, sentences: list[str], report_path: str | Path, console: Console) -> None:
    width = min(WIDTH, console.width)
    console.print()
    console.print(table, width=width)
    console.print()
    for sentence in sentences:
        console.print(_ascii(sentence.replace("\u00a0", " ")), width=width, markup=False, highlight=False)
    console.print()
    console.print("Report:", highlight=False)
    console.print(str(report_path), soft_wrap=True, markup=False, highlight=False)


def print_compare(compare: Mapping, report_path: str | Path, console: Console) -> None:
    """Print a comparison of methods: the table, the headline, warnings, the path of the report; within 80 columns."""
    sentences = [str(compare.get("headline") or "")]
    sentences += [f"warning: {said}" for said in compare.get("warnings") or []]
    _print(compare_table(compare), sentences, report_path, console)


def crosstable_table(table: Mapping) -> Table:
    """Rows: model and method; NRMSE at each acceleration."""
    accelerations = table.get("accelerations") or []
    shown = _table("NRMSE of magnitude images at each test acceleration (lower is better)")
    shown.add_column("model", overflow="fold", max_width=20)
    shown.add_column("method", overflow="fold", max_width=14)
    for acceleration in accelerations:
        shown.add_column(f"R = {acceleration:g}", justify="right")
    for (run, method), entries in crosstable_rows(table).items():
        cells = []
        for acceleration in accelerations:
            entry = entries.get(acceleration, {}).get("nrmse")
            cells.append(fixed(interval(entry)[0], 4) if entry else "-")
        shown.add_row(escape(run or "-"), escape(method.replace("_", " ")), *map(_ascii, cells))
    return shown


def print_crosstable(table: Mapping, report_path: str | Path, console: Console) -> None:
    """Print a cross table: NRMSE by model and acceleration, the path of the report; within 80 columns."""
    _print(crosstable_table(table), [], report_path, console)


def restore_table(results: Mapping) -> Table:
    """Rows: operator, prior and method; PSNR of the restored image and of a draw, coverage, time; by operator."""
    stated = fixed(100 * float(results.get("stated") or 0), 0)
    table = _table("Restored images: PSNR in dB, coverage of the posterior's interval, time of an image")
    table.add_column("operator, prior and method", overflow="fold", max_width=30)
    ends = interval_heading(results.get("level"))
    for name in ("PSNR", ends, "one draw", f"in {stated} %", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for operator in results.get("operators") or {}:
        table.add_row(escape(operator.replace("_", " ")), style="bold")
        for entry in of_operator(results, operator):
            psnr, covered = entry.get("psnr"), entry.get("coverage")
            cells = [fixed(interval(psnr)[0], 2), spread(psnr, 2)] if psnr else ["-", "-"]
            cells += [fixed(interval(entry.get("psnr_draw"))[0], 2) if entry.get("psnr_draw") else "-"]
            cells += [fixed(100 * interval(covered)[0], 0) if covered else "-"]
            cells = [_ascii(cell) for cell in [*cells, short_time(entry.get("seconds_per_image"))]]
            table.add_row("  " + escape(method_name(entry).replace("\u207a", "+")), *cells)
    return table


def print_restore(results: Mapping, report_path: str | Path, console: Console) -> None:
    """Print a table of restorations, the best of each operator, the path of the report; within 80 columns."""
    results = present(results)
    _print(restore_table(results), [headline(results).replace("\u207a", "+")], report_path, console)


def memorization_table(results: Mapping) -> Table:
    """Rows: share of near copies among samples, then the AUC of each attack; interval, expected value, reading."""
    alike = results.get("similarity") or {}
    table = _table(f"Memorization: {results.get('method')}")
    table.add_column("measure", overflow="fold", max_width=34)
    for name in ("value", interval_heading(results.get("level")), "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reading", no_wrap=True)
    if alike:
        cells = [percent(alike["share"]), f"{percent(alike['low'], False)} to {percent(alike['high'])}"]
        cells = [cell.replace("\u00a0", " ") for cell in [*cells, percent(alike["expected"])]]
        table.add_row("samples: near copies", *cells, verdict_word(alike))
    for entry in results.get("attacks") or []:
        ends = f"{fixed(entry['auc_low'], 3)} to {fixed(entry['auc_high'], 3)}"
        cells = [fixed(entry["auc"], 3), ends, "0.500", verdict_word(entry)]
        table.add_row(f"AUC: {attack_label(entry)}", *map(_ascii, cells))
    return table


def print_memorization(results: Mapping, report_path: str | Path, console: Console) -> None:
    """Print what a run repeats: the table, a sentence, what was left out, the path; within 80 columns."""
    sentences = [memorization_headline(results), *(results.get("left_out") or [])]
    _print(memorization_table(results), sentences, report_path, console)


def print_worth(worth: Mapping, report_path: str | Path, console: Console) -> None:
    """Print a price list: the table, a sentence for each source, cautions, money, the path; in 80 columns."""
    entries = worth.get("sources") or []
    sentences = [exchange_sentence(entry, level_of(worth)) for entry in entries]
    sentences += [f"{entry['label']}: {text}" for entry in entries for text in entry.get("cautions") or []]
    sentences += [money_sentence(worth["money"])] if worth.get("money") else []
    _print(worth_table(worth), sentences, report_path, console)
