"""Projectors that commute: the closed form against conjugate gradients, and when it is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.composition import commuting
from jaxdiff.composition.stacking import where_needed
from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient
from jaxdiff.diffusion.noise import expand

SHAPE = (8, 8, 3)
LOW = ("avg_pool", {"factor": 2})
TOP = ("crop", {"top": 0, "left": 0, "height": 4, "width": 8})
BOTTOM = ("crop", {"top": 4, "left": 0, "height": 4, "width": 8})
ODD = ("crop", {"top": 1, "left": 0, "height": 4, "width": 8})  # cuts the blocks of LOW
GRAY = ("grayscale", {})
WHOLE = ("identity", {})
LEFT = ("mask", {"mask": "left"})


def built(*specs):
    return [operators.build(name, SHAPE, **args) for name, args in specs]


@pytest.mark.parametrize(
    ("specs", "count"),
    [
        ((LOW, TOP, BOTTOM), 4),
        ((TOP, BOTTOM), 2),
        ((TOP, WHOLE), 2),
        ((GRAY, LOW, LEFT), 7),
        ((ODD, GRAY), 3),
    ],
    ids=["digits", "disjoint", "whole", "gray", "odd"],
)
def test_closed_form_is_the_pseudo_inverse(specs, count):
    views = built(*specs)
    sets = commuting.common_sets(views)
    assert len(sets) == count
    keys = jax.random.split(jax.random.key(0), len(views) + 1)
    weights = jax.random.uniform(keys[0], (3, len(views))).at[0, 0].set(0.0).at[1, 1].set(1e-5)
    lifted = [
        a.pinv(jax.random.normal(key, (3, *a.out_shape))) for a, key in zip(views, keys[1:], strict=True)
    ]

    def weighted(index, value):
        return expand(weights[:, index], value) * value

    right = sum(weighted(i, u) for i, u in enumerate(lifted))
    exact = commuting.solve(views, sets, weights, lifted)
    # Q z = right, and z stays in the range of Q: the residual at full weight, and the solution by many steps.
    moved = sum(weighted(i, a.pinv(a(exact))) for i, a in enumerate(views))
    np.testing.assert_allclose(moved, right, atol=1e-5)
    steps = conjugate_gradient(
        lambda u: sum(weighted(i, a.pinv(a(u))) for i, a in enumerate(views)), right, 40
    )
    np.testing.assert_allclose(exact[2], steps[2], atol=2e-5)


def test_no_closed_form_where_projectors_do_not_commute():
    assert commuting.common_sets(built(LOW, ODD)) is None


def test_no_closed_form_for_operators_drawn_for_each_example():
    masks = operators.build("pixel_mask", SHAPE, p=0.5)
    assert commuting.common_sets([masks, *built(WHOLE)]) is None


def test_sets_are_found_while_tracing():
    views = built(LOW, TOP, BOTTOM)
    commuting._common_sets.cache_clear()

    @jax.jit
    def solved(x):
        sets = commuting.common_sets(views)
        return commuting.solve(views, sets, jnp.ones((2, 3)), [a.pinv(a(x)) for a in views])

    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    np.testing.assert_allclose(solved(x), x, atol=1e-5)


def test_candidates_without_weight_are_not_run():
    x, ran = jnp.ones((2, 3)), []

    def make():
        jax.debug.callback(lambda: ran.append(1))
        return 2 * x

    needed = jax.jit(lambda weights: where_needed(weights, make, x))
    np.testing.assert_array_equal(needed(jnp.array([0.0, 0.0])), jnp.zeros_like(x))
    jax.effects_barrier()
    assert not ran
    np.testing.assert_array_equal(needed(jnp.array([0.0, 0.1])), 2 * x)
    jax.effects_barrier()
    assert ran
