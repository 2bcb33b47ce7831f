"""Noise levels: the training distribution, the weight, the sampling grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand, karras_schedule


def test_expand_broadcasts_over_any_shape():
    sigma = jnp.arange(3.0)
    for shape in ((3,), (3, 5), (3, 2, 2, 1)):
        assert expand(sigma, jnp.zeros(shape)).shape == (3,) + (1,) * (len(shape) - 1)
    for wrong in (jnp.zeros(()), jnp.zeros(2), jnp.zeros((3, 1))):
        with pytest.raises(ValueError, match="one sigma per example"):
            expand(wrong, jnp.zeros((3, 2)))


def test_log_sigma_is_normal():
    log_sigma = jnp.log(NoiseDistribution(-0.4, 1.7).sample_sigma(jax.random.key(1), 50_000))
    assert abs(log_sigma.mean() + 0.4) < 5 * 1.7 / np.sqrt(50_000)
    assert abs(log_sigma.std() - 1.7) < 5 * 1.7 / np.sqrt(100_000)


def test_weight_makes_the_loss_of_an_untrained_network_one():
    # With F = 0, D = c_skip x; for data N(0, sd^2) the weighted denoising error is 1 at every sigma.
    sigma, sd = np.array([0.002, 0.3, 80.0]), 0.5
    c_skip = sd**2 / (sd**2 + sigma**2)
    error = c_skip**2 * sigma**2 + (1 - c_skip) ** 2 * sd**2
    np.testing.assert_allclose(edm_weight(sigma, sd) * error, 1.0, rtol=1e-6)


def test_karras_grid_ends_and_spacing():
    grid = karras_schedule(18, 0.002, 80.0, 7.0)
    assert grid.shape == (19,) and grid[-1] == 0 and np.all(np.diff(grid) < 0)
    np.testing.assert_allclose(grid[[0, -2]], [80.0, 0.002], rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(grid[:-1] ** (1 / 7)), (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17, rtol=1e-4
    )


@pytest.mark.parametrize("args", [(1,), (5, 0.0, 1.0), (5, 2.0, 1.0), (5, 0.1, 1.0, 0.0)])
def test_karras_refuses(args):
    with pytest.raises(ValueError, match="karras_schedule needs"):
        karras_schedule(*args)
