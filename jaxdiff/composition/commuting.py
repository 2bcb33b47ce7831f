"""Projectors that commute: the fusion's normal equations in closed form, without conjugate gradients.

    Q = sum_i w_i P_i,   P_i = A_i^+ A_i

Where all P_i commute, space is the orthogonal sum of the ranges of E_S = prod_{i in S} P_i prod_{i not in S} (1 - P_i)
over sets S of views: what exactly the views in S see. There Q is the number w(S) = sum_{i in S} w_i, so that

    Q^+ sum_i w_i u_i = sum_i sum_{S with i} (w_i / w(S)) E_S u_i,      u_i = A_i^+ (...) in the range of P_i
    (1)

No factor exceeds 1, however small a weight is. Disjoint crops commute, and crops with an average over blocks that they
do not cut, grey values with any of them, and A = I with everything.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator

PROBES = 4
TOLERANCE = 1e-5  # of a component of a probe, whose entries have variance 1
MOST_SETS = 32

Sets = tuple[frozenset[int], ...]


def common_sets(operators: Sequence[LinearOperator]) -> Sets | None:
    """The sets S with E_S != 0, or None where the projectors do not commute or cannot be looked at beforehand.

    Looked at on random images, once for each choice of operators: of two linear maps that differ, all but a set of
    measure zero of images show it.
    """
    if any(operator.per_example or jax.tree.leaves(operator) for operator in operators):
        return None
    return _common_sets(tuple(jax.tree.structure(operator) for operator in operators))


@lru_cache(maxsize=64)
def _common_sets(structures: tuple[Any, ...]) -> Sets | None:
    operators = [jax.tree.unflatten(structure, []) for structure in structures]
    # Shapes and arguments are static, so this is worked out while the caller is being traced.
    with jax.ensure_compile_time_eval():
        probe = np.random.default_rng(0).standard_normal((PROBES, *operators[0].in_shape)).astype(np.float32)

        def project(index, values):
            return np.asarray(operators[index].pinv(operators[index](jnp.asarray(values))))

        seen = [project(index, probe) for index in range(len(operators))]
        for i in range(len(operators)):
            for j in range(i):
                if np.abs(project(i, seen[j]) - project(j, seen[i])).max() > TOLERANCE:
                    return None
        parts = {frozenset(): probe}
        for index in range(len(operators)):
            split = {}
            for members, values in parts.items():
                inside = project(index, values)
                split |= {members | {index}: inside, members: values - inside}
            parts = {members: values for members, values in split.items() if np.abs(values).max() > TOLERANCE}
            if len(parts) > MOST_SETS:
                return None
    return tuple(members for members in parts if members)


def solve(
    operators: Sequence[LinearOperator], sets: Sets, weights: jax.Array, lifted: Sequence[jax.Array]
) -> jax.Array:
    """Equation 1, (B, ...).

    Args:
      operators: A_i.
      sets: from `common_sets`.
      weights: w_i >= 0, (B, V).
      lifted: u_i, (B, ...) each, in the range of P_i.
    """
    total = jnp.zeros_like(lifted[0])
    for index, value in enumerate(lifted):
        known = [members for members in sets if index in members]
        for members, part in _split(operators, known, value, 0).items():
            among = jnp.sum(weights[:, sorted(members)], axis=1)
            share = jnp.where(among > 0, weights[:, index] / jnp.where(among > 0, among, 1.0), 0.0)
            total += expand(share, part) * part
    return total


def _split(operators, known, value, index):
    """{S: E_S value} over the sets in `known`; a projector is applied only where it tells two of them apart."""
    if len(known) == 1:
        return {known[0]: value}
    having = [members for members in known if index in members]
    lacking = [members for members in known if index not in members]
    if not having or not lacking:
        return _split(operators, known, value, index + 1)
    inside = operators[index].pinv(operators[index](value))
    return _split(operators, having, inside, index + 1) | _split(
        operators, lacking, value - inside, index + 1
    )
