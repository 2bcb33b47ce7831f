"""Denoisers of an experiment, put together from its plan and its arrays; pure functions of both.

The arrays live in one pytree, `Parts`, that is passed to jitted functions as an argument.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxdiff import composition
from jaxdiff.composition import BandTable, View
from jaxdiff.diffusion.gaussian import Gaussian
from jaxdiff.experiment.plan import Plan
from jaxdiff.methods import Method, denoising, residual
from jaxdiff.operators import LinearOperator

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


class _Frozen(dict):
    """A dict that can be static in a pytree."""

    def __hash__(self):
        return hash(tuple(sorted(self.items())))


@flax.struct.dataclass
class Parts:
    """All arrays of a (partly) trained experiment; what is not there yet is None or missing from its dict.

    Attributes:
      gaussian: D_G, fitted to the clean examples.
      operators, view_gaussians, view_params: by view.
      fusion: weights w_i(sigma), columns in the order of the views.
      stacking: by method, the weights of its candidates.
      residual_params, clean_params: parameters of the two networks in image space.
      sigma_data: by stage, measured on the stage's data.
    """

    gaussian: Gaussian
    operators: dict[str, LinearOperator] = flax.struct.field(default_factory=dict)
    view_gaussians: dict[str, Gaussian] = flax.struct.field(default_factory=dict)
    view_params: dict[str, Any] = flax.struct.field(default_factory=dict)
    fusion: BandTable | None = None
    stacking: dict[str, BandTable] = flax.struct.field(default_factory=dict)
    residual_params: Any = None
    clean_params: Any = None
    sigma_data: dict[str, float] = flax.struct.field(pytree_node=False, default_factory=_Frozen)


def with_sigma_data(parts: Parts, **values: float) -> Parts:
    """`parts` with sigma_data of further stages ('/' in a stage's name is written as it is)."""
    return parts.replace(sigma_data=_Frozen({**parts.sigma_data, **values}))


def view_method(plan: Plan, index: int, parts: Parts) -> Method:
    """The method that learns view `index` in its own space."""
    view = plan.views[index]
    operator = None if view.full_range else parts.operators[view.name]
    stage = view.stage
    return denoising(stage.network, stage.noise, parts.sigma_data[f"view/{view.name}"], operator)


def make_views(plan: Plan, parts: Parts) -> list[View]:
    """The views with their trained denoisers."""
    views = []
    for index, view in enumerate(plan.views):
        denoiser = view_method(plan, index, parts).denoiser(parts.view_params[view.name])
        operator = parts.operators[view.name]
        views.append(View(operator, denoiser, parts.view_gaussians[view.name], view.sigma_y))
    return views


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

        made = {"gaussian": lambda: start, "fusion": fused, "anchored": anchored}
        lifted = [composition.lift(view, x, sigma, d) for view, d in zip(views, denoised, strict=True)]
        return jnp.stack([made[name]() for name in plan.candidates]), jnp.stack(lifted)

    return outputs


def view_candidates(plan: Plan, parts: Parts, fusion: str, cg_steps: int) -> Callable[..., jax.Array]:
    """(x, sigma) -> (K, B, ...): the candidates `plan.candidates`."""
    outputs = view_outputs(plan, parts, fusion, cg_steps)
    return lambda x, sigma: outputs(x, sigma)[0]


def views_only(plan: Plan, parts: Parts, fusion: str, cg_steps: int) -> Denoiser:
    """z(x, sigma): the candidates of the views, stacked."""
    candidates = view_candidates(plan, parts, fusion, cg_steps)
    return lambda x, sigma: composition.stack(candidates(x, sigma), parts.stacking["views_only"], sigma)


def _known(parts: Parts, candidates: jax.Array, lifted: jax.Array, sigma: jax.Array) -> jax.Array:
    """What the residual network looks at: z, then the lifted views."""
    z = composition.stack(candidates, parts.stacking["views_only"], sigma)
    return jnp.concatenate([z[None], lifted])


def residual_method(plan: Plan, parts: Parts, config: Any) -> Method:
    """The method that learns the residual on top of `views_only`."""
    stage = plan.residual
    outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)
    return residual(
        stage.network,
        stage.noise,
        parts.sigma_data["residual"],
        lambda x, sigma: _known(parts, *outputs(x, sigma), sigma),
        config.residual.penalty,
        config.residual.jacobian_penalty,
    )


def clean_method(plan: Plan, parts: Parts) -> Method:
    """The method `clean_only`."""
    stage = plan.clean_only
    return denoising(stage.network, stage.noise, parts.sigma_data["clean_only"])


def residual_candidates(plan: Plan, parts: Parts, config: Any) -> Callable[..., jax.Array]:
    """(x, sigma) -> (K + 1, B, ...): the candidates of the views, then z + rho."""
    outputs = view_outputs(plan, parts, config.composition.fusion, config.composition.cg_steps)
    stage = plan.residual

    def all_candidates(x, sigma):
        candidates, lifted = outputs(x, sigma)
        known = _known(parts, candidates, lifted, sigma)
        method = residual(stage.network, stage.noise, parts.sigma_data["residual"], lambda *_: known)
        full = method.denoiser(parts.residual_params)(x, sigma)
        return jnp.concatenate([candidates, full[None]])

    return all_candidates


def clean_candidates(plan: Plan, parts: Parts) -> Callable[..., jax.Array]:
    """(x, sigma) -> (2, B, ...): D_G and the clean-only network."""
    denoise = clean_method(plan, parts).denoiser(parts.clean_params)
    return lambda x, sigma: jnp.stack([parts.gaussian.denoiser(x, sigma), denoise(x, sigma)])


def composed(plan: Plan, parts: Parts, config: Any) -> Denoiser:
    """The whole: views, fusion, residual, stacked. The denoiser for sampling and guidance."""
    candidates = residual_candidates(plan, parts, config)
    return lambda x, sigma: composition.stack(candidates(x, sigma), parts.stacking["residual"], sigma)


def method_denoiser(plan: Plan, parts: Parts, config: Any, name: str) -> Denoiser:
    """The denoiser of a method by name: gaussian, views_only, residual, clean_only."""
    if name == "gaussian":
        return parts.gaussian.denoiser
    if name == "views_only":
        return views_only(plan, parts, config.composition.fusion, config.composition.cg_steps)
    if name == "clean_only":
        candidates = clean_candidates(plan, parts)
        return lambda x, sigma: composition.stack(candidates(x, sigma), parts.stacking["clean_only"], sigma)
    return composed(plan, parts, config)
