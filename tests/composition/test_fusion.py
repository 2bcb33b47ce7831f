"""Fusion against dense least squares, closed forms for Gaussians, and the figures of overlapping views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.composition import View, anchored_fusion, fuse, sum_of_scores
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.mixture import GaussianMixture


def coordinates(law, size, indices, denoiser=None):
    """The view of a vector's coordinates, with the exact marginal denoiser of a Gaussian law."""
    operator = operators.build("coordinates", (size,), indices=tuple(indices))
    marginal = law.marginal(operator, operator.c, operator.out_shape)
    return View(operator, denoiser or marginal.denoiser, marginal)


def ar1(size=3, a=0.8):
    index = np.arange(size)
    return gaussian_from_covariance(np.zeros(size), a ** np.abs(index[:, None] - index[None, :]))


def dense_fusion(views, weights, x, sigma, start):
    """argmin_z sum w_i |A_i z - D_i|^2 / c_i nearest to start, by float64 least squares (lstsq: least norm)."""
    rows, right = [], []
    for view, weight in zip(views, weights, strict=True):
        size = int(np.prod(view.operator.in_shape))
        matrix = np.asarray(view.operator(jnp.eye(size).reshape(size, *view.operator.in_shape)), np.float64)
        matrix = matrix.reshape(size, -1).T
        denoised = np.asarray(view.denoiser(view.operator(x), sigma * view.operator.c**0.5), np.float64)
        scale = np.sqrt(weight / view.operator.c)
        rows.append(scale * matrix)
        right.append(
            scale
            * (denoised.reshape(len(x), -1).T - matrix @ np.asarray(start, np.float64).reshape(len(x), -1).T)
        )
    step = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=1e-10)[0]
    return np.asarray(start) + step.T.reshape(start.shape)


def test_overlapping_image_views_equal_dense_least_squares():
    shape, sigma = (4, 4, 1), jnp.array([0.3, 0.3])
    specs = [("avg_pool", {"factor": 2}), ("crop", {"top": 0, "left": 0, "height": 2, "width": 4})]
    views = [
        View(operators.build(name, shape, **args), lambda v, s, i=i: jnp.tanh(v * (i + 1)))
        for i, (name, args) in enumerate(specs)
    ]
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    start = jax.random.normal(jax.random.key(1), (2, *shape))
    weights = np.array([1.0, 0.25])
    fused = fuse(views, x, sigma, start, jnp.tile(weights, (2, 1)), cg_steps=6)
    np.testing.assert_allclose(fused, dense_fusion(views, weights, x, sigma, start), atol=2e-5)


def test_directions_outside_all_views_keep_the_start():
    law = ar1(4)
    views = [coordinates(law, 4, (0, 1)), coordinates(law, 4, (1, 2))]
    x, start = jax.random.normal(jax.random.key(0), (2, 5, 4))
    fused = fuse(views, x, jnp.ones(5), start)
    np.testing.assert_array_equal(fused[:, 3], start[:, 3])


def test_disjoint_views_are_the_sum_of_lifted_corrections_in_one_step():
    law = ar1(4)
    views = [coordinates(law, 4, (0, 1)), coordinates(law, 4, (2, 3))]
    x = jax.random.normal(jax.random.key(0), (5, 4))
    sigma = jnp.linspace(0.1, 3.0, 5)
    fused = fuse(views, x, sigma, law.denoiser(x, sigma), cg_steps=1)
    np.testing.assert_allclose(fused, sum_of_scores(views, x, sigma), atol=1e-5)


def test_anchored_fusion_is_exact_for_a_gaussian_whatever_the_views():
    law = ar1(4)
    views = [coordinates(law, 4, (0, 1)), coordinates(law, 4, (1, 3))]
    x = 2 * jax.random.normal(jax.random.key(0), (6, 4))
    sigma = jnp.geomspace(0.05, 20.0, 6)
    exact = law.denoiser(x, sigma)
    np.testing.assert_allclose(anchored_fusion(views, x, sigma, exact), exact, atol=1e-5)
    assert float(jnp.max(jnp.abs(fuse(views, x, sigma, exact) - exact))) > 0.05  # plain fusion is not


def test_anchored_fusion_is_exact_for_independent_views_with_a_block_diagonal_gaussian():
    means, spread = np.array([[-2.0], [2.0]]), np.full((2, 1, 1), 0.25)
    one = GaussianMixture(jnp.array([0.5, 0.5]), jnp.asarray(means), jnp.asarray(spread))
    law = gaussian_from_covariance(np.zeros(2), np.eye(2) * 4.25)
    views = [coordinates(law, 2, (i,), one.denoiser) for i in range(2)]
    x = 3 * jax.random.normal(jax.random.key(0), (50, 2))
    sigma = jnp.full((50,), 0.7)
    exact = jnp.concatenate([one.denoiser(x[:, i : i + 1], sigma) for i in range(2)], axis=1)
    fused = anchored_fusion(views, x, sigma, law.denoiser(x, sigma))
    np.testing.assert_allclose(fused, exact, atol=1e-5)


def test_plain_sum_of_overlapping_views_is_worse_than_no_views():
    """AR(1), a = 0.8, views (0,1), (1,2): sigma^2 E|r|^2 at sigma = 5 is 0.963 for the sum, 0.0015 for fusion."""
    law, size, sigma = ar1(), 200_000, 5.0
    views = [coordinates(law, 3, (0, 1)), coordinates(law, 3, (1, 2))]
    x = law.sample(jax.random.key(0), size) + sigma * jax.random.normal(jax.random.key(1), (size, 3))
    sigmas = jnp.full((size,), sigma)
    exact = law.denoiser(x, sigmas)

    def scaled(denoised):  # sigma^2 |score error|^2 = |D - D*|^2 / sigma^2
        return float(jnp.mean(jnp.sum(jnp.square(denoised - exact), axis=1))) / sigma**2

    # Coordinates that no single view decides keep the view's own answer: start at zero, not at the truth.
    average = fuse(views, x, sigmas, jnp.zeros_like(x))
    assert scaled(sum_of_scores(views, x, sigmas)) == pytest.approx(0.963, rel=0.02)
    assert scaled(average) == pytest.approx(0.0015, rel=0.1)


def test_weights_decide_where_views_overlap_and_zero_removes_a_view():
    law = ar1()
    views = [coordinates(law, 3, (0, 1)), coordinates(law, 3, (1, 2))]
    x, sigma = jax.random.normal(jax.random.key(0), (4, 3)), jnp.ones(4)
    start = law.denoiser(x, sigma)
    only_first = fuse(views, x, sigma, start, jnp.tile(jnp.array([1.0, 0.0]), (4, 1)))
    np.testing.assert_allclose(only_first, fuse(views[:1], x, sigma, start), atol=1e-6)
    np.testing.assert_allclose(only_first[:, 2], start[:, 2], atol=1e-6)


def test_a_view_below_its_own_noise_is_left_out():
    law = ar1()
    views = [coordinates(law, 3, (0, 1))._replace(sigma_y=0.5), coordinates(law, 3, (1, 2))]
    x, start = jax.random.normal(jax.random.key(0), (2, 2, 3))
    sigma = jnp.array([0.4, 0.6])
    fused, second = fuse(views, x, sigma, start), fuse(views[1:], x, sigma, start)
    np.testing.assert_allclose(fused[0], second[0], atol=1e-6)
    assert float(jnp.max(jnp.abs(fused[1] - second[1]))) > 1e-3


def test_fusion_is_differentiable():
    law = ar1()
    views = [coordinates(law, 3, (0, 1)), coordinates(law, 3, (1, 2))]
    x, sigma = jax.random.normal(jax.random.key(0), (2, 3)), jnp.ones(2)

    def value(x):
        return jnp.sum(jnp.sin(fuse(views, x, sigma, law.denoiser(x, sigma))))

    direction, step = jax.random.normal(jax.random.key(1), (2, 3)), 1e-2
    slope = jnp.vdot(jax.grad(value)(x), direction)
    difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(difference), rel=1e-2)
