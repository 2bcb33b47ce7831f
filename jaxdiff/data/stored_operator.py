"""An operator as it lies on disk: {"name": ..., "in_shape": [H, W, C], arguments...}, and the parameters that come
with each example, one array `params/<leaf>` for each leaf.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdiff import operators
from jaxdiff.operators import LinearOperator
from jaxdiff.registry import unknown

PARAMS = "params/"


def parse_spec(where: str, text: np.ndarray) -> dict[str, Any]:
    """The operator's name, in_shape and arguments out of an array that is one JSON string.

    Raises:
        ValueError: it is no such string.
    """
    try:
        spec = json.loads(text.item())
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: 'operator' must be one JSON string ({error})") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{where}: 'operator' must be a JSON object with name and in_shape, got {spec!r}")
    return spec


def build_operator(where: str, spec: Mapping[str, Any]) -> LinearOperator:
    """The operator of {'name': ..., 'in_shape': [H, W, C], arguments...}.

    Raises:
        ValueError: a key is missing or unknown, or the operator does not fit the shape.
    """
    missing = [key for key in ("name", "in_shape") if key not in spec]
    if missing:
        raise ValueError(f"{where}: the operator needs {' and '.join(missing)}; it has {', '.join(spec)}")
    shape = spec["in_shape"]
    if (
        not isinstance(shape, list | tuple)
        or len(shape) != 3
        or not all(type(n) is int and n > 0 for n in shape)
    ):
        raise ValueError(f"{where}: the operator's in_shape must be [height, width, channels], got {shape!r}")
    try:
        return operators.build(**{**spec, "in_shape": tuple(spec["in_shape"])})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: the operator: {error}") from error


def params_by_name(params: Any) -> dict[str, Any]:
    """The leaves of a measurement's parameters under the names they have on disk: `params/mask`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {PARAMS + jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def read_params(where: str, operator: LinearOperator, arrays: Mapping[str, np.ndarray], n: int) -> Any:
    """The parameters of n examples out of the arrays `params/...`; None where the operator has none.

    Raises:
        ValueError: one is missing, unknown (the nearest is named), of another shape, or not finite.
    """
    wanted = {}
    if operator.per_example:
        draw = partial(operator.draw_params, in_shape=operator.in_shape, **dict(operator.args))
        wanted = jax.eval_shape(draw, jax.random.key(0))
    by_name = params_by_name(wanted)
    for name in arrays:
        if name.startswith(PARAMS) and name not in by_name:
            if not by_name:
                raise ValueError(f"{where}: {operators.describe(operator)} has no parameters, got '{name}'")
            raise unknown(name, by_name, f"parameter of {operators.describe(operator)} in {where}")
    leaves = []
    for name, like in by_name.items():
        if name not in arrays:
            raise ValueError(f"{where}: {operators.describe(operator)} needs the array '{name}'")
        leaves.append(_as_leaf(f"{where}: '{name}'", arrays[name], (n, *like.shape), like.dtype))
    return jax.tree.unflatten(jax.tree.structure(wanted), leaves) if operator.per_example else None


def _as_leaf(where: str, array: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array in the operator's dtype: floats are rounded to it, integers and booleans must be equal."""
    if array.shape != shape:
        raise ValueError(f"{where} must have shape {shape}, got {array.shape}")
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{where} must be finite numbers (dtype {array.dtype})")
    converted = array.astype(dtype)
    if not (np.issubdtype(dtype, np.floating) or np.array_equal(converted, array)):
        raise ValueError(f"{where} holds values that are not of dtype {np.dtype(dtype).name}")
    return converted
