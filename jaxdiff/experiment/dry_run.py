"""`--dry-run`: what a command would do. Nothing is trained, nothing is written; data are opened where they are there.

Without data the shape of the images comes from `data.image_size` and `data.channels`; counts of examples stay shares.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxdiff.experiment import compare, crosstable, dry_modes, worth
from jaxdiff.experiment.cells import is_done
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.completing import check_law
from jaxdiff.experiment.data import open_clean, open_measured
from jaxdiff.experiment.entries import check_batches
from jaxdiff.experiment.plan import make_plan, view_operator
from jaxdiff.experiment.same_config import changed_keys
from jaxdiff.experiment.sketch import StageSketch, sketch_stages
from jaxdiff.experiment.splitting import split_parts
from jaxdiff.experiment.stages import stage_names
from jaxdiff.operators import LinearOperator, Measurement, build, describe
from jaxdiff.report.dry_run import print_cells, print_config, print_facts, print_parts, print_stages
from jaxdiff.training.loop import steps_done
from jaxdiff.training.sharding import check_batch, make_mesh

# Groups of the config that not every run looks at.
OF_MODES = ("compare", "worth", "crosstable", "distill", "restore", "memorization")
OF_TASKS = {"gaussian_toy": "toy", "gaussian_theory": "theory"}


class Known(NamedTuple):
    """What can be said of the data.

    Attributes:
      shape: (H, W, C); None where neither the data nor the config says it.
      total: examples of the source; None without data.
      missing: why there are no data, and how to get them; '' with data.
      operators, noise, given: of views that bring their measurements, as far as they are there: operator, the least
        sigma_y, one measurement.
      absent: by view, why its measurements are not there.
    """

    shape: tuple[int, int, int] | None
    total: int | None
    missing: str
    operators: dict[str, LinearOperator]
    noise: dict[str, float]
    given: dict[str, Measurement]
    absent: dict[str, str]


def _declared_shape(config: Any) -> tuple[int, int, int] | None:
    size, channels = config.data.image_size, config.data.channels
    return (size, size, channels) if size and channels else None


def look_at_data(config: Any) -> Known:
    """Open what is there; read nothing but what opening reads, and one measurement of views that bring theirs.

    Raises:
      ConfigError: the source is unknown or broken, as in a real run.
    """
    shape, total, missing = _declared_shape(config), None, ""
    try:
        source = open_clean(config)
        shape, total = tuple(source.shape), len(source)
        total = min(total, config.data.limit) if config.data.limit else total
    except FileNotFoundError as error:
        missing = str(error)
    found = Known(shape, total, missing, {}, {}, {}, {})
    if shape is None:
        return found
    for name, view in config.views.items():
        if not view.source:
            found.operators[name] = view_operator(config, name, shape)
            continue
        try:
            measured = open_measured(config, name, shape)
            found.operators[name], found.given[name] = measured.operator, measured.gather(np.arange(1))
            found.noise[name] = float(found.given[name].sigma_y.min())
        except FileNotFoundError as error:
            found.absent[name] = str(error)
            found.operators[name] = build("pixel_mask", shape, p=0.5)  # what most measurements are
    return found


def part_rows(config: Any, known: Known) -> list[tuple[str, str, str]]:
    """(part, examples, what they are for) of the data plan."""
    uses = {
        "held_out": "evaluation only",
        "reference": "the Gaussian that nats are counted from",
        "tuning": "early stopping, fusion weights, stacking",
        "clean": "the residual, clean_only, and views with_clean",
        "unused": "nobody",
    }
    sizes = {part: config.data[part] for part in ("held_out", "reference", "tuning", "clean")}
    if known.total is not None:
        sizes = {name: len(rows) for name, rows in split_parts(config, known.total).items()}
    rows = [(name, f"{size:,}", uses[name]) for name, size in sizes.items() if name in uses and size]
    for name, view in config.views.items():
        operator = describe(known.operators[name]) if name in known.operators else str(dict(view.operator))
        use = f"{operator}, by '{view.method}'"
        if view.source:
            use = f"measurements of {view.source}, by '{view.method}'"
        size = sizes.get(f"view/{name}")
        if size is not None:
            text = f"{size:,}"
        elif view.examples > 1:
            text = f"{int(view.examples):,}"
        else:
            text = f"{view.examples:.4g} of {'its rows' if view.source else 'the pool'}"
        rows.append((f"view/{name}", text, use))
    return rows


def stage_state(directory: Path, steps: int) -> str:
    """What a run would do with the stage in `directory`."""
    done = steps_done(directory)
    if done is not None:
        return f"done at step {done:,}"
    folder = directory / "checkpoints"
    saved = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    return f"goes on from step {max(saved):,}" if saved else f"new, {steps:,} steps"


def stage_rows(stages: list[StageSketch], workdir: Path, devices: int) -> list[dict[str, Any]]:
    """What the table of stages shows."""
    rows = []
    for stage in stages:
        settings = stage.plan.settings
        micro = f" in {settings.accumulate}" if settings.accumulate > 1 else ""
        rows.append(
            {
                "name": stage.name,
                "parameters": stage.parameters,
                "forward_flops": stage.forward_flops,
                "train_flops": stage.train_flops,
                "steps": settings.steps,
                "batch": f"{settings.batch} ({settings.batch // devices} a device{micro})",
                "images": settings.steps * settings.batch,
                "sharding": settings.sharding,
                "memory": stage.memory,
                "state": stage_state(workdir / "stages" / stage.name, settings.steps),
            }
        )
    return rows


def _facts(
    config: Any, workdir: Path, mode: str, known: Known, devices: list, changed: list[str]
) -> dict[str, str]:
    held = "holds a run of another config, which gives way (--allow_config_change):\n" + "\n".join(changed)
    kind = f"{devices[0].device_kind} ({devices[0].platform})"
    facts = {
        "mode": mode,
        "mesh": f"data = {len(devices)} x {kind}, of {jax.process_count()} process(es); batches are split over it",
        "workdir": f"{workdir}: "
        + (held if changed else "holds a run of this config" if _begun(workdir) else "nothing there yet"),
        "data": f"{config.data.source}: "
        + (f"{known.total:,} examples" if known.total is not None else "not there"),
    }
    if known.missing:
        facts["to get them"] = known.missing
    if known.shape is None:
        facts["images"] = (
            "their shape is not known without the data: say it with --config.data.image_size=64 "
            "--config.data.channels=3 (for RGB images of 64 x 64)"
        )
    else:
        said = "" if known.total is not None else ", as config.data says"
        facts["images"] = " x ".join(map(str, known.shape)) + said
    for name, reason in known.absent.items():
        facts[f"view/{name}"] = f"{reason} (a mask is assumed in its place)"
    return facts


def _begun(workdir: Path) -> bool:
    return (workdir / "config.json").exists()


def groups_used(config: Any, mode: str) -> list[str]:
    """The groups of the config that this run looks at."""
    if config.task in OF_TASKS:
        return [OF_TASKS[config.task]]
    never = {*OF_TASKS.values(), *OF_MODES} - {mode}
    return [name for name in config if name not in never]


def run_images(config: Any, workdir: Path, mode: str, console: Console) -> int:
    """Print what `run_images` of `command` would do; exit code 0.

    Raises:
      ConfigError, ValueError: what a real run would raise before it compiles anything.
    """
    changed = changed_keys(config, workdir)
    known, devices, mesh = look_at_data(config), jax.devices(), make_mesh()
    facts = _facts(config, workdir, mode, known, devices, changed)
    print_config(config.to_dict(), groups_used(config, mode), console)
    if known.shape is None:
        print_facts(facts, console)
        print_parts(part_rows(config, known), console)
        return 0
    if known.total is not None:
        check_law(config, {name: len(rows) for name, rows in split_parts(config, known.total).items()})
    plan = make_plan(config, known.shape, known.operators, known.noise)
    left = [name for name in stage_names(plan) if steps_done(workdir / "stages" / name) is None]
    check_batches(plan, mesh, left)
    asked = dry_modes.look_at_mode(config, plan, workdir, mode)
    if asked.distilled is not None:
        distilled = asked.distilled.stage.settings
        check_batch(distilled.batch, mesh, "stage distill", distilled.accumulate)
    clean = config.data.reference or config.data.clean
    stages = sketch_stages(plan, config, clean, known.given, mesh, workdir, asked.distilled)
    rows = stage_rows(stages, workdir, mesh.size)
    print_facts(facts | asked.facts, console)
    print_parts(part_rows(config, known), console)
    print_stages(rows, console)
    return 0


def run_cells(config: Any, config_name: str, workdir: Path, mode: str, console: Console) -> int:
    """Print the runs of a comparison, a price list or a cross table; each is a config of its own."""
    print_config(config.to_dict(), groups_used(config, mode), console)
    makers = {"compare": compare, "crosstable": crosstable, "worth": worth}
    if mode != "worth" and not len(config[mode].runs):
        raise ConfigError(f"config.{mode}.runs is empty: {config_name} has nothing for --mode={mode}")
    cells = list(makers[mode].cells_of(config, config_name).values())
    rows = [(cell.name, "done" if is_done(cell, workdir) else "to run") for cell in cells]
    print_cells(rows, f"python launch.py --config={config_name.partition(':')[0]}:RUN --dry-run", console)
    return 0


def run_exact(config: Any, workdir: Path, mode: str, console: Console) -> int:
    """Print what a task without data does."""
    print_config(config.to_dict(), groups_used(config, mode), console)
    facts = {
        "task": f"{config.task}: measured against exact answers; no data, no stages, nothing is trained",
        "writes": f"{workdir}/: results.json" + (", report.html" if config.task == "gaussian_theory" else ""),
    }
    print_facts(facts, console)
    return 0


def run(config: Any, config_name: str, workdir: Path, mode: str, console: Console) -> int:
    """Print what `launch.py` would do with these flags; returns the exit code.

    Raises:
      ConfigError, ValueError: the config is wrong, as in a real run.
    """
    if mode in ("compare", "worth", "crosstable"):
        return run_cells(config, config_name, workdir, mode, console)
    if config.task != "images":
        return run_exact(config, workdir, mode, console)
    return run_images(config, workdir, mode, console)
