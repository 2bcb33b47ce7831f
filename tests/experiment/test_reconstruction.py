"""One step and posterior draws against the posterior of a Gaussian, and batches that are filled up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdiff import operators
from jaxdiff.data.measure import measure
from jaxdiff.experiment import priors, reconstruction
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.reconstruction import Prior, Reconstruction, check_methods, reconstruct

SHAPE, SIZE, SIGMA = (1, 4, 2), 8, 1e-3
RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(SIZE, SIZE))
COVARIANCE, MEAN = ROOT @ ROOT.T / SIZE + 0.1 * np.eye(SIZE), RNG.normal(size=SIZE)
OPERATOR = operators.build(
    "multicoil_fourier", SHAPE, acceleration=2, coils=2, center=1, maps="fixed", seed=8
)
SETTINGS = ConfigDict({"sigma": SIGMA})
TOLD = ConfigDict({"name": "mri", "stage_name": "view/mri", "delta": 0.5, "method": "ambient"})
WHOLE = ConfigDict({"name": "mri", "stage_name": "view/mri", "method": "naive"})


def exact_network(view, parts, back_projected):
    """E[x | A x_sigma] of the Gaussian, from what a network is given: u = A^T A x_sigma and A."""
    assert back_projected

    def denoise(u, sigma, operator):
        basis = jnp.eye(SIZE).reshape(SIZE, *SHAPE)

        def one(params, u):
            bound = operator.replace(params=jax.tree.map(lambda leaf: jnp.stack([leaf] * SIZE), params))
            seen = bound.adjoint(bound(basis)).reshape(SIZE, SIZE)
            noisy = seen @ (COVARIANCE + SIGMA**2 * jnp.eye(SIZE)) @ seen
            inverse = jnp.linalg.pinv(noisy, rtol=1e-5, hermitian=True)
            return (MEAN + COVARIANCE @ seen @ inverse @ (u.reshape(-1) - seen @ MEAN)).reshape(SHAPE)

        return jax.vmap(one)(operator.params, u)

    return denoise


def test_one_step_is_the_posterior_mean(monkeypatch):
    """Mutation: A^H A A^H y in place of A^H y gives another image, as A A^H is no projector."""
    monkeypatch.setattr(priors, "masked_view_denoiser", exact_network)
    x = (MEAN + RNG.normal(size=(5, SIZE)) @ ROOT.T / SIZE**0.5).reshape(5, *SHAPE).astype(np.float32)
    measured = measure(OPERATOR, x, np.arange(5), seed=0)
    found = reconstruct("one_step", Prior(TOLD, {}), OPERATOR, measured, SETTINGS, 2, jax.random.key(0))
    basis = jnp.eye(SIZE).reshape(SIZE, *SHAPE)
    for i in range(5):
        lines = jnp.broadcast_to(measured.params["lines"][i], (SIZE, 4))
        a = np.asarray(OPERATOR.with_params({"lines": lines})(basis), np.float64).reshape(SIZE, -1).T
        noisy = a @ (COVARIANCE + SIGMA**2 * np.eye(SIZE)) @ a.T
        gain = COVARIANCE @ a.T @ np.linalg.pinv(noisy, rcond=1e-6)
        exact = MEAN + gain @ (measured.y[i].reshape(-1) - a @ MEAN)
        np.testing.assert_allclose(found.mean[i].reshape(-1), exact, atol=0.02)
    assert found.sd is None


def exact_posterior(measured, i):
    """Mean (8,) and covariance (8, 8) of x given y of example i."""
    basis = jnp.eye(SIZE).reshape(SIZE, *SHAPE)
    lines = jnp.broadcast_to(measured.params["lines"][i], (SIZE, 4))
    a = np.asarray(OPERATOR.with_params({"lines": lines})(basis), np.float64).reshape(SIZE, -1).T
    noise = measured.sigma_y[i] ** 2 * np.eye(len(a))
    gain = COVARIANCE @ a.T @ np.linalg.inv(a @ COVARIANCE @ a.T + noise)
    return MEAN + gain @ (measured.y[i].reshape(-1) - a @ MEAN), COVARIANCE - gain @ a @ COVARIANCE


def plain_network(view, parts):
    def denoise(x, sigma):
        def one(x, sigma):
            noisy = COVARIANCE + sigma**2 * jnp.eye(SIZE)
            return (MEAN + COVARIANCE @ jnp.linalg.solve(noisy, x.reshape(-1) - MEAN)).reshape(SHAPE)

        return jax.vmap(one)(x, sigma)

    return denoise


POSTERIOR = {"draws": 400, "steps": 40, "sigma_min": 0.01, "sigma_max": 40.0, "rho": 7.0, "cg_steps": 8}


@pytest.mark.slow
def test_draws_have_the_mean_and_the_spread_of_the_posterior(monkeypatch):
    """Mutation: the spread of real and imaginary part in place of the magnitude's is sqrt(2) times as large."""
    monkeypatch.setattr(priors, "learnt_denoiser", plain_network)
    x = (MEAN + RNG.normal(size=(3, SIZE)) @ ROOT.T / SIZE**0.5).reshape(3, *SHAPE).astype(np.float32)
    measured = measure(OPERATOR, x, np.arange(3), seed=0, sigma_y=0.2)
    settings = ConfigDict({"posterior": POSTERIOR})
    found = reconstruct("mmps", Prior(WHOLE, {}), OPERATOR, measured, settings, 3, jax.random.key(0))
    assert found.sd.shape == (3, 1, 4, 1)
    for i in range(3):
        mean, covariance = exact_posterior(measured, i)
        np.testing.assert_allclose(found.mean[i].reshape(-1), mean, atol=0.15)
        draws = RNG.multivariate_normal(mean, covariance, size=20_000).reshape(-1, 4, 2)
        spread = np.linalg.norm(draws, axis=-1).std(axis=0)
        np.testing.assert_allclose(found.sd[i, 0, :, 0], spread, rtol=0.2)


@pytest.mark.slow
def test_ambient_dps_is_told_the_lines_of_its_training_and_the_coils_of_the_measurement(monkeypatch):
    told = []

    def spy(method, denoiser, operator, y, sigma_y, keys, sigmas, **given):
        told.append((method, operator, given))
        return jnp.zeros((2, len(y), *SHAPE))

    monkeypatch.setattr(priors, "posterior_draws", spy)
    monkeypatch.setattr(priors, "masked_view_denoiser", lambda view, parts, back_projected: None)
    shape = (1, 16, 2)
    trained = operators.build("multicoil_fourier", shape, acceleration=4, coils=2, center=1)
    tested = operators.build("multicoil_fourier", shape, acceleration=2, coils=2, center=1)
    measured = measure(tested, RNG.normal(size=(3, *shape)).astype(np.float32), np.arange(3), seed=0)
    prior = Prior(TOLD, Parts(operators={"mri": trained}))
    options = {**POSTERIOR, "norm": "plain", "scale": 3.0}
    with jax.disable_jit():
        way = reconstruction.WITH_MODEL["ambient_dps"](prior, ConfigDict({"posterior": options}))
        way(tested.with_params(jax.tree.map(jnp.asarray, measured.params)), measured, jax.random.key(0))
    method, operator, given = told[0]
    assert method == "ambient_dps" and given["norm"] == "plain" and given["scale"] == 3.0
    np.testing.assert_array_equal(operator.params["lines"].sum(axis=1), 8)
    np.testing.assert_array_equal(given["further"].params["lines"].sum(axis=1), 2)  # half of 16 / 4
    np.testing.assert_array_equal(given["further"].params["maps"], measured.params["maps"])
    assert given["further"].params["lines"][:, 8].all()  # the centre


def test_batches_do_not_change_what_is_found_and_draws_keep_their_spread(monkeypatch):
    x = RNG.normal(size=(5, *SHAPE)).astype(np.float32)
    measured = measure(OPERATOR, x, np.arange(5), seed=0)
    whole = np.asarray(OPERATOR.with_params(jax.tree.map(jnp.asarray, measured.params)).adjoint(measured.y))
    found = reconstruct("zero_filled", None, OPERATOR, measured, SETTINGS, 2, jax.random.key(0))
    np.testing.assert_allclose(found.mean, whole, atol=1e-6)

    def drawing(prior, settings):
        return lambda operator, measured, key: Reconstruction(measured.y[:, 0], measured.y[:, 0, ..., :1])

    monkeypatch.setitem(reconstruction.WITH_MODEL, "drawing", drawing)
    found = reconstruct("drawing", None, OPERATOR, measured, SETTINGS, 2, jax.random.key(0))
    np.testing.assert_array_equal(found.mean, measured.y[:, 0])
    np.testing.assert_array_equal(found.sd, measured.y[:, 0, ..., :1])


def test_unknown_methods_are_named_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'one_step'"):
        check_methods(("onestep",))


def test_dps_takes_the_steps_of_ambient_dps(monkeypatch):
    """So that the priors are compared and not the samplers: Euler's step in the coordinates of X + sigma Z."""
    told = []

    def spy(method, denoiser, operator, y, sigma_y, keys, sigmas, **given):
        told.append(given)
        return jnp.zeros((2, len(y), *SHAPE))

    monkeypatch.setattr(priors, "posterior_draws", spy)
    measured = measure(OPERATOR, RNG.normal(size=(3, *SHAPE)).astype(np.float32), np.arange(3), seed=0)
    options = {**POSTERIOR, "norm": "plain", "scale": 3.0}
    with jax.disable_jit():
        way = reconstruction.WITH_MODEL["dps"](Prior(WHOLE, Parts()), ConfigDict({"posterior": options}))
        way(OPERATOR.with_params(jax.tree.map(jnp.asarray, measured.params)), measured, jax.random.key(0))
    assert told == [{"norm": "plain", "scale": 3.0, "eta": 0.0, "process": "ve"}]
