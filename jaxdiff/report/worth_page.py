"""The price list as one page: what an image of each source is worth in clean ones, and where money goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxdiff.report import figures
from jaxdiff.report.blocks import Folded, Remarks, Section, Table, row, section
from jaxdiff.report.figures import Frame
from jaxdiff.report.numbers import (
    ABSENT,
    count,
    decimals,
    fixed,
    interval,
    interval_heading,
    level_in_text,
    level_of,
    number,
    present,
    significant,
    spread,
)
from jaxdiff.report.numeric import mapping
from jaxdiff.report.page import document, origin, write_page
from jaxdiff.report.palette import view_looks
from jaxdiff.report.sentences import exchange_sentence, money_sentence, replaced_sentence
from jaxdiff.report.worth_figures import contours, fitted_curves, rate_curve

RATES = Frame(
    "Exchange rates",
    "clean images for one more",
    "Mark: the fit. Bar: its {level} interval over resampled seeds and cells. Rule at 0: worth nothing.",
)
PRICE_LEAD = (
    "How many clean images one more image of a source replaces, at the sizes at hand: the ratio of the "
    "slopes of the fitted law. As a rule it falls as the source grows."
)
LAW_CAPTION = (
    "Held-out error: each cell, all seeds of one pair of sizes, predicted from all others. The law with "
    "the smallest one is used. clean_only knows nothing of the source: a law that does not beat it has "
    "found nothing."
)
MONEY_LEAD = (
    "An image pays while its price stays below break-even, its exchange rate times the price of a clean "
    "one. Each plan splits the budget between clean images and one source, along that source’s law."
)
NOTES = (
    "The rate is that of these methods, this data and the training budget of these runs; a larger network "
    "or more steps may make better use of either kind.",
    "Sources were measured one at a time. Two that show the same are worth less together than the sum of "
    "their prices.",
    "Between measured sizes the law interpolates. Beyond them it guesses, and says so.",
    "Intervals hold if the law is right. The other law’s rate is in the table: where the two differ by "
    "more than an interval, believe neither to two digits.",
)


def _sources(worth: Mapping) -> list[Mapping]:
    return [mapping(entry) for entry in worth.get("sources") or [] if mapping(entry, "rate")]


def _estimate(entry: Mapping) -> list[str]:
    """A number and its interval with the digits it deserves: rates differ by orders of magnitude."""
    mean, low, high = interval(entry)
    if not high > low:
        return [significant(mean), ABSENT]
    places = decimals([entry])
    return [fixed(mean, places), spread(entry, places)]


def worth_headline(worth: Mapping) -> str:
    """The price tag of every source and the advice on money, in sentences."""
    said = [exchange_sentence(entry, level_of(worth)) for entry in _sources(worth)]
    if mapping(worth, "money").get("rows"):
        said.append(money_sentence(worth["money"]))
    return " ".join(said) or "No source was measured."


def _prices(worth: Mapping) -> Section | None:
    entries, level = _sources(worth), level_of(worth)
    all_places = decimals((entry["replaced"] for entry in entries), most=1)
    cells = []
    for entry in entries:
        here = entry["present"]
        some = number(here["n_source"]) > 0
        whole = [fixed(interval(entry["replaced"])[0], all_places), spread(entry["replaced"], all_places)]
        cells.append(
            [entry["name"], f"{count(here['n_clean'])} + {count(here['n_source'])}"]
            + _estimate(entry["rate"])
            + (whole if some else [ABSENT, ABSENT])
            + [{"helps": "helps", "harms": "does harm", "unclear": "not resolved"}[entry["reading"]]]
        )
    head = [
        "source",
        "present: clean + source",
        "clean images for one more",
        interval_heading(level),
        "all present ones replace",
        interval_heading(level),
        "reading",
    ]
    rates = {entry["name"]: entry["rate"] for entry in entries}
    frame = replace(RATES, caption=RATES.caption.format(level=level_in_text(level)))
    drawings = [figures.forest("rates", rates, view_looks(rates), frame)]
    table = Table(head, cells, "", (0, 6)) if cells else None
    return section("prices", "Prices", PRICE_LEAD, [table, row(drawings) if len(rates) > 1 else None])


def _law_table(entry: Mapping, level: object) -> Table | None:
    laws = entry.get("laws") or []
    if not laws:
        return None
    cells = [
        [
            law["name"] + " (used)" * bool(law.get("chosen")),
            fixed(law.get("held_out_error"), 2),
            *(_estimate(law["rate"]) if law.get("rate") else [ABSENT, ABSENT]),
            law["formula"],
            ", ".join(f"{name} = {significant(value)}" for name, value in law["parameters"].items()),
        ]
        for law in laws
    ]
    head = [
        "law",
        "held-out error, nats",
        "clean images for one more",
        interval_heading(level),
        "formula",
        "parameters",
    ]
    noise = entry.get("seed_spread")
    tail = (
        f" Runs that differ in the seed alone differ by {fixed(noise, 2)} nats." if noise is not None else ""
    )
    return Table(head, cells, LAW_CAPTION + tail, (0, 4, 5))


def _cells_table(entry: Mapping) -> Folded | None:
    measured = entry.get("measured") or []
    cells = [
        [
            f"{count(cell['n_clean'])} + {count(cell['n_source'])}",
            fixed(interval(cell["nats"])[0], 1),
            ", ".join(fixed(value, 1) for value in cell.get("values") or []),
        ]
        for cell in measured
    ]
    label = f"{len(cells)} measured cells"
    return Folded(label, Table(["clean + source", "nats, mean", "run by run"], cells)) if cells else None


def _source(index: int, entry: Mapping, level: object) -> Section | None:
    drawings = [
        fitted_curves(f"fit{index}", entry, level),
        contours(f"iso{index}", entry),
        rate_curve(f"rate{index}", entry, level),
    ]
    blocks = [
        Remarks(entry["cautions"]) if entry.get("cautions") else None,
        row(drawings),
        _law_table(entry, level),
        _cells_table(entry),
    ]
    lead = " ".join(filter(None, [exchange_sentence(entry, level), replaced_sentence(entry, level)]))
    return section(f"source{index}", str(entry.get("label") or entry["name"]), lead, blocks)


def _money(worth: Mapping) -> Section | None:
    money, ends = mapping(worth, "money"), interval_heading(level_of(worth))
    rows, plans = money.get("rows") or [], money.get("plans") or []
    if not rows:
        return None
    cells = [
        [
            entry["name"],
            significant(entry["cost"]),
            *_estimate(entry["break_even"]),
            *_estimate(entry["nats_per_unit"]),
        ]
        for entry in rows
    ]
    head = ["images", "price", "break-even price", ends, "nats for a unit of money", ends]
    one = mapping(money, "one_clean")
    caption = (
        f"At {fixed(interval(one)[0], 3)} ({spread(one, 3)}) nats for one more clean image; the intervals "
        "are those of the exchange rates."
        if one
        else ""
    )
    places = decimals(plan["gain"] for plan in plans)
    spent = [
        [
            plan["name"],
            count(plan["clean"]),
            count(plan["source"]),
            fixed(interval(plan["gain"])[0], places, signed=True),
            spread(plan["gain"], places),
            fixed(plan["gain_clean_only"], places, signed=True),
            "; ".join(plan["beyond"]) or "no",
        ]
        for plan in plans
    ]
    heads = ["source", "more clean", "more of the source", "gain in nats", ends, "all on clean images"]
    budget = significant(money.get("budget"))
    return section(
        "money",
        "Where money is best spent",
        f"{money_sentence(money)} {MONEY_LEAD}",
        [
            Table(head, cells, caption),
            Table([*heads, "beyond what was measured"], spent, f"A budget of {budget}.", (0, 6))
            if spent
            else None,
        ],
    )


def _facts(worth: Mapping) -> list[str]:
    data = mapping(worth, "data")
    facts = [str(data["source"])] if data.get("source") else []
    runs = {
        (
            number(cell["n_clean"]),
            number(cell["n_source"]),
            entry["name"] if number(cell["n_source"]) else "",
        ): len(cell.get("values") or [])
        for entry in _sources(worth)
        for cell in entry.get("measured") or []
    }
    if runs:
        facts.append(f"{count(int(np.sum(list(runs.values()))))} runs")
    seeds = worth.get("seeds") or []
    if seeds:
        facts.append(f"{len(seeds)} seed{'s' * (len(seeds) > 1)}")
    return facts + ([str(worth["device"])] if worth.get("device") else [])


def render_worth(worth: Mapping) -> str:
    """The page as text; the same price list gives the same text."""
    worth = present(worth)
    parts = [
        _prices(worth),
        _money(worth),
        *(_source(index, entry, level_of(worth)) for index, entry in enumerate(_sources(worth))),
        section("notes", "What this does not say", "", [Remarks(NOTES)]),
        origin(worth),
    ]
    title = str(worth.get("title") or "What an image is worth")
    return document(title, worth_headline(worth), _facts(worth), [part for part in parts if part is not None])


def write_worth_page(worth: Mapping, path: str | Path) -> Path:
    """Write the price list to `path` (one self-contained HTML file) and return the path.

    Args:
        worth: {'title', 'command', 'device', 'versions', 'seeds', 'data': {'source'}, 'sources': [entries of
            `evaluation.price_list.source_entry`], 'money': of `evaluation.money.money`, 'config': with the level
            that `evaluation.worth.assess` was given at 'evaluate', 'level'}. Whatever is missing is left out.
    """
    return write_page(render_worth(worth), path)
