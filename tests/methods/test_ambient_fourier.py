"""Ambient on k-space: from undersampled lines alone, E[X | A~ x_sigma, A~] of a Gaussian in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.methods import ambient
from jaxdiff.methods.ambient import coverage, given_operator, masked_denoiser
from tests.methods.linear_family import LinearByCoverage, batch_of, minimise, one_level

SHAPE, SIZE = (1, 4, 2), 8
SIGMA, COUNT = 0.7, 12_000
RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(SIZE, SIZE)) / SIZE**0.5
COVARIANCE = ROOT @ ROOT.T + 0.1 * np.eye(SIZE)
MEAN = RNG.normal(size=SIZE)
LAW = gaussian_from_covariance(MEAN, COVARIANCE)
# One coil: of four lines three are measured, line 2 (frequency 0) always; two are shown, so that the third can be
# either other. Two coils: two are measured and line 2 alone is shown (more would determine x, but ill in
# float32).
THREE = ((True, False, True, False), (False, True, True, False), (False, False, True, True))
CASES = {
    "fourier": ({"acceleration": 4 / 3, "center": 1}, 1 / 3, THREE),
    "multicoil_fourier": (
        {"acceleration": 2, "center": 1, "coils": 2, "maps": "fixed", "seed": 8},
        1 / 2,
        ((False, False, True, False),),
    ),
}


def worst_error(operator, delta=1 / 3, shown=THREE):
    """Largest root mean square error over the sets of lines that are shown."""
    shown, count = jnp.array(shown), len(shown)
    x = LAW.sample(jax.random.key(2), COUNT).reshape(COUNT, *SHAPE)
    drawn = operator.draw(jax.random.split(jax.random.key(3), COUNT))
    patterns = np.asarray(coverage(operator.with_params({"lines": shown}), count)).reshape(count, SIZE)
    network = LinearByCoverage(tuple(map(tuple, patterns.tolist())))
    method = ambient(network, one_level(SIGMA), 1.0, operator, delta=delta)
    params = minimise(method, batch_of(drawn(x), drawn.params), size=1000)
    denoise = jax.jit(given_operator(masked_denoiser(network, 1.0, params)))
    points = 2 * jax.random.normal(jax.random.key(5), (20, *SHAPE))
    worst = 0.0
    for lines in shown:
        bound = operator.with_params({"lines": jnp.broadcast_to(lines, (SIZE, 4))})
        basis = jnp.eye(SIZE).reshape(SIZE, *SHAPE)
        seen = np.asarray(bound.adjoint(bound(basis)), np.float64).reshape(SIZE, SIZE)
        noisy = seen @ (COVARIANCE + SIGMA**2 * np.eye(SIZE)) @ seen.T
        flat = np.asarray(points).reshape(20, SIZE)
        exact = MEAN + (flat - MEAN) @ seen.T @ np.linalg.pinv(noisy, rcond=1e-5) @ seen @ COVARIANCE
        many = operator.with_params({"lines": jnp.broadcast_to(lines, (20, 4))})
        learnt = np.asarray(denoise(points, jnp.full(20, SIGMA), many)).reshape(20, SIZE)
        worst = max(worst, float(np.sqrt(np.mean(np.square(learnt - exact)))))
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_undersampled_lines_give_the_posterior_mean(name):
    args, delta, shown = CASES[name]
    assert worst_error(operators.build(name, SHAPE, **args), delta, shown) < 0.12


@pytest.mark.slow
def test_without_further_corruption_nothing_is_learnt_of_other_lines():
    """Mutation: two lines are measured and both are shown (B hides nothing)."""
    blind = operators.build("fourier", SHAPE, acceleration=2, center=1)
    blind = blind.replace(corrupt_params=lambda key, params, delta, in_shape, **_: params)
    assert worst_error(blind) > 0.3


def test_the_network_is_told_the_lines_and_not_the_image_of_ones():
    """A~^H A~ 1 is 1 whatever the lines, as frequency 0 is in all of them: it would tell nothing."""
    operator = operators.build("fourier", (4, 8, 2), acceleration=2, center=2)
    drawn = operator.draw(jax.random.split(jax.random.key(0), 3))
    told = np.asarray(coverage(drawn, 3))
    expected = np.broadcast_to(np.asarray(drawn.params["lines"])[:, None, :, None], (3, 4, 8, 2))
    np.testing.assert_array_equal(told, expected)


def test_what_k_space_hides_never_reaches_the_loss():
    operator = operators.build("multicoil_fourier", (4, 8, 2), acceleration=2, center=2, coils=2)
    drawn = operator.draw(jax.random.split(jax.random.key(0), 6))
    y = drawn(jax.random.normal(jax.random.key(1), (6, 4, 8, 2)))
    network = LinearByCoverage((tuple([0.0] * 64),))
    method = ambient(network, one_level(SIGMA), 1.0, operator, delta=1 / 3)
    params = method.init(jax.random.key(0), batch_of(y, drawn.params))
    params = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), params)
    loss = jax.jit(jax.value_and_grad(lambda p, batch: method.loss(p, batch, jax.random.key(2))[0]))
    value, gradient = loss(params, batch_of(y, drawn.params))
    poisoned = jnp.where(drawn.reached(6), y, jnp.nan)
    again, poisoned_gradient = loss(params, batch_of(poisoned, drawn.params))
    assert np.isfinite(value) and value == again
    jax.tree.map(np.testing.assert_array_equal, gradient, poisoned_gradient)
