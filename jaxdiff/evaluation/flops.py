"""Floating-point operations of a function, counted in its program: 2 for each multiply-add of its products.

Matrix products and convolutions count. Elementwise work (normalisation, activations, sums) is left out, as
usual in published figures: it is a few per cent of a network's. Windows over padding count as full. Loops are
counted as often as they run, which XLA's own cost analysis does not do.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def count_flops(function: Callable, *args: Any) -> float:
    """Operations of one call of `function(*args)`; arrays or `jax.ShapeDtypeStruct`s, nothing is computed.

    `while_loop`s, whose length is not known, count once; of the branches of a `cond` the dearest counts.
    """
    return _of_program(jax.make_jaxpr(function)(*args).jaxpr)


def _of_program(program: core.Jaxpr) -> float:
    return sum(_of_equation(equation) for equation in program.eqns)


def _of_equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return 2.0 * _size(equation.outvars[0]) * _contracted(equation)
    if name == "conv_general_dilated":
        # Each output value is a sum over the kernel's window and its input channels (of its own group).
        kernel = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * _size(equation.outvars[0]) * math.prod(kernel) / outputs
    times = params.get("length", 1) if name == "scan" else 1
    branches = [_of_program(_open(branch)) for branch in params.get("branches", ())]
    inner = [_open(value) for key, value in params.items() if key != "branches" and _is_program(value)]
    return times * sum(map(_of_program, inner)) + max(branches, default=0.0)


def _contracted(equation: core.JaxprEqn) -> int:
    (left, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in left)


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _is_program(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _open(program: Any) -> core.Jaxpr:
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
