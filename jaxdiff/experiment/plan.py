"""From the config to plain arguments, checked before anything is compiled."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxdiff import operators, registry
from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.networks import build_network
from jaxdiff.operators import LinearOperator
from jaxdiff.training.loop import TrainSettings
from jaxdiff.training.sharding import STATE_RULES
from jaxdiff.training.state import OptimizerSettings

CANDIDATES = ("gaussian", "fusion", "anchored")
CHOICES = {
    "task": ("images", "gaussian_toy"),
    "composition.gaussian": ("ledoit_wolf", "ppca", "empirical"),
    "composition.fusion": ("least_squares", "sum"),
    "composition.weights": ("fitted", "inverse_error", "uniform"),
    "train.decay": ("constant", "cosine"),
    "train.dtype": ("float32", "bfloat16"),
    "train.sharding": STATE_RULES,
    "sample.method": ("residual", "views_only", "clean_only", "gaussian"),
    "sample.sampler": ("heun", "euler"),
    "data.resize": ("bilinear", "box", "lanczos"),
}
VIEW_METHODS = ("denoising",)


class ConfigError(ValueError):
    """Something in the config is wrong; the message says what, where and the nearest right value."""


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """Network, noise and budget of one stage."""

    network: nn.Module
    noise: NoiseDistribution
    sigma_data: float  # 0: measured on the stage's data
    settings: TrainSettings


@dataclasses.dataclass(frozen=True)
class ViewPlan:
    """One view: its operator, its measurement noise and the stage that learns it."""

    name: str
    operator: LinearOperator
    sigma_y: float
    examples: float
    stage: StagePlan
    rank: int
    full_range: bool  # whether the operator reaches all of its view space (a zero-filled mask does not)


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment on images, in plain arguments."""

    image_shape: tuple[int, int, int]
    views: tuple[ViewPlan, ...]
    residual: StagePlan
    clean_only: StagePlan
    candidates: tuple[str, ...]


def get(config: Mapping, path: str) -> Any:
    """The value at a dotted path."""
    for part in path.split("."):
        config = config[part]
    return config


def at(path: str, error: ValueError) -> ConfigError:
    """The error with the config path in front of it."""
    return ConfigError(f"config.{path}: {error}")


def check_names(config: ConfigDict) -> None:
    """Check all that needs no data: choices, names of operators and methods, numbers that must be positive.

    Raises:
      ConfigError: names the path, the value and the nearest valid one.
    """
    for path, choices in CHOICES.items():
        _choose(path, get(config, path), choices)
    for index, name in enumerate(config.composition.candidates):
        _choose(f"composition.candidates[{index}]", name, CANDIDATES)
    if config.task == "images" and not len(config.views):
        raise ConfigError(
            "config.views is empty: give at least one, such as default.view({'name': 'identity'}, 1.0)"
        )
    for name, view in config.views.items():
        if "name" not in view.operator:
            raise ConfigError(
                f"config.views.{name}.operator has no 'name'; known: {', '.join(operators.names())}"
            )
        _choose(f"views.{name}.operator.name", view.operator.name, operators.names())
        _choose(f"views.{name}.method", view.method, VIEW_METHODS)
        if view.sigma_y < 0:
            raise ConfigError(f"config.views.{name}.sigma_y: must not be negative, got {view.sigma_y}")
        if view.sigma_y > 0:
            raise ConfigError(
                f"config.views.{name}.sigma_y: the method 'denoising' learns the law of y itself, noise included; "
                "it needs sigma_y = 0"
            )
        if view.examples <= 0:
            raise ConfigError(f"config.views.{name}.examples: must be positive, got {view.examples}")
    for path in ("train.steps", "train.batch", "train.lr", "train.checkpoint_every", "train.tune_every"):
        if get(config, path) <= 0:
            raise ConfigError(f"config.{path}: must be positive, got {get(config, path)}")
    minima = {"data.clean": 2, "data.tuning": 1, "data.held_out": 2, "bands.count": 2, "sample.steps": 2}
    for path, least in minima.items():
        if get(config, path) < least:
            raise ConfigError(f"config.{path}: at least {least} are needed, got {get(config, path)}")


def _choose(path, value, choices):
    try:
        registry.lookup(dict.fromkeys(choices), value, "value" if "name" not in path else "operator")
    except ValueError as error:
        raise at(path, error) from None


def merge(base: Mapping, changes: Mapping, path: str) -> dict:
    """`base` with those `changes` that are not None; a key that `base` has not is an error that names the
    nearest.

    Where `changes` names another network, `base` is left behind: the arguments of one network mean nothing
    to another.
    """
    base = dict(base)
    changes = {key: value for key, value in changes.items() if value is not None}
    if "name" in changes and changes["name"] != base.get("name"):
        return dict(changes)
    for key in changes:
        try:
            registry.lookup(base, key, "key")
        except ValueError as error:
            raise at(f"{path}.{key}", error) from None
    return {**base, **changes}


def stage_plan(
    config: ConfigDict, path: str, changes: Mapping, channels: int, scale: float = 1.0
) -> StagePlan:
    """The stage at `path`, whose config changes `network` and `train`; `scale` = sqrt(c) shifts its noise."""
    train = merge(config.train, changes["train"], f"{path}.train")
    network = merge(config.network, changes["network"], f"{path}.network")
    name = network.pop("name")
    if "forward_mode" in network and config.residual.jacobian_penalty > 0:
        network["forward_mode"] = True
    network = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in network.items()}
    try:
        module = build_network(name, channels, dtype=train["dtype"], **network)
    except (TypeError, ValueError) as error:
        raise at(f"{path}.network", error) from None
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
    )
    noise = NoiseDistribution(config.noise.P_mean + math.log(scale), config.noise.P_std)
    return StagePlan(module, noise, config.noise.sigma_data * scale, settings)


def view_operator(config: ConfigDict, name: str, image_shape: tuple[int, int, int]) -> LinearOperator:
    """The operator of the view `name`, with A A^T = c I."""
    spec = config.views[name].operator.to_dict()
    path = f"views.{name}.operator"
    try:
        operator = operators.build(spec.pop("name"), image_shape, **spec)
        operators.require_isometry(operator, f"config.{path}")
    except ValueError as error:
        message = str(error)
        raise (ConfigError(message) if message.startswith("config.") else at(path, error)) from None
    if operator.per_example:
        raise ConfigError(
            f"config.{path}: '{operator.name}' draws its own parameters for each example, so the view has no fixed "
            "space and the method 'denoising' cannot learn it; use a fixed operator such as 'mask' or 'crop'"
        )
    return operator


def operator_rank(operator: LinearOperator) -> int:
    """Rank of A, the trace of the projector A A^+, by one probe of random signs: exact where A A^+ is diagonal."""
    signs = jax.random.rademacher(jax.random.key(0), (1, *operator.out_shape), jnp.float32)
    return round(float(jnp.sum(signs * operator.project(signs))))


def make_plan(config: ConfigDict, image_shape: tuple[int, int, int]) -> Plan:
    """The experiment in plain arguments.

    Raises:
      ConfigError: something in the config is wrong.
    """
    check_names(config)
    channels = image_shape[-1]
    views = []
    for name in config.views:
        view = config.views[name]
        operator = view_operator(config, name, image_shape)
        scale = math.sqrt(operator.c)
        stage = stage_plan(config, f"views.{name}", view, operator.out_shape[-1], scale)
        rank = operator_rank(operator)
        full = rank == math.prod(operator.out_shape)
        views.append(ViewPlan(name, operator, view.sigma_y, view.examples, stage, rank, full))
    return Plan(
        image_shape=image_shape,
        views=tuple(views),
        residual=stage_plan(config, "residual", config.residual, channels),
        clean_only=stage_plan(config, "clean_only", config.clean_only, channels),
        candidates=tuple(config.composition.candidates),
    )
