"""On isotropic Gaussian data seen with noise every step is affine: mean and spread of the draws follow a recursion.

For one number of X ~ N(M, S^2), y = x + SIGMA_Y n, each step is x' = a x + b + c z with a, b, c written down here from
the papers' equations. The draws must have the recursion's mean and standard deviation, and the recursion says by how
much each guidance is biased: the exact posterior has mean -0.303 and standard deviation 0.186.

DPS with norm 'plain' is not affine: of one number, nabla |y - D| is -D' sign(y - D). Its law is carried from level to
level as a density. Ambient DPS has no noise of its own: two correlated numbers of which A~ hides one are a recursion
of mean and covariance.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.noise import expand, karras_schedule
from jaxdiff.evaluation.restoration_law import Mixture, condition, masked_denoiser
from jaxdiff.sampling import restore

M, S, Y, SIGMA_Y = 0.3, 0.5, -0.4, 0.2
COUNT = 10_000
EXACT_STD = (1 / S**2 + 1 / SIGMA_Y**2) ** -0.5
EXACT_MEAN = EXACT_STD**2 * (M / S**2 + Y / SIGMA_Y**2)


def denoiser(x, sigma):
    return M + S**2 / (S**2 + expand(sigma, x) ** 2) * (x - M)


def ddrm(eta, eta_b):
    def step(now, after, slope):
        if after >= SIGMA_Y:
            rest = np.sqrt(after**2 - eta_b**2 * SIGMA_Y**2)
            return (1 - eta_b) * slope, (1 - eta_b) * M * (1 - slope) + eta_b * Y, rest
        keep = np.sqrt(1 - eta**2) * after / SIGMA_Y
        return (1 - keep) * slope, (1 - keep) * M * (1 - slope) + keep * Y, eta * after

    return step


def diffpir(lam, zeta):
    def step(now, after, slope):
        share = 1 / (1 + lam * SIGMA_Y**2 / now**2)
        keep = after * np.sqrt(1 - zeta) / now
        best = (1 - share) * M * (1 - slope) + share * Y
        return (1 - keep) * (1 - share) * slope + keep, (1 - keep) * best, after * np.sqrt(zeta)

    return step


def dps_likelihood(scale, eta):
    def step(now, after, slope):
        gain = scale * now**2 * slope / SIGMA_Y**2
        up = eta * after * np.sqrt(max(1 - after**2 / now**2, 0))
        keep = np.sqrt(max(after**2 - up**2, 0)) / now
        best = (1 - gain) * M * (1 - slope) + gain * Y
        return (1 - keep) * (1 - gain) * slope + keep, (1 - keep) * best, up

    return step


def dps_squared(scale, eta):
    def step(now, after, slope):
        keep, up, weight = dps_parts(now, after, scale, eta)
        gain = 2 * weight * slope
        free = M * (1 - slope)  # D = free + slope x
        return slope + keep * (1 - slope) - gain * slope, free * (1 - keep) + gain * (Y - free), up

    return step


def dps_parts(now, after, scale, eta):
    """What of x - D is kept, the new noise, and the weight of the gradient in the paper's coordinates."""
    up = eta * after * np.sqrt(max(1 - after**2 / now**2, 0))
    keep = np.sqrt(max(after**2 - up**2, 0)) / now
    return keep, up, scale * np.sqrt((1 + now**2) * (1 + after**2))


def recursion(step, grid):
    mean, variance = 0.0, float(grid[0]) ** 2
    for now, after in zip(grid[:-1].astype(float), grid[1:].astype(float), strict=True):
        a, b, c = step(now, after, S**2 / (S**2 + now**2))
        mean, variance = a * mean + b, a**2 * variance + c**2
    return mean, variance**0.5


# Method, settings, the recursion's step, steps; then what the guidance says too much or too little of:
# (mean - exact) / exact std and std / exact std, from the recursion.
CASES = {
    "ddrm, as published": ("ddrm", {}, ddrm(0.85, 1.0), 20, 0.07, 0.59),
    "ddrm, more steps": ("ddrm", {}, ddrm(0.85, 1.0), 200, -0.34, 0.30),
    "ddrm, no new noise": ("ddrm", {"eta": 0.0}, ddrm(0.0, 1.0), 20, -0.24, 0.06),
    "ddrm, eta_b": ("ddrm", {"eta_b": 0.5}, ddrm(0.85, 0.5), 20, 0.39, 0.66),
    "diffpir, as published": ("diffpir", {}, diffpir(1.75, 0.3), 100, 0.16, 1.12),
    "diffpir, lam 1": ("diffpir", {"lam": 1.0, "zeta": 0.0}, diffpir(1.0, 0.0), 100, -0.18, 0.88),
    "dps, likelihood": (
        "dps",
        {"norm": "likelihood", "scale": 1.0},
        dps_likelihood(1.0, 1.0),
        250,
        -0.51,
        0.74,
    ),
    "dps, squared": ("dps", {"norm": "squared", "scale": 0.01}, dps_squared(0.01, 1.0), 250, 0.32, 0.73),
    "dps, weaker": ("dps", {"norm": "likelihood", "scale": 0.3}, dps_likelihood(0.3, 1.0), 250, 0.05, 1.34),
}


@pytest.mark.parametrize("case", CASES)
def test_the_draws_follow_the_recursion_and_the_bias_is_known(case):
    method, settings, step, steps, shift, spread = CASES[case]
    grid = karras_schedule(steps, 0.01, 40.0)
    mean, std = recursion(step, grid)
    assert (mean - EXACT_MEAN) / EXACT_STD == pytest.approx(shift, abs=0.01)
    assert std / EXACT_STD == pytest.approx(spread, abs=0.01)
    operator = operators.build("identity", (2,))
    # Two numbers for each of COUNT / 2 examples.
    many = COUNT // 2
    y, sigma_y = jnp.full((many, 2), Y), jnp.full(many, SIGMA_Y)
    draw = jax.jit(lambda keys: restore(method, denoiser, operator, y, sigma_y, keys, grid, **settings))
    found = np.asarray(draw(jax.random.split(jax.random.key(0), many)), np.float64).ravel()
    assert found.mean() == pytest.approx(mean, abs=4 * std / COUNT**0.5 + 1e-4)
    assert found.std() == pytest.approx(std, rel=4 / (2 * COUNT) ** 0.5 + 2e-3)


def plain_law(scale, eta, grid):
    """Mean and standard deviation of DPS with norm 'plain', by quadrature of the density at every level."""
    unit = np.linspace(-7, 7, 701)  # standard deviations around the mean, at every level
    x, weights = grid[0] * unit, np.exp(-(unit**2) / 2)
    for now, after in zip(grid[:-1].astype(float), grid[1:].astype(float), strict=True):
        weights /= weights.sum()
        slope = S**2 / (S**2 + now**2)
        denoised = M + slope * (x - M)
        keep, up, weight = dps_parts(now, after, scale, eta)
        moved = denoised + keep * (x - denoised) + weight * slope * np.sign(Y - denoised)
        mean = weights @ moved
        std = np.sqrt(weights @ (moved - mean) ** 2 + up**2)
        if up == 0:  # the last step, to sigma = 0
            return mean, std
        x = mean + std * unit
        weights = np.exp(-(((x[:, None] - moved) / up) ** 2) / 2) @ weights


@pytest.mark.parametrize("scale, shift, spread", [(0.02, 0.79, 1.67), (0.1, -0.52, 0.31)])
def test_dps_of_the_plain_norm_follows_its_density(scale, shift, spread):
    """Mutation: half of the step, and nabla |r|^2 / |r| (twice the step), fail."""
    grid = karras_schedule(100, 0.01, 40.0)
    mean, std = plain_law(scale, 1.0, grid)
    assert (mean - EXACT_MEAN) / EXACT_STD == pytest.approx(shift, abs=0.01)
    assert std / EXACT_STD == pytest.approx(spread, abs=0.01)
    operator = operators.build("identity", (1,))  # one number an example: |r| is of the example
    y, none = jnp.full((COUNT, 1), Y), jnp.zeros(COUNT)
    draw = jax.jit(
        lambda keys: restore("dps", denoiser, operator, y, none, keys, grid, norm="plain", scale=scale)
    )
    found = np.asarray(draw(jax.random.split(jax.random.key(0), COUNT)), np.float64)
    assert found.mean() == pytest.approx(mean, abs=4 * std / COUNT**0.5 + 1e-3)
    assert found.std() == pytest.approx(std, rel=4 / (2 * COUNT) ** 0.5 + 5e-3)


def test_ambient_dps_follows_the_recursion_of_two_numbers_of_which_one_is_hidden():
    """The prior sees the first number alone; the hidden one is D's regression on it, and has no spread but its."""
    scale, rho, grid = 0.01, 0.7, karras_schedule(100, 0.01, 40.0)
    told = S**2 * np.array([[1.0, 0.0], [rho, 0.0]])  # Cov(X, x_1), as a map of (x_1, x_2)
    y = np.array([Y, Y])
    mean, cov = np.zeros(2), float(grid[0]) ** 2 * np.eye(2)
    for now, after in zip(grid[:-1].astype(float), grid[1:].astype(float), strict=True):
        jacobian, keep = told / (S**2 + now**2), after / now
        # D = M + J (x - M);  x' = D + keep (x - D) + 2 scale J^T (y - D)
        on_denoised = (1 - keep) * np.eye(2) - 2 * scale * jacobian.T
        a = on_denoised @ jacobian + keep * np.eye(2)
        offset = M - jacobian @ np.full(2, M)
        mean = a @ mean + on_denoised @ offset + 2 * scale * jacobian.T @ y
        cov = a @ cov @ a.T
    law = Mixture(np.ones(1), np.full((1, 2), M), S**2 * np.array([[[1.0, rho], [rho, 1.0]]]))
    exact_mean, exact_cov = condition(law, np.eye(2), y, SIGMA_Y).moments()
    exact_std = np.sqrt(np.diag(exact_cov))
    np.testing.assert_allclose((mean - exact_mean) / exact_std, [0.873, 1.734], atol=0.01)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)) / exact_std, [1.166, 0.841], atol=0.01)
    seen = Mixture(*law)
    family = operators.build("pixel_mask", (2,), p=0.5)
    mask = jnp.broadcast_to(jnp.array([True, False]), (COUNT, 2))
    operator, none = operators.build("identity", (2,)), jnp.zeros(COUNT)
    draw = jax.jit(
        lambda keys: restore(
            "ambient_dps",
            masked_denoiser(seen, np.array([True, False])),
            operator,
            jnp.full((COUNT, 2), Y),
            none,
            keys,
            grid,
            further=family.replace(params={"mask": mask}),
            norm="squared",
            scale=scale,
        )
    )
    found = np.asarray(draw(jax.random.split(jax.random.key(0), COUNT)), np.float64)
    for i in range(2):
        std = np.sqrt(cov[i, i])
        assert found[:, i].mean() == pytest.approx(mean[i], abs=4 * std / COUNT**0.5 + 1e-4)
        assert found[:, i].std() == pytest.approx(std, rel=4 / (2 * COUNT) ** 0.5 + 2e-3, abs=1e-5)
    assert np.corrcoef(found.T)[0, 1] > 0.999 > exact_cov[0, 1] / np.prod(exact_std) + 0.3
