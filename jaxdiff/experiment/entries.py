"""What results.json says of every stage and every method: cost, history, nats, paired differences."""

from collections.abc import Iterable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.bootstrap import bootstrap_mean
from jaxdiff.experiment.completing import completion_flops
from jaxdiff.experiment.cost import read_cost
from jaxdiff.experiment.learners import valid_from
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, StagePlan, with_steps
from jaxdiff.experiment.stages import Run, stage_names
from jaxdiff.operators import describe
from jaxdiff.training.loop import steps_done
from jaxdiff.training.metrics import read_metrics
from jaxdiff.training.sharding import check_batch

# Order of the tables; 'view/<name>' stands between the Gaussian and the methods.
ORDER = ("gaussian", "views_only", "shared", "clean_only", "finetune", "cascade", "residual", "completed")
PAIRS = (
    ("residual", "views_only"),
    ("residual", "clean_only"),
    ("views_only", "clean_only"),
    ("shared", "clean_only"),
    ("residual", "shared"),
    ("completed", "residual"),
    ("residual", "finetune"),
    ("residual", "cascade"),
    ("finetune", "clean_only"),
)
DESCRIPTIONS = {
    "gaussian": "Gaussian denoiser fitted to clean examples; the reference of the nats",
    "views_only": "what the views say, stacked: the candidates of config.composition",
    "shared": "one network for all views and whole images, gated against the Gaussian",
    "clean_only": "network on the clean examples alone, with early stopping, gated against the Gaussian",
    "residual": "views_only plus the residual network, stacked: the composed model",
    "completed": "views_only plus a residual trained on the views' data, completed by posterior draws, and the clean",
    "finetune": "network trained on imperfect data first, then on the clean examples, gated against the Gaussian",
    "cascade": "p(view) p(x | view), the second factor on the clean examples; nats by the chain rule",
}
VIEW_DESCRIPTIONS = {
    "denoising": "denoising score matching on this source alone",
    "shared": "the network that views share, asked for this one",
    "ambient": "Ambient Diffusion on this source",
    "tweedie": "noisy data above their own noise (Tweedie)",
    "gsure": "GSURE on this source",
    "em": "EM: measurements completed by posterior draws, lap by lap",
    "omni": "imperfect data between two noise levels",
    "naive": "A^+ y taken for clean data: a baseline",
}


def place(name: str) -> float:
    """Order of the tables."""
    if name.startswith("view/"):
        return 0.5
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _thinned(values: list[float], most: int = 500) -> list[float]:
    """Means over blocks of a long series, so that results.json and the page stay small."""
    return [float(np.mean(block)) for block in np.array_split(values, most)] if len(values) > most else values


def stage_plans(plan: Plan) -> dict[str, StagePlan]:
    """The plan of every stage by name, laps included."""
    plans = {}
    for name in stage_names(plan):
        whole = name.split("/lap")[0]
        if whole == "shared":
            first = name.endswith("/lap1") or plan.shared.em.laps == 1
            plans[name] = plan.stages["shared"] if first else plan.shared.later
            continue
        views = {view.stage_name: view for view in plan.views}
        if whole in views:
            view, stage = views[whole], views[whole].stage
            laps = view.em.laps if view.method == "em" else 1
        else:
            stage = plan.stages[whole]
            laps = plan.completed_em.laps if whole == "completed" else 1
        plans[name] = with_steps(stage, max(1, stage.settings.steps // laps)) if laps > 1 else stage
    return plans


def check_batches(plan: Plan, mesh: Mesh, left: Iterable[str]) -> None:
    """Whether the devices of `mesh` can share the batch of every stage of `left`; before any of them is trained.

    Raises:
      ValueError: names the stage and the nearest valid size.
    """
    plans = stage_plans(plan)
    for name in left:
        settings = plans[name].settings
        check_batch(settings.batch, mesh, f"stage {name}", settings.accumulate)


def stage_entries(run: Run, parts: Parts) -> dict[str, dict]:
    """Cost and history of every stage, from its metrics file."""
    entries = {}
    for name, plan in stage_plans(run.plan).items():
        directory = run.directory(name)
        records = read_metrics(directory / "metrics.jsonl")
        losses = [r for r in records if "loss" in r]
        tuned = [r for r in records if "tuning_score" in r]
        best = max(tuned, key=lambda r: r["tuning_score"])["step"] if tuned else plan.settings.steps
        seconds = sum(r["seconds"] for r in losses)
        compile_seconds = sum(r.get("compile_seconds", 0.0) for r in losses)
        images = (steps_done(directory) or 0) * plan.settings.batch
        cost = read_cost(directory / "cost.json")
        params = parts.params.get(name, parts.params.get(name.split("/lap")[0]))
        entries[name] = {
            "history": {key: _thinned([r[key] for r in losses]) for key in ("step", "loss", "grad_norm")},
            "tuning": {"step": [r["step"] for r in tuned], "score": [r["tuning_score"] for r in tuned]},
            "best_step": best,
            "seconds": seconds,
            "compile_seconds": compile_seconds,
            "images_seen": images,
            "forward_flops_per_image": cost.forward,
            "train_flops_per_image": cost.train,
            "flops": images * cost.train + completion_flops(run.workdir, name),
            "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(params))),
            "images_per_second": images / max(seconds - compile_seconds, 1e-9),
        }
    return entries


def _used_stages(run: Run) -> dict[str, list[str]]:
    """The stages that a method needed, by method."""
    plan, names = run.plan, stage_names(run.plan)

    def of(*heads):
        return [n for n in names if any(n == head or n.startswith(f"{head}/") for head in heads)]

    of_view = {f"view/{view.name}": of(view.stage_name, f"classifier/{view.name}") for view in plan.views}
    views = list(dict.fromkeys(name for stages in of_view.values() for name in stages))
    used = {"gaussian": [], "views_only": views, "clean_only": of("clean_only"), "finetune": of("finetune")}
    used["shared"] = of("shared")
    if plan.finetune_start == "views_only":
        used["finetune"] = [*views, *used["finetune"]]
    used |= {"residual": [*views, *of("residual")]}
    used |= {"completed": [*views, *(of("residual") if "residual" in plan.methods else []), *of("completed")]}
    if plan.cascade_view:
        used["cascade"] = [*of_view[f"view/{plan.cascade_view}"], *of("cascade")]
    return {**used, **of_view, "views": views}


def _asked_at_sampling(method: str, stage_names: list[str], parts: Parts) -> list[str]:
    """Of the stages that a method needed, those whose networks its denoiser evaluates."""
    single = {"clean_only": parts.clean_only, "finetune": "finetune"}
    if method in single:
        return [single[method]]
    return [name for name in stage_names if "/lap" not in name and "classifier" not in name]


def _share(stages: dict[str, dict], names: list[str], key: str) -> float:
    return sum(stages[name][key] for name in names)


def _description(plan: Plan, parts: Parts, name: str) -> str:
    if name.startswith("view/"):
        view = plan.view(name.removeprefix("view/"))
        mixed = ", with the clean examples" if view.with_clean else ""
        low = valid_from(view, parts.sigma_min.get(view.name, 0.0))
        where = f"; taught from sigma = {low:.2g} up only" if low > 0 else ""
        return f"{VIEW_DESCRIPTIONS[view.method]}{mixed}: {describe(view.operator)}{where}"
    return DESCRIPTIONS.get(name, "one of the candidates that stacking chooses from")


def method_entries(
    run: Run, parts: Parts, errors: dict[str, np.ndarray], sigmas: np.ndarray, stages: dict
) -> dict[str, dict]:
    """Nats, denoising curve and cost of every method and candidate."""
    settings, values = run.config.evaluate, int(np.prod(run.plan.image_shape))
    used, entries = _used_stages(run), {}
    for name, error in errors.items():
        stage_names = used.get(name) or used.get(name.removeprefix("views + "), used["views"])
        if name == "gaussian":
            stage_names = []
        nats = certificate.nats(errors["gaussian"], error, sigmas)
        entries[name] = {
            "nats_over_gaussian": bootstrap_mean(nats, settings.seed, settings.level, settings.resamples),
            "denoising": {"sigma": sigmas.tolist(), "mse": (error.mean(axis=0) / values).tolist()},
            "seconds": _share(stages, stage_names, "seconds"),
            "images_seen": _share(stages, stage_names, "images_seen"),
            "train_flops": _share(stages, stage_names, "flops"),
            "parameters": _share(stages, _asked_at_sampling(name, stage_names, parts), "parameters"),
            "kind": "method" if name in ORDER or name.startswith("view/") else "candidate",
            "description": _description(run.plan, parts, name),
        }
    return entries


def comparisons(run: Run, errors: dict[str, np.ndarray], sigmas: np.ndarray) -> dict[str, dict]:
    """Paired differences in nats, bootstrapped over the held-out images."""
    settings = run.config.evaluate
    return {
        f"{a}_minus_{b}": bootstrap_mean(
            certificate.nats(errors[b], errors[a], sigmas), settings.seed, settings.level, settings.resamples
        )
        for a, b in PAIRS
        if a in errors and b in errors
    }


def band_entries(errors: Mapping[str, np.ndarray], sigmas: np.ndarray) -> dict:
    """What each band contributes to the nats of each method, mean over the images."""
    nats = {
        name: certificate.band_contributions(errors["gaussian"], errors[name], sigmas).mean(axis=0).tolist()
        for name in errors
        if place(name) < len(ORDER)
    }
    return {"sigma": sigmas.tolist(), "nats": nats}
