import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks.embeddings import fourier_features
from jaxdiff.networks.layers import depth_to_space, space_to_depth
from jaxdiff.networks.unet import SelfAttention


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_space_to_depth_and_back(patch):
    x = jax.random.normal(jax.random.key(0), (2, 6, 12, 3))
    packed = space_to_depth(x, patch)
    assert packed.shape == (2, 6 // patch, 12 // patch, 3 * patch**2)
    np.testing.assert_array_equal(
        packed[1, 1, 1].reshape(patch, patch, 3), x[1, patch : 2 * patch, patch : 2 * patch]
    )
    np.testing.assert_array_equal(depth_to_space(packed, patch), x)


def test_fourier_features_are_the_stated_waves():
    c_noise = jnp.asarray([-1.2, 0.0, 0.4])
    features = fourier_features(c_noise, 6)
    frequencies = np.asarray([1 / 16, np.sqrt(8 / 16), 8])
    angles = 2 * np.pi * np.asarray(c_noise)[:, None] * frequencies
    np.testing.assert_allclose(features, np.concatenate([np.cos(angles), np.sin(angles)], -1), atol=1e-4)


def test_fourier_features_tell_near_noise_levels_apart():
    sigma = np.geomspace(0.002, 80, 200)
    features = fourier_features(jnp.asarray(np.log(sigma) / 4), 32)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1) + 10 * np.eye(200)
    assert distances.min() > 0.3


def test_odd_number_of_features_is_refused():
    with pytest.raises(ValueError, match="size must be even"):
        fourier_features(jnp.zeros(2), 3)


def test_attention_starts_as_the_identity_and_sees_every_place():
    attention = SelfAttention(norm="none", dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 3, 2, 32))
    variables, apply = jax.jit(attention.init)(jax.random.key(1), x), jax.jit(attention.apply)
    np.testing.assert_array_equal(apply(variables, x), x)
    out = variables["params"]["DenseGeneral_1"]
    out["kernel"] = jax.random.normal(jax.random.key(2), out["kernel"].shape)
    jacobian = jax.jit(jax.jacobian(lambda x: attention.apply(variables, x).sum(-1)))(x).sum(-1)
    assert float(jnp.abs(jacobian).min()) > 0

    permutation = jnp.asarray([3, 1, 5, 0, 2, 4])
    shuffled = x.reshape(1, 6, 32)[:, permutation].reshape(x.shape)
    expected = apply(variables, x).reshape(1, 6, 32)[:, permutation].reshape(x.shape)
    np.testing.assert_allclose(apply(variables, shuffled), expected, rtol=1e-4, atol=1e-4)
