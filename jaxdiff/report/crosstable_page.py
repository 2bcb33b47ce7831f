"""Models trained at one acceleration and tested at another, as one page: scores and pictures of magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxdiff.report import gallery
from jaxdiff.report.blocks import Picture, Remarks, Row, Section, Table, section
from jaxdiff.report.images import data_uri, grid
from jaxdiff.report.numbers import ABSENT, duration, fixed, interval, level_percent, present, spread
from jaxdiff.report.numeric import mapping
from jaxdiff.report.page import document, origin, write_page

SCORES = {
    "nrmse": ("NRMSE", "lower is better", 4),
    "ssim": ("SSIM", "higher is better", 3),
    "psnr": ("PSNR, dB", "higher is better; the range is each true image's largest magnitude", 2),
}
ERROR_GAIN = 4
NOTES = (
    "All scores are of magnitudes, over the same images and the same measurements for all rows; intervals are "
    "over images. Slices of one volume are alike, so that intervals over slices are narrower than over subjects.",
    "One step is one evaluation of a network that was trained on undersampled k-space and is told which lines it sees. "
    "Models of whole images (fully sampled, or from L1-wavelet reconstructions) have no such row.",
)

Rows = dict[tuple[str | None, str], dict[float, Mapping]]


def crosstable_rows(table: Mapping) -> Rows:
    """{(run, method): {acceleration: entry}} in the order of the table."""
    found: Rows = {}
    for entry in table.get("rows") or []:
        found.setdefault((entry.get("run"), str(entry["method"])), {})[entry["acceleration"]] = entry
    return found


def _name(run: str | None, method: str) -> str:
    return f"{run}, {method.replace('_', ' ')}" if run else method.replace("_", " ")


def _best(rows: Rows, acceleration: float) -> str:
    scored = {
        key: interval(of[acceleration].get("nrmse"))[0] for key, of in rows.items() if acceleration in of
    }
    scored = {key: value for key, value in scored.items() if np.isfinite(value)}
    return _name(*min(scored, key=scored.get)) if scored else ABSENT


def _scores(table: Mapping, rows: Rows) -> Section | None:
    accelerations = table.get("accelerations") or []
    tables, level = [], level_percent(mapping(mapping(table, "config"), "evaluate").get("level"))
    for score, (title, better, places) in SCORES.items():
        cells = []
        for (run, method), entries in rows.items():
            row = [run or ABSENT, method.replace("_", " ")]
            for acceleration in accelerations:
                entry = mapping(entries.get(acceleration, {}), score)
                row.append(
                    f"{fixed(interval(entry)[0], places)} ({spread(entry, places)})" if entry else ABSENT
                )
            cells.append(row)
        head = ["model", "method", *(f"test R = {value:g}" for value in accelerations)]
        tables.append(
            Table(head, cells, f"{title} with its {level} interval; {better}.", (0, 1)) if cells else None
        )
    return section("scores", "Scores", "Rows: what was trained on. Columns: what is reconstructed.", tables)


def _magnitudes(images: np.ndarray, peak: float) -> np.ndarray:
    return 2 * np.sqrt(np.sum(np.square(images), axis=-1, keepdims=True)) / peak - 1


def _picture(images: np.ndarray, title: str, caption: str) -> Picture:
    drawn = grid(images, len(images))
    return Picture(data_uri(drawn), *drawn.size, title, caption, f"{len(images)} images: {title}")


def _pictures(table: Mapping, rows: Rows, arrays: gallery.Arrays) -> list[Section | None]:
    found = []
    for acceleration in table.get("accelerations") or []:
        prefix = f"R{acceleration:g}/"
        truth = arrays.get(prefix + "truth")
        if truth is None:
            continue
        peak = float(np.sqrt(np.sum(np.square(truth), axis=-1)).max()) or 1.0
        whole = _magnitudes(truth, peak)
        items = [_picture(whole, "truth", "Fully sampled.")]
        for run, method in rows:
            key = prefix + (f"{run}/" if run else "") + method
            if key not in arrays:
                continue
            name, magnitudes = _name(run, method), _magnitudes(arrays[key], peak)
            errors = ERROR_GAIN * np.abs(magnitudes - whole) - 1
            both = np.concatenate([magnitudes, errors])
            drawn = grid(both, len(truth))
            caption = f"Below: {ERROR_GAIN} times the error of the magnitude."
            items.append(Picture(data_uri(drawn), *drawn.size, name, caption, f"{len(truth)} images: {name}"))
            if f"{key}/sd" in arrays:
                shown = 2 * ERROR_GAIN * arrays[f"{key}/sd"] / peak - 1
                items.append(
                    _picture(shown, f"{name}: standard deviation", f"{ERROR_GAIN} times, over draws.")
                )
        found.append(
            section(f"r{acceleration:g}", f"Reconstructions at R = {acceleration:g}", "", [Row(items)])
        )
    return found


def _training(table: Mapping) -> Section | None:
    cells = []
    for name, run in mapping(table, "runs").items():
        trained = mapping(run, "trained_on")
        restored = " of L1-wavelet reconstructions" if trained.get("restored_by") == "wavelet" else ""
        cells.append(
            [name, f"{trained.get('method', ABSENT)}{restored}", f"{trained.get('acceleration', ABSENT):g}"]
            + [duration(run.get("seconds"))]
        )
    head = ["model", "method", "trained at R", "time, with testing"]
    return section("models", "Models", "", [Table(head, cells, "", (0, 1))] if cells else [])


def render_crosstable(table: Mapping, arrays: gallery.Arrays) -> str:
    """The page as text; the same table gives the same text."""
    table = present(table)
    rows = crosstable_rows(table)
    best = [f"R = {value:g}: {_best(rows, value)}" for value in table.get("accelerations") or []]
    said = "Least NRMSE at " + "; ".join(best) + "." if rows else "Nothing was reconstructed."
    data = mapping(table, "data")
    facts = [str(data.get("source", ""))]
    counts = mapping(data, "counts")
    tested = max((int(entry.get("images") or 0) for entry in table.get("rows") or []), default=0)
    part = str(data.get("part") or "held_out").replace("_", "-")
    if tested:
        facts.append(f"tested on {tested} of {counts.get(part.replace('-', '_'), tested)} {part} images")
    facts += [f"seed {table['seed']}"] if table.get("seed") is not None else []
    facts += [str(table["device"])] if table.get("device") else []
    parts = [
        _scores(table, rows),
        *_pictures(table, rows, arrays),
        _training(table),
        section("notes", "How to read this", "", [Remarks(NOTES)]),
        origin(table),
    ]
    title = str(table.get("title") or "Cross table")
    return document(title, said, facts, [part for part in parts if part is not None])


def write_crosstable_page(table: Mapping, arrays: gallery.Arrays, path: str | Path) -> Path:
    """Write the cross table to `path` (one self-contained HTML file) and return the path.

    Args:
        table: {'title', 'command', 'device', 'versions', 'seed', 'data': {'source', 'counts'}, 'accelerations', 'runs':
            {name: {'trained_on', 'seconds'}}, 'rows': [{'run', 'method', 'acceleration', 'nrmse', 'ssim', 'psnr'}]};
            scores are {'mean', 'low', 'high'}. Whatever is missing is left out.
        arrays: complex images (n, H, W, 2) under `R<R>/truth`, `R<R>/<method>`, `R<R>/<run>/<method>`, and standard
            deviations (n, H, W, 1) under these with `/sd`.
    """
    return write_page(render_crosstable(table, arrays), path)
