"""The stages of an experiment in their order: views, fusion, residual, clean-only; each resumes by itself."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxdiff.composition import BandTable, band_edges, fit_stacking
from jaxdiff.diffusion.gaussian import Gaussian, fit_gaussian
from jaxdiff.experiment import model, tuning
from jaxdiff.experiment.arrays import saved
from jaxdiff.experiment.data import ExperimentData
from jaxdiff.experiment.model import Parts
from jaxdiff.experiment.plan import Plan, StagePlan
from jaxdiff.training.loop import Stage, StopRequest, steps_done, train_stage
from jaxdiff.training.state import TrainState


class Run(NamedTuple):
    """What every stage needs: the plan, the config, the data, where to write and when to stop."""

    plan: Plan
    config: Any
    data: ExperimentData
    workdir: Path
    console: Console
    stop: StopRequest


def stage_key(seed: int, name: str) -> jax.Array:
    """fold_in(root, stage): by name, so that a further stage changes no other."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)


def stage_directory(workdir: Path, name: str) -> Path:
    return workdir / "stages" / name


def _train(run: Run, name: str, plan: StagePlan, factory, frozen, data, tune) -> TrainState:
    seed = zlib.crc32(f"{run.config.seed}/{name}".encode())
    stage = Stage(
        name=name,
        factory=factory,
        frozen=frozen,
        batches=lambda start, length: data.batches(plan.settings.batch, seed, start, length),
        example=data.example(),
        settings=plan.settings,
        tune=tune,
    )
    directory = stage_directory(run.workdir, name)
    return train_stage(stage, stage_key(run.config.seed, name), directory, run.console, run.stop)


def tuning_set(run: Run) -> tuning.TuningSet:
    """The noisy tuning images of this run."""
    bands = run.config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    key = stage_key(run.config.seed, "tuning")
    return tuning.make_tuning_set(run.data.tuning, sigmas, bands.tuning_draws, key)


def prepare_parts(run: Run) -> Parts:
    """The parts that need no training: operators, the Gaussian and its marginal in every view, data scales."""
    config, plan = run.config, run.plan

    def fit():
        rank = config.composition.rank or None
        return fit_gaussian(run.data.clean_images(), config.composition.gaussian, rank)

    gaussian = saved(run.workdir / "fits" / "gaussian.npz", Gaussian, fit)
    scales = {f"view/{v.name}": v.stage.sigma_data or run.data.views[v.name].scale() for v in plan.views}
    clean_scale = run.data.clean.scale()
    scales["residual"] = plan.residual.sigma_data or clean_scale
    scales["clean_only"] = plan.clean_only.sigma_data or clean_scale
    marginals = {}
    for v in plan.views:

        def marginal(v=v):
            return gaussian.marginal(v.operator, v.operator.c, v.operator.out_shape)

        marginals[v.name] = saved(run.workdir / "fits" / f"gaussian_{v.name}.npz", Gaussian, marginal)
    parts = Parts(gaussian, {v.name: v.operator for v in plan.views}, marginals)
    return model.with_sigma_data(parts, **scales)


def train_views(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """`view/<name>` for every view; what a view stage receives is its measurements alone."""
    params = {}
    for index, view in enumerate(run.plan.views):
        seen = jax.device_put(tuning.in_view(tuned, view.operator))

        def factory(frozen, index=index):
            return model.view_method(run.plan, index, frozen["parts"])

        def tune(frozen, candidate, factory=factory):
            return tuning.score(factory(frozen).denoiser(candidate), frozen["tuning"])

        only = parts.replace(operators={view.name: view.operator}, view_gaussians={})
        state = _train(
            run,
            f"view/{view.name}",
            view.stage,
            factory,
            {"parts": only, "tuning": seen},
            run.data.views[view.name],
            tune,
        )
        params[view.name] = state.best
    return parts.replace(view_params=params)


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

    return _stacked(run, parts, tuned, "views_only", candidates)


def _stacked(run: Run, parts: Parts, tuned, name: str, candidates: Callable[[Parts], Callable]) -> Parts:
    """`parts` with the stacking weights of `name` over its candidates."""

    def fit():
        matrices = jax.jit(lambda p, t: tuning.gram(candidates(p), t))(parts, tuned)
        return fit_stacking(np.asarray(matrices), np.asarray(tuned.sigmas), run.config.composition.smooth)

    table = saved(run.workdir / "fits" / f"stacking_{name}.npz", BandTable, fit)
    return parts.replace(stacking={**parts.stacking, name: table})


def train_residual(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The residual on the clean examples, then the stacking of all candidates."""

    def factory(frozen):
        return model.residual_method(run.plan, frozen["parts"], run.config)

    def views_denoised(parts, tuned):
        z = model.method_denoiser(run.plan, parts, run.config, "views_only")
        return tuning.by_band(z, tuned)

    reference = jax.jit(views_denoised)(parts, tuned)

    def tune(frozen, params):
        return tuning.score(factory(frozen).denoiser(params), frozen["tuning"], frozen["reference"])

    frozen = {"parts": parts, "tuning": tuned, "reference": reference}
    state = _train(run, "residual", run.plan.residual, factory, frozen, run.data.clean, tune)
    parts = parts.replace(residual_params=state.best)
    return _stacked(
        run, parts, tuned, "residual", lambda p: model.residual_candidates(run.plan, p, run.config)
    )


def train_clean_only(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The baseline: the same clean examples, tuning images and mechanisms, without views."""

    def factory(frozen):
        return model.clean_method(run.plan, frozen["parts"])

    reference = jax.jit(lambda p, t: tuning.by_band(p.gaussian.denoiser, t))(parts, tuned)

    def tune(frozen, params):
        return tuning.score(factory(frozen).denoiser(params), frozen["tuning"], frozen["reference"])

    alone = model.with_sigma_data(Parts(parts.gaussian), **parts.sigma_data)
    frozen = {"parts": alone, "tuning": tuned, "reference": reference}
    state = _train(run, "clean_only", run.plan.clean_only, factory, frozen, run.data.clean, tune)
    parts = parts.replace(clean_params=state.best)
    return _stacked(run, parts, tuned, "clean_only", lambda p: model.clean_candidates(run.plan, p))


def train(run: Run) -> Parts:
    """All stages in order; finished ones are read from their checkpoints."""
    parts, tuned = prepare_parts(run), tuning_set(run)
    parts = train_views(run, parts, tuned)
    parts = fit_views(run, parts, tuned)
    parts = train_residual(run, parts, tuned)
    return train_clean_only(run, parts, tuned)


def unfinished(run: Run) -> list[str]:
    """Names of the stages that are not over yet."""
    names = [*(f"view/{view.name}" for view in run.plan.views), "residual", "clean_only"]
    return [name for name in names if steps_done(stage_directory(run.workdir, name)) is None]
