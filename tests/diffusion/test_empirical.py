"""The denoiser of a finite data set against the mixture of point masses in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxdiff.diffusion.empirical import empirical_denoiser

DATA = np.random.default_rng(0).uniform(-1, 1, size=(37, 4, 4, 1)).astype(np.float32)


@pytest.mark.parametrize("sigma", (0.002, 0.05, 0.5, 80.0))
@pytest.mark.parametrize("chunk", (1, 8, 256))
def test_matches_softmax_of_distances(sigma, chunk):
    rng = np.random.default_rng(1)
    x = (DATA[:9] + sigma * rng.normal(size=DATA[:9].shape)).astype(np.float32)
    s = np.full(9, sigma, np.float32)
    flat, points = DATA.reshape(37, -1).astype(np.float64), x.reshape(9, -1).astype(np.float64)
    distance = ((points[:, None] - flat) ** 2).sum(axis=-1)
    expected = softmax(-distance / (2 * s[:, None].astype(np.float64) ** 2), axis=1) @ flat
    got = jax.jit(empirical_denoiser(DATA, chunk))(x, s)
    np.testing.assert_allclose(np.asarray(got).reshape(9, -1), expected, atol=2e-4)


def test_near_duplicates_are_told_apart_at_small_noise():
    # |x|^2 = 784: the expanded square would round at 1e-4, as much as the distance between these two.
    pair = np.ones((2, 784), np.float32)
    pair[1, 0] -= 0.01
    denoised = empirical_denoiser(pair)(jnp.asarray(pair), jnp.full(2, 0.002))
    np.testing.assert_allclose(denoised, pair, atol=1e-5)


def test_ends_are_the_nearest_point_and_the_mean():
    denoise = empirical_denoiser(DATA)
    np.testing.assert_allclose(denoise(DATA[:5] + 1e-3, jnp.full(5, 0.002)), DATA[:5], atol=1e-6)
    mean = np.broadcast_to(DATA.mean(axis=0), DATA[:5].shape)
    np.testing.assert_allclose(denoise(DATA[:5], jnp.full(5, 1e4)), mean, atol=1e-4)


def test_refuses_empty_data_and_chunks():
    with pytest.raises(ValueError, match="needs examples"):
        empirical_denoiser(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        empirical_denoiser(DATA, 0)
