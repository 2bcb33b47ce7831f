"""The lift against autodiff of log p_V(A x), for every operator with A A^T = c I."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.composition import View, lift, lifted_score
from jaxdiff.composition.lifting import is_valid
from jaxdiff.diffusion.gaussian import gaussian_from_covariance

SHAPE = (4, 4, 3)
CASES = {
    "avg_pool": {"factor": 2},
    "grayscale": {},
    "crop": {"top": 1, "left": 0, "height": 2, "width": 3},
    "identity": {},
}


def view_of(name):
    operator = operators.build(name, SHAPE, **CASES[name])
    size = int(np.prod(operator.out_shape))
    root = np.random.default_rng(0).normal(size=(size, size)) / np.sqrt(size)
    law = gaussian_from_covariance(
        np.linspace(-0.5, 0.5, size).reshape(operator.out_shape), root @ root.T + 0.05 * np.eye(size)
    )
    return View(operator, law.denoiser), law


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("identity", "grayscale"))) for name in CASES],
)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_lifted_score_is_the_gradient_of_the_views_log_density(name, sigma):
    view, law = view_of(name)
    x = jax.random.normal(jax.random.key(1), (3, *SHAPE))
    sigmas = jnp.full((3,), sigma)

    def log_density(x):
        # X_sigma seen through A is V + sigma sqrt(c) Z: its law is the view's, at that noise level.
        return jnp.sum(law.log_prob(view.operator(x), sigmas * view.operator.c**0.5))

    np.testing.assert_allclose(lifted_score(view, x, sigmas), jax.grad(log_density)(x), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["avg_pool", "grayscale"])
def test_wrong_view_noise_level_is_seen(name):
    """The mutation sigma in place of sigma sqrt(c) is far outside the tolerance of the test above."""
    view, law = view_of(name)
    mutated = View(view.operator, lambda v, s: law.denoiser(v, s / view.operator.c**0.5))
    x = jax.random.normal(jax.random.key(1), (3, *SHAPE))
    sigmas = jnp.full((3,), 1.0)
    right, wrong = lifted_score(view, x, sigmas), lifted_score(mutated, x, sigmas)
    assert float(jnp.linalg.norm(right - wrong)) > 0.1 * float(jnp.linalg.norm(right))


def test_lift_leaves_what_the_view_does_not_see():
    view, _ = view_of("crop")
    x = jax.random.normal(jax.random.key(2), (2, *SHAPE))
    moved = lift(view, x, jnp.ones(2)) - x
    chex.assert_trees_all_close(moved.at[:, 1:3, 0:3].set(0.0), jnp.zeros_like(x))


def test_view_with_its_own_noise_is_valid_only_above_it():
    operator = operators.build("avg_pool", SHAPE, factor=2)  # c = 1/4
    view = View(operator, lambda v, s: v, None, sigma_y=0.5)
    np.testing.assert_array_equal(is_valid(view, jnp.array([0.9, 1.0, 1.1])), [False, True, True])
