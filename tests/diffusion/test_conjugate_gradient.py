"""Conjugate gradients: exact after as many steps as there are eigenvalues; the best iterate where they fail."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.conjugate_gradient import conjugate_gradient

RNG = np.random.default_rng(0)
B = jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32)


def _product(matrix):
    return lambda v: v @ jnp.asarray(matrix, jnp.float32).T


@pytest.mark.parametrize("keep_best", [False, True])
def test_exact_for_symmetric_systems(keep_best):
    root = RNG.normal(size=(6, 6))
    matrix = root @ root.T + 0.5 * np.eye(6)
    solved = conjugate_gradient(_product(matrix), B, 12, keep_best)
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, np.asarray(B).T).T, atol=1e-4)


def test_a_singular_system_is_solved_on_its_range():
    values = jnp.array([2.0, 2.0, 1.0, 1.0, 0.0, 0.0])
    right = B.at[:, 4:].set(0.0)
    solved = conjugate_gradient(lambda v: values * v, right, 2)  # two distinct eigenvalues: two steps
    np.testing.assert_allclose(solved, right.at[:, :4].divide(values[:4]), atol=1e-5)


def test_the_best_iterate_is_kept_where_steps_lead_away():
    matrix = np.random.default_rng(0).normal(size=(6, 6)) + np.eye(6)  # neither symmetric nor definite

    def residual(solved):
        return jnp.linalg.norm(B - _product(matrix)(solved), axis=1)

    start = jnp.linalg.norm(B, axis=1)
    last, best = (residual(conjugate_gradient(_product(matrix), B, 6, keep)) for keep in (False, True))
    assert bool(jnp.any(last > 2 * start))
    assert bool(jnp.all(best <= 1.0001 * start))
