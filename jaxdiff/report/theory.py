"""The page of the theory: exact curves drawn over what was measured, and every row of the table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdiff.report.blocks import Folded, Listing, Section, Table, row, section
from jaxdiff.report.figures import SIGMA, Drawing, Frame
from jaxdiff.report.measured import Series, measured_over_exact
from jaxdiff.report.numbers import duration, significant
from jaxdiff.report.page import document, write_page
from jaxdiff.report.palette import view_looks

BARS = "Lines are exact; points are measured, bars are 95\u00a0% intervals."
ERROR = Frame(
    "Error of the residual",
    "E|r̂ − r|²",
    f"{BARS} For few examples each line is flat at R₀, the error of the views alone; for many it falls as V(n) ∝ 1/n.",
    log_y=True,
)
COLLAPSE = Frame(
    "All of it on one curve",
    "error ÷ R₀",
    "Every ρ and n. Line: the parallel law x / (1 + x). Faint: x, a fit from scratch. To the right of 1 the views "
    "know more than n examples teach.",
    log_y=True,
)
VIEWS = Frame(
    "What no view knows",
    "R₀, or nats",
    f"{BARS} Both go as ρ² for small ρ: half the correlation, a quarter of what the residual has to learn.",
    log_y=True,
)
EXPONENT = Frame(
    "How fast the worth falls",
    "exponent −d ln worth / d ln σ",
    "Exact. With an exponential decay they would rise for ever; these level off at 2, 4 and 6. Beside clean: the "
    "weight, for the first noisy example added to a clean set.",
    ylim=(0.0, 6.5),
)


def worth_frame(separation: float) -> Frame:
    return Frame(
        f"One noisy example, components {separation:g} apart",
        "clean examples",
        f"{BARS} Noisy examples alone; the components have standard deviation 1.",
        log_y=True,
    )


def mixed_frame(separation: float, share: float) -> Frame:
    return Frame(
        f"{share:.0%} clean, {1 - share:.0%} noisy, components {separation:g} apart",
        "size, relative to all clean",
        f"{BARS} Faint: the clean and the noisy ones counted apart. What lies between is what they do for each other.",
        log_y=True,
    )


def _points(entries: Sequence[Mapping], x: Sequence[float]) -> tuple[list, list, list]:
    return list(x), [entry["mean"] for entry in entries], [entry["se"] for entry in entries]


def error_figure(dial: Mapping) -> Drawing | None:
    """Error of the shrunk residual against n, a line for each rho."""
    looks = view_looks(f"ρ = {curve['rho']:g}" for curve in dial["curves"])
    series = {}
    for curve, (name, look) in zip(dial["curves"], looks.items(), strict=True):
        cells = [cell for cell in dial["cells"] if cell["rho"] == curve["rho"]]
        points = _points([cell["shrunk"] for cell in cells], [cell["n"] for cell in cells])
        series[name] = Series(look, (curve["n"], curve["shrunk"]), points)
    return measured_over_exact("error", series, ERROR, "clean examples n")


def collapse_figure(dial: Mapping) -> Drawing | None:
    """error / R0 against V / R0 for all rho and n."""
    power = {curve["rho"]: curve["views"] for curve in dial["curves"]}
    kinds = {
        "shrunk": ("shrunk, one noise draw each", "scratch"),
        "ridge": ("ridge, one noise draw each", "scratch"),
        "all_draws_shrunk": ("shrunk, every noise draw", "all_draws"),
    }
    looks = view_looks(["parallel law", *(label for label, _ in kinds.values()), "from scratch"])
    series, ratios = {}, []
    for key, (label, against) in kinds.items():
        x = [cell[against]["exact"] / power[cell["rho"]] for cell in dial["cells"]]
        y = [{k: cell[key][k] / power[cell["rho"]] for k in ("mean", "se")} for cell in dial["cells"]]
        series[label] = Series(looks[label], None, _points(y, x))
        ratios += x
    x = np.geomspace(min(ratios), max(ratios), 80)
    law = {
        "parallel law": Series(looks["parallel law"], (x.tolist(), (x / (1 + x)).tolist())),
        "from scratch": Series(looks["from scratch"], (x.tolist(), x.tolist()), faint=True),
    }
    return measured_over_exact("collapse", law | series, COLLAPSE, "V(n) ÷ R₀")


def views_figure(dial: Mapping) -> Drawing | None:
    """R0 and the budget in nats against rho."""
    looks = view_looks(("R₀", "nats"))
    rhos = [entry["rho"] for entry in dial["views"]]
    series = {}
    exact = dial["views_curve"]
    for name, key in (("R₀", "power"), ("nats", "nats")):
        points = _points([entry[key] for entry in dial["views"]], rhos)
        series[name] = Series(looks[name], (exact["rho"], exact[key]), points)
    return measured_over_exact("views", series, VIEWS, "correlation ρ")


def worth_figures(pair: Mapping, index: int) -> list[Drawing | None]:
    """Worth of a noisy example alone, and the size of a mixed set, against sigma."""
    looks, curves, drawings = view_looks(pair["alone"]), pair["curves"], []
    for kind, frame in (
        ("alone", worth_frame(pair["separation"])),
        ("mixed", mixed_frame(pair["separation"], pair["clean_share"])),
    ):
        series = {}
        for name, entry in pair[kind].items():
            points = pair["sigma"], entry["mean"], entry["se"]
            series[name] = Series(looks[name], (curves["sigma"], curves[kind][name]), points)
        if kind == "mixed":
            for name in pair[kind]:
                line = curves["sigma"], curves["apart"][name]
                series[f"{name}, apart"] = Series(looks[name], line, faint=True)
        drawings.append(measured_over_exact(f"{kind}{index}", series, frame, SIGMA))
    return drawings


def exponent_figure(pair: Mapping) -> Drawing | None:
    """Local exponent of the worth against sigma, exact."""
    curves, beside = pair["curves"], "weight, beside clean"
    looks = view_looks([*curves["exponent"], beside])
    series = {name: Series(looks[name], (curves["far"], y)) for name, y in curves["exponent"].items()}
    series[beside] = Series(looks[beside], (curves["far"], curves["marginal"]["weight"]))
    return measured_over_exact("exponent", series, EXPONENT, SIGMA)


def _rows_table(rows: Sequence[Mapping]) -> Table:
    cells = [
        [entry["quantity"], *(significant(entry[key], 4) for key in ("measured", "exact", "tolerance"))]
        + ["ok" if entry["ok"] else "FAIL"]
        for entry in rows
    ]
    caption = "Of a series, the point that is furthest off in standard errors; the tolerance is four of them."
    return Table(["quantity", "measured", "exact", "tolerance", ""], cells, caption)


def _dial_table(dial: Mapping) -> Table:
    head = [
        "ρ",
        "n",
        "R₀",
        "V(n)",
        "V(n) measured",
        "law",
        "shrunk, measured",
        "ridge, measured",
        "every draw, measured",
    ]
    power = {curve["rho"]: curve["views"] for curve in dial["curves"]}
    cells = []
    for cell in dial["cells"]:
        values = [
            power[cell["rho"]],
            cell["scratch"]["exact"],
            cell["scratch"]["mean"],
            cell["shrunk"]["exact"],
        ]
        values += [cell[key]["mean"] for key in ("shrunk", "ridge", "all_draws_shrunk")]
        cells.append([f"{cell['rho']:g}", str(cell["n"]), *(significant(value, 4) for value in values)])
    return Table(head, cells, "Errors E|r̂ − r|² of the residual score.")


def summary(results: Mapping) -> str:
    """The outcome in one sentence."""
    rows = results["rows"]
    far = [entry["quantity"] for entry in rows if not entry["ok"]]
    if far:
        return f"{len(far)} of {len(rows)} rows are outside their tolerance: {'; '.join(far)}."
    return f"All {len(rows)} rows agree with the exact answers within their tolerance."


def sections(results: Mapping) -> list[Section]:
    """The sections of the page."""
    dial, pairs = results["dial"], results["worth"]
    lead = (
        f"Two views of {dial['width']} coordinate{'s' * (dial['width'] > 1)} each, correlated by ρ; noise level "
        f"σ = {dial['sigma']:g}. A residual is fitted to n clean examples on top of the exact views and multiplied by "
        "R₀ / (R₀ + V(n)). Its error is R₀ V(n) / (R₀ + V(n)) exactly: views and examples add like conductances."
    )
    worth_lead = (
        "Two equally frequent Gaussian components of unknown mean and weight, learnt by maximum likelihood from "
        "noisy examples. Once the components overlap, a noisy example is worth a power of 1/σ, and what it is asked "
        "decides which: 2 for the mean, 4 for the separation, 6 for the weight, 4K − 2 in the worst direction of K "
        "components. Beside a few clean examples it is worth far more."
    )
    found = [
        section("rows", "Measured against exact", "", [_rows_table(results["rows"])]),
        section(
            "dial",
            "Correlation and clean examples",
            lead,
            [
                row([error_figure(dial), collapse_figure(dial), views_figure(dial)]),
                Folded(f"{len(dial['cells'])} cells of the dial", _dial_table(dial)),
            ],
        ),
        section(
            "worth",
            "What a noisy example is worth",
            worth_lead,
            [row(worth_figures(pair, i)) for i, pair in enumerate(pairs)]
            + [row([exponent_figure(pairs[0])]) if pairs else None],
        ),
        section(
            "origin", "Command", "", [Listing(str(results["command"]), "The exact command of this run.")]
        ),
    ]
    return [item for item in found if item is not None]


def write_theory_report(results: Mapping, path: str | Path) -> Path:
    """Write the page of a theory run (its `results.json`) to `path` and return the path."""
    facts = [f"seed {results['seed']}", duration(results["seconds"])]
    return write_page(document(str(results["title"]), summary(results), facts, sections(results)), path)
