"""All stages of an experiment, one after another: fits, views, and what is made of them."""

from jaxdiff.diffusion.gaussian import Gaussian, fit_gaussian
from jaxdiff.experiment import model, tuning
from jaxdiff.experiment.arrays import saved
from jaxdiff.experiment.checks import at
from jaxdiff.experiment.completing import as_clean, completed_views
from jaxdiff.experiment.data import image_scale
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import with_steps
from jaxdiff.experiment.stages import (
    Run,
    fit_views,
    residual_reference,
    stage_key,
    train_cascade,
    train_clean_only,
    train_finetune,
    train_one,
    train_residual,
    tuning_set,
    with_stacking,
)
from jaxdiff.experiment.view_stages import train_shared, train_view
from jaxdiff.methods.finetune import finetune


def prepare_parts(run: Run) -> Parts:
    """The parts that need no training: operators, the Gaussians and their marginals in the views, data scales."""
    config, plan, folder = run.config, run.plan, run.workdir / "fits"

    def fitted(images):
        try:
            return fit_gaussian(images, config.composition.gaussian, config.composition.rank or None)
        except ValueError as error:
            raise at("composition.rank", error) from None

    gaussian = None
    if run.data.clean is not None:
        gaussian = saved(folder / "gaussian.npz", Gaussian, lambda: fitted(run.data.clean_images()))
    reference = gaussian
    if len(run.data.reference):
        reference = saved(folder / "reference.npz", Gaussian, lambda: fitted(run.data.reference))
    scales = {}
    for view in plan.views:
        data = run.data.views[view.name]
        own = view.method in ("denoising", "shared", "naive", "omni")
        scales[view.stage_name] = view.stage.sigma_data or (
            data.scale() if own else image_scale(data, view.operator)
        )
    if run.data.clean is not None:
        clean_scale = run.data.clean.scale()
        scales |= {name: stage.sigma_data or clean_scale for name, stage in plan.stages.items()}
    marginals = {}
    for view in plan.views:
        if plan.composes and not view.of_images:

            def marginal(view=view):
                return gaussian.marginal(view.operator, view.operator.c, view.operator.out_shape)

            marginals[view.name] = saved(folder / f"gaussian_{view.name}.npz", Gaussian, marginal)
    parts = Parts(reference, gaussian, {v.name: v.operator for v in plan.views}, marginals)
    return parts.with_sigma_data(**scales)


def train_completed(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """The residual on clean and completed data: the views bootstrap EM, EM completes what the views hold.

    In each lap every view's measurements are completed by posterior draws of the composed model so far (at
    first `residual` where it is trained, else `views_only`), and a residual is trained on them and the clean.
    """
    plan, config, name = run.plan, run.config, "completed"
    settings = plan.completed_em
    stage = with_steps(plan.stages[name], max(1, plan.stages[name].settings.steps // settings.laps))
    reference = residual_reference(run, parts, tuned)
    key = stage_key(config.seed, name)
    composed = "residual" if "residual" in parts.stacking else "views_only"
    base = parts

    def denoise_by(method):
        return lambda arrays, x, sigma: model.method_denoiser(plan, arrays, config, method)(x, sigma)

    def factory(frozen):
        method = model.residual_method(plan, frozen["parts"], config, name)
        return method if frozen["start"] is None else finetune(method, frozen["start"])

    denoise = denoise_by(composed)
    for lap in range(1, settings.laps + 1):
        images = completed_views(
            run.workdir / "fits",
            name,
            lap,
            denoise,
            parts,
            plan.views,
            run.data.views,
            key,
            settings,
            run.console,
        )
        label = name if lap == settings.laps else f"{name}/lap{lap}"
        data = as_clean(label, images, run.data.clean)
        frozen = {"parts": base, "start": parts.params.get(name)}
        state = train_one(run, label, stage, factory, frozen, data, tuned, reference)
        parts = parts.with_params(name, state.best)
        stacked = with_stacking(
            run, parts, tuned, label, lambda p: model.residual_candidates(plan, p, config, name)
        )
        parts = parts.replace(stacking={**parts.stacking, name: stacked.stacking[label]})
        denoise = denoise_by(name)
    return parts


STEPS = {
    "residual": train_residual,
    "completed": train_completed,
    "clean_only": train_clean_only,
    "finetune": train_finetune,
    "cascade": train_cascade,
}


def train(run: Run) -> Parts:
    """All stages in order; finished ones are read from their checkpoints."""
    parts, tuned = prepare_parts(run), tuning_set(run)
    if any(view.method == "shared" for view in run.plan.learnt_views):
        parts = train_shared(run, parts, tuned)
    for view in run.plan.learnt_views:
        if view.method != "shared":
            parts = train_view(run, parts, view, tuned)
    if run.plan.composes:
        parts = fit_views(run, parts, tuned)
    for name in run.plan.methods:
        if name in STEPS:
            parts = STEPS[name](run, parts, tuned)
    return parts
