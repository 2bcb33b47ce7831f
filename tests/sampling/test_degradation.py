"""Restoration and degradation: DDIM where the process is linear, the probability flow where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.sampling import (
    restoration_degradation,
    sample,
    step_from_drift_and_diffusion,
    step_from_maps,
    step_from_mean_and_scale,
)

MEAN = np.array([0.3, -0.2, 0.1])
COV = np.array([[0.5, 0.3, 0.0], [0.3, 0.4, -0.1], [0.0, -0.1, 0.05]])
GAUSSIAN = gaussian_from_covariance(MEAN, COV)
RATE = 3.0  # of the variance-preserving process: dx = -RATE x / 2 dt + sqrt(RATE) dw


def alpha_and_scale(t):
    return jnp.exp(-RATE * t / 2), jnp.sqrt(-jnp.expm1(-RATE * t))


def vp_denoiser(x, t):
    """E[X_0 | x_t], from the denoiser of x_t / alpha at sigma = scale / alpha."""
    alpha, scale = alpha_and_scale(t)
    return GAUSSIAN.denoiser(x / alpha[:, None], scale / alpha)


def ddim_by_hand(x, times):
    """x_s = alpha_s D + scale_s (x - alpha_t D) / scale_t in float64, for the variance-preserving process."""
    for t, s in zip(times[:-1], times[1:], strict=True):
        (alpha, scale), (alpha_s, scale_s) = (
            (np.exp(-RATE * u / 2), np.sqrt(1 - np.exp(-RATE * u))) for u in (t, s)
        )
        gain = alpha * COV @ np.linalg.inv(alpha**2 * COV + scale**2 * np.eye(3))
        denoised = MEAN + (x - alpha * MEAN) @ gain.T
        x = alpha_s * denoised + scale_s * (x - alpha * denoised) / scale
    return x


def rates(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


# The linear case.


def test_variance_exploding_is_ddim():
    grid = karras_schedule(14, 0.05, 20.0)
    x = 20.0 * jax.random.normal(jax.random.key(0), (16, 3))
    step = step_from_mean_and_scale(GAUSSIAN.denoiser, lambda x, t: x, lambda t: t)
    found = jax.jit(lambda x: restoration_degradation(step, x, grid, return_trajectory=True))(x)
    ddim = jax.jit(lambda x: sample(GAUSSIAN.denoiser, x, grid, method="ddim", return_trajectory=True))(x)
    assert found.shape == (15, 16, 3)
    np.testing.assert_allclose(found, ddim, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given_by", ["mean and scale", "drift and diffusion"])
def test_variance_preserving_is_ddim(given_by):
    times = np.linspace(1.5, 0.02, 16)
    x = np.random.default_rng(1).normal(size=(16, 3))

    def score(x, t):
        alpha, scale = alpha_and_scale(t)
        return (alpha[:, None] * vp_denoiser(x, t) - x) / scale[:, None] ** 2

    if given_by == "mean and scale":
        step = step_from_mean_and_scale(
            vp_denoiser, lambda x, t: alpha_and_scale(t)[0][:, None] * x, lambda t: alpha_and_scale(t)[1]
        )
    else:
        step = step_from_drift_and_diffusion(
            score,
            lambda x, t: -RATE / 2 * x,
            lambda t: jnp.full_like(t, RATE**0.5),
            lambda t: alpha_and_scale(t)[1],
            substeps=16,
        )
    found = jax.jit(lambda x: restoration_degradation(step, x, times))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, ddim_by_hand(x, times), rtol=5e-5, atol=5e-5)


def test_blur_is_ddim_in_every_frequency_and_reaches_the_law_of_the_data():
    """x_t = B_t x_0 + scale z with B_t a heat kernel: mode by mode, x_t = b x_0 + scale z, deviations are scaled."""
    size = 8
    spectrum = 0.6 / (1 + np.abs(np.fft.fftfreq(size) * size)) ** 2  # variances of stationary data
    wave = np.abs(np.fft.fftfreq(size) * size)

    def filtered(x, factors):
        return jnp.fft.ifft(jnp.fft.fft(x) * factors).real

    def blur(t):
        return jnp.exp(-0.4 * t[:, None] * wave)

    def scale(t):
        return 0.01 + t

    def restore(x, t):
        b, s = blur(t), scale(t)[:, None]
        return filtered(x, b * spectrum / (b**2 * spectrum + s**2))

    step = step_from_mean_and_scale(restore, lambda x, t: filtered(x, blur(t)), scale)
    x = 2.0 * np.random.default_rng(2).normal(size=(4, size))

    def by_hand(times):
        modes = np.fft.fft(x)
        for t, s in zip(times[:-1], times[1:], strict=True):
            b, b_s = np.exp(-0.4 * t * wave), np.exp(-0.4 * s * wave)
            restored = b * spectrum / (b**2 * spectrum + (0.01 + t) ** 2) * modes
            modes = b_s * restored + (0.01 + s) / (0.01 + t) * (modes - b * restored)
        return np.fft.ifft(modes).real

    def deviation(t):
        return np.sqrt(np.exp(-0.8 * t * wave) * spectrum + (0.01 + t) ** 2)

    exact = np.fft.ifft(np.fft.fft(x) * deviation(0.0) / deviation(2.0)).real
    errors = []
    for steps in (40, 80, 160):
        times = np.linspace(2.0**0.5, 0.0, steps + 1) ** 2
        run = jax.jit(lambda x, times=times: restoration_degradation(step, x, times))
        found = run(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(found, by_hand(times), rtol=1e-4, atol=1e-4)
        errors.append(np.abs(np.asarray(found) - exact).max())
    assert np.all(np.abs(rates(errors) - 1) < 0.25), errors


# A drift that is not linear: dx = tanh(x) dt + dw from p_0 ~ cosh(x) N(x; M, V) has p_t ~ cosh(x) N(x; M, V + t).
M, V, END = 0.4, 0.3, 2.0


def tanh_density(x, t):
    return np.cosh(x) * np.exp(-((x - M) ** 2) / (2 * (V + t)) - (V + t) / 2) / np.sqrt(V + t)


def tanh_score(x, t):
    return jnp.tanh(x) - (x - M) / (V + t)[:, None]


def tanh_flow(x, start, end):
    """The probability flow dx/dt = tanh(x) - score / 2."""

    def velocity(t, x):
        return np.tanh(x) - 0.5 * (np.tanh(x) - (x - M) / (V + t))

    return solve_ivp(velocity, (start, end), x, rtol=1e-10, atol=1e-10).y[:, -1]


def tanh_step(scale, substeps=1):
    return step_from_drift_and_diffusion(
        tanh_score, lambda x, t: jnp.tanh(x), lambda t: jnp.ones_like(t), scale, substeps
    )


def test_the_density_of_the_nonlinear_process_solves_its_forward_equation():
    """d_t p = -(tanh p)' + p'' / 2, by differences; its mass stays what it was; the flow carries quantiles along."""
    x, t, h = np.linspace(-4, 4, 81), 0.7, 1e-3
    drifted = np.tanh(x + h) * tanh_density(x + h, t) - np.tanh(x - h) * tanh_density(x - h, t)
    curved = tanh_density(x + h, t) - 2 * tanh_density(x, t) + tanh_density(x - h, t)
    change = (tanh_density(x, t + h) - tanh_density(x, t - h)) / (2 * h)
    np.testing.assert_allclose(change, -drifted / (2 * h) + curved / (2 * h**2), atol=1e-5)
    mass = [quad(tanh_density, -20, 20, args=(t,))[0] for t in (0.0, END)]
    assert mass[1] == pytest.approx(mass[0], rel=1e-6)
    for place in (-2.0, 0.3, 1.7):
        carried = tanh_flow(np.array([place]), END, 0.0)[0]
        before, after = (quad(tanh_density, -20, p, args=(t,))[0] for p, t in ((place, END), (carried, 0.0)))
        assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize(
    "scale", [lambda t: jnp.sqrt(t + 0.02), lambda t: 1.0 + t], ids=["spread", "anything positive"]
)
def test_a_drift_that_is_not_linear_has_an_error_of_first_order(scale):
    x = np.linspace(-3.0, 3.0, 13)
    exact = tanh_flow(x, END, 0.0)
    errors = []
    for steps in (16, 32, 64):
        times = np.linspace(END**0.5, 0.0, steps + 1) ** 2
        run = jax.jit(lambda x, times=times: restoration_degradation(tanh_step(scale), x, times))
        found = np.asarray(run(jnp.asarray(x[:, None], jnp.float32)))[:, 0]
        errors.append(np.abs(found - exact).max())
    assert errors[-1] < 0.01 and np.all(np.abs(rates(errors) - 1) < 0.25), errors


def test_the_step_is_restoration_all_the_way_and_degradation_from_there():
    """Both legs of the path (3), each by SciPy: x^ where it starts, then from x^ to s with the same noise."""
    t, s, x = 1.5, 1.1, np.array([-1.2, 0.1, 2.0])
    scale = lambda u: np.sqrt(u + 0.02)  # noqa: E731
    eps = -scale(t) * (np.tanh(x) - (x - M) / (V + t))
    velocity = lambda u, x: np.tanh(x) + eps / (2 * scale(u))  # noqa: E731
    solve = lambda x, ends: solve_ivp(velocity, ends, x, rtol=1e-10, atol=1e-10).y[:, -1]  # noqa: E731
    restored = solve(x, (t, 0.0))
    np.testing.assert_allclose(solve(restored, (0.0, t)), x, atol=1e-6)  # F_t(x^, eps) = x_t
    step = tanh_step(lambda u: jnp.sqrt(u + 0.02), substeps=4)
    found = jax.jit(step)(jnp.asarray(x[:, None], jnp.float32), jnp.full(3, t), jnp.full(3, s))
    np.testing.assert_allclose(np.asarray(found)[:, 0], solve(restored, (0.0, s)), atol=1e-5)


# Processes that are linear in other coordinates: y = asinh(x) is a variance-preserving process of Gaussian data.
Y_MEAN, Y_VARIANCE = 0.5, 0.4


def warped_flow(x, start, end):
    """Its probability flow: the deviation of y from its mean is scaled, and x = sinh(y)."""
    (a, s), (a_end, s_end) = ((np.exp(-RATE * t / 2), 1 - np.exp(-RATE * t)) for t in (start, end))
    ratio = np.sqrt((a_end**2 * Y_VARIANCE + s_end) / (a**2 * Y_VARIANCE + s))
    return np.sinh(a_end * Y_MEAN + ratio * (np.arcsinh(x) - a * Y_MEAN))


def posterior_of_y(y, alpha, scale):
    return Y_MEAN + alpha * Y_VARIANCE / (alpha**2 * Y_VARIANCE + scale**2) * (y - alpha * Y_MEAN)


def errors_of(step, exact, x, counts=(16, 32, 64), start=1.5, end=0.02):
    errors = []
    for steps in counts:
        times = np.linspace(start, end, steps + 1)
        run = jax.jit(lambda x, times=times: restoration_degradation(step, x, times))
        errors.append(np.abs(np.asarray(run(jnp.asarray(x[:, None], jnp.float32)))[:, 0] - exact).max())
    return errors


def test_a_change_of_variables_of_a_linear_process_has_an_error_of_first_order():
    """x = sinh(y): drift RATE (x - asinh(x) sqrt(1 + x^2)) / 2, diffusion sqrt(RATE (1 + x^2)), not constant."""

    def restore(x, t):
        alpha, scale = (v[:, None] for v in alpha_and_scale(t))
        return jnp.sinh(posterior_of_y(jnp.arcsinh(x), alpha, scale))

    def degrade(restored, eps, t):
        alpha, scale = (v[:, None] for v in alpha_and_scale(t))
        return jnp.sinh(alpha * jnp.arcsinh(restored) + scale * eps)

    def noise(restored, x, t):
        alpha, scale = (v[:, None] for v in alpha_and_scale(t))
        return (jnp.arcsinh(x) - alpha * jnp.arcsinh(restored)) / scale

    x = np.linspace(-1.5, 1.5, 7)
    errors = errors_of(step_from_maps(restore, degrade, noise), warped_flow(x, 1.5, 0.02), x)
    assert errors[-1] < 0.06 and np.all(np.abs(rates(errors) - 1) < 0.25), errors


def test_a_mean_that_is_not_linear_needs_the_mean_of_the_means():
    """x_t = alpha sinh(X) + scale z for sinh(X) Gaussian: asinh(E[sinh X | x_t]) is right, E[X | x_t] is not."""

    def mean(x, t):
        return alpha_and_scale(t)[0][:, None] * jnp.sinh(x)

    def right(x, t):
        return jnp.arcsinh(posterior_of_y(x, *(v[:, None] for v in alpha_and_scale(t))))

    nodes, weights = np.polynomial.hermite_e.hermegauss(24)

    def plain(x, t):  # E[asinh(W) | x_t], W Gaussian given x_t
        alpha, scale = (v[:, None] for v in alpha_and_scale(t))
        spread = jnp.sqrt(Y_VARIANCE * scale**2 / (alpha**2 * Y_VARIANCE + scale**2))
        values = jnp.arcsinh(posterior_of_y(x, alpha, scale)[..., None] + spread[..., None] * nodes)
        return values @ jnp.asarray(weights / weights.sum(), jnp.float32)

    x = np.linspace(-1.5, 1.5, 7)
    exact = np.arcsinh(warped_flow(np.sinh(x), 1.5, 0.02))  # the same flow, in y
    scale = lambda t: alpha_and_scale(t)[1]  # noqa: E731
    good = errors_of(step_from_mean_and_scale(right, mean, scale), exact, x, (32, 64, 128))
    assert np.all(np.abs(rates(good) - 1) < 0.25), good
    biased = errors_of(step_from_mean_and_scale(plain, mean, scale), exact, x, (64, 128))
    assert min(biased) > 3 * good[-1] and abs(rates(biased)[0]) < 0.5, (biased, good)


def test_bad_arguments_are_named():
    step = step_from_mean_and_scale(GAUSSIAN.denoiser, lambda x, t: x, lambda t: t)
    x = jnp.ones((2, 3))
    for times in (np.array([1.0, 2.0]), np.array([1.0, np.nan]), np.array([2.0, 2.0])):
        with pytest.raises(ValueError, match="finite and strictly decreasing"):
            restoration_degradation(step, x, times)
    with pytest.raises(ValueError, match="at least two times"):
        restoration_degradation(step, x, np.array([1.0]))
    with pytest.raises(ValueError, match="must be a batch"):
        restoration_degradation(step, jnp.ones(3), np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="compile time"):
        jax.jit(lambda t: restoration_degradation(step, x, t))(jnp.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        tanh_step(lambda t: t, 0)
