"""Sections of the comparison's page: what each method saw, where along sigma it gains, near copies, cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jaxdiff.report import figures
from jaxdiff.report.blocks import Remarks, Section, Table, row, section
from jaxdiff.report.figures import Frame, Looks
from jaxdiff.report.numbers import ABSENT, count, duration, fixed, interval_heading, number, significant
from jaxdiff.report.numeric import mapping

Rows = Mapping[str, Mapping]


def label(entry: Mapping) -> str:
    """What a reader calls the row."""
    return str(entry.get("label") or entry["name"])


def saw(rows: Rows) -> Section | None:
    """How many images each method saw, whole or in part."""
    entries = {name: mapping(entry, "saw") for name, entry in rows.items() if mapping(entry, "saw")}
    views = list(dict.fromkeys(view for entry in entries.values() for view in mapping(entry, "views")))
    cells = [
        [label(rows[name]), count(entry.get("clean")), count(entry.get("tuning"))]
        + [count(mapping(entry, "views").get(view)) for view in views]
        for name, entry in entries.items()
    ]
    table = Table(["method", "whole", "to tune on", *views], cells, "Images, one column a view.")
    lead = (
        "Not every method sees the same: the oracle has all images whole, one from the clean images alone sees no "
        "view, and others use one view of several. All divide the same examples, and none sees a held-out image. "
        "Those to tune on choose steps, weights and regularisation; no network is trained on them."
    )
    return section("saw", "What each method saw", lead, [table] if cells else [])


def bands(compare: Mapping, rows: Rows, looks: Looks, quiet: Collection[str]) -> Section | None:
    """What each noise level adds to the nats over the baseline."""
    nats = mapping(compare, "bands", "nats_over_baseline")
    sigma = mapping(compare, "bands").get("sigma")
    names = [name for name in rows if name in nats and name != compare.get("baseline")]
    base = str(compare.get("baseline") or "the baseline").replace("_", " ")
    by_label = {label(rows[name]): looks[name] for name in names}
    gained = {label(rows[name]): nats[name] for name in names}
    each = Frame(
        "Contribution of each band", "nats per image", f"Below the rule a method loses to {base}.", level=0.0
    )
    running = Frame(
        "Added up from the noisiest band down",
        "nats per image",
        f"Read from right to left; the left end is the lead over {base} in the table.",
        level=0.0,
    )
    drawings = [
        figures.sigma_lines(name, figures.band_series(sigma, gained, added), by_label, frame, quiet)
        for name, added, frame in (("bands", False, each), ("running", True, running))
    ]
    lead = f"At which noise levels each method gains on {base}; mean over seeds. The parts add up to the difference."
    return section("bands", "Nats per noise band", lead, [row(drawings)])


def sigma_range(compare: Mapping) -> str:
    """The noise levels that the nats are counted over, such as '0.02 to 20'; '' where nobody says."""
    sigma = figures.floats(mapping(compare, "curves").get("sigma"))
    return f"{sigma.min():.3g} to {sigma.max():.3g}" if len(sigma) else ""


def near_copies(rows: Rows, level: object) -> Section | None:
    """The share of each method's samples that are near copies of what it has learnt from, intervals of `level`."""
    found = {name: mapping(entry, "near_copies") for name, entry in rows.items()}
    found = {name: entry for name, entry in found.items() if entry}
    cells = [
        [
            label(rows[name]),
            percent(entry.get("share")),
            f"{percent(entry.get('low'), False)} to {percent(entry.get('high'))}",
            percent(entry.get("expected")),
            significant(entry.get("p_value"), 2),
            count(entry.get("clean")),
            count(entry.get("behind")),
        ]
        for name, entry in found.items()
    ]
    head = ["method", "near copies", interval_heading(level), "expected", "p", "whole images", "behind views"]
    some = next(iter(found.values()), {})
    unknown = sum(number(entry.get("unknown") or 0) for entry in found.values())
    caption = (
        f"Of {count(some.get('samples'))} samples, those nearer (cosine in feature space) to an image that the method "
        f"learnt from than all but 1\u00a0% of {count(some.get('held_out'))} held-out images are. p: of as many or "
        "more, if samples were like held-out images."
    )
    lead = (
        "Held against are all whole images the method was trained on and the whole images behind the measurements of "
        "its views, which it never saw whole: a near copy of one is memorization, too. Images to tune on are not among "
        "them."
    )
    lead += " Whole images behind measurements that were brought along are not known." * (unknown > 0)
    return section("copies", "Near copies", lead, [Table(head, cells, caption)] if cells else [])


def percent(share: object, unit: bool = True) -> str:
    """A share as '1.2 %'."""
    return ABSENT if share is None else fixed(100 * number(share), 1) + "\u00a0%" * unit


def cost(rows: Rows, warnings: Collection[str] = ()) -> Section | None:
    """What each method took; first the rows that had more than the oracle."""
    cells = [
        [
            label(entry),
            count(entry.get("images_seen")),
            significant(entry.get("train_gflop_per_image")),
            significant(entry.get("train_pflop")),
            significant(entry.get("sampling_gflop_per_image")),
            duration(entry.get("seconds")),
            count(entry.get("parameters")),
        ]
        for entry in rows.values()
    ]
    head = [
        "method",
        "images seen",
        "GFLOP an image, training",
        "PFLOP, training",
        "GFLOP an image, sampling",
    ]
    head += ["training time", "parameters"]
    caption = (
        "Of the first seed. GFLOP: 10⁹ floating-point operations; PFLOP: 10¹⁵. Sampling: at most so many; all networks "
        "count at all noise levels, and where one has no weight in the stacking it is not run."
    )
    blocks = [Remarks(list(warnings)) if warnings else None, Table(head, cells, caption) if cells else None]
    lead = "Rows with more compute than the oracle, beyond what is tolerated:" if warnings else ""
    return section("cost", "Cost", lead, blocks)
