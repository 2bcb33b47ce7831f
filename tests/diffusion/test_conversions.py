"""Every parameterization to every other and back, for every process."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.conversions import (
    convert,
    denoiser_from,
    denoiser_to_score,
    prediction_from,
    score_to_denoiser,
)
from jaxdiff.diffusion.mixture import GaussianMixture

KINDS = ("denoised", "eps", "score", "v", "velocity")
PROCESSES = ("ve", "vp", "flow")
MIXTURE = GaussianMixture(
    jnp.array([0.3, 0.7]),
    jnp.array([[0.8, -0.5], [-0.6, 0.4]]),
    jnp.stack([0.05 * jnp.eye(2), 0.1 * jnp.eye(2)]),
)


def _pair(process, n=6):
    s = np.linspace(0.05, 0.9, n).astype(np.float32)
    alpha = {"ve": np.ones_like(s), "vp": np.sqrt(1 - s**2), "flow": 1 - s}[process]
    return jnp.asarray(alpha), jnp.asarray(s)


@pytest.mark.parametrize("process", PROCESSES)
def test_definitions(process):
    # For a known x_0 and eps each quantity is its own definition.
    alpha, s = _pair(process)
    x0, eps = jax.random.normal(jax.random.key(0), (2, 6, 3, 1))
    a, b = alpha[:, None, None], s[:, None, None]
    x = a * x0 + b * eps
    values = {"denoised": x0, "eps": eps, "score": -eps / b, "v": a * eps - b * x0, "velocity": eps - x0}
    for source, target in itertools.product(KINDS, repeat=2):
        got = convert(values[source], x, alpha, s, source, target)
        np.testing.assert_allclose(got, values[target], rtol=2e-3, atol=2e-4, err_msg=f"{source} to {target}")


@pytest.mark.parametrize("process,source,middle", itertools.product(PROCESSES, KINDS, KINDS))
def test_cycles(process, source, middle):
    alpha, s = _pair(process)
    value, x = jax.random.normal(jax.random.key(1), (2, 6, 4))
    there = convert(value, x, alpha, s, source, middle)
    np.testing.assert_allclose(convert(there, x, alpha, s, middle, source), value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("process", ("vp", "flow"))
def test_score_of_the_process_is_the_gradient_of_its_density(process):
    # p_t(x_t) is the density of alpha X + s eps: log p_ve(x_t / alpha, s / alpha) - d ln alpha.
    alpha, s = _pair(process)
    x_t = jax.random.normal(jax.random.key(2), (6, 2))
    log_density = lambda x: MIXTURE.log_prob(x / alpha[:, None], s / alpha).sum()  # noqa: E731
    score = jax.jit(prediction_from(MIXTURE.denoiser, "score", process))(x_t, s)
    np.testing.assert_allclose(score, jax.jit(jax.grad(log_density))(x_t), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_model_of_any_kind_becomes_the_same_denoiser(process):
    sigma = jnp.array([0.05, 0.5, 2.0, 20.0])
    x = jnp.array([[0.7, -0.4], [0.1, 0.2], [1.5, -2.0], [-25.0, 14.0]])

    @jax.jit
    def through_all(x, sigma):
        predictions = {kind: prediction_from(MIXTURE.denoiser, kind, process) for kind in KINDS}
        return {kind: denoiser_from(f, kind, process)(x, sigma) for kind, f in predictions.items()}

    expected = MIXTURE.denoiser(x, sigma)
    for kind, denoised in through_all(x, sigma).items():
        np.testing.assert_allclose(denoised, expected, rtol=2e-3, atol=2e-3, err_msg=kind)


def test_tweedie():
    sigma = jnp.array([0.1, 3.0])
    x = jnp.array([[0.3, 0.3], [2.0, -1.0]])
    denoised, score = MIXTURE.denoiser(x, sigma), MIXTURE.score(x, sigma)
    np.testing.assert_allclose(denoiser_to_score(denoised, x, sigma), score, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(score_to_denoiser(score, x, sigma), denoised, rtol=1e-4, atol=1e-4)


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="unknown prediction 'epsilon'; did you mean 'eps'"):
        convert(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.ones(1), jnp.ones(1), "epsilon", "v")
    with pytest.raises(ValueError, match="unknown process 'vpp'; did you mean 'vp'"):
        denoiser_from(MIXTURE.denoiser, "denoised", "vpp")
    with pytest.raises(ValueError, match="unknown prediction 'scores'"):
        prediction_from(MIXTURE.denoiser, "scores", "ve")
