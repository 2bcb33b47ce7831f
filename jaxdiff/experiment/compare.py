"""`--mode=compare`: a list of configs times seeds under one budget, and one report of who wins by how much.

`config.compare.runs` names variants of the config file, each a config that can be run by itself;
`config.compare.rows` says which method of which run is a row. Keys changed on the command line are changed in
every run. All rows are measured on the same held-out images in the same noise, against the same Gaussian
(`data.reference`), so that differences are paired.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.bootstrap import over_seeds_and_images
from jaxdiff.evaluation.gap import NoGap, gap_closed
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.cells import Cell, read_cell, run_cells, worker_count
from jaxdiff.experiment.checks import ConfigError, choose
from jaxdiff.experiment.data import open_clean
from jaxdiff.experiment.equal_compute import beyond_budget
from jaxdiff.experiment.results import versions
from jaxdiff.experiment.sample_quality import make_extractor, sample_scores, stored_reference
from jaxdiff.experiment.seen_images import seen_by
from jaxdiff.experiment.variants import changes, load_variant, reaching_runs, with_changes
from jaxdiff.report.compare_page import write_compare_page
from jaxdiff.report.sentences import winner_sentence
from jaxdiff.report.terminal import print_compare
from jaxdiff.sampling import evaluations
from jaxdiff.training.stopping import StopRequest

LEAST_SAMPLES = (
    10  # of fewer, nearest neighbours and covariances say nothing: no setting makes their scores mean more
)
LEAST_CLEAN = 10  # of fewer there is not one to tune on beside enough to fit anything


class Row(NamedTuple):
    """A line of the table: `method` of the run `run`."""

    name: str
    run: str
    method: str


def rows_of(config: ConfigDict) -> list[Row]:
    """The rows as the config asks for them: {name: 'run/method'}.

    Raises:
      ConfigError: a row names no run, baseline, oracle, headline or one of its parts is no row, or no rival is left.
    """
    settings, rows = config.compare, []
    for name, target in settings.rows.items():
        run, _, method = target.partition("/")
        choose(f"compare.rows.{name}", run, settings.runs)
        rows.append(Row(name, run, method))
    names = [row.name for row in rows]
    for key in ("baseline", "oracle", "headline"):
        choose(f"compare.{key}", settings[key], names)
    for part in settings.parts:
        choose("compare.parts", part, names)
    if not set(names) - {settings.headline, settings.oracle, *settings.parts}:
        raise ConfigError(
            f"config.compare.parts: with {tuple(settings.parts)} every row is the oracle, the headline or part of it, "
            "and there is no rival; leave one of them out"
        )
    return rows


def clean_counts(count: int, tuning_share: float, where: str = "compare.clean") -> dict[str, int]:
    """`count` clean examples: a share of them, rounded and at least one, to tune on, the others to train on.

    Args:
      count: of both together.
      tuning_share: config.compare.tuning_share.
      where: the key that `count` is from.

    Raises:
      ConfigError: fewer than ten, or a share that leaves nothing to train on.
    """
    if count < LEAST_CLEAN:
        raise ConfigError(f"config.{where}: at least {LEAST_CLEAN} clean examples are needed, got {count}")
    if not 0 < tuning_share < 1:
        raise ConfigError(
            "config.compare.tuning_share: a share of the clean examples, between 0 and 1 (0.1: one in ten), got "
            f"{tuning_share:g}"
        )
    tuning = max(1, round(count * tuning_share))
    if count - tuning < 2:
        raise ConfigError(
            f"config.compare.tuning_share: {tuning_share:g} of {count} clean examples leaves {count - tuning} to train "
            f"on, at least 2 are needed; nearest valid: {(count - 2) / count:.2g}"
        )
    return {"tuning": tuning, "clean": count - tuning}


def cells_of(config: ConfigDict, config_name: str) -> dict[tuple[str, int], Cell]:
    """The runs of a comparison by (run, seed), seed after seed."""
    file, _, variant = config_name.partition(":")
    changed = reaching_runs(changes(config, load_variant(file, variant)))
    counts = clean_counts(config.compare.clean, config.compare.tuning_share)
    rows, found = rows_of(config), {}
    for number, seed in enumerate(config.compare.seeds):
        for run in config.compare.runs:
            one = with_changes(load_variant(file, run), changed)
            one.seed = int(seed)
            if config.compare.oracle not in [row.name for row in rows if row.run == run]:
                one.data.update(counts)
            # Samples of the first seed are for the eye and for the scores of samples.
            samples = tuple(row.method for row in rows if row.run == run) if number == 0 else ()
            found[run, seed] = Cell(f"{run}/seed{seed}", one, samples)
    return found


def _nats(
    cells: Mapping, rows: list[Row], root: Path, seeds
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Nats over the Gaussian of every row, (seeds, images), and what each noise level adds to their mean, (S,)."""
    found, parts = {row.name: [] for row in rows}, {row.name: [] for row in rows}
    for seed in seeds:
        for row in rows:
            errors = read_cell(cells[row.run, seed], root)[1]
            key = row.method.replace("/", "|")
            if key not in errors:
                known = ", ".join(sorted(name for name in errors if name != "sigmas"))
                raise ConfigError(
                    f"config.compare.rows.{row.name}: '{row.run}' has no '{row.method}', it has {known}"
                )
            bands = certificate.band_contributions(errors["gaussian"], errors[key], errors["sigmas"])
            found[row.name].append(bands.sum(axis=1))
            parts[row.name].append(bands.mean(axis=0))
    nats = {name: np.stack(values) for name, values in found.items()}
    return nats, {name: np.mean(values, axis=0) for name, values in parts.items()}


def _gap(values: np.ndarray, baseline: np.ndarray, oracle: np.ndarray, bootstrap: Mapping) -> dict | None:
    """Share of the gap closed; None where baseline and oracle cannot be told apart."""
    try:
        return gap_closed(values, baseline, oracle, **bootstrap)
    except NoGap:
        return None


def summarise(
    config: ConfigDict, cells: Mapping, root: Path, command_line: list[str], console: Console
) -> tuple[dict, dict[str, np.ndarray]]:
    """compare.json and the arrays of the page, from the cells that `root` holds."""
    settings, rows, seeds = config.compare, rows_of(config), list(config.compare.seeds)
    bootstrap = {
        "seed": config.evaluate.seed,
        "level": config.evaluate.level,
        "n_resamples": config.evaluate.resamples,
    }
    nats, contributions = _nats(cells, rows, root, seeds)
    baseline, oracle = nats[settings.baseline], nats[settings.oracle]
    entries, curves, drawn, seen = [], {}, {}, {}
    source = open_clean(cells[rows[0].run, seeds[0]].config)
    calls = evaluations(config.sample.sampler, karras_schedule(config.sample.steps))
    for row in rows:
        measured, errors = read_cell(cells[row.run, seeds[0]], root)
        method, values = measured["methods"][row.method], nats[row.name]
        pixels = int(np.prod(measured["data"]["image_shape"]))
        mean = over_seeds_and_images(values, **bootstrap)
        counts = measured["data"]["counts"]
        seen[row.name] = seen_by(cells[row.run, seeds[0]].config, row.method, source, counts)
        entries.append(
            {
                "name": row.name,
                "label": row.name.replace("_", " "),
                "description": method["description"],
                "nats": mean | {"per_seed": values.mean(axis=1).tolist()},
                "gap_closed": _gap(values, baseline, oracle, bootstrap),
                "versus_clean_only": over_seeds_and_images(values - baseline, **bootstrap),
                "images_seen": method["images_seen"],
                "train_gflop_per_image": method["train_flops"] / max(method["images_seen"], 1) / 1e9,
                "train_pflop": method["train_flops"] / 1e15,
                "sampling_gflop_per_image": method["denoiser_flops"] * calls / 1e9,
                "seconds": method["seconds"],
                "parameters": method["parameters"],
                "saw": seen[row.name].counts(),
            }
        )
        curves[row.name] = (errors[row.method.replace("/", "|")].mean(axis=0) / pixels).tolist()
        path = root / cells[row.run, seeds[0]].name / "samples" / f"{row.method.replace('/', '_')}.npz"
        with np.load(path, allow_pickle=False) as stored:
            drawn[row.name] = stored["images"]
    first = cells[next(row.run for row in rows if row.name == settings.baseline), seeds[0]]
    scores, copies, held_out = sample_scores(first.config, drawn, seen, root / "features", console)
    for entry in entries:
        entry |= {"quality": scores[entry["name"]], "near_copies": copies[entry["name"]]}
    shown = settings.shown
    arrays = {f"samples/{name}": images[:shown] / np.float32(127.5) - 1 for name, images in drawn.items()}
    arrays["real"] = held_out[:shown]
    gains = {
        name: (values - contributions[settings.baseline]).tolist() for name, values in contributions.items()
    }
    of_sigma = {
        "curves": {"sigma": errors["sigmas"].tolist(), "per_pixel_error": curves},
        "bands": {"sigma": errors["sigmas"].tolist(), "nats_over_baseline": gains},
    }
    return _compared(config, nats, entries, of_sigma, measured, bootstrap, command_line), arrays


def _compared(config, nats, entries, of_sigma, measured, bootstrap, command_line) -> dict:
    settings = config.compare
    rivals = [name for name in nats if name not in (settings.headline, settings.oracle)]
    versus = {
        name: over_seeds_and_images(nats[settings.headline] - nats[name], **bootstrap) for name in rivals
    }
    gap = next(entry["gap_closed"] for entry in entries if entry["name"] == settings.headline)
    means = {name: float(nats[name].mean()) for name in [settings.headline, *rivals]}
    ranked = {name: mean for name, mean in means.items() if name not in settings.parts}
    return {
        "title": config.title,
        "command": " ".join(command_line),
        "device": measured["device"],
        "versions": versions(),
        "seeds": list(settings.seeds),
        "clean": settings.clean,
        "data": {"source": config.data.source, "counts": measured["data"]["counts"]},
        "headline": winner_sentence(settings.headline, ranked, versus, gap),
        "baseline": settings.baseline,
        "warnings": beyond_budget(entries, settings.oracle, settings.tolerance),
        "rows": entries,
        **of_sigma,
        "pairs": [
            {"better": settings.headline, "worse": name, **versus[name]}
            for name in sorted(rivals, key=lambda name: -means[name])
        ],
        "config": json.loads(json.dumps(config.to_dict())),
    }


def run(
    config: ConfigDict, config_name: str, workdir: Path, console: Console, command_line: list[str]
) -> int:
    """Train what is not trained, measure, and write compare.json, compare.npz and compare.html."""
    if not len(config.compare.runs):
        raise ConfigError(
            f"config.compare.runs is empty: {config_name} compares nothing; see configs/digits_compare.py"
        )
    if not config.data.reference:
        raise ConfigError(
            "config.data.reference: a comparison needs a Gaussian that is the same for all rows"
        )
    if not config.compare.tolerance >= 0:
        raise ConfigError(
            f"config.compare.tolerance: a share of the oracle's operations, at least 0 (0.2: a fifth more), got "
            f"{config.compare.tolerance}"
        )
    if config.compare.shown < 1:
        raise ConfigError(f"config.compare.shown: at least 1 sample of a row, got {config.compare.shown}")
    if config.sample.count < LEAST_SAMPLES:
        raise ConfigError(
            f"config.sample.count: at least {LEAST_SAMPLES} samples of a row are needed to score them, got "
            f"{config.sample.count}"
        )
    cells = cells_of(config, config_name)
    if (
        config.evaluate.inception or config.evaluate.statistics
    ):  # what is wrong with them is said before training
        extractor = make_extractor(config, open_clean(config), workdir / "features", console)
        stored_reference(config, extractor)
    workers = worker_count(config.compare.workers, jax.default_backend())
    console.print(
        f"{len(cells)} runs ({len(config.compare.runs)} configs, {len(config.compare.seeds)} seeds), {workers} at a "
        f"time, in {workdir}; logs are in each run's log.txt",
        highlight=False,
    )
    with StopRequest().listening() as stop:
        run_cells(list(cells.values()), workdir, workers, console, stop)
    compare, arrays = summarise(config, cells, workdir, command_line, console)
    text = json.dumps(compare, indent=1)
    write_atomically(workdir / "compare.json", lambda path: path.write_text(text))
    write_atomically(workdir / "compare.npz", lambda path: np.savez_compressed(path, **arrays))
    page = write_compare_page(compare, arrays, workdir / "compare.html")
    print_compare(compare, page, console)
    return 0
