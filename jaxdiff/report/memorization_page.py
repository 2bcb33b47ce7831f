"""Memorization of a trained run as one page: samples near training images, the worst pairs, the two attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdiff.report import figures, gallery
from jaxdiff.report.blocks import Folded, Picture, Remarks, Section, Table, row, section
from jaxdiff.report.compare_facts import percent
from jaxdiff.report.figures import Frame
from jaxdiff.report.images import data_uri, pair_grid
from jaxdiff.report.numbers import count, fixed, interval, level_percent, number, present, significant
from jaxdiff.report.numeric import mapping
from jaxdiff.report.page import document, origin, write_page

NOTES = (
    "Flagged samples are nearer to images that were learnt from than held-out images are, which is not yet copied: "
    "blurred or average-looking samples can be nearer to everything. Look at the pairs.",
    "Not flagged does not mean that nothing was copied: a model that repeats one image in a thousand samples stays "
    "below the expected share.",
    "An attack that finds nothing is weak evidence, above all the completion: its sampler takes the image given the "
    "noise for Gaussian, which a model that knows single images by heart is not.",
    "Every trained model restores what it was trained on a little better. An attack is flagged where the lower bound "
    "of its AUC is above 0.6; 0.5 is guessing.",
)
ADVANTAGE = Frame(
    "AUC − ½",
    "AUC − ½ (right: images learnt from are told apart)",
    "Rule at 0: guessing. ½: every image that was learnt from has a smaller error than every held-out one.",
)


def attack_label(entry: Mapping) -> str:
    """'denoising, whole images'."""
    groups = {"whole": "whole images", "behind views": "images behind views"}
    return f"{entry.get('name')}, {groups.get(str(entry.get('group')), entry.get('group'))}"


def verdict_word(entry: Mapping) -> str:
    """'flagged' or 'not flagged'."""
    return "flagged" if entry.get("flagged") else "not flagged"


def _ends(alike: Mapping) -> str:
    return f"{percent(alike.get('low'), False)} to {percent(alike.get('high'))}"


def headline(results: Mapping) -> str:
    """What was found, in a sentence or two."""
    alike, attacks = mapping(results, "similarity"), results.get("attacks") or []
    said = []
    if alike:
        said.append(
            f"{percent(alike.get('share'))} of {count(alike.get('samples'))} samples of {results.get('method')} are "
            f"near copies of images it learnt from ({_ends(alike)}; {percent(alike.get('expected'))} expected, "
            f"p = {significant(alike.get('p_value'), 2)}): {verdict_word(alike)}."
        )
    if attacks:
        named = [attack_label(entry) for entry in attacks if entry.get("flagged")]
        said.append(f"Attacks flagged: {'; '.join(named) or 'none'}.")
    return " ".join(said) or "Nothing was measured."


def _samples(results: Mapping) -> Section | None:
    alike = mapping(results, "similarity")
    if not alike:
        return None
    share = [
        percent(alike.get("share")),
        _ends(alike),
        percent(alike.get("expected")),
        significant(alike.get("p_value"), 2),
        significant(alike.get("threshold"), 4),
        verdict_word(alike),
    ]
    head = [
        "near copies",
        f"{level_percent(results.get('level'))} interval",
        "expected",
        "p",
        "threshold",
        "reading",
    ]
    caption = f"{alike.get('metric')} in {alike.get('features')} features. {alike.get('reason', '')}."
    quantiles = mapping(alike, "quantiles")
    rows = [
        [f"{100 * number(level):g}\u00a0%", significant(ours, 4), significant(theirs, 4)]
        for level, ours, theirs in zip(
            quantiles.get("level") or [],
            quantiles.get("samples") or [],
            quantiles.get("held_out") or [],
            strict=False,
        )
    ]
    lead = (
        f"Each of {count(alike.get('samples'))} samples against its nearest image that was learnt from; "
        f"{count(alike.get('held_out'))} held-out images, which nobody learnt from, are the control. A near copy is "
        f"nearer than the {significant(alike.get('percentile'))}th percentile of the control."
    )
    blocks = [
        Table(head, [share], caption, (5,)),
        Table(["quantile", "samples", "held-out images"], rows, "Similarity to the nearest.")
        if rows
        else None,
    ]
    return section("samples", "Samples near what was learnt from", lead, blocks)


def _pairs(results: Mapping, pairs: gallery.Arrays) -> Section | None:
    upper, lower, worst = pairs.get("samples"), pairs.get("nearest"), results.get("worst") or []
    if upper is None or lower is None or np.shape(upper) != np.shape(lower) or not np.size(upper):
        return None
    columns = next(k for k in range(gallery.COLUMNS, 0, -1) if len(upper) % k == 0)
    drawn = pair_grid(upper, lower, columns)
    caption = (
        "Upper: sample. Lower: the image learnt from that it is most like. The most alike first, by row."
    )
    picture = Picture(
        data_uri(drawn), *drawn.size, "The most alike", caption, "samples over the nearest images"
    )
    cells = [
        [count(number), count(pair.get("sample")), count(pair.get("row")), str(pair.get("group"))]
        + ["yes" if pair.get("mirrored") else "no", significant(pair.get("similarity"), 4)]
        for number, pair in enumerate(worst, start=1)
    ]
    head = ["pair", "sample", "example of the source", "seen", "mirrored", "similarity"]
    table = Table(head, cells, "Seen: whole, or by which view a measurement of it was learnt from.", (3, 4))
    return section("pairs", "The worst pairs", "", [row([picture]), Folded("The pairs by number", table)])


def _attacks(results: Mapping) -> Section | None:
    attacks = results.get("attacks") or []
    cells, marks = [], {}
    for entry in attacks:
        auc = {"mean": entry.get("auc"), "low": entry.get("auc_low"), "high": entry.get("auc_high")}
        mean, low, high = interval(auc)
        marks[attack_label(entry)] = {"mean": mean - 0.5, "low": low - 0.5, "high": high - 0.5}
        errors, gap = (
            mapping(entry, "error"),
            [significant(entry.get(key)) for key in ("gap", "gap_low", "gap_high")],
        )
        cells.append(
            [attack_label(entry), fixed(mean, 3), f"{fixed(low, 3)} to {fixed(high, 3)}"]
            + [
                significant(errors.get("train")),
                significant(errors.get("held_out")),
                f"{gap[0]} ({gap[1]} to {gap[2]})",
            ]
            + [f"{count(entry.get('images'))} of {count(entry.get('total'))}", verdict_word(entry)]
        )
    head = [
        "attack, on",
        "AUC",
        f"{level_percent(results.get('level'))} interval",
        "error, learnt from",
        "error, held out",
    ]
    head += ["difference", "images", "reading"]
    settings = {str(entry.get("name")): gallery.flat(mapping(entry, "settings")) for entry in attacks}
    told = "; ".join(f"{name}: " + ", ".join(f"{k} {v}" for k, v in of) for name, of in settings.items())
    table = Table(head, cells, f"Errors: mean square per value. {told}.", (0, 7)) if cells else None
    lead = (
        "Are damaged images restored better where they were learnt from? AUC: the probability that the error of an "
        "image that was learnt from is smaller than that of a held-out one; 0.5 is guessing."
    )
    left_out = results.get("left_out") or []
    blocks = [table, row([figures.forest("auc", marks, {}, ADVANTAGE)])]
    return section("attacks", "Attacks", lead, [*blocks, Remarks(left_out) if left_out else None])


def _covered(results: Mapping) -> Section | None:
    data = mapping(results, "data")
    rows = [["seen whole, in training", count(data.get("clean"))]]
    unknown = mapping(data, "unknown")
    for view, size in mapping(data, "views").items():
        known = (
            "their images are not known" if view in unknown else "measurements; the whole images behind them"
        )
        rows.append([f"view {view}: {known}", count(size)])
    rows.append(["to tune on: no network is trained on them, not among the above", count(data.get("tuning"))])
    lead = (
        "What the samples are held against: all whole images that the method was trained on, and the whole images "
        "behind the measurements of its views, which it never saw whole."
    )
    lead += " Mirrored copies, too, as mirrored images were learnt from." * bool(data.get("flip"))
    return section(
        "covered", "What was learnt from", lead, [Table(["images", "count"], rows)] if data else []
    )


def _settings(results: Mapping) -> Section | None:
    rows = gallery.flat(
        {key: mapping(results, "request", key) for key in ("memorization", "evaluate", "sample")}
    )
    table = Table(["key", "value"], rows, "", (0, 1), mono=True)
    return section("config", "Config", "", [Folded(f"{len(rows)} keys, as they were used", table)])


def _facts(results: Mapping) -> Sequence[str]:
    alike, data = mapping(results, "similarity"), mapping(results, "data")
    facts = [str(data["source"])] if data.get("source") else []
    facts += [str(results["method"])] if results.get("method") else []
    facts += [f"{count(alike['samples'])} samples"] if alike.get("samples") is not None else []
    return facts + ([str(results["device"])] if results.get("device") else [])


def render_memorization(results: Mapping, pairs: gallery.Arrays) -> str:
    """The page as text; the same results give the same text."""
    results = present(results)
    parts = [
        _samples(results),
        _pairs(results, pairs),
        _attacks(results),
        _covered(results),
        section("notes", "How to read this", "", [Remarks(NOTES)]),
        _settings(results),
        origin(results),
    ]
    title = str(results.get("title") or "Memorization")
    return document(title, headline(results), _facts(results), [part for part in parts if part is not None])


def write_memorization_page(results: Mapping, pairs: gallery.Arrays, path: str | Path) -> Path:
    """Write the page to `path` (one self-contained HTML file) and return the path.

    Args:
        results: what memorization.json holds; whatever is missing is left out.
        pairs: 'samples' and 'nearest', images (n, H, W, C) in [-1, 1], the most alike first.
    """
    return write_page(render_memorization(results, pairs), path)
