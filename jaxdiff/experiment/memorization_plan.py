"""`config.memorization` in plain arguments, checked before anything is computed."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import operators
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation.attacks import FEWEST
from jaxdiff.experiment.checks import ConfigError, at, choose
from jaxdiff.experiment.plan import Plan
from jaxdiff.experiment.ranges import ONE, POSITIVE
from jaxdiff.experiment.restore_plan import usual_arguments
from jaxdiff.experiment.sampling import sampled_methods
from jaxdiff.operators import LinearOperator

FEATURES = ("auto", "pixels")
METRICS = ("cosine", "euclidean")


class MemorizationPlan(NamedTuple):
    """What is measured.

    Attributes:
        method: whose samples and denoiser.
        count: samples.
        samples: the file they are in; None: they are drawn.
        features: 'auto' or 'pixels'.
        metric: 'cosine' or 'euclidean'.
        percentile: of the control.
        held_out: images, at most: the control.
        shown: pairs in the picture.
        images: of each kind in an attack; 0: no attacks.
        no_attack: why there are none; '' where there are.
        batch: images of one call.
        seed: of the attacks.
        sigma, repeats: of the denoising attack.
        operator, sigmas, completions, cg_steps: of the completion attack.
        level: of all intervals.
    """

    method: str
    count: int
    samples: Path | None
    features: str
    metric: str
    percentile: float
    held_out: int
    shown: int
    images: int
    no_attack: str
    batch: int
    seed: int
    sigma: float
    repeats: int
    operator: LinearOperator
    sigmas: np.ndarray
    completions: int
    cg_steps: int
    level: float


def make_memorization_plan(config: Any, plan: Plan) -> MemorizationPlan:
    """The measurement that `config.memorization` asks for.

    Raises:
      ConfigError: something in it is wrong, or there are too few held-out images for it.
    """
    asked, names = config.memorization, sampled_methods(plan)
    path = "memorization.method" if asked.method else "sample.method"
    method = asked.method or config.sample.method or names[-1]
    choose(path, method, names)
    choose("memorization.features", asked.features, FEATURES)
    choose("memorization.metric", asked.metric, METRICS)
    whole = ("count", "batch", "denoising.repeats", "completion.repeats", "completion.cg_steps")
    ranges = dict.fromkeys(whole, ONE) | {"denoising.sigma": POSITIVE}
    for key, allowed in ranges.items():
        group, _, name = key.rpartition(".")
        value = (asked[group] if group else asked)[name]
        if not allowed.holds(value):
            raise ConfigError(f"config.memorization.{key}: must be {allowed.describe()}, got {value}")
    if asked.samples and not Path(asked.samples).is_file():
        raise ConfigError(f"config.memorization.samples: no such file: {asked.samples}")
    held_out = min(config.data.held_out, config.evaluate.max_images)
    _check_percentile(asked.percentile, held_out)
    if asked.images and asked.images < FEWEST:
        raise ConfigError(
            f"config.memorization.images: {FEWEST} or more of each kind, or 0 for no attacks; got {asked.images}"
        )
    if asked.images and held_out < FEWEST:
        raise ConfigError(
            f"config.memorization.images: an attack needs {FEWEST} held-out images, there are {held_out}; nearest "
            "valid: 0"
        )
    no_attack = "" if asked.images else "config.memorization.images is 0"
    if method == "cascade":
        no_attack = "the cascade has no denoiser of images, so the attacks, which need one, are left out"
    return MemorizationPlan(
        method=method,
        count=int(asked.count),
        samples=Path(asked.samples) if asked.samples else None,
        features=asked.features,
        metric=asked.metric,
        percentile=float(asked.percentile),
        held_out=held_out,
        shown=max(1, int(asked.shown)),
        images=int(asked.images),
        no_attack=no_attack,
        batch=int(asked.batch),
        seed=int(asked.seed),
        sigma=float(asked.denoising.sigma),
        repeats=int(asked.denoising.repeats),
        operator=_operator(asked.completion.operator, plan.image_shape),
        sigmas=_grid(config),
        completions=int(asked.completion.repeats),
        cg_steps=int(asked.completion.cg_steps),
        level=float(config.evaluate.level),
    )


def _check_percentile(percentile: float, held_out: int) -> None:
    """The p-th percentile of K values is the ceil(p (K + 1) / 100)-th of them, which must be there."""
    if not 0 < percentile < 100:
        raise ConfigError(
            f"config.memorization.percentile: between 0 and 100 (99, not 0.99), got {percentile:g}"
        )
    if math.ceil(round(percentile / 100 * (held_out + 1), 9)) > held_out:
        least = math.ceil(round(percentile / (100 - percentile), 9))
        nearest = math.floor(1000 * held_out / (held_out + 1)) / 10
        raise ConfigError(
            f"config.memorization.percentile: the {percentile:g}th of the control needs {least} held-out images "
            f"(data.held_out, evaluate.max_images), there are {held_out}; nearest valid: {nearest:g}"
        )


def _operator(asked: Any, shape: tuple[int, ...]) -> LinearOperator:
    path = "memorization.completion.operator"
    given = {key: value for key, value in asked.to_dict().items() if value is not None}
    name = given.pop("name")
    choose(f"{path}.name", name, operators.names())
    usual = {"p": 0.5} if name == "pixel_mask" else usual_arguments(name, shape)
    try:
        return operators.build(name, shape, **{**usual, **given})
    except ValueError as error:
        raise at(path, error) from None


def _grid(config: Any) -> np.ndarray:
    sample, steps = config.sample, config.memorization.completion.steps
    try:
        return karras_schedule(steps, sample.sigma_min, sample.sigma_max, sample.rho)
    except ValueError as error:
        raise at(
            "memorization.completion.steps, sample.sigma_min, sample.sigma_max, sample.rho", error
        ) from None
