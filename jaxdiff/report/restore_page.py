"""Restored images as one page: scores over methods and operators, pictures side by side, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxdiff.report import gallery
from jaxdiff.report.blocks import Folded, Picture, Remarks, Section, Table, row, section
from jaxdiff.report.images import data_uri, grid, save_picture
from jaxdiff.report.numbers import (
    ABSENT,
    count,
    duration,
    fixed,
    interval,
    level_percent,
    number,
    present,
    significant,
    spread,
)
from jaxdiff.report.numeric import mapping
from jaxdiff.report.page import document, origin, write_page

BASELINE = "pinv"
STD_GAIN = 2  # a standard deviation of 1 / STD_GAIN and more is white
ROWS = {
    "truth": "truth",
    "y": "y as it was measured",
    "pinv": "A⁺ y",
    "mean": "restored",
    "draw": "one draw",
    "std": f"standard deviation (white: {1 / STD_GAIN:g} and more)",
}
SCORES = {
    "psnr": ("PSNR, dB", 2),
    "psnr_draw": ("PSNR of one draw", 2),
    "ssim": ("SSIM", 3),
    "nrmse": ("NRMSE", 3),
    "lpips": ("LPIPS", 3),
    "lpips_draw": ("LPIPS of one draw", 3),
}
NOTES = (
    "What is restored is the mean of the draws, which has the least squared error that is possible given y; a single "
    "draw looks like an image and has about 3 dB less even where it is exact. Images are clipped to [−1, 1] before "
    "they are scored, A⁺ y too.",
    "A⁺ y is the shortest image that explains y; hidden pixels are 0, which is middle gray.",
    "Coverage is the share of pixels whose true value lies in the interval between two of the draws. Far below the "
    "stated one the error bars are too short. Pixels of which the prior is certain (a black background) and noise in "
    "the last digits decide it, too: look at the pictures of the standard deviation.",
    "All rows of one operator share images, measurements and the draws’ noise. Intervals are over images.",
)


def method_name(entry: Mapping) -> str:
    """The row's name: `residual, mmps`; `A⁺ y`."""
    method = str(entry["method"])
    if method == BASELINE:
        return "A⁺ y"
    return f"{entry['prior']}, {method.replace('_', ' ')}" if entry.get("prior") else method


def picture_key(entry: Mapping) -> str:
    """The key of a row's pictures."""
    return "|".join(str(entry.get(key) or "") for key in ("operator", "prior", "method"))


def of_operator(results: Mapping, operator: str) -> list[Mapping]:
    """The rows of one operator, in the order of the table."""
    return [entry for entry in results.get("rows") or [] if entry.get("operator") == operator]


def strip(rows: Mapping[str, np.ndarray]) -> Image.Image:
    """One image a column, one of `ROWS` a row; images (n, H, W, C) in [-1, 1], 'std' a standard deviation."""
    drawn = [
        2 * np.clip(STD_GAIN * values, 0.0, 1.0) - 1 if key == "std" else values
        for key, values in rows.items()
    ]
    return grid(np.concatenate(drawn), len(drawn[0]))


def save_strip(path: Path, rows: Mapping[str, np.ndarray]) -> Path:
    """Write `strip` as a PNG; returns the path."""
    return save_picture(path, strip(rows))


def short_time(seconds: object) -> str:
    """Seconds as `duration`, in milliseconds where they are fewer than one."""
    value = number(seconds)
    return f"{significant(1000 * value)} ms" if value < 1 else duration(seconds)


def _with_interval(entry: Mapping, places: int) -> str:
    mean, low, _ = interval(entry)
    if not np.isfinite(mean):
        return ABSENT
    return fixed(mean, places) + (f" ({spread(entry, places)})" if np.isfinite(low) else "")


def _scores(results: Mapping) -> Section | None:
    tables, stated = [], fixed(100 * float(results.get("stated") or 0), 0)
    for operator, described in mapping(results, "operators").items():
        rows = of_operator(results, operator)
        names = [name for name in SCORES if any(name in entry for entry in rows)]
        covered = any("coverage" in entry for entry in rows)
        cells = []
        for entry in rows:
            cell = [method_name(entry)]
            cell += [_with_interval(mapping(entry, name), SCORES[name][1]) for name in names]
            cell += [_percent(mapping(entry, "coverage"))] * covered
            cells.append(
                [*cell, significant(entry.get("mean_std")), short_time(entry.get("seconds_per_image"))]
            )
        head = ["prior, method", *(SCORES[name][0] for name in names)]
        head += [f"coverage of {stated} %"] * covered + ["mean std", "time per image"]
        sigma = significant(mapping(results, "sigma_y").get(operator))
        caption = (
            f"{operator.replace('_', ' ')}: {described}, noise of y {sigma}; with "
            f"{level_percent(results.get('level'))} intervals."
        )
        tables.append(Table(head, cells, caption) if cells else None)
    truth = mapping(results, "data").get("truth")
    lead = (
        "PSNR and SSIM: higher is better; NRMSE: lower is better." + _perceptual(results)
        if truth
        else (
            "Real measurements: nobody knows the truth, so there is nothing to score; the standard deviation is what "
            "the draws say of themselves."
        )
    )
    return section("scores", "Scores", lead, tables)


def _perceptual(results: Mapping) -> str:
    network = mapping(results, "lpips").get("network")
    return f" LPIPS (version 0.1, {network}): lower is more alike." if network else ""


def _percent(entry: Mapping) -> str:
    return f"{fixed(100 * interval(entry)[0], 0)} %" if entry else ABSENT


def _compared(results: Mapping) -> Section | None:
    cells = []
    for entry in results.get("comparisons") or []:
        first = method_name(entry) + (" (one draw)" if entry.get("score") == "psnr_draw" else "")
        over = "A⁺ y" if entry.get("over") == BASELINE else str(entry.get("over"))
        cells.append([str(entry["operator"]).replace("_", " "), first, over, _with_interval(entry, 2)])
    head = ["operator", "first", "second", "first − second, dB"]
    caption = f"PSNR, paired by image, with {level_percent(results.get('level'))} intervals."
    blocks = [Table(head, cells, caption, (0, 1, 2)) if cells else None]
    return section("paired", "Paired differences", "", blocks)


def _pictures(results: Mapping, pictures: Mapping[str, Mapping[str, np.ndarray]]) -> list[Section | None]:
    found = []
    for operator, described in mapping(results, "operators").items():
        items = []
        for entry in of_operator(results, operator):
            rows = pictures.get(picture_key(entry))
            if not rows or entry["method"] == BASELINE:
                continue
            drawn, name = strip(rows), method_name(entry)
            caption = "From above: " + "; ".join(ROWS[key] for key in rows) + "."
            items.append(Picture(data_uri(drawn), *drawn.size, name, caption, f"{operator}: {name}"))
        title = operator.replace("_", " ")
        found.append(section(f"o-{operator}", f"Restored: {title}", str(described), [row(items)]))
    return found


def _cost(results: Mapping) -> Section | None:
    cells = []
    for entry in results.get("rows") or []:
        memory = entry.get("device_peak_bytes")
        cells.append(
            [
                str(entry["operator"]).replace("_", " "),
                method_name(entry),
                short_time(entry.get("seconds_per_image")),
            ]
            + [duration(entry.get("seconds")), duration(entry.get("compile_seconds"))]
            + [f"{count(float(entry.get('memory_bytes') or 0) / 1e6)} MB"]
            + [ABSENT if memory is None else f"{count(float(memory) / 1e6)} MB"]
        )
    head = [
        "operator",
        "prior, method",
        "time per image",
        "all images",
        "compiling",
        "memory of a call",
        "peak of device",
    ]
    lead = (
        f"A batch of {results.get('batch')} images and all their draws ({results.get('draws')} of each) are one "
        "compiled call. Times are without compiling. Memory of a call: arguments, results and what it keeps in "
        "between, as the compiler plans it. Peak of device: of the whole process since its start."
    )
    return section("cost", "Time and memory", lead, [Table(head, cells, "", (0, 1)) if cells else None])


def _skipped(results: Mapping) -> Section | None:
    cells = [
        [str(e["operator"]).replace("_", " "), method_name(e), str(e["reason"])]
        for e in results.get("skipped") or []
    ]
    blocks = [Table(["operator", "prior, method", "why"], cells, "", (0, 1, 2)) if cells else None]
    return section("skipped", "Left out", "", blocks)


def _settings(results: Mapping) -> Section | None:
    rows = gallery.flat(mapping(results, "config"), "restore")
    label = f"{len(rows)} keys, as they were used"
    table = Table(["key", "value"], rows, "", (0, 1), mono=True)
    return section("config", "Config", "", [Folded(label, table)] if rows else [])


def headline(results: Mapping) -> str:
    """The best of every operator by PSNR, in a sentence; what was restored where there is no truth."""
    said = []
    for operator in mapping(results, "operators"):
        scored = [
            entry for entry in of_operator(results, operator) if np.isfinite(interval(entry.get("psnr"))[0])
        ]
        if not scored:
            continue
        best = max(scored, key=lambda entry: interval(entry["psnr"])[0])
        base = next((e for e in scored if e["method"] == BASELINE), None)
        gain = (
            f" ({fixed(interval(base['psnr'])[0], 1)} by A⁺ y)"
            if base is not None and base is not best
            else ""
        )
        name = operator.replace("_", " ")
        said.append(f"{name}: {fixed(interval(best['psnr'])[0], 1)} dB by {method_name(best)}{gain}")
    if said:
        return "Best PSNR. " + "; ".join(said) + "."
    return f"{count(mapping(results, 'data').get('images'))} measurements restored; their truth is not known."


def _facts(results: Mapping) -> Sequence[str]:
    data = mapping(results, "data")
    facts = [
        str(data.get("source", "")),
        f"{count(data.get('images'))} images",
        f"{results.get('draws')} draws each",
    ]
    facts.append(f"seed {results.get('seed')}")
    return facts + ([str(results["device"])] if results.get("device") else [])


def render_restore(results: Mapping, pictures: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """The page as text; the same results give the same text."""
    config = results.get("config")
    results = present(results) | {"config": config}  # in a config, None is a value
    parts = [
        _scores(results),
        _compared(results),
        *_pictures(results, pictures),
        _cost(results),
        _skipped(results),
        section("notes", "How to read this", "", [Remarks(NOTES)]),
        _settings(results),
        origin(results),
    ]
    title = str(results.get("title") or "Restored images")
    return document(title, headline(results), _facts(results), [part for part in parts if part is not None])


def write_restore_page(
    results: Mapping, pictures: Mapping[str, Mapping[str, np.ndarray]], path: str | Path
) -> Path:
    """Write the page to `path` (one self-contained HTML file) and return the path.

    Args:
        results: what restore.json holds: 'operators' {name: description}, 'rows' [{'prior', 'operator', 'method',
            scores as {'mean', 'low', 'high'}, 'seconds_per_image', ...}], 'comparisons', 'skipped', ... Whatever is
            missing is left out.
        pictures: by `picture_key`, images by `ROWS`.
    """
    return write_page(render_restore(results, pictures), path)
