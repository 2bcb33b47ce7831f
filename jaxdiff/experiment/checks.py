"""Whether a config makes sense, as far as that can be said without data."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdiff import operators, registry
from jaxdiff.data.damage import FAMILIES as DAMAGES
from jaxdiff.experiment.ranges import wrong_numbers
from jaxdiff.methods.consistency import STARTS
from jaxdiff.methods.tweedie import WEIGHTINGS
from jaxdiff.sampling import SAMPLERS, STOPS, freshness
from jaxdiff.training.sharding import STATE_RULES

CANDIDATES = ("gaussian", "fusion", "anchored", "shared")
VIEW_METHODS = ("denoising", "shared", "ambient", "tweedie", "gsure", "em", "omni", "naive")
METHODS = ("views_only", "shared", "residual", "completed", "clean_only", "finetune", "cascade")
OWN_SPACE = ("denoising", "shared")  # the view's denoiser is one in its own space
OF_VIEWS = ("views_only", "residual", "completed")
RESTORED_BY = ("pinv", "wavelet")
FINETUNE_STARTS = ("restored", "views_only")
EM_SAMPLERS = ("heun", "euler", "replacement")
CHOICES = {
    "task": ("images", "gaussian_toy", "gaussian_theory"),
    "composition.gaussian": ("ledoit_wolf", "ppca", "empirical"),
    "composition.fusion": ("least_squares", "sum"),
    "composition.weights": ("fitted", "inverse_error", "uniform"),
    "train.decay": ("constant", "cosine"),
    "train.dtype": ("float32", "bfloat16"),
    "train.sharding": STATE_RULES,
    "sample.sampler": SAMPLERS,
    "sample.stop": STOPS,
    "sample.through": ("members", "fixed_mask", "guided"),
    "finetune.start": FINETUNE_STARTS,
    "data.split_by": ("hash", "slab"),
    "data.unused_clean": ("none", "views"),
    "data.resize": ("bilinear", "box", "lanczos"),
}


class ConfigError(ValueError):
    """Something in the config is wrong; the message says what, where and the nearest right value."""


class FoundInTraining(ConfigError):
    """Something in the config is wrong that only what was learnt could tell."""


def get(config: Mapping, path: str) -> Any:
    """The value at a dotted path."""
    for part in path.split("."):
        config = config[part]
    return config


def at(path: str, error: ValueError) -> ConfigError:
    """The error with the config path in front of it."""
    return ConfigError(f"config.{path}: {error}")


def needs_clean(config: ConfigDict) -> list[str]:
    """Who in the config needs clean training examples."""
    views = [f"views.{name}.with_clean" for name, view in config.views.items() if view.with_clean]
    shared = [
        f"views.{name}.method = 'shared'" for name, view in config.views.items() if view.method == "shared"
    ]
    omni = [f"views.{name}.sigma_min = -1" for name, view in config.views.items() if view.sigma_min < 0]
    return [f"methods '{name}'" for name in config.methods] + views + shared + omni


def check_names(config: ConfigDict) -> None:
    """Check all that needs no data: choices, names of operators and methods, numbers that must be positive.

    Raises:
      ConfigError: names the path, the value and the nearest valid one.
    """
    for path, choices in CHOICES.items():
        choose(path, get(config, path), choices)
    if not config.composition.candidates:
        raise ConfigError(
            f"config.composition.candidates is empty: give at least one of {', '.join(CANDIDATES)}"
        )
    for index, name in enumerate(config.composition.candidates):
        choose(f"composition.candidates[{index}]", name, CANDIDATES)
    for index, name in enumerate(config.methods):
        choose(f"methods[{index}]", name, METHODS)
    if config.task == "images" and not len(config.views) and set(config.methods) != {"clean_only"}:
        raise ConfigError(
            "config.views is empty: give at least one, such as default.view({'name': 'identity'}, 1.0), or set "
            "config.methods = ('clean_only',)"
        )
    for path in ("shared.em", "completed.em", *(f"views.{name}.em" for name in config.views)):
        choose(f"{path}.sampler", get(config, path).sampler, EM_SAMPLERS)
        if get(config, path).sampler == "replacement" and path != "shared.em":
            raise ConfigError(
                f"config.{path}.sampler: replacement is for noiseless views with A A^T = c I, those of the method "
                "'shared'; use heun or euler"
            )
    for name, view in config.views.items():
        if view.method == "em" and view.em.gaussian_laps < 1:
            raise ConfigError(
                f"config.views.{name}.em.gaussian_laps: 'em' starts from a Gaussian; at least 1, got 0"
            )
    shared = config.shared
    if shared.em.gaussian_laps:
        raise ConfigError(
            "config.shared.em.gaussian_laps: parts are matched by the mixture of config.shared.law; nearest valid: 0, "
            f"got {shared.em.gaussian_laps}"
        )
    if not min(shared.clean_weight, shared.later_clean_weight) > 0 or not 0 < shared.completed_share < 1:
        raise ConfigError(
            "config.shared: clean_weight and later_clean_weight must be positive, and completed_share lie between 0 "
            f"and 1; got {shared.clean_weight}, {shared.later_clean_weight} and {shared.completed_share}"
        )
    if not 0 <= shared.boxes <= 1:
        raise ConfigError(f"config.shared.boxes: a probability, in [0, 1]; got {shared.boxes}")
    if shared.matches < 0 or shared.seam_weight < 0:
        raise ConfigError(
            f"config.shared: matches and seam_weight must not be negative; got {shared.matches}, {shared.seam_weight}"
        )
    if shared.least_side < 1:
        raise ConfigError(f"config.shared.least_side: at least 1 pixel, got {shared.least_side}")
    for name, view in config.views.items():
        _check_view(f"views.{name}", view)
    shared = [name for name, view in config.views.items() if view.method == "shared"]
    asking = [f"methods '{name}'" for name in config.methods if name == "shared"]
    asking += [
        f"composition.candidates '{name}'" for name in config.composition.candidates if name == "shared"
    ]
    if asking and not shared:
        raise ConfigError(
            f"config.{asking[0]}: no view is learnt by the one network that views share; set "
            "config.views.<name>.method = 'shared'"
        )
    made = ["gaussian", *(f"view/{name}" for name in config.views), *config.methods]
    if config.sample.method:
        choose("sample.method", config.sample.method, [*made, *METHODS])
    try:
        freshness(config.sample.sampler, config.sample.eta, config.sample.s_churn)
    except ValueError as error:
        raise at("sample", error) from None
    asked = config.sample
    if not 0 < asked.sigma_min < asked.sigma_max:
        raise ConfigError(
            f"config.sample.sigma_min: must be above 0 and below config.sample.sigma_max = {asked.sigma_max}, got "
            f"{asked.sigma_min}"
        )
    positive = (
        "steps",
        "batch",
        "lr",
        "checkpoint_every",
        "tune_every",
        "max_skipped",
        "accumulate",
        "fsdp_min_size",
    )
    for path in (*(f"train.{key}" for key in positive), "sample.shard_size"):
        if get(config, path) <= 0:
            raise ConfigError(f"config.{path}: must be positive, got {get(config, path)}")
    users = needs_clean(config)
    minima = {"data.held_out": 2, "bands.count": 2, "sample.steps": 2, "sample.count": 1, "sample.batch": 1}
    minima |= {"evaluate.batch": 1, "evaluate.max_images": 2, "evaluate.resamples": 2}
    if users or not config.data.reference:
        minima["data.clean"] = 2
    if config.methods:
        minima["data.tuning"] = 1
    for path, least in minima.items():
        if get(config, path) < least:
            why = f" by {users[0]}" if users and path in ("data.clean", "data.tuning") else ""
            hint = "; or set data.reference" if path == "data.clean" and not users else ""
            raise ConfigError(
                f"config.{path}: at least {least} are needed{why}, got {get(config, path)}{hint}"
            )

    wrong = wrong_numbers(config)
    if wrong:
        raise ConfigError("\n  ".join(wrong))


def _check_view(path: str, view: ConfigDict) -> None:
    if "name" in view.operator:
        choose(f"{path}.operator.name", view.operator.name, operators.names())
    elif not view.source:
        raise ConfigError(f"config.{path}.operator has no 'name'; known: {', '.join(operators.names())}")
    if view.source and (len(view.operator) or len(view.damage) or view.sigma_y):
        raise ConfigError(
            f"config.{path}: measurements from '{view.source}' bring their operator and noise with them; leave "
            "operator and damage empty and sigma_y 0"
        )
    choose(f"{path}.method", view.method, VIEW_METHODS)
    choose(f"{path}.restored_by", view.restored_by, RESTORED_BY)
    choose(f"{path}.weighting", view.weighting, WEIGHTINGS)
    choose(f"{path}.consistency.start", view.consistency.start, STARTS)
    if len(view.damage):
        choose(f"{path}.damage.name", view.damage.get("name", ""), DAMAGES)
        if view.method not in ("omni", "naive"):
            raise ConfigError(
                f"config.{path}.method: '{view.method}' knows nothing of damage that is not linear "
                f"('{view.damage.name}'); use 'omni', from a noise level on at which it cannot be seen"
            )
    if view.restored_by == "wavelet" and view.method != "naive":
        raise ConfigError(
            f"config.{path}.restored_by: 'wavelet' is for the method 'naive', which takes what is restored for clean; "
            f"got '{view.method}'"
        )
    if view.sigma_y < 0:
        raise ConfigError(f"config.{path}.sigma_y: must not be negative, got {view.sigma_y}")
    if view.sigma_y > 0 and view.method in OWN_SPACE:
        raise ConfigError(
            f"config.{path}.sigma_y: the method '{view.method}' learns the law of y itself, noise included; "
            "it needs sigma_y = 0. Use 'tweedie', 'gsure' or 'em' ('naive' for the baseline that takes y for clean)"
        )
    if view.examples <= 0:
        raise ConfigError(f"config.{path}.examples: must be positive, got {view.examples}")
    if view.method != "omni" and (view.sigma_min or view.sigma_max):
        raise ConfigError(
            f"config.{path}: sigma_min and sigma_max are for the method 'omni', got '{view.method}'"
        )


def check_learnable(path: str, view: ConfigDict, operator: operators.LinearOperator, sigma_y: float) -> None:
    """Whether the view's method can learn from its operator and its noise.

    Raises:
      ConfigError: says why not and what can.
    """
    method, label = view.method, operators.describe(operator)
    if method in OWN_SPACE and sigma_y > 0:
        raise ConfigError(
            f"config.{path}.method: '{method}' learns the law of y itself, noise included; these measurements have "
            f"noise of {sigma_y:.3g} and more: use 'tweedie', 'gsure' or 'em'"
        )
    if method in OWN_SPACE:
        try:
            operators.require_isometry(operator, f"config.{path}.operator")
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if operator.per_example:
            raise ConfigError(
                f"config.{path}.operator: '{operator.name}' draws its own parameters for each example, so the view "
                f"has no fixed space and the method '{method}' cannot learn it; use a fixed operator such as 'mask' "
                f"or 'crop', or config.{path}.method = 'ambient'"
            )
    if view.restored_by == "wavelet" and operator.in_shape[-1] != 2:
        raise ConfigError(
            f"config.{path}.restored_by: 'wavelet' is for complex images, (H, W, 2); these are {operator.in_shape}; "
            "use 'pinv'"
        )
    if method == "tweedie" and operator.name != "identity":
        raise ConfigError(
            f"config.{path}.method: 'tweedie' is for whole images with noise (operator 'identity'), not for {label}; "
            "use 'ambient' (masks), 'gsure' or 'em'"
        )
    if method == "ambient" and operator.corrupt_params is None:
        raise ConfigError(
            f"config.{path}.method: 'ambient' needs a random family with a further corruption, such as "
            f"'pixel_mask', not {label}; use 'gsure' or 'em'"
        )
    if method == "ambient" and operator.c is None and sigma_y > 0:
        raise ConfigError(
            f"config.{path}.sigma_y: with noise, 'ambient' needs A A^T = c I, which {label} has not; use 'em'"
        )
    whole = operator.name == "identity" or operator.whole_params is not None
    if view.with_clean and method in ("denoising", "ambient", "gsure") and not whole:
        raise ConfigError(
            f"config.{path}.with_clean: {label} has no member that hides nothing, so clean images are no measurement "
            "of this family; leave it False (the residual uses the clean images)"
        )


def choose(path: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ConfigError, with the nearest choice, where `value` is none of them."""
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
