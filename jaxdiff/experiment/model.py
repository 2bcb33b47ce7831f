"""Denoisers of an experiment, put together from its plan and its arrays; pure functions of both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import composition, operators
from jaxdiff.composition import View
from jaxdiff.diffusion.noise import expand
from jaxdiff.experiment.learners import clean_method, learnt_denoiser, shared_method, valid_from
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, ViewPlan
from jaxdiff.methods import Method, distill, residual

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
RESIDUALS = ("residual", "completed")
ON_CLEAN = ("clean_only", "finetune", "shared")
# Stacking of the views by the best weights: what a residual is learnt on. Where it is evaluated all views are, too, so
# that `composition.tolerance`, which makes `views_only` cheaper, would save nothing there.
Z = "z"


def make_view(plan: Plan, view: ViewPlan, parts: Parts) -> View:
    """A view with its trained denoiser; one of images is a view with A = I, valid where it was taught."""
    denoiser = learnt_denoiser(view, parts)
    if not view.of_images:
        return View(parts.operators[view.name], denoiser, parts.view_gaussians[view.name])
    low = valid_from(view, parts.sigma_min.get(view.name, 0.0))
    high = view.sigma_max if view.method == "omni" and not view.with_clean else float("inf")
    return View(operators.build("identity", plan.image_shape), denoiser, parts.gaussian, low, high)


def make_views(plan: Plan, parts: Parts) -> list[View]:
    """The views with their trained denoisers."""
    return [make_view(plan, view, parts) for view in plan.views]


def view_outputs(
    plan: Plan, parts: Parts, fusion: str, cg_steps: int
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(x, sigma) -> candidates (K, B, ...), lifted views (V, B, ...); each view is evaluated once."""

    def outputs(x, sigma):
        views = make_views(plan, parts)
        start = parts.gaussian.denoiser(x, sigma)
        denoised = composition.view_denoised(views, x, sigma)
        weights = None if parts.fusion is None else parts.fusion(sigma)

        def fused():
            if fusion == "sum":
                return composition.sum_of_scores(views, x, sigma, denoised)
            return composition.fuse(views, x, sigma, start, weights, denoised, cg_steps)

        def anchored():
            return composition.anchored_fusion(views, x, sigma, start, weights, denoised, cg_steps)

        made = {
            "gaussian": lambda: start,
            "fusion": fused,
            "anchored": anchored,
            "shared": lambda: _whole(plan, parts)(x, sigma),
        }
        lifted = [composition.lift(view, x, sigma, d) for view, d in zip(views, denoised, strict=True)]
        return jnp.stack([made[name]() for name in plan.candidates]), jnp.stack(lifted)

    return outputs


def _whole(plan: Plan, parts: Parts) -> Denoiser:
    """The shared network asked for whole images."""
    return shared_method(plan, parts).denoiser(parts.params["shared"])


def view_candidates(plan: Plan, parts: Parts, fusion: str, cg_steps: int) -> Callable[..., jax.Array]:
    """(x, sigma) -> (K, B, ...): the candidates `plan.candidates`."""
    outputs = view_outputs(plan, parts, fusion, cg_steps)
    return lambda x, sigma: outputs(x, sigma)[0]


def composed(plan: Plan, parts: Parts, config: Any, name: str) -> Denoiser:
    """`views_only`, or with a residual: all candidates stacked; the views, and the residual, are not evaluated at
    noise levels where nothing of them has any weight."""
    outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)
    gaussian, shared = (
        plan.candidates.index(one) if one in plan.candidates else None for one in ("gaussian", "shared")
    )
    count = len(plan.candidates)

    def denoise(x, sigma):
        weights = parts.stacking[name](sigma)

        def weighted(k, value):
            return expand(weights[:, k], value) * value

        def without(*candidates):
            return weights[
                :, np.setdiff1d(np.arange(weights.shape[1]), [k for k in candidates if k is not None])
            ]

        def of_views():
            candidates, lifted = outputs(x, sigma)
            terms = (weighted(k, v) for k, v in enumerate(candidates) if k != gaussian)
            total = sum(terms, start=jnp.zeros_like(x))
            if name in ("views_only", Z):
                return total

            def full():
                known = _known(parts, candidates, lifted, sigma)
                return weighted(count, _with_residual(plan, parts, name, known, x, sigma))

            return total + composition.where_needed(weights[:, count], full, x)

        def of_networks():
            if shared is None:
                return of_views()
            beside = jnp.any(without(gaussian, shared) != 0)
            return jax.lax.cond(beside, of_views, lambda: weighted(shared, _whole(plan, parts)(x, sigma)))

        if gaussian is None:
            return of_networks()
        start = weighted(gaussian, parts.gaussian.denoiser(x, sigma))
        return start + composition.where_needed(without(gaussian), of_networks, x)

    return denoise


def _known(parts: Parts, candidates: jax.Array, lifted: jax.Array, sigma: jax.Array) -> jax.Array:
    """What the residual network looks at: z, then the lifted views."""
    z = composition.stack(candidates, parts.stacking[Z], sigma)
    return jnp.concatenate([z[None], lifted])


def residual_method(plan: Plan, parts: Parts, config: Any, name: str = "residual") -> Method:
    """The method that learns the residual on top of `views_only`: 'residual' or 'completed'."""
    stage = plan.stages[name]
    outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)
    return residual(
        stage.network,
        stage.noise,
        parts.sigma_data[name],
        lambda x, sigma: _known(parts, *outputs(x, sigma), sigma),
        config[name].penalty,
        config[name].jacobian_penalty,
        config.residual.made_penalty if name == "residual" else 0.0,
    )


def imitation_method(plan: Plan, parts: Parts, config: Any) -> Method:
    """The method of the first stage of `finetune` where it imitates `views_only`."""
    stage, sigma_data = plan.stages["finetune/first"], parts.sigma_data["finetune/first"]
    return distill(stage.network, stage.noise, sigma_data, method_denoiser(plan, parts, config, "views_only"))


def _with_residual(plan: Plan, parts: Parts, name: str, known: jax.Array, x, sigma) -> jax.Array:
    """z + rho of a trained residual, from what it looks at."""
    stage = plan.stages[name]
    method = residual(stage.network, stage.noise, parts.sigma_data[name], lambda *_: known)
    return method.denoiser(parts.params[name])(x, sigma)


def residual_candidates(
    plan: Plan, parts: Parts, config: Any, name: str = "residual"
) -> Callable[..., jax.Array]:
    """(x, sigma) -> (K + 1, B, ...): the candidates of the views, then z + rho."""
    outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)

    def all_candidates(x, sigma):
        candidates, lifted = outputs(x, sigma)
        full = _with_residual(plan, parts, name, _known(parts, candidates, lifted, sigma), x, sigma)
        return jnp.concatenate([candidates, full[None]])

    return all_candidates


def _alone(plan: Plan, parts: Parts, name: str) -> Denoiser:
    """The network of `clean_only`, `finetune` or `shared`, without the gate."""
    if name == "shared":
        return _whole(plan, parts)
    stage = parts.clean_only if name == "clean_only" else name
    return clean_method(plan, stage, parts).denoiser(parts.params[stage])


def clean_candidates(plan: Plan, parts: Parts, name: str) -> Callable[..., jax.Array]:
    """(x, sigma) -> (2, B, ...): D_G and the network of `clean_only`, `finetune` or `shared`."""
    denoise = _alone(plan, parts, name)
    return lambda x, sigma: jnp.stack([parts.gaussian.denoiser(x, sigma), denoise(x, sigma)])


def gated(plan: Plan, parts: Parts, name: str) -> Denoiser:
    """`clean_only`, `finetune` or `shared` stacked with D_G; not evaluated at noise levels where it has no weight."""
    denoise_alone = _alone(plan, parts, name)

    def denoise(x, sigma):
        weights = parts.stacking[name](sigma)

        def of_network():
            return expand(weights[:, 1], x) * denoise_alone(x, sigma)

        start = expand(weights[:, 0], x) * parts.gaussian.denoiser(x, sigma)
        return start + composition.where_needed(weights[:, 1], of_network, x)

    return denoise


def method_denoiser(plan: Plan, parts: Parts, config: Any, name: str) -> Denoiser:
    """The denoiser of a method by name: gaussian, view/<name>, views_only, residual, clean_only, ...

    The cascade has none: see `cascade`.
    """
    if name == "gaussian":
        return parts.reference.denoiser
    if name.startswith("view/"):
        return learnt_denoiser(plan.view(name.removeprefix("view/")), parts)
    if name not in ON_CLEAN:
        return composed(plan, parts, config, name)
    return gated(plan, parts, name)


def every_denoised(plan: Plan, parts: Parts, config: Any) -> Callable[..., dict[str, jax.Array]]:
    """(x, sigma) -> every method's and candidate's output by name; what they share is evaluated once."""

    def outputs(x, sigma):
        found = {"gaussian": parts.reference.denoiser(x, sigma)}
        candidates: dict[str, jax.Array] = {}
        if plan.composes:
            outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)
            of_views, lifted = outputs(x, sigma)
            known = _known(parts, of_views, lifted, sigma)
            found |= {v.stage_name: lifted[i] for i, v in enumerate(plan.views) if v.of_images}
            candidates |= {
                f"candidate {name}": of_views[k]
                for k, name in enumerate(plan.candidates)
                if name != "gaussian"
            }
        else:
            found |= {
                v.stage_name: learnt_denoiser(v, parts)(x, sigma) for v in plan.learnt_views if v.of_images
            }
        for name in plan.methods:
            if name == "views_only":
                found[name] = composition.stack(of_views, parts.stacking[name], sigma)
            elif name in RESIDUALS:
                full = _with_residual(plan, parts, name, known, x, sigma)
                every = jnp.concatenate([of_views, full[None]])
                found[name] = composition.stack(every, parts.stacking[name], sigma)
                candidates[f"views + {name}"] = full
            elif name in ON_CLEAN:
                every = clean_candidates(plan, parts, name)(x, sigma)
                found[name] = composition.stack(every, parts.stacking[name], sigma)
        return {**found, **candidates}

    return outputs
