"""Every method, minimised over linear denoisers on Gaussian data, gives the analytic posterior mean.

With one noise level and F linear in its inputs the losses are quadratic in the parameters, so one Newton
step is the minimiser on the sample.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.methods import denoising, residual
from jaxdiff.methods.finetune import held
from tests.methods.linear_family import Linear, batch_of, minimise, one_level

SIGMA, COUNT = 0.7, 200_000
LAW = gaussian_from_covariance(np.array([0.3, -0.4]), np.array([[1.0, 0.8], [0.8, 1.0]]))


def points():
    return 2 * jax.random.normal(jax.random.key(5), (20, 2)), jnp.full((20,), SIGMA)


MARGINALS = [LAW.marginal(operators.build("coordinates", (2,), indices=(i,)), 1.0, (1,)) for i in range(2)]


def views_apart(x, sigma):
    """Each coordinate denoised alone: what views without correlation know."""
    return jnp.concatenate([MARGINALS[i].denoiser(x[:, i : i + 1], sigma) for i in range(2)], axis=1)


def base(x, sigma):
    return views_apart(x, sigma)[None]


def test_denoising_gives_the_posterior_mean():
    batch = batch_of(LAW.sample(jax.random.key(2), COUNT))
    method = denoising(Linear(2), one_level(SIGMA), 1.0)
    x, sigma = points()
    learnt = method.denoiser(minimise(method, batch))(x, sigma)
    np.testing.assert_allclose(learnt, LAW.denoiser(x, sigma), atol=0.02)
    # The mutation of the oracle itself: another noise level is far outside the tolerance.
    assert float(jnp.max(jnp.abs(learnt - LAW.denoiser(x, sigma * 0.8)))) > 0.1


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_residual_gives_the_posterior_mean_shrunk_by_its_price(penalty):
    """argmin |z + rho - x0|^2 + mu |rho|^2 over linear rho is (D* - z) / (1 + mu)."""
    batch = batch_of(LAW.sample(jax.random.key(2), COUNT))
    method = residual(Linear(2), one_level(SIGMA), 1.0, base, penalty=penalty)
    x, sigma = points()
    learnt = method.denoiser(minimise(method, batch))(x, sigma)
    z = views_apart(x, sigma)
    expected = z + (LAW.denoiser(x, sigma) - z) / (1 + penalty)
    np.testing.assert_allclose(learnt, expected, atol=0.02)
    assert float(jnp.max(jnp.abs(expected - z))) > 0.1  # there was something to learn


def affine(denoise, size=2):
    """(d, d + 1) matrix R of an affine denoiser at SIGMA: denoise(x) = R (x, 1)."""
    sigma = jnp.full((size + 1,), SIGMA)
    values = np.asarray(denoise(jnp.concatenate([jnp.eye(size), jnp.zeros((1, size))]), sigma), np.float64)
    return np.concatenate([(values[:size] - values[size]).T, values[size][:, None]], axis=1)


def moments(mean, covariance):
    """E (x, 1) (x, 1)^T of x + SIGMA n."""
    mean = np.append(mean, 1.0)
    return np.outer(mean, mean) + np.pad(covariance + SIGMA**2 * np.eye(len(covariance)), (0, 1))


def with_made(clean, made):
    """A batch of clean images, source 0, and made inputs, source 1, mixed."""
    order = np.random.default_rng(0).permutation(2 * len(clean))
    source = np.repeat(np.int32([0, 1]), len(clean))[order]
    return batch_of(jnp.concatenate([clean, made])[order]).replace(source=source)


@pytest.mark.slow
def test_a_price_at_made_inputs_is_paid_there_alone():
    """rho = R M (M + mu' M')^-1 (x, 1), with M, M' the second moments of clean and made inputs, z + R (x, 1) = D*.

    Made inputs are coordinates of different examples: what the views know, and nothing of their correlation.
    """
    price, apart = 2.0, np.asarray(LAW.mean) + [0.0, 1.5]
    x = LAW.sample(jax.random.key(2), COUNT)
    other = LAW.sample(jax.random.key(3), COUNT) + jnp.array([0.0, 1.5])
    made = jnp.stack([x[:, 0], jnp.roll(other[:, 1], 1)], axis=1)
    method = residual(Linear(2), one_level(SIGMA), 1.0, base, made_penalty=price)
    batch = with_made(x, made)
    learnt = affine(method.denoiser(minimise(method, batch))) - affine(views_apart)
    own, of_made = (
        moments(np.asarray(LAW.mean), np.array([[1.0, 0.8], [0.8, 1.0]])),
        moments(apart, np.eye(2)),
    )
    full = affine(LAW.denoiser) - affine(views_apart)
    expected = full @ own @ np.linalg.inv(own + price * of_made)
    np.testing.assert_allclose(learnt, expected, atol=0.02)
    assert np.abs(expected - full / (1 + price)).max() > 0.06  # a price on the clean images is another one
    # Made inputs are asked for nothing else: with no price they change nothing.
    free = residual(Linear(2), one_level(SIGMA), 1.0, base)
    np.testing.assert_allclose(affine(free.denoiser(minimise(free, batch))), affine(LAW.denoiser), atol=0.02)


@pytest.mark.parametrize(("price", "made_price"), [(0.5, 0.0), (0.0, 2.0), (0.5, 2.0)])
def test_fine_tuning_held_to_its_start_stops_on_the_way(price, made_price):
    """W (M + mu M + mu' M') = D* M + W_0 (mu M + mu' M'), for denoisers D = W (x, 1) and the start D_0 = W_0 (x, 1)."""
    x = LAW.sample(jax.random.key(2), COUNT)
    made = jnp.stack([x[:, 0], jnp.roll(x[:, 1], 1)], axis=1)
    plain = denoising(Linear(2), one_level(SIGMA), 1.0)
    start = jax.tree.map(lambda leaf: leaf + 0.3, plain.init(jax.random.key(0), batch_of(x[:2])))
    method = held(Linear(2), one_level(SIGMA), 1.0, start, price, made_price)
    learnt = affine(method.denoiser(minimise(method, with_made(x, made))))
    own, of_made = (moments(np.asarray(LAW.mean), np.array([[1.0, c], [c, 1.0]])) for c in (0.8, 0.0))
    exact, before = affine(LAW.denoiser), affine(plain.denoiser(start))
    pull = price * own + made_price * of_made
    np.testing.assert_allclose(learnt, (exact @ own + before @ pull) @ np.linalg.inv(own + pull), atol=0.02)
    assert np.abs(before - exact).max() > 0.2
    for got, wanted in zip(
        jax.tree.leaves(method.init(jax.random.key(9), None)), jax.tree.leaves(start), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_residual_starts_at_the_views():
    batch = batch_of(LAW.sample(jax.random.key(2), 16))
    method = residual(Linear(2), one_level(SIGMA), 1.0, base)
    x, sigma = points()
    start = method.denoiser(method.init(jax.random.key(0), batch))(x, sigma)
    np.testing.assert_array_equal(start, views_apart(x, sigma))


@pytest.mark.slow
def test_jacobian_price_shrinks_the_slope_of_the_residual():
    batch = batch_of(LAW.sample(jax.random.key(2), 20_000))
    sizes = []
    for price in (0.0, 1.0):
        method = residual(Linear(2), one_level(SIGMA), 1.0, base, jacobian_penalty=price)
        params = minimise(method, batch)
        x, sigma = points()
        denoiser = method.denoiser(params)

        def rho(x, denoiser=denoiser, sigma=sigma):
            return denoiser(x, sigma) - views_apart(x, sigma)

        slope = jax.jacfwd(rho)(x)
        sizes.append(float(jnp.linalg.norm(slope)))
    assert sizes[1] < 0.7 * sizes[0]


def test_guidance_differentiates_through_the_views():
    batch = batch_of(LAW.sample(jax.random.key(2), 16))
    method = residual(Linear(2), one_level(SIGMA), 1.0, base)
    denoiser = method.denoiser(method.init(jax.random.key(0), batch))
    x, sigma = points()
    slope = jax.grad(lambda x: jnp.sum(denoiser(x, sigma)))(x)
    np.testing.assert_allclose(slope, jax.grad(lambda x: jnp.sum(views_apart(x, sigma)))(x), rtol=1e-5)
    assert float(jnp.min(jnp.abs(slope))) > 0.1


def test_masked_view_learns_on_what_it_sees_and_hidden_pixels_stay_zero():
    operator = operators.build("mask", (2, 2, 1), mask="top")
    noise = jax.random.normal(jax.random.key(0), (64, 2, 2, 1))
    batch = batch_of(operator(noise))
    method = denoising(Linear(1), one_level(SIGMA), 1.0, operator)
    denoised = method.denoiser(minimise(method, batch))(operator(noise), jnp.full((64,), SIGMA))
    np.testing.assert_array_equal(denoised[:, 1], 0.0)
    assert float(jnp.max(jnp.abs(denoised[:, 0]))) > 0.1
    value = method.loss(method.init(jax.random.key(0), batch), batch, jax.random.key(1))[0]
    assert bool(jnp.isfinite(value))


def test_poisoned_hidden_pixels_leave_loss_and_gradient_finite():
    """What a view holds is A x: NaN under the mask must reach neither the loss nor the gradient."""
    operator = operators.build("mask", (2, 2, 1), mask="top")
    x = jnp.ones((8, 2, 2, 1)).at[:, 1].set(jnp.nan)
    batch = batch_of(operator(x))
    method = denoising(Linear(1), one_level(SIGMA), 1.0, operator)
    params = method.init(jax.random.key(0), batch)
    value, grads = jax.value_and_grad(lambda p: method.loss(p, batch, jax.random.key(1))[0])(params)
    assert bool(jnp.isfinite(value)) and all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


def test_negative_price_is_refused():
    with pytest.raises(ValueError, match="penalty must not be negative"):
        residual(Linear(2), one_level(SIGMA), 1.0, base, penalty=-1.0)
    with pytest.raises(ValueError, match="made_penalty must not be negative"):
        held(Linear(2), one_level(SIGMA), 1.0, {}, 0.0, made_penalty=-1.0)
