"""The stages of an experiment in their order; each resumes by itself."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxdiff.composition import band_edges, fit_stacking
from jaxdiff.composition.bands import BandTable
from jaxdiff.experiment import learners, model, tuning
from jaxdiff.experiment.arrays import saved
from jaxdiff.experiment.cost import write_cost
from jaxdiff.experiment.data import ExperimentData, StageData, restored_data
from jaxdiff.experiment.made import data_of_stage
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, StagePlan
from jaxdiff.experiment.sharing import alone
from jaxdiff.training.loop import Stage, steps_done, train_stage
from jaxdiff.training.processes import is_first
from jaxdiff.training.state import TrainState
from jaxdiff.training.stopping import StopRequest

# What a candidate costs: nothing; one network; a network for each view. Those that are not here look at all of these.
TIERS = {"gaussian": 0, "shared": 1, "fusion": 2, "anchored": 2}


class Run(NamedTuple):
    """What every stage needs: the plan, the config, the data, where to write and when to stop."""

    plan: Plan
    config: Any
    data: ExperimentData
    workdir: Path
    console: Console
    stop: StopRequest
    elsewhere: Mapping[str, Path] = MappingProxyType(
        {}
    )  # stages kept outside the workdir, shared with other runs

    def directory(self, stage: str) -> Path:
        """Where a stage is kept."""
        return self.elsewhere.get(stage, self.workdir / "stages" / stage)

    def data_of(self, stage: str) -> StageData:
        """What a stage that may learn from made inputs, too, learns from."""
        return data_of_stage(self.plan, self.config, self.data, self.cache_bytes, stage)

    @property
    def cache_bytes(self) -> int:
        """Memory for each view's measurements."""
        return int(self.config.data.cache_gib * 2**30)


def stage_key(seed: int, name: str) -> jax.Array:
    """fold_in(root, stage): by name, so that a further stage changes no other."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)


def train_one(
    run: Run,
    name: str,
    plan: StagePlan,
    factory: Callable[[Any], Any],
    frozen: Mapping[str, Any],
    data: StageData,
    tuned: tuning.TuningSet | None,
    reference: jax.Array | None = None,
    tune_start: bool = False,
) -> TrainState:
    """Train the stage `name` to its end, with early stopping where there are tuning images.

    Args:
      run: the run.
      name: of the stage; its directory and its keys.
      plan: network, noise, budget.
      factory: frozen -> Method.
      frozen: what is known from earlier stages; one program for all values.
      data: what it may see.
      tuned: noisy tuning images in the stage's own space; None: the last moving average is kept.
      reference: what a gate will put in place of the stage's denoiser where it is worse (see `tuning.score`).
      tune_start: whether the parameters that it begins with may stay the best.
    """
    seed = zlib.crc32(f"{run.config.seed}/{name}".encode())
    looked_at = {"tuning": tuned, "reference": reference}

    def tune(frozen, params):
        seen = frozen["looked_at"]
        return tuning.score(factory(frozen).denoiser(params), seen["tuning"], seen["reference"])

    stage = Stage(
        name=name,
        factory=factory,
        frozen={**frozen, "looked_at": looked_at},
        batches=lambda start, length: data.batches(plan.settings.batch, seed, start, length),
        example=data.example(),
        settings=plan.settings,
        tune=None if tuned is None else tune,
        rows=lambda step: data.rows(plan.settings.batch, seed, step),
        tune_start=tune_start,
    )
    directory = run.directory(name)
    with alone(directory):
        if is_first() and not (directory / "cost.json").exists():
            write_cost(directory / "cost.json", factory, stage.frozen, stage.example, plan.settings.batch)
        return train_stage(stage, stage_key(run.config.seed, name), directory, run.console, run.stop)


def tuning_set(run: Run) -> tuning.TuningSet | None:
    """The noisy tuning images of this run; None where there are no tuning images."""
    if not len(run.data.tuning):
        return None
    bands = run.config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    key = stage_key(run.config.seed, "tuning")
    return tuning.make_tuning_set(run.data.tuning, sigmas, bands.tuning_draws, key)


def with_stacking(
    run: Run, parts: Parts, tuned: tuning.TuningSet, name: str, candidates: Callable[[Parts], Callable]
) -> Parts:
    """`parts` with the stacking weights of `name` over its candidates; the best ones for z, else as cheap as may be."""
    composition = run.config.composition
    method, tolerance = name.split("/")[0], 0.0 if name == model.Z else composition.tolerance
    known = ("gaussian",) if method in model.ON_CLEAN else run.plan.candidates
    every = known if method in ("views_only", model.Z) else (*known, method)
    tiers = [TIERS.get(candidate, max(TIERS.values()) + 1) for candidate in every]

    def fit():
        matrices = jax.jit(lambda p, t: tuning.gram(candidates(p), t))(parts, tuned)
        matrices = tuning.require_finite(np.asarray(matrices), f"stage {name}")
        return fit_stacking(matrices, np.asarray(tuned.sigmas), composition.smooth, tiers, tolerance)

    file = f"stacking_{name.replace('/', '_')}.npz"
    table = saved(run.workdir / "fits" / file, BandTable, fit)
    return parts.replace(stacking={**parts.stacking, name: table})


def fit_views(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The fusion weights and the stacking of `views_only`, on the tuning images."""
    settings = run.config.composition

    def fit_weights():
        views = model.make_views(run.plan, parts)
        ranks = [view.rank for view in run.plan.views]
        return tuning.fit_fusion(
            views, parts.gaussian, tuned, ranks, settings.weights, settings.smooth, settings.cg_steps
        )

    if run.plan.views and settings.fusion != "sum":
        parts = parts.replace(fusion=saved(run.workdir / "fits" / "fusion.npz", BandTable, fit_weights))

    def candidates(parts):
        return model.view_candidates(run.plan, parts, settings.fusion, settings.cg_steps)

    parts = with_stacking(run, parts, tuned, "views_only", candidates)
    if settings.tolerance == 0:
        return parts.replace(stacking={**parts.stacking, model.Z: parts.stacking["views_only"]})
    return with_stacking(run, parts, tuned, model.Z, candidates)


def residual_reference(run: Run, parts: Parts, tuned: tuning.TuningSet) -> jax.Array:
    """What z makes of the tuning images: the gate's alternative to the residual."""

    def views_denoised(parts, tuned):
        return tuning.by_band(model.method_denoiser(run.plan, parts, run.config, model.Z), tuned)

    return jax.jit(views_denoised)(parts, tuned)


def train_residual(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The residual on the clean examples, then the stacking of all candidates."""

    def factory(frozen):
        return model.residual_method(run.plan, frozen["parts"], run.config)

    reference = residual_reference(run, parts, tuned)
    stage, data = run.plan.stages["residual"], run.data_of("residual")
    state = train_one(run, "residual", stage, factory, {"parts": parts}, data, tuned, reference)
    parts = parts.with_params("residual", state.best)
    return with_stacking(
        run, parts, tuned, "residual", lambda p: model.residual_candidates(run.plan, p, run.config)
    )


def gaussian_denoised(parts: Parts, tuned: tuning.TuningSet) -> jax.Array:
    """What D_G makes of the tuning images: the gate's alternative to a network without views."""
    return jax.jit(lambda p, t: tuning.by_band(p.gaussian.denoiser, t))(parts, tuned)


def train_clean_only(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The baseline: the same clean examples, tuning images and mechanisms, without views.

    With a grid of regularisations each is trained, and the one with the best tuning score is kept.
    """
    reference, scores = gaussian_denoised(parts, tuned), {}
    alone = Parts(gaussian=parts.gaussian, sigma_data=parts.sigma_data)
    for name in [n for n in run.plan.stages if n.split("/")[0] == "clean_only"]:

        def factory(frozen, name=name):
            return learners.clean_method(run.plan, name, frozen["parts"])

        state = train_one(
            run, name, run.plan.stages[name], factory, {"parts": alone}, run.data.clean, tuned, reference
        )
        parts, scores[name] = parts.with_params(name, state.best), float(state.best_score)
    parts = parts.replace(clean_only=max(scores, key=scores.get))
    return with_stacking(
        run, parts, tuned, "clean_only", lambda p: model.clean_candidates(run.plan, p, "clean_only")
    )


def train_finetune(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """A network trained on A^+ y of one view, or to imitate what the views say, then on the clean examples."""
    plan, asked = run.plan, run.config.finetune
    reference = gaussian_denoised(parts, tuned)
    alone = Parts(sigma_data=parts.sigma_data)
    first, second = plan.stages["finetune/first"], plan.stages["finetune"]

    def learn_restored(frozen):
        return learners.clean_method(plan, "finetune/first", frozen["parts"])

    def imitate(frozen):
        return model.imitation_method(plan, frozen["parts"], run.config)

    def learn_clean(frozen):
        return learners.finetune_method(plan, frozen["parts"], asked.penalty, asked.made_penalty)

    if plan.finetune_start == "views_only":
        factory, given, data = imitate, parts, run.data_of("finetune/first")
    else:
        view = plan.view(plan.finetune_view)
        restored = restored_data(view, run.data.views[view.name], run.cache_bytes)
        factory, given, data = learn_restored, alone, restored
    start = train_one(run, "finetune/first", first, factory, {"parts": given}, data, tuned, reference).best
    alone, parts = (p.with_params("finetune/first", start) for p in (alone, parts))
    data = run.data_of("finetune")
    state = train_one(run, "finetune", second, learn_clean, {"parts": alone}, data, tuned, reference)
    parts = parts.with_params("finetune", state.best)
    return with_stacking(
        run, parts, tuned, "finetune", lambda p: model.clean_candidates(run.plan, p, "finetune")
    )


def train_cascade(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The rival: p(x | view) on the clean examples."""

    def factory(frozen):
        return learners.cascade_method(run.plan, frozen["parts"])

    def given_view(frozen):
        # Early stopping looks at D(x, sigma | A x0) of the tuning images.
        method = factory(frozen)
        operator = frozen["parts"].operators[run.plan.cascade_view]
        view = operator(frozen["looked_at"]["tuning"].clean)
        return method._replace(denoiser=lambda params: method.denoiser(params)(view))

    frozen = {"parts": parts.only(run.plan.cascade_view)}
    stage = run.plan.stages["cascade"]
    state = train_one(run, "cascade", stage, given_view, frozen, run.data.clean, tuned)
    return parts.with_params("cascade", state.best)


def stage_names(plan: Plan) -> list[str]:
    """All stages, in the order in which they run."""
    names = []
    if any(view.method == "shared" for view in plan.learnt_views):
        names = [f"shared/lap{k}" for k in range(1, plan.shared.em.laps)] + ["shared"]
    for view in plan.learnt_views:
        if view.method == "shared":
            continue
        names += [n for n in plan.stages if n == f"classifier/{view.name}"]
        laps = view.em.laps if view.method == "em" else 1
        names += [f"{view.stage_name}/lap{k}" for k in range(1, laps)] + [view.stage_name]
    for method in plan.methods:
        if method == "completed":
            names += [f"completed/lap{k}" for k in range(1, plan.completed_em.laps)]
        of_method = [n for n in plan.stages if n.split("/")[0] == method and n not in names]
        names += sorted(of_method, key=lambda n: n == method)
    return names


def unfinished(run: Run) -> list[str]:
    """Names of the stages that are not over yet."""
    return [n for n in stage_names(run.plan) if steps_done(run.directory(n)) is None]
