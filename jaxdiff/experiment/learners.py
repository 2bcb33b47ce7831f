"""The method of every stage, from plan and arrays: the one place where a method's name becomes its functions."""

from jaxdiff import operators
from jaxdiff.experiment.checks import OWN_SPACE
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, ViewPlan, matched_pairs
from jaxdiff.methods import Method, ambient, cascade, denoising, gsure, source_classifier, tweedie
from jaxdiff.methods.ambient import MaskedDenoiser, given_operator, masked_denoiser
from jaxdiff.methods.base import Denoiser
from jaxdiff.methods.finetune import finetune, held
from jaxdiff.methods.ranges import least_usable
from jaxdiff.methods.shared import completed_kind, kind_of, matched_kind, shared, view_denoiser


def view_method(view: ViewPlan, parts: Parts) -> Method:
    """The method that learns a view: of images, or of the view's own space for 'denoising'."""
    stage, operator = view.stage, parts.operators[view.name]
    common = (stage.network, stage.noise, parts.sigma_data[view.stage_name])
    if view.method == "denoising":
        return denoising(*common, None if view.full_range else operator)
    if view.method == "ambient":
        return ambient(*common, operator, view.delta, view.max_gain, view.masks, view.shown)
    if view.method in ("tweedie", "omni"):
        return tweedie(*common, view.weighting, view.max_gain, view.consistency)
    if view.method == "gsure":
        return gsure(*common, operator)
    return denoising(*common)  # 'naive', and the M-step of 'em'


def shared_method(plan: Plan, parts: Parts, later: bool = False) -> Method:
    """The one network of the views of the method 'shared' and of whole images, as the first lap or later ones learn it.

    Numbers of the sources: 0 clean, 1 to V the views, V + 1 to 2 V whole images completed from each, and from 2 V + 1
    on those put together from two of them, in the order of `matched_pairs`.
    """
    stage = plan.shared.later if later else plan.stages["shared"]
    seen = [operators.build("identity", plan.image_shape)]
    seen += [parts.operators[view.name] for view in plan.shared_views]
    kinds = [kind_of(operator) for operator in seen]
    kinds += [completed_kind(kind) for kind in kinds[1:]]
    pairs = matched_pairs(seen[1:], plan.shared.matches)
    kinds += [matched_kind(kinds[1 + first].coverage, plan.shared.ask_border) for first, _ in pairs]
    return shared(
        stage.network,
        stage.noise,
        parts.sigma_data["shared"],
        kinds,
        plan.shared.boxes,
        plan.shared.least_side,
    )


def learnt_denoiser(view: ViewPlan, parts: Parts) -> Denoiser:
    """What the stage of a view has learnt: a denoiser in the view's own space, or of images."""
    params = parts.params[view.stage_name]
    if view.method == "shared":
        kind = kind_of(parts.operators[view.name])
        return view_denoiser(view.stage.network, parts.sigma_data["shared"], params, kind)
    return view_method(view, parts).denoiser(params)


def masked_view_denoiser(view: ViewPlan, parts: Parts, back_projected: bool = False) -> MaskedDenoiser:
    """(x, sigma, A) -> E[X | A x_sigma, A] of a view learnt by 'ambient'; in place of x, with `back_projected`, the
    network's own input, the back-projection of A x_sigma."""
    params, sigma_data = parts.params[view.stage_name], parts.sigma_data[view.stage_name]
    denoise = masked_denoiser(view.stage.network, sigma_data, params)
    return denoise if back_projected else given_operator(denoise)


def valid_from(view: ViewPlan, sigma_min: float) -> float:
    """The noise level above which a view's denoiser was taught what clean data are; 0 for everywhere.

    Args:
      view: the view.
      sigma_min: of 'omni', given or estimated.
    """
    if view.method in (*OWN_SPACE, "em", "naive") or view.with_clean:
        return 0.0
    if view.method == "omni":
        return sigma_min
    carried_down = view.consistency.weight > 0 and view.consistency.start == "below"
    if view.method == "tweedie" and carried_down:
        return view.consistency.sigma_min
    gain = 1e6 if view.method == "gsure" else view.max_gain
    return least_usable(view.sigma_y, gain, view.operator.c or 1.0)


def classifier_method(plan: Plan, stage: str, parts: Parts) -> Method:
    """Omni's classifier of the source of a view."""
    settings = plan.stages[stage]
    return source_classifier(settings.network, settings.noise, parts.sigma_data[stage])


def clean_method(plan: Plan, stage: str, parts: Parts) -> Method:
    """Denoising of clean images: `clean_only` and both stages of `finetune`."""
    settings = plan.stages[stage]
    return denoising(settings.network, settings.noise, parts.sigma_data[stage])


def finetune_method(plan: Plan, parts: Parts, penalty: float, made_penalty: float) -> Method:
    """The second stage of `finetune`, from the parameters of the first; at no price the same as `clean_method`."""
    start, stage = parts.params["finetune/first"], plan.stages["finetune"]
    if penalty == made_penalty == 0:
        return finetune(clean_method(plan, "finetune", parts), start)
    return held(stage.network, stage.noise, parts.sigma_data["finetune"], start, penalty, made_penalty)


def cascade_method(plan: Plan, parts: Parts) -> Method:
    """p(x | view) of the cascade."""
    settings = plan.stages["cascade"]
    operator = parts.operators[plan.cascade_view]
    return cascade(settings.network, settings.noise, parts.sigma_data["cascade"], operator)
