"""Measurements in one plain sentence each, saying so when they do not decide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxdiff.report.numbers import count, decimals, fixed, interval, level_in_text, number, spread


def _amount(entry: object, places: int, sign: int = 1) -> str:
    """'12.3 (11.0 to 13.5)', turned round for sign = -1."""
    mean, low, high = (sign * value for value in interval(entry))
    ends = {"mean": mean, "low": min(low, high), "high": max(low, high)}
    return f"{fixed(mean, places)} ({spread(ends, places)})"


def winner_sentence(
    name: str, nats: Mapping[str, float], versus: Mapping[str, object], gap: object = None
) -> str:
    """Who wins, by how much, and what share of the gap `name` closes.

    Args:
        name: the method that is asked about.
        nats: {method: mean nats} of `name` and its rivals, without an upper bound such as all_clean.
        versus: {rival: paired difference name - rival as {'mean', 'low', 'high'}}; the best rival's must be
            there.
        gap: share of the gap that `name` closes, {'mean', 'low', 'high'}, or None.

    Raises:
        ValueError: `name` or the best rival is not among the measurements, or there is no rival.
    """
    means = {key: number(value) for key, value in nats.items() if np.isfinite(number(value))}
    rivals = sorted((key for key in means if key != name), key=lambda key: -means[key])
    if name not in means or not rivals:
        raise ValueError(f"finite nats of {name!r} and of one rival are needed, got {list(means)}")
    missing = [rival for rival in rivals[:1] if rival not in versus]
    if missing:
        raise ValueError(f"the paired difference {name} - {missing[0]} is needed, got {list(versus)}")
    best = rivals[0]
    _, low, high = interval(versus[best])
    places = decimals([versus[best]])
    tail = ""
    if gap is not None:
        tail = f"closes {_amount(gap, decimals([gap]))} of the gap"
    if low > 0:
        found = (
            f"{name} wins: {fixed(means[name], 1)} nats, {_amount(versus[best], places)} ahead of {best}, "
            "the best rival"
        )
        return f"{found}; it {tail}." if tail else f"{found}."
    if high < 0:
        found = (
            f"{name} does not win: {best} does, {fixed(means[best], 1)} nats, "
            f"{_amount(versus[best], places, -1)} ahead of {name}"
        )
        return f"{found}, which {tail}." if tail else f"{found}."
    tied = [rival for rival in rivals if rival in versus and _includes_zero(versus[rival])]
    also = f" So does that from {_join(tied[1:])}." if len(tied) > 1 else ""
    found = (
        f"It is a tie: {name} has {fixed(means[name], 1)} nats and {best} {fixed(means[best], 1)}; the "
        f"interval of the difference, {_amount(versus[best], places)}, includes zero."
    )
    return found + also + (f" {name} {tail}." if tail else "")


def _includes_zero(entry: object) -> bool:
    _, low, high = interval(entry)
    return not (low > 0 or high < 0)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) < 2 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _worth_amount(entry: object) -> tuple[str, str]:
    """An exchange rate and its interval, with as many places as the interval deserves."""
    places = decimals([entry], most=5)
    return fixed(interval(entry)[0], places), spread(entry, places)


def exchange_sentence(entry: Mapping, level: object = None) -> str:
    """What one more image of a source is worth: the price tag, or that the measurements cannot say.

    Args:
        entry: an element of `sources` (docs/worth.md): 'name', 'present', 'rate', 'reading', 'first_step'.
        level: of its intervals, such as 0.95.
    """
    name, here = entry["name"], entry["present"]
    n, m = number(here["n_clean"]), number(here["n_source"])
    mean, ends = _worth_amount(entry["rate"])
    ends = f"({level_in_text(level)}: {ends})"
    where = f"at your present {count(n)} clean + {count(m)} {name}"
    if m > 0:
        subject = f"one more {name} image"
    else:
        where = f"at your present {count(n)} clean and no {name}"
        subject = f"each of the first {count(entry['first_step'])} {name} images"
    if entry["reading"] == "unclear":
        return (
            f"{_upper(where)}, the measurements cannot say whether {subject} is worth "
            f"anything: the fit gives {mean} clean images {ends}."
        )
    if entry["reading"] == "harms":
        return f"{_upper(subject)} does harm, like {mean} clean images {ends}, {where}."
    return f"{_upper(subject)} is worth {mean} clean images {ends} {where}."


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def replaced_sentence(entry: Mapping, level: object = None) -> str:
    """What all present images of a source together replace, the interval of `level`; empty where there are none."""
    m = number(entry["present"]["n_source"])
    if not m > 0:
        return ""
    places = decimals([entry["replaced"]], most=1)
    each = {
        key: value / m
        for key, value in zip(("mean", "low", "high"), interval(entry["replaced"]), strict=True)
    }
    mean, _ = _worth_amount(each)
    return (
        f"All {count(m)} {entry['name']} images together stand in for "
        f"{fixed(interval(entry['replaced'])[0], places)} clean ones ({level_in_text(level)}: "
        f"{spread(entry['replaced'], places)}), {mean} each."
    )


def money_sentence(money: Mapping) -> str:
    """Where the next unit of money is best spent, and whether that is resolved."""
    rows = {row["name"]: row for row in money["rows"]}
    best = rows[money["best_buy"]]
    others = sorted(
        (row for row in rows.values() if row is not best), key=lambda row: -interval(row["nats_per_unit"])[0]
    )
    places = decimals([best["nats_per_unit"], others[0]["nats_per_unit"]])
    kind = "clean images" if best["name"] == "clean" else f"{best['name']} images"
    second = "clean images" if others[0]["name"] == "clean" else f"{others[0]['name']} images"
    said = (
        f"The next unit of money is best spent on {kind}: "
        f"{fixed(interval(best['nats_per_unit'])[0], places)} nats, against "
        f"{fixed(interval(others[0]['nats_per_unit'])[0], places)} for {second}."
    )
    if not money["resolved"]:
        said += " The intervals overlap: the measurements do not decide this."
    return said
