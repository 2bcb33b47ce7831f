"""The outcome of a run in plain sentences, from its numbers, saying so when the residual does not win."""

from collections.abc import Mapping

import numpy as np

from jaxdiff.report.numbers import (
    REFERENCE,
    count,
    decimals,
    fixed,
    interval,
    level_in_text,
    level_of,
    spread,
)

MAIN = "residual"


def pair_names(key: str) -> tuple[str, str]:
    """('a', 'b') of a comparison called 'a_minus_b'; ('a', '') for any other name."""
    first, _, second = key.partition("_minus_")
    return first, second


def difference(comparisons: Mapping, first: str, second: str) -> dict[str, float] | None:
    """The paired difference `first` minus `second`, turned round where need be; None if absent."""
    if f"{first}_minus_{second}" in comparisons:
        mean, low, high = interval(comparisons[f"{first}_minus_{second}"])
        return {"mean": mean, "low": low, "high": high}
    if f"{second}_minus_{first}" in comparisons:
        mean, low, high = interval(comparisons[f"{second}_minus_{first}"])
        return {"mean": -mean, "low": -high, "high": -low}
    return None


def verdict(first: str, second: str, entry: object) -> str:
    """Which of two is better, or that the interval does not decide."""
    _, low, high = interval(entry)
    if not np.isfinite([low, high]).all():
        return "no finite interval"
    if low > 0:
        return f"{first} is better"
    if high < 0:
        return f"{second} is better"
    return "not resolved: the interval includes zero"


def ranking(results: Mapping) -> list[tuple[str, object]]:
    """(name, nats over the Gaussian) of the methods, not the candidates, with a finite mean; best first."""
    rows = [
        (name, method.get("nats_over_gaussian"))
        for name, method in (results.get("methods") or {}).items()
        if method.get("kind") != "candidate"
    ]
    rows = [row for row in rows if np.isfinite(interval(row[1])[0])]
    return sorted(rows, key=lambda row: -interval(row[1])[0])


def summary(results: Mapping) -> str:
    """The outcome: who leads by how many nats with which interval, and what became of the residual."""
    rows = ranking(results)
    broken = [name for name, method in (results.get("methods") or {}).items() if _is_broken(method)]
    tail = [f"Not finite, so not ranked: {_join(broken)}."] if broken else []
    contenders = [row for row in rows if row[0] != REFERENCE]
    if not contenders:
        return " ".join(["No method has a finite score in this run.", *tail])
    places = decimals(entry for _, entry in rows)
    leader, entry = contenders[0]
    score = f"{fixed(interval(entry)[0], places)} nats per image"
    level = level_in_text(level_of(results))
    ends = f"({level} interval {spread(entry, places)}{_where(results)})"
    if rows[0][0] == REFERENCE or interval(entry)[0] <= 0:
        first = (
            f"No method improves on the Gaussian denoiser. The best other, {leader}, is at {score} {ends}."
        )
    else:
        first = f"Nearest to the clean distribution is {leader}, {score} above the Gaussian denoiser {ends}."
        if not interval(entry)[1] > 0:
            first += " That interval is not clear of zero."
    others = [name for name, _ in contenders[1:]]
    lost = [f"The {MAIN} does not win here; {leader} does."] if MAIN in others else []
    return " ".join([first, *lost, *_paired(leader, others, results.get("comparisons") or {}), *tail])


def _paired(leader: str, others: list[str], comparisons: Mapping) -> list[str]:
    """Sentences on how the leader compares, image by image, with each of the others."""
    found = {other: difference(comparisons, leader, other) for other in others}
    found = {other: entry for other, entry in found.items() if entry and np.isfinite(interval(entry)).all()}
    places = decimals(found.values())
    decided, undecided = [], []
    for other, entry in found.items():
        if entry["low"] > 0:
            decided.append(f"{_amount(entry, places)} ahead of {other}")
        elif entry["high"] < 0:
            turned = {"mean": -entry["mean"], "low": -entry["high"], "high": -entry["low"]}
            decided.append(f"{_amount(turned, places)} behind {other}")
        else:
            undecided.append(f"{other}, {_amount(entry, places)}")
    sentences = [f"Compared image by image, {leader} is {_join(decided)}."] if decided else []
    if undecided:
        sentences.append(
            f"Not resolved, as the interval includes zero: its difference from {_join(undecided)}."
        )
    return sentences


def _amount(entry: object, places: int) -> str:
    return f"{fixed(interval(entry)[0], places)} nats ({spread(entry, places)})"


def _where(results: Mapping) -> str:
    held_out = ((results.get("data") or {}).get("counts") or {}).get("held_out")
    return f", {count(held_out)} held-out images" if held_out is not None else ""


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) < 2 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _is_broken(method: Mapping) -> bool:
    entry = method.get("nats_over_gaussian")
    return entry is not None and not np.isfinite(interval(entry)[0])
