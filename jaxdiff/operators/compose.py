"""Composition of operators: first the one named first, A = A_n ... A_2 A_1."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxdiff.operators.isometry import isometry_constant
from jaxdiff.operators.linear import LinearOperator, describe, make


class Part(NamedTuple):
    """What the composition keeps of one operator: all of it hashable."""

    label: str
    forward: Callable[..., jax.Array]
    args: tuple[tuple[str, Any], ...]
    in_shape: tuple[int, ...]
    draw_params: Callable[..., Any] | None
    corrupt_params: Callable[..., Any] | None
    whole_params: Callable[..., Any] | None

    def __repr__(self) -> str:
        return self.label


def compose(operators: Sequence[LinearOperator]) -> LinearOperator:
    """A x = A_n(... A_2(A_1 x)); c is None where A A^T is not c Pi, found by probing (`isometry_constant`).

    The product of the parts' c is right for avg_pool after grayscale and wrong for avg_pool after a mask
    that cuts through its blocks, hence the probe. Parts with random parameters are drawn with independent
    keys.

    Further corruption is that of the last part: B acts on y, after all of A, so A~ = B A_n ... A_1 is a
    composition of the same parts only where B A_n is a member of A_n's family. Hiding more of what an earlier
    part sees is no B after A: with pooling after a mask, pooled values would change and not vanish.
    The composition has a whole member where every random part has one and the others are the identity.

    Args:
        operators: in the order in which they are applied, each fitting the one before.

    Raises:
        ValueError: there are none, or the shapes do not fit.
    """
    if not operators:
        raise ValueError("compose: needs at least one operator")
    for first, second in zip(operators[:-1], operators[1:], strict=True):
        if first.out_shape != second.in_shape:
            raise ValueError(
                f"compose: {describe(first)} gives the shape {first.out_shape}, "
                f"{describe(second)} takes {second.in_shape}"
            )
    parts = tuple(
        Part(
            describe(op),
            op.forward,
            op.args,
            op.in_shape,
            op.draw_params,
            op.corrupt_params,
            op.whole_params,
        )
        for op in operators
    )
    random = any(part.draw_params is not None for part in parts)
    can_be_whole = random and all(op.whole_params or op.name == "identity" for op in operators)
    op = make(
        "compose",
        operators[0].in_shape,
        _forward,
        {"operators": parts},
        draw_params=_draw if random else None,
        corrupt_params=_corrupt_last if parts[-1].corrupt_params else None,
        whole_params=_whole if can_be_whole else None,
    )
    constants = [part.c for part in operators]
    product = None if None in constants else math.prod(constants)
    return op.replace(c=isometry_constant(op, jax.random.key(0), expected=product))


def _forward(params, x: jax.Array, operators: tuple[Part, ...]) -> jax.Array:
    for number, part in enumerate(operators):
        x = part.forward(params.get(str(number), {}), x, **dict(part.args))
    return x


def _draw(key, in_shape, operators):
    keys = jax.random.split(key, len(operators))
    return {
        str(number): part.draw_params(keys[number], in_shape=part.in_shape, **dict(part.args))
        for number, part in enumerate(operators)
        if part.draw_params is not None
    }


def _corrupt_last(key, params, delta, in_shape, operators):
    number, last = str(len(operators) - 1), operators[-1]
    corrupted = last.corrupt_params(
        key, params[number], delta=delta, in_shape=last.in_shape, **dict(last.args)
    )
    return {**params, number: corrupted}


def _whole(params, operators):
    return {
        number: operators[int(number)].whole_params(part, **dict(operators[int(number)].args))
        for number, part in params.items()
    }
