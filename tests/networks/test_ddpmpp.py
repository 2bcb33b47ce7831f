"""DDPM++ is EDM's: its size and its work, counted without computing; its parts; what it refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10
from jaxdiff.evaluation.flops import count_flops
from jaxdiff.networks import build_network, network_spec
from jaxdiff.networks.ddpmpp import normalize, positional_features, resize

EDM_PARAMETERS = 55_733_891  # of the published unconditional network
AUGMENT_LABEL = 9 * 128  # a matrix of it that is not here


def test_the_network_of_the_cifar10_configs_is_edm_s():
    config = cifar10.get_config()
    arguments = config.network.to_dict()
    network = build_network(arguments.pop("name"), 3, **arguments)
    x, c_noise = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == EDM_PARAMETERS - AUGMENT_LABEL
    assert count_flops(network.apply, params, x, c_noise) == pytest.approx(42.4e9, rel=0.002)
    heads = [layer for layer in jax.tree.leaves_with_path(params) if "DenseGeneral" in str(layer[0])]
    assert len(heads) == 2 * (4 + 1 + 1)  # the encoder at 16 x 16, the middle, the end of the decoder there
    assert network_spec(network)["name"] == "ddpmpp"


def test_resampling_is_that_of_the_filter_1_1():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(resize(x, "down")[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(resize(resize(x, "up"), "down"), x)
    assert resize(x, "") is x


def test_positions_are_sines_and_cosines_from_one_to_a_ten_thousandth():
    found = positional_features(jnp.asarray([0.0, 0.5]), 8)
    np.testing.assert_allclose(found[0], [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(found[1, [0, 3, 4]], [np.sin(0.5), np.sin(0.5e-4), np.cos(0.5)], rtol=1e-6)


@pytest.mark.parametrize(("channels", "groups"), [(128, 32), (384, 32), (12, 3), (6, 1)])
def test_groups_divide_the_channels(channels, groups):
    import flax.linen as nn

    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return normalize(x, jnp.float32)

    x = jax.random.normal(jax.random.key(0), (1, 3, 3, channels)) * 5 + 2
    y, _ = Norm().init_with_output(jax.random.key(0), x)
    of_groups = np.asarray(y).reshape(9, groups, channels // groups)
    np.testing.assert_allclose(of_groups.mean(axis=(0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(of_groups.std(axis=(0, 2)), 1, atol=1e-2)


@pytest.mark.slow
def test_any_size_and_forward_mode():
    network = build_network(
        "ddpmpp",
        2,
        channels=4,
        channel_mults=(1, 1),
        blocks=1,
        attention=(0,),
        forward_mode=True,
        zero_init=False,
    )
    x, c_noise = jnp.ones((2, 5, 7, 1)), jnp.zeros(2)
    variables = jax.jit(network.init)(jax.random.key(0), x, c_noise)
    out, slope = jax.jit(lambda v: jax.jvp(lambda x: network.apply(v, x, c_noise), (x,), (x,)))(variables)
    assert out.shape == slope.shape == (2, 5, 7, 2) and bool(jnp.isfinite(slope).all())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"channel_mults": ()}, "channel_mults needs a whole number from 1 up for each level"),
        ({"channel_mults": (2, 0)}, "channel_mults needs a whole number from 1 up"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"channels": 5}, "channels must be even and at least 4, got 5"),
        ({"attention": (3,)}, "must be levels from 0 to 2"),
        ({"patch": 2}, "unknown ddpmpp argument 'patch'"),
    ],
)
def test_what_cannot_be_is_named(args, message):
    with pytest.raises(ValueError, match=message):
        build_network("ddpmpp", 3, **args)
