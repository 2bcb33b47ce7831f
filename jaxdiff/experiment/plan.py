"""From the config to plain arguments, checked before anything is compiled."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxdiff import operators
from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.experiment.checks import (
    OWN_SPACE,
    ConfigError,
    at,
    check_learnable,
    check_names,
    merge,
)
from jaxdiff.experiment.plan_types import EmPlan, LawPlan, Plan, SharedPlan, StagePlan, ViewPlan
from jaxdiff.methods.consistency import Consistency
from jaxdiff.methods.matching import asked, complementary
from jaxdiff.methods.shared import kind_of
from jaxdiff.networks import build_network
from jaxdiff.operators import LinearOperator
from jaxdiff.training.loop import TrainSettings
from jaxdiff.training.state import OptimizerSettings

__all__ = [
    "ConfigError",
    "EmPlan",
    "LawPlan",
    "Plan",
    "SharedPlan",
    "StagePlan",
    "ViewPlan",
    "check_names",
    "make_plan",
    "view_operator",
]
SHOWN = (  # keys of config.shared
    "clean_weight",
    "later_clean_weight",
    "completed_share",
    "boxes",
    "least_side",
    "matches",
    "seam_weight",
    "ask_border",
)


def stage_plan(
    config: ConfigDict,
    path: str,
    changes: Mapping,
    channels: int,
    scale: float = 1.0,
    forward_mode: bool = False,
    **network_changes: Any,
) -> StagePlan:
    """The stage at `path`, whose config changes `network` and `train`; `scale` = sqrt(c) shifts its noise."""
    train = merge(config.train, changes["train"], f"{path}.train")
    network = merge(config.network, changes["network"], f"{path}.network") | network_changes
    name = network.pop("name")
    if "forward_mode" in network and forward_mode:
        network["forward_mode"] = True
    network = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in network.items()}
    try:
        module = build_network(name, channels, dtype=train["dtype"], **network)
    except (TypeError, ValueError) as error:
        raise at(f"{path}.network", error) from None
    if train["batch"] % train["accumulate"]:
        nearest = max(1, round(train["batch"] / train["accumulate"])) * train["accumulate"]
        raise ConfigError(
            f"config.{path}.train.batch: {train['batch']} cannot be split into config.train.accumulate = "
            f"{train['accumulate']} micro-batches; nearest valid: {nearest}"
        )
    steps = min(train["steps"], train["max_steps"]) if train["max_steps"] > 0 else train["steps"]
    optimizer = OptimizerSettings(
        lr=train["lr"],
        warmup=train["warmup"],
        steps=steps,
        decay=train["decay"],
        weight_decay=train["weight_decay"],
        clip=train["clip"],
    )
    settings = TrainSettings(
        steps=steps,
        batch=train["batch"],
        optimizer=optimizer,
        steps_per_dispatch=train["steps_per_dispatch"],
        ema_halflife=train["ema_halflife"],
        ema_rampup=train["ema_rampup"],
        checkpoint_every=min(train["checkpoint_every"], steps),
        tune_every=min(train["tune_every"], steps),
        patience=train["patience"],
        sharding=train["sharding"],
        accumulate=train["accumulate"],
        fsdp_min_size=train["fsdp_min_size"],
        max_skipped=train["max_skipped"],
        spike_factor=train["spike_factor"],
    )
    noise = NoiseDistribution(config.noise.P_mean + math.log(scale), config.noise.P_std)
    return StagePlan(module, noise, config.noise.sigma_data * scale, settings)


def with_steps(stage: StagePlan, steps: int) -> StagePlan:
    """The stage with another number of steps (of its schedule too)."""
    old = stage.settings
    settings = old._replace(
        steps=steps,
        optimizer=old.optimizer._replace(steps=steps),
        checkpoint_every=min(old.checkpoint_every, steps),
        tune_every=min(old.tune_every, steps),
    )
    return dataclasses.replace(stage, settings=settings)


def view_operator(config: ConfigDict, name: str, image_shape: tuple[int, int, int]) -> LinearOperator:
    """The operator of the view `name`, as its config says."""
    spec = config.views[name].operator.to_dict()
    path = f"views.{name}.operator"
    try:
        return operators.build(spec.pop("name"), image_shape, **spec)
    except ValueError as error:
        raise at(path, error) from None


def operator_rank(operator: LinearOperator) -> int:
    """Rank of A, the trace of the projector A A^+, by one probe of random signs: exact where A A^+ is diagonal."""
    signs = jax.random.rademacher(jax.random.key(0), (1, *operator.out_shape), jnp.float32)
    return round(float(jnp.sum(signs * operator.project(signs))))


def matched_pairs(operators: Sequence[LinearOperator], matches: int) -> list[tuple[int, int]]:
    """Numbers of the operators, of views of the method 'shared', whose measurements make whole images together."""
    return complementary([kind_of(operator).coverage for operator in operators]) if matches else []


def _made_pairs(config: ConfigDict, views: Sequence[ViewPlan]) -> tuple[tuple[int, int], ...]:
    """Numbers of the views that show the two parts of the image, where something asks for inputs made of them."""
    asking = [
        f"{name}.made_penalty"
        for name in ("residual", "finetune")
        if name in config.methods and config[name].made_penalty > 0
    ]
    if "finetune" in config.methods and config.finetune.start == "views_only":
        asking.append("finetune.start")
    if not asking:
        return ()
    own = [number for number, view in enumerate(views) if view.method in OWN_SPACE]
    pairs = complementary([kind_of(views[number].operator).coverage for number in own])
    if not pairs:
        raise ConfigError(
            f"config.{asking[0]}: inputs are made of two views of the methods {' or '.join(OWN_SPACE)} that show the "
            "two parts of an image, such as a top and a bottom half, and there are none"
        )
    return tuple((own[first], own[second]) for first, second in pairs)


def _check_matches(config: ConfigDict, views: Sequence[ViewPlan]) -> None:
    operators = [view.operator for view in views]
    pairs = matched_pairs(operators, config.shared.matches)
    if views and config.shared.law.laps and not pairs:
        raise ConfigError(
            "config.shared.law.laps: the law is for matching views that show the two parts of an image "
            "(shared.matches > 0), and there are none; nearest valid: 0"
        )
    most = min((math.prod(operator.in_shape) - 1 for operator in operators), default=config.shared.law.rank)
    if pairs and config.shared.law.laps and config.shared.law.rank > most:
        raise ConfigError(
            f"config.shared.law.rank: an image has {most + 1} values; nearest valid: {most}, got "
            f"{config.shared.law.rank}"
        )
    for pair in pairs:
        if config.shared.ask_border:
            break
        try:
            asked(kind_of(operators[pair[0]]).coverage)
        except ValueError as error:
            names = " and ".join(views[number].name for number in pair)
            raise ConfigError(
                f"config.shared.ask_border: {names}: {error}; set it to True, or matches to 0"
            ) from None


def _view_plan(config: ConfigDict, name: str, operator: LinearOperator, sigma_y: float) -> ViewPlan:
    view, path = config.views[name], f"views.{name}"
    check_learnable(path, view, operator, sigma_y)
    own = view.method in OWN_SPACE
    channels = (operator.out_shape if own else operator.in_shape)[-1]
    sloped = config.residual.jacobian_penalty > 0
    if view.method == "shared":
        stage = stage_plan(config, "shared", config.shared, operator.in_shape[-1], 1.0, sloped)
    else:
        scale = math.sqrt(operator.c) if own else 1.0
        stage = stage_plan(config, path, view, channels, scale, sloped or view.method == "gsure")
    rank = operator_rank(operator) if own else math.prod(operator.in_shape)
    try:
        consistency = Consistency(**view.consistency.to_dict()).check()
    except ValueError as error:
        raise at(f"{path}.consistency", error) from None
    return ViewPlan(
        name=name,
        operator=operator,
        method=view.method,
        sigma_y=sigma_y,
        with_clean=view.with_clean,
        delta=view.delta,
        masks=view.masks,
        shown=view.shown,
        weighting=view.weighting,
        max_gain=view.max_gain,
        consistency=consistency,
        sigma_min=view.sigma_min,
        sigma_max=view.sigma_max or math.inf,
        tolerance=view.tolerance,
        em=EmPlan(**view.em.to_dict()),
        restored_by=view.restored_by,
        wavelet=view.wavelet.to_dict(),
        stage=stage,
        rank=rank,
        full_range=not own or rank == math.prod(operator.out_shape),
    )


def _later_stage(config: ConfigDict, channels: int, sloped: bool) -> StagePlan:
    """The shared network in laps after the first: `config.shared.later` over `config.shared`."""
    changes = {}
    for part in ("network", "train"):
        of_all, of_later = config.shared[part].to_dict(), config.shared.later[part].to_dict()
        changes[part] = of_all | {key: value for key, value in of_later.items() if value is not None}
    return stage_plan(config, "shared.later", changes, channels, 1.0, sloped)


def _clean_only_stages(config: ConfigDict, channels: int) -> dict[str, StagePlan]:
    """'clean_only', or one stage for each (dropout, weight decay) of its grid."""
    if not config.clean_only.grid:
        return {"clean_only": stage_plan(config, "clean_only", config.clean_only, channels)}
    stages = {}
    for number, (dropout, weight_decay) in enumerate(config.clean_only.grid):
        stage = stage_plan(config, "clean_only", config.clean_only, channels, dropout=float(dropout))
        optimizer = stage.settings.optimizer._replace(weight_decay=float(weight_decay))
        settings = stage.settings._replace(optimizer=optimizer)
        stages[f"clean_only/{number}"] = dataclasses.replace(stage, settings=settings)
    return stages


def _chosen_view(config: ConfigDict, key: str, names: list[str], fits: str) -> str:
    """The view that `config.<key>.view` names, or the first that fits."""
    asked = config[key].view
    if key in config.methods and (not names or (asked and asked not in names)):
        raise ConfigError(f"config.{key}.view: '{asked}' is not {fits}; views that are: {names or 'none'}")
    return asked or (names[0] if names else "")


def make_plan(
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    view_operators: Mapping[str, LinearOperator] | None = None,
    noise: Mapping[str, float] | None = None,
) -> Plan:
    """The experiment in plain arguments.

    Args:
      config: the config.
      image_shape: (H, W, C).
      view_operators: by view, as the data have them; None: as the config says.
      noise: by view, the least sigma_y of measurements that brought their own; others: as the config says.

    Raises:
      ConfigError: something in the config is wrong.
    """
    check_names(config)
    if view_operators is None:
        view_operators = {name: view_operator(config, name, image_shape) for name in config.views}
    channels = image_shape[-1]
    noise = {name: view.sigma_y for name, view in config.views.items()} | dict(noise or {})
    views = tuple(_view_plan(config, name, view_operators[name], noise[name]) for name in config.views)
    sloped = config.residual.jacobian_penalty > 0 or config.completed.jacobian_penalty > 0
    methods, stages = tuple(config.methods), {}
    for name in ("residual", "completed", "finetune", "cascade"):
        if name in methods:
            stages[name] = stage_plan(config, name, config[name], channels, 1.0, sloped)
    stages |= {v.stage_name: v.stage for v in views if v.method == "shared"}
    if "clean_only" in methods:
        stages |= _clean_only_stages(config, channels)
    for view in views:
        if view.method == "omni" and view.sigma_min < 0:
            stages[f"classifier/{view.name}"] = stage_plan(config, "classifier", config.classifier, channels)
    finetune_view = _chosen_view(config, "finetune", [v.name for v in views], "a view")
    if "finetune" in methods:
        # The same network, with the budget of the view that it is trained on first.
        of_view = next(v for v in views if v.name == finetune_view).stage.settings.steps
        steps = config.finetune.first_steps or of_view
        stages["finetune/first"] = with_steps(stages["finetune"], steps)
    _check_matches(config, [view for view in views if view.method == "shared"])
    own = [v.name for v in views if v.method in OWN_SPACE and v.operator.name != "identity"]
    return Plan(
        image_shape=image_shape,
        views=views,
        methods=methods,
        stages=stages,
        candidates=tuple(config.composition.candidates),
        completed_em=EmPlan(**config.completed.em.to_dict()),
        finetune_view=finetune_view,
        finetune_start=config.finetune.start,
        made_pairs=_made_pairs(config, views),
        shared=SharedPlan(
            **{key: config.shared[key] for key in SHOWN},
            later=_later_stage(config, channels, sloped) if "shared" in stages else None,
            law=LawPlan(**config.shared.law.to_dict()),
            em=EmPlan(**config.shared.em.to_dict()),
        ),
        cascade_view=_chosen_view(config, "cascade", own, "a view of the method 'denoising'"),
    )
