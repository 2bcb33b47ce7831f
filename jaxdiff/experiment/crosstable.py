"""`--mode=crosstable`: models trained at one acceleration of MRI, tested at another.

`config.crosstable.runs` names variants of the config file, a model each. Every run is a cell (see `cells`): its process
trains the model and reconstructs the same measurements of held-out images at every acceleration; one more cell,
`baselines`, does what needs no model. A cell leaves

    stages/         the trained model
    test_R<R>.npz   per acceleration: scores of every image and method, and a few images; kept when it is resumed
    measured.json   what it was asked for and how long it took; written last

and the parent puts them together in crosstable.json, crosstable.npz and crosstable.html.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from jaxdiff import operators
from jaxdiff.evaluation.restoration import intervals, restoration_scores
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.cells import Cell, is_done, run_cells, worker_count
from jaxdiff.experiment.checks import ConfigError, at, choose
from jaxdiff.experiment.data import ExperimentData, load_data, open_clean
from jaxdiff.experiment.entries import stage_entries
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.priors import evenly
from jaxdiff.experiment.reconstruction import Prior, check_methods, methods_for, reconstruct
from jaxdiff.experiment.results import device_name, versions
from jaxdiff.experiment.stages import Run
from jaxdiff.experiment.variants import changes, load_variant, with_changes
from jaxdiff.operators import LinearOperator
from jaxdiff.report.crosstable_page import write_crosstable_page
from jaxdiff.report.terminal import print_crosstable
from jaxdiff.training.stopping import StopRequest

BASELINES = "baselines"
PARTS = ("held_out", "reference", "tuning")


def tested_operator(config: ConfigDict, acceleration: float, shape: tuple[int, ...]) -> LinearOperator:
    """The view's operator at another acceleration.

    Raises:
      ConfigError: the operator has no acceleration, or not this one.
    """
    name = config.crosstable.view
    choose("crosstable.view", name, list(config.views))
    spec = config.views[name].operator.to_dict() | {"acceleration": acceleration}
    try:
        return operators.build(spec.pop("name"), shape, **spec)
    except ValueError as error:
        raise at("crosstable.accelerations", error) from None


def cells_of(config: ConfigDict, config_name: str) -> dict[str, Cell]:
    """The cells by name, the baselines first.

    Raises:
      ConfigError: nothing to run, or a variant that does not exist.
    """
    if not config.crosstable.runs:
        raise ConfigError(
            f"config.crosstable.runs is empty: {config_name} compares nothing; see configs/brain_mri.py"
        )
    check_methods(tuple(config.crosstable.methods))
    choose("crosstable.part", config.crosstable.part, PARTS)
    if not config.data[config.crosstable.part]:
        raise ConfigError(
            f"config.crosstable.part: config.data.{config.crosstable.part} is 0, there is nothing to test on"
        )
    if not config.crosstable.accelerations or BASELINES in config.crosstable.runs:
        raise ConfigError(
            f"config.crosstable: at least one acceleration is needed, and no run may be called '{BASELINES}'"
        )
    file, _, variant = config_name.partition(":")
    changed = changes(config, load_variant(file, variant))
    found = {}
    for run in (BASELINES, *config.crosstable.runs):
        of_run = config.crosstable.runs[0] if run == BASELINES else run
        one = with_changes(load_variant(file, of_run), changed)
        # How the reconstructions are made is the same for all.
        one.crosstable = config.crosstable
        found[run] = Cell(run, one, kind="crosstable")
    return found


def _test(
    config: ConfigDict, data: ExperimentData, prior: Prior | None, acceleration: float, names: list[str]
) -> dict[str, np.ndarray]:
    """Scores of every method, and a few of its images, at one acceleration."""
    settings = config.crosstable
    operator = tested_operator(config, acceleration, data.image_shape)
    images = getattr(data, settings.part)
    rows = evenly(len(images), settings.images)
    truth = images[rows]
    measured = data.measured_part(settings.part, operator, settings.seed).take(rows)
    shown = evenly(len(rows), settings.shown)
    arrays = {"truth": truth[shown]}
    for name in names:
        began = time.monotonic()
        key = jax.random.fold_in(jax.random.key(settings.seed), round(1000 * acceleration))
        found = reconstruct(name, prior, operator, measured, settings, settings.batch, key)
        arrays[f"{name}/seconds"] = np.asarray((time.monotonic() - began) / len(rows))
        arrays[f"{name}/images"] = found.mean[shown]
        if found.sd is not None:
            arrays[f"{name}/sd"] = found.sd[shown]
        for score, values in restoration_scores(truth, found.mean).items():
            arrays[f"{name}/{score}"] = values
    return arrays


def reconstruct_cell(config: Any, directory: Path, root: Path, asked: dict, console: Console) -> None:
    """Train the model of a cell, unless it is the baselines', and test it at every acceleration."""
    began, prior, stages = time.monotonic(), None, {}
    data = load_data(config, console)
    if asked["name"] != BASELINES:
        plan = make_plan(config, data.image_shape, data.operators, data.noise)
        run = Run(plan, config, data, directory, console, StopRequest())
        parts = train(run)
        prior, stages = Prior(plan.view(config.crosstable.view), parts), stage_entries(run, parts)
    names = methods_for(prior, tuple(config.crosstable.methods))
    same = json.dumps(asked, sort_keys=True)
    for acceleration in config.crosstable.accelerations:
        path = directory / _file(acceleration)
        if path.exists() and _request(path) == same:
            continue
        console.print(f"reconstructing at R = {acceleration:g}", highlight=False)
        arrays = _test(config, data, prior, acceleration, names) | {"request": np.asarray(same)}
        write_atomically(path, lambda temporary, arrays=arrays: np.savez_compressed(temporary, **arrays))
    measured = {
        "request": asked,
        "methods": names,
        "stages": stages,
        "trained_on": _trained_on(config, prior),
        "data": {"counts": data.counts, "image_shape": list(data.image_shape), "report": data.report},
        "tested_on": data.digests[config.crosstable.part],
        "seconds": time.monotonic() - began,
        "device": device_name(),
    }
    text = json.dumps(measured, indent=1, default=str)
    write_atomically(directory / "measured.json", lambda path: path.write_text(text))


def _file(acceleration: float) -> str:
    return f"test_R{acceleration:g}.npz"


def _request(path: Path) -> str:
    with np.load(path, allow_pickle=False) as stored:
        return str(stored["request"])


def _trained_on(config: ConfigDict, prior: Prior | None) -> dict[str, Any]:
    if prior is None:
        return {}
    view = config.views[config.crosstable.view]
    acceleration = view.operator.get("acceleration", 1)
    return {"acceleration": acceleration, "method": view.method, "restored_by": view.restored_by}


def summarise(
    config: ConfigDict, cells: Mapping[str, Cell], root: Path, command_line: list[str]
) -> tuple[dict, dict[str, np.ndarray]]:
    """crosstable.json, and the arrays of the page, from the cells that `root` holds.

    Raises:
      ConfigError: cells were tested on different held-out images.
    """
    settings, rows, images = config.crosstable, [], {}
    bootstrap = (config.evaluate.seed, config.evaluate.level, config.evaluate.resamples)
    measured = {
        name: json.loads((root / cell.name / "measured.json").read_text()) for name, cell in cells.items()
    }
    if len({entry["tested_on"] for entry in measured.values()}) > 1:
        raise ConfigError("config.crosstable.runs: their configs hold out different images")
    for name, entry in measured.items():
        for acceleration in settings.accelerations:
            with np.load(root / cells[name].name / _file(acceleration), allow_pickle=False) as stored:
                arrays = dict(stored)
            images[f"R{acceleration:g}/truth"] = arrays["truth"]
            for method in entry["methods"]:
                scores = {score: arrays[f"{method}/{score}"] for score in ("nrmse", "ssim", "psnr")}
                rows.append(
                    {
                        "run": None if name == BASELINES else name,
                        "method": method,
                        "trained_on": entry["trained_on"],
                        "acceleration": acceleration,
                        "images": len(scores["nrmse"]),
                        "seconds_per_image": float(arrays[f"{method}/seconds"]),
                        **intervals(scores, *bootstrap),
                    }
                )
                of = f"R{acceleration:g}/{'' if name == BASELINES else name + '/'}{method}"
                images[of] = arrays[f"{method}/images"]
                if f"{method}/sd" in arrays:
                    images[f"{of}/sd"] = arrays[f"{method}/sd"]
    first = next(iter(measured.values()))
    table = {
        "title": config.title,
        "command": " ".join(command_line),
        "device": first["device"],
        "versions": versions(),
        "seed": config.seed,
        "data": {"source": config.data.source, "part": settings.part, **first["data"]},
        "accelerations": list(settings.accelerations),
        "runs": {
            name: {key: entry[key] for key in ("trained_on", "stages", "seconds")}
            for name, entry in measured.items()
            if name != BASELINES
        },
        "rows": rows,
        "config": json.loads(json.dumps(config.to_dict())),
    }
    return table, images


def open_once(cells: Mapping[str, Cell], root: Path) -> None:
    """Open what the cells that are not done will open, here and before any of them starts.

    Coil maps of fastMRI are then found once, with a progress bar, and not by several processes at a time on the same
    files; what is wrong with a file is this process's own error, and not the end of a cell's log.

    Raises:
      ConfigError, FileNotFoundError: as `open_clean`.
    """
    opened = set()
    for cell in cells.values():
        asked = json.dumps(cell.config.data.to_dict(), sort_keys=True)
        if asked not in opened and not is_done(cell, root):
            open_clean(cell.config)
            opened.add(asked)


def run(
    config: ConfigDict, config_name: str, workdir: Path, console: Console, command_line: list[str]
) -> int:
    """Train and test what is not done yet, and write crosstable.json, crosstable.npz and crosstable.html."""
    cells = cells_of(config, config_name)
    workers = worker_count(config.crosstable.workers, jax.default_backend())
    console.print(
        f"{len(cells) - 1} models, {len(config.crosstable.accelerations)} accelerations, {workers} at a time, in "
        f"{workdir}; logs are in each run's log.txt",
        highlight=False,
    )
    open_once(cells, workdir)
    with StopRequest().listening() as stop:
        run_cells(list(cells.values()), workdir, workers, console, stop)
    table, images = summarise(config, cells, workdir, command_line)
    text = json.dumps(table, indent=1)
    write_atomically(workdir / "crosstable.json", lambda path: path.write_text(text))
    write_atomically(workdir / "crosstable.npz", lambda path: np.savez_compressed(path, **images))
    page = write_crosstable_page(table, images, workdir / "crosstable.html")
    print_crosstable(table, page, console)
    return 0
