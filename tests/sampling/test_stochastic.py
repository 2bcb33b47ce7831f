"""DDIM, the ancestral sampler and stopping early, with exact denoisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.mixture import GaussianMixture
from jaxdiff.diffusion.noise import karras_schedule, reverse_step
from jaxdiff.sampling import SAMPLERS, Churn, evaluations, freshness, sample, sample_images

MEAN = np.array([0.3, -0.2, 0.1])
COV = np.array([[0.5, 0.3, 0.0], [0.3, 0.4, -0.1], [0.0, -0.1, 0.05]])
GAUSSIAN = gaussian_from_covariance(MEAN, COV)
COUNT = 8000


def law_of_sampler(grid, eta):
    """Mean and covariance of the sampler's outcome: every step is affine and Gaussian (float64, no draws)."""
    eigenvalues, basis = np.linalg.eigh(COV)
    mean, variance = -basis.T @ MEAN, grid[0] ** 2 * np.ones(3)  # of x - MEAN, x = N(0, sigma_0^2)
    for now, after in zip(grid[:-1].astype(float), grid[1:].astype(float), strict=True):
        shrink = eigenvalues / (eigenvalues + now**2)  # D - MEAN = shrink (x - MEAN)
        fresh = eta * after * np.sqrt(1 - after**2 / now**2)
        kept = np.sqrt(after**2 - fresh**2) / now
        slope = shrink + kept * (1 - shrink)
        mean, variance = slope * mean, slope**2 * variance + fresh**2
    return MEAN + basis @ mean, (basis * variance) @ basis.T


def errors_of_covariance(expected):
    return np.sqrt(np.outer(np.diag(expected), np.diag(expected)) + expected**2) / np.sqrt(COUNT)


@pytest.mark.parametrize(
    ("method", "eta"), [("euler", 0.0), ("ddim", 0.0), ("ddim", 0.6), ("ancestral", 0.0)]
)
def test_mean_and_covariance_are_those_of_the_affine_steps_and_nearly_those_of_the_data(method, eta):
    grid = karras_schedule(100, 0.02, 40.0)
    x = 40.0 * jax.random.normal(jax.random.key(0), (COUNT, 3))
    run = jax.jit(lambda x: sample(GAUSSIAN.denoiser, x, grid, jax.random.key(1), method, eta=eta))
    found = np.asarray(run(x), np.float64)
    mean, covariance = law_of_sampler(grid, 1.0 if method == "ancestral" else eta)
    assert np.all(np.abs(found.mean(axis=0) - mean) < 4 * np.sqrt(np.diag(COV) / COUNT))
    assert np.all(np.abs(np.cov(found.T) - covariance) < 4 * errors_of_covariance(covariance))
    # What finitely many steps do to the law shrinks with their number.
    fine_mean, fine = law_of_sampler(
        karras_schedule(1600, 0.002, 80.0), 1.0 if method == "ancestral" else eta
    )
    np.testing.assert_allclose(fine_mean, MEAN, atol=0.003)
    np.testing.assert_allclose(fine, COV, atol=0.005)


@pytest.mark.parametrize(("method", "eta"), [("ddim", 0.5), ("ancestral", 0.0)])
def test_mixture_weights(method, eta):
    weights = np.array([0.15, 0.35, 0.5])
    means = jnp.array([[1.0, 1.0], [-1.0, 0.5], [0.0, -1.0]])
    mixture = GaussianMixture(
        jnp.asarray(weights, jnp.float32), means, jnp.tile(0.02 * jnp.eye(2), (3, 1, 1))
    )
    x = 40.0 * jax.random.normal(jax.random.key(2), (COUNT, 2))
    grid = karras_schedule(60, 0.01, 40.0)
    end = jax.jit(lambda x: sample(mixture.denoiser, x, grid, jax.random.key(3), method, eta=eta))(x)
    counts = np.bincount(np.argmin(((end[:, None] - means) ** 2).sum(-1), axis=1), minlength=3) / COUNT
    assert np.all(np.abs(counts - weights) < 4 * np.sqrt(weights * (1 - weights) / COUNT)), counts


def test_without_fresh_noise_ddim_is_eulers_step():
    """x_s = D + s (x - D) / sigma, written out here in float64, and the sampler 'euler'."""
    grid = karras_schedule(12, 0.02, 40.0)
    x = 40.0 * jax.random.normal(jax.random.key(4), (64, 3))
    run = jax.jit(
        lambda x: [
            sample(GAUSSIAN.denoiser, x, grid, method=m, return_trajectory=True) for m in ("ddim", "euler")
        ]
    )
    ddim, euler = (np.asarray(path, np.float64) for path in run(x))
    np.testing.assert_allclose(ddim, euler, rtol=1e-6, atol=1e-6)
    shrink = [COV @ np.linalg.inv(COV + now**2 * np.eye(3)) for now in grid[:-1].astype(float)]
    by_hand = np.asarray(x, np.float64)
    for now, after, part, reached in zip(grid[:-1], grid[1:], shrink, ddim[1:], strict=True):
        denoised = MEAN + (by_hand - MEAN) @ part.T
        by_hand = denoised + float(after) * (by_hand - denoised) / float(now)
        np.testing.assert_allclose(reached, by_hand, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("method", "eta"), [("ddim", 0.3), ("ddim", 1.0), ("ancestral", 0.0)])
def test_variance_of_one_step(method, eta):
    """u^2 = eta^2 s^2 (sigma^2 - s^2) / sigma^2 about D + sqrt(s^2 - u^2) (x - D) / sigma."""
    sigma, s, share = 1.3, 0.7, eta or 1.0
    x = jnp.tile(jnp.array([[0.9, -1.4]]), (20_000, 1))
    run = lambda x: sample(lambda x, t: 0.25 * x, x, np.array([sigma, s]), jax.random.key(5), method, eta=eta)  # noqa: E731
    found = np.asarray(jax.jit(run)(x), np.float64)
    variance = share**2 * s**2 * (sigma**2 - s**2) / sigma**2
    mean = (0.25 + 0.75 * np.sqrt(s**2 - variance) / sigma) * np.array([0.9, -1.4])
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=4 * np.sqrt(variance / 20_000))
    np.testing.assert_allclose(found.var(axis=0), variance, rtol=4 * np.sqrt(2 / 20_000))
    assert abs(np.corrcoef(found.T)[0, 1]) < 4 / np.sqrt(20_000)


def test_the_ancestral_step_is_the_law_between_known_ends():
    """X_s given X_sigma and X: variance (1/s^2 + 1/(sigma^2 - s^2))^-1, mean by the precisions."""
    sigma, s = np.array([3.0, 0.5, 2.0, 1.0]), np.array([1.0, 0.4, 2.0, 0.0])
    down, up = reverse_step(sigma, s)
    np.testing.assert_allclose(down, s**2 / sigma)
    some = (s > 0) & (s < sigma)
    variance = 1 / (1 / s[some] ** 2 + 1 / (sigma[some] ** 2 - s[some] ** 2))
    np.testing.assert_allclose(up[some] ** 2, variance)
    np.testing.assert_allclose(up[~some], 0.0)
    for eta in (0.0, 0.4, 1.0):
        down, up = reverse_step(sigma, s, eta)
        np.testing.assert_allclose(down**2 + up**2, s**2, atol=1e-12)


@pytest.mark.parametrize("method", SAMPLERS)
def test_stop_at_a_level(method):
    """Nothing is asked below sigma_min; the state there has its noise, the denoised estimate is D of it."""
    asked = []

    def denoiser(x, sigma):
        jax.debug.callback(lambda s: asked.append(float(s)), sigma[0], ordered=True)
        return GAUSSIAN.denoiser(x, sigma)

    low, steps = 0.5, 40
    key = jax.random.key(6)
    x = GAUSSIAN.sample(key, COUNT) + 10.0 * jax.random.normal(jax.random.key(7), (COUNT, 3))
    noisy_grid = karras_schedule(steps - 1, low, 10.0, to_zero=False)
    grid = karras_schedule(steps, low, 10.0)
    assert len(noisy_grid) == steps and noisy_grid[-1] == np.float32(low) and grid[-1] == 0
    np.testing.assert_array_equal(noisy_grid, grid[:-1])
    noisy = sample(denoiser, x, noisy_grid, key, method)
    jax.effects_barrier()
    assert len(asked) == evaluations(method, noisy_grid) and min(asked) >= low * (1 - 1e-6)
    asked.clear()
    denoised = sample(denoiser, x, grid, key, method)
    jax.effects_barrier()
    assert len(asked) == evaluations(method, grid) and min(asked) == pytest.approx(low)
    np.testing.assert_allclose(denoised, GAUSSIAN.denoiser(noisy, jnp.full(COUNT, low)), atol=1e-5)
    # Cov X_sigma = S + sigma^2 I, Cov D(X_sigma) = S (S + sigma^2 I)^-1 S: less than the data's.
    for found, expected in (
        (noisy, COV + low**2 * np.eye(3)),
        (denoised, COV @ np.linalg.inv(COV + low**2 * np.eye(3)) @ COV),
    ):
        bias = 0.03 * np.abs(expected).max()  # of 39 steps
        assert np.all(
            np.abs(np.cov(np.asarray(found).T) - expected) < 4 * errors_of_covariance(expected) + bias
        )


def test_an_image_is_a_function_of_its_own_key():
    keys = jax.random.split(jax.random.key(8), 6)
    grid = karras_schedule(5, 0.1, 4.0)

    def draw(keys):
        return sample_images(GAUSSIAN.denoiser, keys, (3,), grid, "ancestral")

    together = np.asarray(draw(keys))
    np.testing.assert_allclose(together[4:], draw(keys[4:]), atol=1e-5)
    assert np.abs(np.diff(together, axis=0)).min() > 0
    # The noise of the first step is not the starting noise again.
    start = sample(lambda x, s: 0 * x, jnp.zeros((6, 3)), np.array([2.0, 1.0]), keys, "ancestral")
    white = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    assert abs(np.corrcoef(np.ravel(start), np.ravel(white))[0, 1]) < 0.7


def test_bad_arguments_are_named():
    x, grid, key = jnp.ones((2, 3)), karras_schedule(4), jax.random.key(0)
    run = lambda **more: sample(GAUSSIAN.denoiser, x, grid, **more)  # noqa: E731
    with pytest.raises(ValueError, match="unknown sampler 'ddmi'; did you mean 'ddim'"):
        run(method="ddmi")
    with pytest.raises(ValueError, match="unknown sampler 'ancestor'; did you mean 'ancestral'"):
        evaluations("ancestor", grid)
    for eta in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="eta must lie between 0 and 1"):
            run(method="ddim", eta=eta, key=key)
    with pytest.raises(ValueError, match="'heun' adds no fresh noise"):
        run(eta=0.5, key=key)
    with pytest.raises(ValueError, match="'ancestral' has eta = 1 by itself"):
        run(method="ancestral", eta=0.5, key=key)
    with pytest.raises(ValueError, match="s_churn = 1.0 is for .* set it to 0 for 'ddim'"):
        run(method="ddim", key=key, churn=Churn(1.0))
    with pytest.raises(ValueError, match="eta > 0 adds noise and needs a key"):
        run(method="ancestral")
    with pytest.raises(ValueError, match="one for each of 2 examples"):
        run(method="ancestral", key=jax.random.split(key, 3))
    assert freshness("ancestral", 0.0) == 1.0 and freshness("ddim", 0.25) == 0.25
