"""`--mode=restore`: a table of restorations, priors x operators x methods, kept cell by cell.

    restore/<name>/<prior>-<operator>-<method>.npz   restored images, deviations, a draw, what it cost; the request
    restore/<name>/<prior>-<operator>-<method>.png   truth, A^+ y, restored, one draw, standard deviation
    restore/<name>/<prior>-<operator>-<method>/      every restored image by the name of its file, or its number
    restore/<name>/restore.json, restore.html        the table and the page

A cell whose request (settings, measurements, parameters of the prior) is the same is not computed again.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.evaluation.lpips import Lpips
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.priors import Prior, evenly, in_tiles, named_prior
from jaxdiff.experiment.restore_images import naming, save_images, visible
from jaxdiff.experiment.restore_input import Input
from jaxdiff.experiment.restore_plan import BASELINE, ESTIMATES, RestorePlan, slug
from jaxdiff.experiment.restore_scores import comparisons, interval_of, open_perceptual, scores
from jaxdiff.experiment.restoring import (
    Cell,
    arrays_digest,
    read_cell,
    refusal,
    request,
    restore_all,
    stated_level,
    write_cell,
)
from jaxdiff.experiment.results import device_name, versions
from jaxdiff.experiment.stages import Run
from jaxdiff.operators import describe
from jaxdiff.progress import StageProgress
from jaxdiff.report.restore_page import ROWS, picture_key, save_strip, write_restore_page
from jaxdiff.report.terminal import print_restore

Arrays = dict[str, np.ndarray]


class Served(NamedTuple):
    """Cells that can be computed, and those that cannot with the reason."""

    cells: list[Cell]
    skipped: list[dict[str, str]]


def make_priors(run: Run, parts: Parts, asked: RestorePlan, shape: tuple[int, ...]) -> dict[str, Prior]:
    """The priors by name, in tiles where the images are larger than those of training."""
    found = {name: named_prior(run.plan, parts, run.config, name) for name in asked.priors}
    trained = tuple(run.plan.image_shape)
    for name, prior in found.items():
        lowest = prior.taught_from
        if run.config.restore.sigma_min < lowest:
            run.console.print(
                f"{name} was taught nothing below sigma = {lowest:.3g}: config.restore.sigma_min={lowest:.3g} stops "
                "there",
                highlight=False,
                soft_wrap=True,
            )
        if shape != trained and prior.told is None:
            found[name] = in_tiles(prior, trained, shape, asked.overlap)
    return found


def served(priors: dict[str, Prior], given: Input, asked: RestorePlan) -> Served:
    """The cells of the table: the baseline, one step by every prior, then the methods.

    Raises:
      ConfigError: none of the methods that were asked for can do any of it; says why.
    """
    cells, skipped = [], []
    for operator in given.operators:
        cells.append(Cell(None, operator, BASELINE))
        for prior in priors:
            for method in dict.fromkeys(("one_step", *asked.methods)):
                if method == BASELINE:
                    continue
                cell = Cell(prior, operator, method)
                of = (given.operators[operator], given.measured[operator])
                reason = refusal(priors[prior], method, *of, asked)
                if reason is None:
                    cells.append(cell)
                else:
                    skipped.append({**cell._asdict(), "reason": reason})
    if not any(cell.method in asked.methods for cell in cells):
        raise ConfigError(
            f"config.restore.method: {next(s['reason'] for s in skipped if s['method'] in asked.methods)}"
        )
    return Served(cells, skipped)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / ("-".join(slug(part) for part in cell if part) + ".npz")


def compute(
    run: Run, priors: dict[str, Prior], given: Input, asked: RestorePlan, cells: list[Cell]
) -> dict[Cell, Arrays]:
    """Every cell's arrays; those that `restore/<name>` has with the same request are read."""
    folder, found, named = run.workdir / "restore" / asked.name, {}, naming(given)
    digests = {name: arrays_digest(prior) for name, prior in priors.items()}
    left = []
    for cell in cells:
        operator = given.operators[cell.operator]
        same = request(cell, operator, given.digest[cell.operator], digests.get(cell.prior, ""), asked)
        found[cell] = read_cell(_path(folder, cell), same)
        if found[cell] is not None and not _named_alike(found[cell], named):  # a file has another name by now
            found[cell] = write_cell(_path(folder, cell), same, {**found[cell], **named}, {})
        left += [(cell, same)] if found[cell] is None else []
    total, done = len(left) * len(given.rows), 0
    if len(left) < len(cells):
        run.console.print(
            f"{len(cells) - len(left)} of {len(cells)} restorations are there already", highlight=False
        )
    with StageProgress("restore", max(total, 1), unit="images", console=run.console) as bar:
        for cell, same in left:
            label = " ".join(part for part in cell if part)

            def progress(count, label=label):
                nonlocal done
                done += count
                bar.update(done, label)

            bar.update(done, label)
            of = (given.operators[cell.operator], given.measured[cell.operator])
            arrays, cost = restore_all(priors.get(cell.prior), cell.method, *of, given.rows, asked, progress)
            found[cell] = write_cell(_path(folder, cell), same, {**arrays, **named}, cost)
    return found


def _named_alike(arrays: Arrays, named: Arrays) -> bool:
    return all(np.array_equal(arrays.get(key), value) for key, value in named.items())


def summarise(
    run: Run,
    given: Input,
    asked: RestorePlan,
    table: Served,
    found: dict[Cell, Arrays],
    perceptual: Lpips | None,
    command_line: list[str],
) -> dict[str, Any]:
    """restore.json."""
    settings = run.config.evaluate
    bootstrap = (settings.seed, settings.level, settings.resamples)
    truth = given.truth
    scored = {} if truth is None else {cell: scores(truth, found[cell], perceptual) for cell in table.cells}
    rows = []
    for cell in table.cells:
        arrays = found[cell]
        cost = {key[5:]: float(value) for key, value in arrays.items() if key.startswith("cost/")}
        row = {
            **cell._asdict(),
            "file": _path(Path(), cell).name,
            **cost,
            "seconds_per_image": cost["seconds"] / len(given.rows),
        }
        if "std" in arrays:
            row["mean_std"] = float(arrays["std"].mean())
        row |= {name: interval_of(values, bootstrap) for name, values in scored.get(cell, {}).items()}
        rows.append(row)
    return {
        "title": f"{run.config.title}: restored",
        "command": " ".join(command_line),
        "device": device_name(),
        "versions": versions(),
        "seed": asked.seed,
        "data": {"source": asked.input, "images": len(given.rows), "truth": given.truth is not None},
        "examples": {key: value.tolist() for key, value in naming(given).items()},
        "operators": {name: describe(operator) for name, operator in given.operators.items()},
        "sigma_y": {name: float(np.mean(m.sigma_y)) for name, m in given.measured.items()},
        "draws": asked.draws,
        "batch": min(asked.batch, len(given.rows)),
        "steps": {name: len(grid) - 1 for name, grid in asked.sigmas.items() if name not in ESTIMATES},
        "stated": stated_level(asked),
        "level": settings.level,
        "lpips": perceptual and {"network": perceptual.network, "weights_sha256": perceptual.weights_sha256},
        "rows": rows,
        "comparisons": comparisons(scored, bootstrap) if scored else [],
        "skipped": table.skipped,
        "config": json.loads(json.dumps(run.config.restore.to_dict())),
    }


def strips(given: Input, asked: RestorePlan, found: dict[Cell, Arrays]) -> dict[str, Arrays]:
    """Rows of pictures of every cell: truth, y, A^+ y, restored, draw, std; images in [-1, 1], std as it is."""
    some = evenly(len(given.rows), asked.shown)
    pictures = {}
    for cell, arrays in found.items():
        base = found[Cell(None, cell.operator, BASELINE)]["mean"]
        rows = {} if given.truth is None else {"truth": given.truth}
        seen = _as_image(given.measured[cell.operator].y[some], base.shape[1:])
        rows |= {"pinv": base, **{key: arrays[key] for key in ("mean", "draw", "std") if key in arrays}}
        if cell.method == BASELINE:
            rows.pop("mean")
        scale = base if given.truth is None else given.truth
        drawn = {key: visible(values[some], key, scale) for key, values in rows.items()}
        if seen is not None:
            drawn |= {"y": visible(seen, "y", scale)}
        pictures[picture_key(cell._asdict())] = {key: drawn[key] for key in ROWS if key in drawn}
    return pictures


def _as_image(y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Measurements that are small images, enlarged by whole pixels to (n, *shape); None where they are none."""
    if y.ndim != 4 or y.shape[-1] != shape[-1] or shape[0] % y.shape[1] or shape[1] % y.shape[2]:
        return None
    return y.repeat(shape[0] // y.shape[1], axis=1).repeat(shape[1] // y.shape[2], axis=2)


def run_restore(run: Run, parts: Parts, given: Input, asked: RestorePlan, command_line: list[str]) -> Path:
    """Restore what is not done yet, and write the table, the pictures and the page; returns its path."""
    shape = next(iter(given.operators.values())).in_shape
    perceptual = open_perceptual(run.config.restore.lpips, given.truth)
    priors = make_priors(run, parts, asked, tuple(shape))
    table = served(priors, given, asked)
    for entry in table.skipped:
        run.console.print(
            f"skipped {entry['prior']}, {entry['operator']}, {entry['method']}: {entry['reason']}",
            highlight=False,
            soft_wrap=True,
        )
    found = compute(run, priors, given, asked, table.cells)
    folder = run.workdir / "restore" / asked.name
    results = summarise(run, given, asked, table, found, perceptual, command_line)
    pictures = strips(given, asked, found)
    for cell in table.cells:
        path = _path(folder, cell)
        save_strip(path.with_suffix(".png"), pictures[picture_key(cell._asdict())])
        if run.config.restore.save_images:
            base = found[Cell(None, cell.operator, BASELINE)]["mean"]
            save_images(path.with_suffix(""), given, found[cell]["mean"], base)
    text = json.dumps(results, indent=1)
    write_atomically(folder / "restore.json", lambda path: path.write_text(text))
    page = write_restore_page(results, pictures, folder / "restore.html")
    print_restore(results, page, run.console)
    return page
