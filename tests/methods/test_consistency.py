"""The consistency term estimates |E[D(X_s, s) | x] - D(x, sigma)|^2 without bias, because its draws are independent."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.methods import Consistency, tweedie
from jaxdiff.methods.consistency import consistency_term, next_level, reverse_draw, violation
from tests.methods.linear_family import Linear, batch_of, one_level

LAW = gaussian_from_covariance(np.array([0.3, -0.4]), np.array([[1.0, 0.8], [0.8, 1.0]]))
POINT, SIGMA, TARGET, STEPS = jnp.array([1.5, -1.0]), 0.8, 0.3, 3


class TwoLevels(nn.Module):
    """F linear in x, its matrix and bias linear in c_noise: what is learnt high is not simply kept low."""

    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        features = jnp.stack([jnp.ones_like(c_noise), 4 * c_noise, jnp.square(4 * c_noise)], axis=1)
        weight = self.param("weight", nn.initializers.zeros, (3, 2, 2))
        bias = self.param("bias", nn.initializers.zeros, (3, 2))
        return jnp.einsum("bk,kij,bj->bi", features, weight, x) + features @ bias


def shrunk(x, sigma):
    """A linear denoiser that is not a martingale: 0.8 times the true one."""
    return 0.8 * LAW.denoiser(x, sigma)


def reverse_law(denoise, steps):
    """Mean and covariance of the reverse draw from POINT for a linear denoiser D x = M x + b, step by step."""
    grid = np.linspace(SIGMA ** (1 / 7), TARGET ** (1 / 7), steps + 1) ** 7
    mean, covariance = np.asarray(POINT, np.float64), np.zeros((2, 2))
    for u, v in zip(grid[:-1], grid[1:], strict=True):
        level = jnp.full(3, u)
        corners = np.asarray(denoise(jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), level), np.float64)
        matrix, bias = (corners[1:] - corners[0]).T, corners[0]
        ratio = (v / u) ** 2
        step = (1 - ratio) * matrix + ratio * np.eye(2)
        mean = step @ mean + (1 - ratio) * bias
        covariance = step @ covariance @ step.T + v**2 * (1 - ratio) * np.eye(2)
    return mean, covariance


def many(n=200_000):
    return jnp.broadcast_to(POINT, (n, 2)), jnp.full(n, SIGMA), jnp.full(n, TARGET)


def test_reverse_draw_has_the_moments_of_its_chain():
    x, sigma, target = many()
    drawn = np.asarray(reverse_draw(shrunk, x, sigma, target, jax.random.key(0), STEPS))
    mean, covariance = reverse_law(shrunk, STEPS)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.003)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.003)


def test_true_denoiser_is_a_martingale():
    """With many steps the chain has the true conditional law, and E[D(X_s, s)] = D(x, sigma)."""
    x, sigma, target = many(100_000)
    ends = LAW.denoiser(reverse_draw(LAW.denoiser, x, sigma, target, jax.random.key(0), 60), target)
    np.testing.assert_allclose(ends.mean(axis=0), LAW.denoiser(x[:1], sigma[:1])[0], atol=0.01)


def exact_violation(steps=STEPS):
    mean, covariance = reverse_law(shrunk, steps)
    level = jnp.full(1, TARGET)
    gap = shrunk(jnp.asarray(mean[None], jnp.float32), level) - shrunk(POINT[None], jnp.full(1, SIGMA))
    slope = jax.jacfwd(lambda x: shrunk(x[None], level)[0])(POINT)
    return float(jnp.mean(gap**2)), float(np.trace(slope @ covariance @ slope.T)) / 2


def test_two_independent_draws_are_unbiased_and_a_shared_one_is_not():
    x, sigma, target = many()
    values = violation(shrunk, x, sigma, target, jax.random.key(1), STEPS)
    exact, variance = exact_violation()
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - exact) < 4 * error
    # The same draw twice adds the variance of D(x', s): far outside the interval.
    end = shrunk(reverse_draw(shrunk, x, sigma, target, jax.random.key(2), STEPS), target)
    shared = float(jnp.mean(jnp.square(end - shrunk(x, sigma))))
    assert shared == pytest.approx(exact + variance, rel=0.02)
    assert shared - exact > 50 * error


def test_all_three_denoisers_have_a_gradient_and_the_draws_none():
    """d/da of E (a D(x', s) - a D(x)) . (a D(x'') - a D(x)) at fixed draws is 2/a times the value."""
    x, sigma, target = many(2000)

    def value(a, b):
        def denoise(x, sigma):
            # b acts in the draws alone: it is what a stopped gradient removes.
            return a * LAW.denoiser(x + b, sigma)

        return violation(denoise, x, sigma, target, jax.random.key(1), STEPS).mean()

    at = value(0.8, 0.0)
    assert float(jax.grad(value)(0.8, 0.0)) == pytest.approx(2 / 0.8 * float(at), rel=1e-3)


@pytest.mark.slow
def test_the_term_below_the_noise_of_the_data_starts_below_it():
    """With 'below' every level that is compared lies under sigma_y; with 'data' it is the level of the data."""
    x, sigma, _ = many(64)
    seen = []

    def denoise(x, level):
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), level)
        return LAW.denoiser(x, level)

    def run(start):
        seen.clear()
        settings = Consistency(
            weight=1.0, share=1.0, steps=2, start=start, jump=0.0, relative_jump=0.5, sigma_min=0.01
        )
        noise, below = NoiseDistribution(-1.2, 1.2), jnp.full(64, 0.5)
        value = consistency_term(
            denoise, x, sigma, below, noise, lambda s: 1 / s**2, jax.random.key(0), settings
        )
        jax.effects_barrier()
        return float(value), np.concatenate(seen)

    value, levels = run("below")
    assert np.isfinite(value) and np.mean(levels < 0.5) > 0.5 and levels.min() >= 0.01 - 1e-6
    value, levels = run("data")
    assert np.isfinite(value) and np.mean(np.isclose(levels, SIGMA)) > 0.3


def test_next_level_keeps_the_rule():
    sigma = jnp.array([0.001, 0.02, 0.5, 3.0])
    level = next_level(jax.random.key(0), sigma, Consistency(jump=0.05, sigma_min=0.002))
    assert bool(jnp.all(level <= sigma)) and bool(jnp.all(level >= jnp.minimum(sigma, 0.002)))
    assert bool(jnp.all(sigma - level <= 0.05 + 1e-6))


@pytest.mark.slow
def test_noise_of_the_two_terms_is_independent():
    """The consistency term does not see the denoising term's noise: with weight 0 the denoising loss is the same."""
    batch = batch_of(LAW.sample(jax.random.key(2), 64))
    plain = tweedie(Linear(2), one_level(0.7), 1.0)
    both = tweedie(Linear(2), one_level(0.7), 1.0, consistency=Consistency(weight=2.0, share=0.5))
    params = plain.init(jax.random.key(0), batch)
    alone, _ = plain.loss(params, batch, jax.random.key(1))
    value, metrics = both.loss(params, batch, jax.random.key(1))
    assert float(metrics["denoising"]) == pytest.approx(float(alone), rel=1e-6)
    assert float(value) == pytest.approx(float(alone) + 2 * float(metrics["consistency"]), rel=1e-5)


@pytest.mark.slow
def test_consistency_carries_the_denoiser_below_the_noise_of_the_data():
    """Trained at sigma >= sigma_y alone, D(., s < sigma_y) is fixed by the martingale: fewer violations, less error."""
    sigma_y, low = 0.5, 0.25
    x = LAW.sample(jax.random.key(2), 4000)
    y = x + sigma_y * jax.random.normal(jax.random.key(3), x.shape)
    batch = batch_of(y, sigma_y=sigma_y)

    def error(weight):
        settings = Consistency(
            weight=weight, share=1.0, steps=4, start="below", jump=0.0, relative_jump=0.6, sigma_min=0.2
        )
        method = tweedie(TwoLevels(), NoiseDistribution(-0.6, 0.4), 1.0, consistency=settings)
        params = method.init(jax.random.key(0), batch)
        optimizer = optax.adam(3e-2)

        @jax.jit
        def train(params):
            def step(carry, k):
                params, state = carry
                key = jax.random.fold_in(jax.random.key(7), k)
                rows = jax.random.choice(key, 4000, (256,))
                grads = jax.grad(method.loss, has_aux=True)(
                    params, jax.tree.map(lambda v: v[rows], batch), key
                )[0]
                updates, state = optimizer.update(grads, state)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(600))[0][0]

        points = 1.5 * jax.random.normal(jax.random.key(5), (200, 2))
        level = jnp.full(200, low)
        learnt = method.denoiser(train(params))(points, level)
        return float(jnp.mean(jnp.square(learnt - LAW.denoiser(points, level))))

    assert error(1.0) < 0.5 * error(0.0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="'dtaa'.*data"):
        Consistency(weight=1.0, start="dtaa").check()
    with pytest.raises(ValueError, match="share"):
        Consistency(weight=1.0, share=0.0).check()
    with pytest.raises(ValueError, match="jump"):
        Consistency(weight=1.0, jump=0.0).check()
