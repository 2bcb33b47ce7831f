"""GSURE: from measurements alone, the posterior mean and the loss that clean images would have given."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import edm_weight
from jaxdiff.diffusion.preconditioning import edm_preconditioning
from jaxdiff.methods.gsure import gsure
from jaxdiff.networks import build_network
from jaxdiff.operators.linear import make
from tests.methods.linear_family import Linear, LinearByCoverage, batch_of, minimise, one_level

SIGMA, COUNT = 0.7, 100_000
MEAN, COV = np.array([0.3, -0.4]), np.array([[1.0, 0.8], [0.8, 1.0]])
LAW = gaussian_from_covariance(MEAN, COV)
PATTERNS = tuple(itertools.product((0.0, 1.0), repeat=2))
MASKS = operators.build("pixel_mask", (2,), p=0.4)


def _matrix_product(params, x, rows):
    return jnp.asarray(rows, x.dtype) @ x


def _matrix(rows, c=None):
    return make("matrix", (2,), _matrix_product, {"rows": rows}, c=c)


# A A^T = c I for the first two; the third mixes neighbours, as a blur does, and can be inverted.
TURN = ((0.3, 0.4), (-0.4, 0.3))
BLUR = ((0.75, 0.25), (0.25, 0.75))
CASES = {
    "noise": (operators.build("identity", (2,)), np.eye(2), 0.5),
    "scaled": (_matrix(TURN, c=0.25), np.array(TURN), 0.25),
    "blur": (_matrix(BLUR), np.array(BLUR), 0.0),
    "noisy blur": (_matrix(BLUR), np.array(BLUR), 0.2),
}


def _measured(operator, sigma_y, count=COUNT, hidden=0.0):
    """Measurements of LAW; `hidden` is what x holds where A does not look."""
    drawn = operator.draw(jax.random.split(jax.random.key(3), count))
    x = LAW.sample(jax.random.key(2), count)
    y = drawn(x)
    noise = sigma_y * jax.random.normal(jax.random.key(4), y.shape)
    y = jnp.where(drawn.reached(count), y + noise, hidden)
    return batch_of(y, drawn.params if drawn.per_example else None, sigma_y)


def _noise_covariance(operator, matrix, sigma_y):
    """C of the noise of u_sigma, in closed form."""
    if operator.c is not None:
        return SIGMA**2 * np.eye(2)
    inverse = np.linalg.inv(matrix)
    return SIGMA**2 * np.eye(2) + sigma_y**2 * inverse @ inverse.T


def _posterior_mean(x, covariance):
    return MEAN + (np.asarray(x, np.float64) - MEAN) @ np.linalg.solve(COV + covariance, COV)


def _points():
    return 2 * jax.random.normal(jax.random.key(5), (20, 2)), jnp.full((20,), SIGMA)


@pytest.mark.parametrize("case", CASES)
def test_the_minimiser_is_the_posterior_mean(case):
    operator, matrix, sigma_y = CASES[case]
    count = COUNT if operator.c is not None else COUNT // 4
    method = gsure(Linear(2), one_level(SIGMA), 1.0, operator)
    x, sigma = _points()
    learnt = method.denoiser(minimise(method, _measured(operator, sigma_y, count), size=200))(x, sigma)
    expected = _posterior_mean(x, _noise_covariance(operator, matrix, sigma_y))
    np.testing.assert_allclose(learnt, expected, atol=0.06)
    # The oracle's own mutation: another noise level is far outside the tolerance.
    assert np.abs(expected - _posterior_mean(x, 0.6 * SIGMA**2 * np.eye(2))).max() > 0.2


@pytest.mark.slow
def test_masked_data_give_the_posterior_mean_on_what_each_mask_shows():
    """On the range of P: P E[X | P X_sigma, P]; where all is seen, the denoiser of whole images."""
    method = gsure(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, MASKS)
    params = minimise(method, _measured(MASKS, 0.3), size=200)
    x, sigma = _points()
    np.testing.assert_allclose(method.denoiser(params)(x, sigma), LAW.denoiser(x, sigma), atol=0.08)
    preconditioning = edm_preconditioning(jnp.asarray(SIGMA), 1.0)
    for pattern, index in (((1.0, 0.0), 0), ((0.0, 1.0), 1)):
        seen = x * jnp.asarray(pattern)
        image = jnp.broadcast_to(jnp.asarray(pattern), x.shape)
        raw = LinearByCoverage(PATTERNS).apply(
            {"params": params}, preconditioning.c_in * seen, sigma, {"image": image}
        )
        learnt = preconditioning.c_skip * seen + preconditioning.c_out * raw
        alone = MEAN[index] + (x[:, index] - MEAN[index]) / (1 + SIGMA**2)
        np.testing.assert_allclose(learnt[:, index], alone, atol=0.08)


@pytest.mark.parametrize(
    "case", [*(pytest.param(case, marks=pytest.mark.slow) for case in ("noise", "scaled")), "noisy blur"]
)
def test_the_loss_has_the_expectation_of_the_supervised_loss(case):
    """Constant included: lambda E|D(u_sigma) - x|^2 / d of a linear D, in closed form."""
    operator, matrix, sigma_y = CASES[case]
    method = gsure(Linear(2), one_level(SIGMA), 1.0, operator)
    whole = _measured(operator, sigma_y, 100_000)
    batches = jax.tree.map(lambda leaf: leaf.reshape(500, 200, *leaf.shape[1:]), whole)
    covariance, c = _noise_covariance(operator, matrix, sigma_y), edm_preconditioning(SIGMA, 1.0)
    keys = jax.random.split(jax.random.key(1), 500)

    @jax.jit
    def mean_loss(params):
        return jax.lax.map(lambda item: method.loss(params, *item)[0], (batches, keys)).mean()

    for seed in range(3):
        rng = np.random.default_rng(seed)
        kernel, bias = rng.normal(size=(2, 2)), rng.normal(size=2)
        params = {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
        slope = float(c.c_skip) * np.eye(2) + float(c.c_out * c.c_in) * kernel.T
        shift = (slope - np.eye(2)) @ MEAN + float(c.c_out) * bias
        left = slope - np.eye(2)
        error = shift @ shift + np.trace(left @ COV @ left.T) + np.trace(slope @ covariance @ slope.T)
        expected = float(edm_weight(SIGMA, 1.0)) * error / 2
        np.testing.assert_allclose(mean_loss(params), expected, rtol=0.04)


def test_examples_with_more_noise_than_the_level_do_no_harm():
    """Every second example has sigma_y = 3 > SIGMA: the others take its places; alone, it is lifted above."""
    identity = operators.build("identity", (2,))
    sigma_y = jnp.where(jnp.arange(COUNT) % 2 == 0, 0.3, 3.0)
    noise = sigma_y[:, None] * jax.random.normal(jax.random.key(4), (COUNT, 2))
    batch = batch_of(LAW.sample(jax.random.key(2), COUNT) + noise, sigma_y=sigma_y)
    method = gsure(Linear(2), one_level(SIGMA), 1.0, identity)
    x, sigma = _points()
    learnt = method.denoiser(minimise(method, batch, size=200))(x, sigma)
    np.testing.assert_allclose(learnt, LAW.denoiser(x, sigma), atol=0.08)
    noisy = jax.tree.map(lambda leaf: leaf[1:200:2], batch)
    params = method.init(jax.random.key(0), noisy)
    value, grads = jax.jit(jax.value_and_grad(lambda p: method.loss(p, noisy, jax.random.key(1))[0]))(params)
    assert bool(jnp.isfinite(value)) and all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


def test_poisoned_hidden_pixels_leave_loss_and_gradient_as_they_are():
    method = gsure(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, MASKS)
    value_and_grad = jax.jit(jax.value_and_grad(lambda p, batch: method.loss(p, batch, jax.random.key(1))[0]))
    results = []
    for hidden in (0.0, jnp.nan):
        batch = _measured(MASKS, 0.3, 200, hidden)
        params = method.init(jax.random.key(0), batch)
        results.append(value_and_grad(params, batch))
    assert bool(jnp.isfinite(results[0][0])) and float(jnp.abs(results[0][1]["weight"]).max()) > 0
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_a_unet_needs_forward_mode():
    operator = operators.build("avg_pool", (8, 8, 1), factor=2)
    settings = {"channels": 8, "channel_mults": (1,), "blocks": 1}
    with pytest.raises(ValueError, match="forward_mode=True"):
        gsure(build_network("unet", 1, **settings), one_level(SIGMA), 0.5, operator)
    method = gsure(build_network("unet", 1, forward_mode=True, **settings), one_level(SIGMA), 0.5, operator)
    batch = batch_of(operator(jnp.ones((2, 8, 8, 1))))
    params = jax.jit(method.init)(jax.random.key(0), batch)
    value, _ = jax.jit(method.loss)(params, batch, jax.random.key(1))
    assert bool(jnp.isfinite(value))
