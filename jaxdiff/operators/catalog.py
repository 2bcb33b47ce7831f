"""The operators by name, and the condition under which one can be a view of the residual pipeline."""

import inspect
from collections.abc import Mapping
from typing import Any

from jaxdiff import registry
from jaxdiff.operators import blur, fourier, masks, overlays, random_masks, resample, sensing
from jaxdiff.operators.compose import compose
from jaxdiff.operators.linear import LinearOperator, describe

ISOMETRIES = {
    "identity": resample.identity,
    "avg_pool": resample.avg_pool,
    "grayscale": resample.grayscale,
    "crop": masks.crop,
    "coordinates": masks.coordinates,
    "mask": masks.mask,
    "pixel_mask": random_masks.pixel_mask,
    "box_mask": random_masks.box_mask,
    "keep_patch": random_masks.keep_patch,
    "scan_lines": random_masks.scan_lines,
    "overlay": overlays.overlay,
    "fourier": fourier.fourier,
}
FAMILIES = {
    **ISOMETRIES,
    "gaussian_blur": blur.gaussian_blur,
    "motion_blur": blur.motion_blur,
    "sensing": sensing.sensing,
    "multicoil_fourier": fourier.multicoil_fourier,
}


def names() -> list[str]:
    """The names `build` knows."""
    return sorted([*FAMILIES, "compose"])


def build(name: str, in_shape: tuple[int, ...], **args: Any) -> LinearOperator:
    """The operator `name` for examples of shape `in_shape` (without the batch axis).

    `build('avg_pool', (16, 16, 1), factor=2)`. The parts of 'compose' are operators or their specifications,
    `operators=[{'name': 'grayscale'}, {'name': 'avg_pool', 'factor': 2}]`, in the order in which they are
    applied; a mapping in place of the list is taken in the order of its keys.

    Raises:
        ValueError: the name or an argument is unknown (the nearest valid one is named), an argument is
            missing, or the operator does not fit the shape.
    """
    if name == "compose":
        _check_args(name, compose, args, given=())
        return compose(_build_parts(tuple(in_shape), **args))
    family = registry.lookup({**FAMILIES, "compose": compose}, name, "operator")
    _check_args(name, family, args, given=("in_shape",))
    return family(tuple(int(size) for size in in_shape), **args)


def properties(op: LinearOperator) -> dict[str, bool]:
    """What an operator offers to the methods.

    Returns:
        isometry: A A^T = c Pi with a known c, so that its data can be a view;
        per_example: each example has its own parameters;
        further_corruption: `op.further_corrupt` gives A~ = B A;
        whole: the family has a member A = I, `op.whole`.
    """
    return {
        "isometry": op.c is not None,
        "per_example": op.per_example,
        "further_corruption": op.corrupt_params is not None,
        "whole": op.whole_params is not None or op.name == "identity",
    }


def require_isometry(op: LinearOperator, where: str) -> float:
    """The constant c of A A^T = c Pi.

    Args:
        op: the operator.
        where: for the message: who asks, such as the path in the config.

    Raises:
        ValueError: A A^T is not c I for this operator.
    """
    if op.c is None:
        raise ValueError(
            f"{where}: {describe(op)} cannot be a view: A A^T is not c I for this operator, so white noise "
            f"is not white in its view and the view's denoiser cannot be queried at one noise level. "
            f"Operators that fit: {', '.join(sorted(ISOMETRIES))}, and those "
            "compositions of them that keep the property."
        )
    return op.c


def _build_parts(in_shape, operators):
    if isinstance(operators, Mapping):
        operators = [operators[key] for key in sorted(operators)]
    built = []
    for spec in operators:
        if not isinstance(spec, LinearOperator):
            if not isinstance(spec, Mapping) or "name" not in spec:
                raise ValueError(
                    f"compose: each part needs a name, such as {{'name': 'grayscale'}}; got {spec!r}"
                )
            spec = build(**{**spec, "in_shape": built[-1].out_shape if built else in_shape})
        built.append(spec)
    if built and built[0].in_shape != in_shape:
        raise ValueError(f"compose: {describe(built[0])} takes the shape {built[0].in_shape}, got {in_shape}")
    return built


def _check_args(name, function, args, given):
    parameters = {key: p for key, p in inspect.signature(function).parameters.items() if key not in given}
    for key in args:
        if key not in parameters:
            if not parameters:
                raise ValueError(f"operator '{name}' takes no arguments, got '{key}'")
            raise registry.unknown(key, parameters, f"{name} argument")
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in args]
    if missing:
        raise ValueError(f"operator '{name}' needs the argument {', '.join(missing)}")
