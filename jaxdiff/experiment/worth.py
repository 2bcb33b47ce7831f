"""`--mode=worth`: what one more image of each source is worth, from runs over a grid of sizes.

For every source (a view of the config), number of clean images, number of the source's images and seed, one run:
`config.worth.run` with that view alone, or `config.worth.clean_run` where there is none of it (shared by all
sources). With a source, the method 'shared' trains for longer (`config.worth.on_top`): its measurements come on top of
as many looks at the clean images, or a price would also hold what it costs to look at these less often. The order is
nested, so that stopping early, or `config.worth.budget_minutes`, gives the best design that there was time for; going
on later loses nothing (what a call that was cut off had used of its time is `budget`'s).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.grid import grid_order
from jaxdiff.evaluation.money import money
from jaxdiff.evaluation.price_list import source_entry
from jaxdiff.evaluation.runs import FEWEST_CELLS
from jaxdiff.evaluation.worth import Worth, assess
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.budget import Budget
from jaxdiff.experiment.cells import Cell, is_done, read_cell, run_cells, worker_count
from jaxdiff.experiment.checks import ConfigError, choose
from jaxdiff.experiment.compare import clean_counts
from jaxdiff.experiment.data import open_clean
from jaxdiff.experiment.plan import operator_rank, view_operator
from jaxdiff.experiment.results import versions
from jaxdiff.experiment.variants import changes, load_variant, reaching_runs, with_changes
from jaxdiff.methods.shared import clean_odds
from jaxdiff.progress import StageProgress
from jaxdiff.report.terminal import print_worth
from jaxdiff.report.worth_page import write_worth_page
from jaxdiff.training.stopping import Interrupted, StopRequest


class Point(NamedTuple):
    """One run of the grid; `source` is empty where there are clean images only."""

    source: str
    n_clean: int
    n_source: int
    seed: int

    @property
    def name(self) -> str:
        """Its directory."""
        what = f"{self.source}{self.n_source}" if self.source else "clean"
        return f"{what}/n{self.n_clean}/seed{self.seed}"


def points_of(config: ConfigDict) -> list[Point]:
    """All runs, in the order in which they are made: the sources in turn, each in its own nested order.

    Raises:
      ConfigError: no sources, a source that is no view, or sizes that make no grid.
    """
    settings = config.worth
    if not len(settings.sizes):
        raise ConfigError("config.worth.sizes: give at least one source, such as {'low_res': (300, 1200)}")
    orders: dict[str, Iterator] = {}
    for source, sizes in settings.sizes.items():
        choose(f"worth.sizes.{source}", source, config.views)
        clean = len(set(settings.clean))
        cells = clean * (1 + len(set(sizes) - {0}))
        if clean < 2 or cells < FEWEST_CELLS:
            raise ConfigError(
                f"config.worth: {clean} clean sizes and {sorted(set(sizes))} of {source} make {cells} cells; a law "
                f"needs {FEWEST_CELLS}, of two clean sizes at least"
            )
        try:
            orders[source] = iter(grid_order(settings.clean, sizes, settings.seeds))
        except ValueError as error:
            raise ConfigError(f"config.worth.sizes.{source}: {error}") from None
    found: dict[Point, None] = {}
    while orders:
        for source in list(orders):
            item = next(orders[source], None)
            if item is None:
                del orders[source]
            else:
                n, m, seed = item
                found[Point(source if m else "", n, m, seed)] = None
    return list(found)


def cell_of(point: Point, config: ConfigDict, file: str, changed: dict, image_shape: tuple[int, ...]) -> Cell:
    """The run of a point: the variant of the config file with one view, or with none."""
    settings = config.worth
    one = with_changes(load_variant(file, settings.run if point.source else settings.clean_run), changed)
    one.seed = point.seed
    one.data.update(clean_counts(point.n_clean, config.compare.tuning_share, "worth.clean"))
    one.data.reserved = max(settings.clean)
    one.train.max_steps = settings.max_steps or one.train.max_steps
    for name in list(one.views):
        if name != point.source:
            del one.views[name]
    if point.source:
        one.views[point.source].examples = float(point.n_source)
        if point.n_source == 1:
            raise ConfigError(f"config.worth.sizes.{point.source}: 1 would be a share; give at least 2")
        if settings.on_top and one.views[point.source].method == "shared":
            _lengthen(one, point, image_shape)
    return Cell(point.name, one)


def _lengthen(one: ConfigDict, point: Point, image_shape: tuple[int, ...]) -> None:
    """As many more steps as it takes to show the clean images as often as without the source.

    Raises:
      ConfigError: several laps, of which each shows the clean images at a rate of its own.
    """
    if one.shared.em.laps > 1:
        raise ConfigError(
            f"config.worth.on_top lengthens a single lap; the priced run has shared.em.laps = {one.shared.em.laps}. "
            "Give it 1, or set config.worth.on_top = False"
        )
    stage = one.shared.train
    steps, limit = stage.steps or one.train.steps, stage.max_steps or one.train.max_steps
    measured = point.n_source * operator_rank(view_operator(one, point.source, image_shape))
    odds = clean_odds(one.shared.clean_weight, one.data.clean * math.prod(image_shape), measured)
    stage.steps = math.ceil(min(steps, limit or steps) * (1 + 1 / odds))
    stage.max_steps = stage.steps


def cells_of(config: ConfigDict, config_name: str) -> dict[Point, Cell]:
    """The runs of a price list by point."""
    file, _, variant = config_name.partition(":")
    changed = reaching_runs(changes(config, load_variant(file, variant)))
    points, shape = points_of(config), tuple(open_clean(config).shape)
    return {point: cell_of(point, config, file, changed, shape) for point in points}


def quality(point: Point, cell: Cell, config: ConfigDict, root: Path) -> float:
    """Nats per held-out image over the Gaussian."""
    errors = read_cell(cell, root)[1]
    method = config.worth.method if point.source else config.worth.clean_method
    choose(
        "worth.method" if point.source else "worth.clean_method", method, [n for n in errors if n != "sigmas"]
    )
    return float(certificate.nats(errors["gaussian"], errors[method], errors["sigmas"]).mean())


def _present(config: ConfigDict, source: str) -> tuple[int, int]:
    """The sizes at which prices are asked: what is at hand."""
    present = config.worth.present.get(source, max(config.worth.sizes[source]))
    return int(config.compare.clean), int(present)


def _assess(config: ConfigDict, measured: dict[Point, float], console: Console) -> dict[str, Worth]:
    worths = {}
    for source in config.worth.sizes:
        mine = [(point, nats) for point, nats in measured.items() if point.source in ("", source)]
        columns = np.array([(p.n_clean, p.n_source, nats, p.seed) for p, nats in mine], np.float64).T
        with StageProgress(
            f"laws of {source}", 2 * config.worth.resamples, unit="fits", console=console
        ) as bar:
            try:
                worths[source] = assess(
                    *columns[:3],
                    present=_present(config, source),
                    seed=columns[3],
                    n_resamples=config.worth.resamples,
                    resampling_seed=config.evaluate.seed,
                    level=config.evaluate.level,
                    progress=lambda done, total, bar=bar: bar.update(min(done, bar.total)),
                )
            except ValueError as error:
                raise ConfigError(
                    f"{source}: {error}; {len(mine)} runs are done: give config.worth.budget_minutes more, or 0"
                ) from None
    return worths


def summarise(
    config: ConfigDict, cells: dict[Point, Cell], done: list[Cell], root: Path, console: Console
) -> dict:
    """worth.json: laws, prices and money, from the runs that are done."""
    names = {cell.name for cell in done}
    measured = {
        point: quality(point, cell, config, root) for point, cell in cells.items() if cell.name in names
    }
    worths, settings = _assess(config, measured, console), config.worth
    costs = {source: float(settings.cost.get(source, settings.cost.clean)) for source in settings.sizes}
    first = read_cell(done[0], root)[0]
    return {
        "title": f"{config.title}: price list",
        "seeds": list(settings.seeds),
        "device": first["device"],
        "versions": versions(),
        "data": {"source": config.data.source},
        "runs": [{**point._asdict(), "nats": nats} for point, nats in measured.items()],
        "planned": len(cells),
        "sources": [source_entry(source, worth) for source, worth in worths.items()],
        "money": money(worths, float(settings.cost.clean), costs, float(settings.spend)),
        "config": json.loads(json.dumps(config.to_dict())),
    }


def run(
    config: ConfigDict, config_name: str, workdir: Path, console: Console, command_line: list[str]
) -> int:
    """Train what there is time for, fit the laws, and write worth.json and worth.html."""
    if not config.data.reference:
        raise ConfigError("config.data.reference: prices need a Gaussian that is the same for all runs")
    cells, minutes = cells_of(config, config_name), config.worth.budget_minutes
    ran = [read_cell(cell, workdir)[0]["seconds"] for cell in cells.values() if is_done(cell, workdir)]
    budget = Budget(workdir / "budget.json", minutes, config.worth.margin, max(ran, default=0.0))
    workers = worker_count(config.compare.workers, jax.default_backend())
    until = f"as many as {minutes:g} minutes allow" if minutes > 0 else "all of them"
    if budget.before:
        until += f" ({budget.before / 60:.0f} are used: the last call was cut off)"
    console.print(f"{len(cells)} runs, {until}, {workers} at a time, in {workdir}", highlight=False)
    with StopRequest().listening() as stop:
        try:
            done = run_cells(list(cells.values()), workdir, workers, console, stop, budget.allows)
        except Interrupted:
            budget.keep()
            raise
    budget.settle()
    worth = {"command": " ".join(command_line), **summarise(config, cells, done, workdir, console)}
    text = json.dumps(worth, indent=1)
    write_atomically(workdir / "worth.json", lambda path: path.write_text(text))
    page = write_worth_page(worth, workdir / "worth.html")
    if len(done) < len(cells):
        console.print(f"{len(done)} of {len(cells)} runs: the same command goes on where this one stopped.")
    print_worth(worth, page, console)
    return 0
