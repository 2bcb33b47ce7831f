"""On isotropic Gaussian data seen with noise every step is affine: mean and spread of the draws follow a recursion.

For one number of X ~ N(M, S^2), y = x + SIGMA_Y n, each step is x' = a x + b + c z with a, b, c written down here from
the papers' equations. The draws must have the recursion's mean and standard deviation, and the recursion says by how
much each guidance is biased: the exact posterior has mean -0.303 and standard deviation 0.186.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.noise import expand, karras_schedule
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
