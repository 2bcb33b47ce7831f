"""The sections of the page that show measurements: scores, errors, bands, weights, training, cost."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jaxdiff.report import figures
from jaxdiff.report.blocks import Section, Table, row, section
from jaxdiff.report.figures import Frame, Looks
from jaxdiff.report.numbers import (
    ABSENT,
    REFERENCE,
    count,
    decimals,
    duration,
    extent,
    fixed,
    interval,
    interval_heading,
    level_in_text,
    level_of,
    number,
    significant,
    spread,
)
from jaxdiff.report.outcome import pair_names, verdict
from jaxdiff.report.palette import ink, method_looks, view_looks
from jaxdiff.report.training_curves import training_curves

SCORES = Frame(
    "Nats over the Gaussian denoiser",
    "nats per image (right is better)",
    "Mark: mean over held-out images. Bar: its {level} interval. Rule: the Gaussian denoiser.",
)
PAIRED = Frame(
    "Paired differences",
    "nats per image (right: first is better)",
    "A bar that keeps clear of the rule at zero is a difference that these images resolve.",
)
ERROR = Frame(
    "Error",
    "squared error per pixel",
    "Mean squared error against the noise added, pixels in [−1, 1]; lower is better.",
    log_y=True,
)
RATIO = Frame(
    "Error relative to the Gaussian denoiser",
    "error ÷ Gaussian’s error",
    "Rule at 1: the Gaussian denoiser. Below it is better.",
    level=1.0,
)
BANDS = Frame(
    "Contribution of each band",
    "nats per image",
    "Below the rule a method loses to the Gaussian denoiser in that band.",
    level=0.0,
)
RUNNING = Frame(
    "Added up from the noisiest band down",
    "nats per image",
    "Read from right to left; the left end is the method’s score in the table.",
    level=0.0,
)
GATE = Frame(
    "Gate g(σ)", "g", "1: the learnt residual is added in full; 0: it is left out.", ylim=(-0.04, 1.04)
)
FUSION = Frame(
    "Weights of the views in the fusion",
    "share of the weight",
    "How much each view counts where views overlap, as a share of all; 0 where a view is not valid.",
    ylim=(-0.04, 1.04),
)
SCORE_LEAD = (
    "The score is the certificate ½ ∫ (error of the Gaussian denoiser − error of the method) σ⁻⁴ d(σ²) on "
    "held-out clean images: how many nats a method is nearer to the true distribution than a Gaussian with "
    "the clean images’ mean and covariance. Intervals are bootstrapped over held-out images; they do not "
    "contain the spread between training seeds."
)
PAIRED_CAPTION = (
    "Both methods denoise the same held-out images under the same noise, and the interval is of the "
    "difference per image: it can be much narrower than the two methods’ own intervals suggest."
)


def mapping(tree: object, *keys: str) -> Mapping:
    """The nested mapping at `keys`, or an empty one where any step is missing or is no mapping."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def all_looks(results: Mapping) -> Looks:
    """The look of every method and candidate that occurs anywhere in the results."""
    names = [
        REFERENCE,
        *mapping(results, "methods"),
        *mapping(results, "bands", "nats"),
        *mapping(results, "stages"),
    ]
    for method, weights in mapping(results, "stacking").items():
        names += [method, *mapping(weights, "weights")]
    # What a view has learnt has the view's color, wherever it is drawn.
    of_views = {f"view/{name}": look for name, look in all_view_looks(results).items()}
    return method_looks(name for name in names if not name.startswith("view/")) | of_views


def all_view_looks(results: Mapping) -> Looks:
    """The look of every view that occurs anywhere in the results."""
    named = [*mapping(results, "methods"), *mapping(results, "bands", "nats"), *mapping(results, "stages")]
    views = [name.removeprefix("view/") for name in named if name.startswith("view/")]
    return view_looks([*mapping(results, "views"), *mapping(results, "fusion_weights", "weights"), *views])


def is_candidate(method: object) -> bool:
    """Whether an entry of `methods` is one of the denoisers that methods are stacked from."""
    return mapping(method).get("kind") == "candidate"


def ordered(entries: Mapping) -> dict[str, Mapping]:
    """Methods before candidates, each by score, the best first; what has no finite score last."""

    def rank(name: str) -> tuple[bool, float]:
        mean = interval(mapping(entries[name]).get("nats_over_gaussian"))[0]
        return is_candidate(entries[name]), -mean if np.isfinite(mean) else np.inf

    return {name: mapping(entries[name]) for name in sorted(entries, key=rank)}


def _methods_table(entries: Mapping, level: object) -> Table:
    scores = [method.get("nats_over_gaussian") for method in entries.values()]
    places = decimals(score for score in scores if score is not None)
    described = any(method.get("description") for method in entries.values())
    rows, candidates = [], False
    for name, method in entries.items():
        if is_candidate(method) and not candidates:
            candidates = True
            rows.append(["Candidates: the denoisers that methods are stacked from"])
        score = method.get("nats_over_gaussian")
        cells = [name, ABSENT, ABSENT]
        if score is not None:
            cells = [name, fixed(interval(score)[0], places), extent(name, score, places)]
        cells += [
            duration(method.get("seconds")),
            count(method.get("images_seen")),
            count(method.get("parameters")),
        ]
        rows.append(cells + [str(method.get("description") or "")] * described)
    ends = interval_heading(level)
    head = ["method", "nats over Gaussian", ends, "training time", "images seen", "parameters"]
    caption = "Nats per image, higher is better; the Gaussian denoiser is zero by definition."
    return Table(head + ["what it is"] * described, rows, caption, (0, 6))


def _paired_table(comparisons: Mapping, level: object) -> Table:
    places = decimals(comparisons.values())
    rows = []
    for key, entry in comparisons.items():
        first, second = pair_names(key)
        mean = fixed(interval(entry)[0], places, signed=True)
        rows.append([_difference(key), mean, spread(entry, places), verdict(first, second, entry)])
    head = ["difference", "nats per image", interval_heading(level), "reading"]
    return Table(head, rows, PAIRED_CAPTION, (0, 3))


def _difference(key: str) -> str:
    return "\u00a0− ".join(filter(None, pair_names(key)))  # no line may begin with the sign


def methods(results: Mapping, looks: Looks) -> Section | None:
    """The table of methods, the paired differences, and both as intervals on a line."""
    entries = ordered(mapping(results, "methods"))
    comparisons, level = mapping(results, "comparisons"), level_of(results)
    scores = {name: method.get("nats_over_gaussian") for name, method in entries.items()}
    scores = {name: score for name, score in scores.items() if score is not None}
    quiet = [name for name, method in entries.items() if is_candidate(method)]
    differences = {_difference(key): entry for key, entry in comparisons.items()}
    frame = replace(SCORES, caption=SCORES.caption.format(level=level_in_text(level)))
    blocks = [
        _methods_table(entries, level) if entries else None,
        _paired_table(comparisons, level) if comparisons else None,
        row(
            [
                figures.forest("scores", scores, looks, frame, quiet),
                figures.forest("paired", differences, {}, PAIRED),
            ]
        ),
    ]
    return section("methods", "Methods", SCORE_LEAD, blocks)


def errors(results: Mapping, looks: Looks) -> Section | None:
    """Denoising error against sigma, absolute and relative to the Gaussian denoiser."""
    measured = {n: m for n, m in ordered(mapping(results, "methods")).items() if mapping(m, "denoising")}
    quiet = [name for name, method in measured.items() if is_candidate(method)]
    curves = {n: (m["denoising"].get("sigma"), m["denoising"].get("mse")) for n, m in measured.items()}
    ratios = figures.error_ratio(measured, REFERENCE) if REFERENCE in measured else {}
    drawings = [
        figures.sigma_lines("error", curves, looks, ERROR, quiet),
        figures.sigma_lines("ratio", ratios, looks, RATIO, quiet),
    ]
    lead = (
        "How well each method removes noise whose level it is told, on held-out images, from almost no noise "
        "(left) to almost nothing but noise (right)." + " Thin lines are candidates." * bool(quiet)
    )
    return section("errors", "Denoising error", lead, [row(drawings)])


def bands(results: Mapping, looks: Looks) -> Section | None:
    """Where along sigma the nats come from."""
    entries = ordered(mapping(results, "methods"))
    nats = mapping(results, "bands", "nats")
    nats = {
        name: nats[name]
        for name in [*entries, *(set(nats) - set(entries))]
        if name in nats and name != REFERENCE
    }
    quiet = [name for name in nats if is_candidate(entries.get(name))]
    sigma = mapping(results, "bands").get("sigma")
    drawings = [
        figures.sigma_lines("bands", figures.band_series(sigma, nats, False), looks, BANDS, quiet),
        figures.sigma_lines("running", figures.band_series(sigma, nats, True), looks, RUNNING, quiet),
    ]
    lead = "At which noise levels each method gains on the Gaussian denoiser. The parts add up to the score."
    return section("bands", "Nats per noise band", lead, [row(drawings)])


def weights(results: Mapping, looks: Looks, views: Looks) -> Section | None:
    """The gate, the stacking weights of each method and the weights of the views in the fusion."""
    gate, fusion = mapping(results, "gate"), mapping(results, "fusion_weights")
    drawings = [figures.sigma_lines("gate", {"residual": (gate.get("sigma"), gate.get("g"))}, looks, GATE)]
    for index, (method, entry) in enumerate(mapping(results, "stacking").items()):
        caption = "The height of a color is that candidate’s share of the final denoiser at this noise level."
        frame = Frame(f"Stacking weights of {method}", "weight", caption)
        entry = mapping(entry)
        drawings.append(
            figures.stacked(f"s{index}", entry.get("sigma"), mapping(entry, "weights"), looks, frame)
        )
    drawings.append(figures.sigma_lines("fusion", _shares(fusion), views, FUSION))
    lead = (
        "How the parts are combined at each noise level. Gate and weights are fitted on the tuning images, "
        "never on the held-out ones."
    )
    return section("weights", "Gate and weights", lead, [row(drawings)])


def _shares(fusion: Mapping) -> dict[str, tuple[object, list]]:
    """{view: (sigma, weight / sum of all views' weights)}."""
    sigma = fusion.get("sigma")
    rows = {name: figures.floats(values) for name, values in mapping(fusion, "weights").items()}
    rows = {name: values for name, values in rows.items() if len(values) == len(figures.floats(sigma))}
    total = np.nansum(list(rows.values()), axis=0) if rows else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: (sigma, (values / total).tolist()) for name, values in rows.items()}


def training(results: Mapping, looks: Looks, views: Looks) -> Section | None:
    """Loss and tuning curve of every stage."""
    drawings = []
    for index, (stage, entry) in enumerate(mapping(results, "stages").items()):
        view = stage.removeprefix("view/")
        color = views[view].ink if view != stage else looks[stage].ink
        drawings.append(training_curves(f"t{index}", stage, mapping(entry), color or ink("muted")))
    lead = (
        "Faint: the logged training loss. Strong: its running mean. Under it, for stages that were tuned, "
        "the score on the tuning images. Dashed: the step whose parameters were kept."
    )
    return section("training", "Training", lead, [row(drawings)])


def cost(results: Mapping) -> Section | None:
    """What the run cost, stage by stage and in all."""
    stages = {name: mapping(stage) for name, stage in mapping(results, "stages").items()}
    total = mapping(results, "cost")
    rows = []
    for name, stage in stages.items():
        cells = [
            duration(stage.get("seconds")),
            duration(stage.get("compile_seconds")),
            count(stage.get("images_seen")),
        ]
        rows.append(
            [name, *cells, significant(stage.get("images_per_second"), 4), count(stage.get("parameters"))]
        )
    if rows or total:
        compiling, seen, size = (
            _total(stages, key) for key in ("compile_seconds", "images_seen", "parameters")
        )
        cells = [duration(total.get("seconds")), duration(compiling), count(total.get("images_seen", seen))]
        rows.append(["whole run", *cells, ABSENT, count(size)])
    notes = []
    if total.get("peak_memory_mb") is not None:
        notes.append(f"Peak memory: {count(total['peak_memory_mb'])} MB.")
    if stages:
        notes.append("The whole run also measures, combines and samples, so it takes longer than its stages.")
    head = ["stage", "time", "of it compiling", "images seen", "images per second", "parameters"]
    return section("cost", "Cost", "", [Table(head, rows, " ".join(notes)) if rows else None])


def _total(stages: Mapping[str, Mapping], key: str) -> float | None:
    values = [number(stage[key]) for stage in stages.values() if stage.get(key) is not None]
    return float(np.nansum(values)) if values else None
