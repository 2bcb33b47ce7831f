"""Methods trained on the same data, over several seeds, as one page: who wins, by how much, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxdiff.report import compare_facts as facts
from jaxdiff.report import figures, gallery
from jaxdiff.report.blocks import Folded, Remarks, Section, Table, row, section
from jaxdiff.report.compare_facts import label
from jaxdiff.report.figures import Frame, Looks
from jaxdiff.report.numbers import (
    ABSENT,
    count,
    decimals,
    fixed,
    interval,
    interval_heading,
    level_in_text,
    level_of,
    present,
    significant,
    spread,
)
from jaxdiff.report.numeric import mapping
from jaxdiff.report.outcome import verdict
from jaxdiff.report.page import document, origin, write_page
from jaxdiff.report.palette import distinct_looks

MINUS_NAME = "\u00a0− "
SCORES = Frame(
    "Nats over the clean images alone",
    "nats per image (right is better)",
    "Mark: mean over seeds and held-out images. Bar: its {level} interval, paired. Rule: the clean "
    "images alone.",
)
GAPS = Frame(
    "Share of the gap closed",
    "share (1: as if all images were clean)",
    "Rule at 0: the clean images alone. 1 is what clean images in place of the partial ones would give.",
)
PAIRED = Frame(
    "Paired differences",
    "nats per image (right: first is better)",
    "A bar that keeps clear of the rule at zero is a difference that these seeds and images resolve.",
)
ERROR = Frame(
    "Error",
    "squared error per pixel",
    "Mean squared error against the noise added, pixels in [−1, 1]; lower is better.",
    log_y=True,
)
LEAD = (
    "The score is the certificate ½ ∫ (error of the Gaussian denoiser − error of the method) σ⁻⁴ d(σ²){over} on "
    "held-out clean images, the same for all. Methods did not all see the same data: the table below says what each "
    "saw. Intervals are bootstrapped over training seeds and held-out images together."
)
NOTES = (
    "A gap closed of 0.8 says that the method comes 80\u00a0% of the way from the few clean images to all "
    "images clean, in nats. It does not say that its samples look 80\u00a0% as good.",
    "With three seeds or fewer the intervals are somewhat narrow: so few seeds tell little about their own "
    "spread. The values of each seed are in the table.",
    "Equal images seen is not equal work: the cost table counts floating-point operations, and sampling is "
    "counted apart from training. Rows that took more than the oracle are named there.",
)


def _rows(compare: Mapping) -> dict[str, Mapping]:
    """{name: row}, the best first, what has no finite mean last."""
    rows = [mapping(entry) for entry in compare.get("rows") or [] if mapping(entry).get("name")]

    def rank(entry: Mapping) -> float:
        mean = interval(entry.get("nats"))[0]
        return -mean if np.isfinite(mean) else np.inf

    return {str(entry["name"]): entry for entry in sorted(rows, key=rank)}


def _seeds(entry: object, places: int) -> str:
    values = mapping(entry).get("per_seed")
    return ", ".join(fixed(value, places) for value in values) if isinstance(values, list | tuple) else ABSENT


def _failed(rows: Mapping[str, Mapping]) -> list[str]:
    """Labels of the methods far below the clean images alone: they must not press the others flat."""
    below = {label(entry): interval(entry.get("versus_clean_only"))[0] for entry in rows.values()}
    best = max((value for value in below.values() if np.isfinite(value)), default=0.0)
    return [name for name, value in below.items() if value < -max(best, 0.0)]


def _estimate(entry: object, places: int, signed: bool = False) -> list[str]:
    if not mapping(entry):
        return [ABSENT, ABSENT]
    return [fixed(interval(entry)[0], places, signed=signed), spread(entry, places)]


def _places(rows: Mapping[str, Mapping], key: str) -> int:
    return decimals(entry[key] for entry in rows.values() if mapping(entry, key))


def _scores_table(rows: Mapping[str, Mapping], level: object) -> Table:
    nats, gap, versus = (_places(rows, key) for key in ("nats", "gap_closed", "versus_clean_only"))
    cells = [
        [label(entry), *_estimate(entry.get("nats"), nats)]
        + _estimate(entry.get("gap_closed"), gap)
        + _estimate(entry.get("versus_clean_only"), versus, signed=True)
        for entry in rows.values()
    ]
    ends = interval_heading(level)
    head = ["method", "nats over Gaussian", ends, "gap closed", ends, "nats over clean only", ends]
    caption = (
        "Nats per image, higher is better. Gap closed: 0 is the clean images alone, 1 is all images clean."
    )
    return Table(head, cells, caption)


def _details(rows: Mapping[str, Mapping]) -> Folded:
    """What each method is, and its scores seed by seed: too wide for the table that is read first."""
    gap = _places(rows, "gap_closed")
    cells = [
        [label(entry), _seeds(entry.get("nats"), 1), _seeds(entry.get("gap_closed"), gap)]
        + [str(entry.get("description") or "")]
        for entry in rows.values()
    ]
    head = ["method", "nats, seed by seed", "gap closed, seed by seed", "what it is"]
    return Folded("Each method in words and seed by seed", Table(head, cells, "", (0, 3)))


def _pairs(compare: Mapping, names: Mapping[str, str]) -> dict[str, Mapping]:
    found = {}
    for entry in compare.get("pairs") or []:
        first, second = (names.get(str(entry.get(key)), str(entry.get(key))) for key in ("better", "worse"))
        found[f"{first}{MINUS_NAME}{second}"] = dict(entry) | {"first": first, "second": second}
    return found


def _methods(compare: Mapping, rows: Mapping[str, Mapping], looks: Looks) -> Section | None:
    names = {name: label(entry) for name, entry in rows.items()}
    pairs, level = _pairs(compare, names), level_of(compare)
    places = decimals(pairs.values())
    reading = [
        [key, *_estimate(entry, places, signed=True), verdict(entry["first"], entry["second"], entry)]
        for key, entry in pairs.items()
    ]
    by_label = {names[name]: looks[name] for name in rows}
    key = "versus_clean_only"
    scores = {names[name]: entry[key] for name, entry in rows.items() if entry.get(key)}
    gaps = {names[name]: entry["gap_closed"] for name, entry in rows.items() if entry.get("gap_closed")}
    frame = replace(SCORES, caption=SCORES.caption.format(level=level_in_text(level)))
    blocks = [
        _scores_table(rows, level) if rows else None,
        _details(rows) if rows else None,
        row(
            [
                figures.forest("scores", scores, by_label, frame, _failed(rows)),
                figures.forest("gaps", gaps, by_label, GAPS, _failed(rows)),
            ]
        ),
        Table(
            ["difference", "nats per image", interval_heading(level), "reading"],
            reading,
            "Both methods have the same seeds, held-out images and noise; the interval is of their "
            "difference.",
            (0, 3),
        )
        if reading
        else None,
        row([figures.forest("paired", pairs, {}, PAIRED)]),
    ]
    noise = facts.sigma_range(compare)
    lead = LEAD.format(over=f" over the declared noise levels σ = {noise}" if noise else "")
    return section("methods", "Methods", lead, blocks)


def _errors(compare: Mapping, rows: Mapping[str, Mapping], looks: Looks) -> Section | None:
    sigma = mapping(compare, "curves").get("sigma")
    errors = mapping(compare, "curves", "per_pixel_error")
    ordered = [name for name in rows if name in errors] + [name for name in errors if name not in rows]
    labels = {name: label(rows[name]) if name in rows else name for name in ordered}
    by_label = {labels[name]: looks[name] for name in ordered}
    curves = {labels[name]: (sigma, errors[name]) for name in ordered}
    drawings = [figures.sigma_lines("error", curves, by_label, ERROR, _failed(rows))]
    reference = next((name for name in ("clean_only", "gaussian", *ordered[-1:]) if name in errors), None)
    if reference is not None:
        frame = Frame(
            f"Error relative to {labels[reference]}",
            "error ÷ its error",
            f"Rule at 1: {labels[reference]}. Below it is better.",
            level=1.0,
        )
        measured = {labels[name]: {"denoising": {"sigma": sigma, "mse": errors[name]}} for name in ordered}
        ratios = figures.error_ratio(measured, labels[reference])
        drawings.append(figures.sigma_lines("ratio", ratios, by_label, frame, _failed(rows)))
    lead = (
        "How well each method removes noise whose level it is told, on held-out images, from almost no "
        "noise (left) to almost nothing but noise (right)."
    )
    return section("errors", "Denoising error", lead, [row(drawings)])


def _samples(rows: Mapping[str, Mapping], arrays: gallery.Arrays) -> Section | None:
    names = [name for name in rows if f"samples/{name}" in arrays]
    names += [key[8:] for key in arrays if key.startswith("samples/") and key[8:] not in rows]
    grids = [gallery.picture(gallery.usable(arrays, "real"), "real", "Held-out images, for comparison.")]
    for name in names:
        title = label(rows[name]) if name in rows else name
        grids.append(
            gallery.picture(gallery.usable(arrays, f"samples/{name}"), title, "Samples, not selected.")
        )
    lead = "Judge shape, stroke and variety against the real images."
    return section("samples", "Samples", lead, [row(grids)])


def _quality(rows: Mapping[str, Mapping]) -> Section | None:
    keys = list(dict.fromkeys(key for entry in rows.values() for key in mapping(entry, "quality")))
    cells = [
        [label(entry), *(significant(mapping(entry, "quality").get(key)) for key in keys)]
        for entry in rows.values()
    ]
    lead = "Scores of samples depend on a feature network and on the number of samples; the nats do not."
    return section(
        "quality", "Scores of the samples", lead, [Table(["method", *keys], cells)] if keys else []
    )


def _facts(compare: Mapping) -> list[str]:
    data = mapping(compare, "data")
    counts = mapping(data, "counts")
    facts = [str(data["source"])] if data.get("source") else []
    if compare.get("clean") is not None:
        facts.append(f"{count(compare['clean'])} clean images")
    partial = sum(int(value) for part, value in counts.items() if part.startswith("view/"))
    if partial:
        facts.append(f"{count(partial)} partial ones")
    if counts.get("held_out") is not None:
        facts.append(f"{count(counts['held_out'])} held-out images")
    seeds: Sequence = compare.get("seeds") or []
    if seeds:
        facts.append(f"{len(seeds)} seed{'s' * (len(seeds) > 1)}")
    return facts + ([str(compare["device"])] if compare.get("device") else [])


def render_compare(compare: Mapping, arrays: gallery.Arrays) -> str:
    """The page as text; the same comparison gives the same text."""
    compare = present(compare)
    rows = _rows(compare)
    looks = distinct_looks([*rows, *mapping(compare, "curves", "per_pixel_error")])
    parts = [
        _methods(compare, rows, looks),
        facts.saw(rows),
        _errors(compare, rows, looks),
        facts.bands(compare, rows, looks, _failed(rows)),
        _samples(rows, arrays),
        _quality(rows),
        facts.near_copies(rows, level_of(compare)),
        facts.cost(rows, compare.get("warnings") or []),
        section("notes", "How to read this", "", [Remarks(NOTES)]),
        origin(compare),
    ]
    title = str(compare.get("title") or "Comparison of methods")
    headline = str(compare.get("headline") or "Nothing was compared.")
    return document(title, headline, _facts(compare), [part for part in parts if part is not None])


def write_compare_page(compare: Mapping, arrays: gallery.Arrays, path: str | Path) -> Path:
    """Write the comparison to `path` (one self-contained HTML file) and return the path.

    Args:
        compare: {'title', 'command', 'device', 'versions', 'seeds', 'clean', 'data': {'source', 'counts'},
            'headline', 'rows': [{'name', 'label', 'description', 'nats', 'gap_closed', 'versus_clean_only',
            'images_seen', 'train_gflop_per_image', 'train_pflop', 'sampling_gflop_per_image', 'seconds',
            'parameters', 'quality', 'saw': {'clean', 'tuning', 'views'}, 'near_copies'}], 'curves': {'sigma',
            'per_pixel_error': {name: [...]}}, 'baseline', 'bands': {'sigma', 'nats_over_baseline': {name: [...]}},
            'warnings': [...], 'pairs': [{'better', 'worse', 'mean', 'low', 'high'}]}; estimates are {'mean', 'low',
            'high', 'per_seed'}, of the level at 'config', 'evaluate', 'level'. Whatever is missing is left out.
        arrays: images (n, H, W, C) in [-1, 1] under `real` and `samples/<name>`.
    """
    return write_page(render_compare(compare, arrays), path)
