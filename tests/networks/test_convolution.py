"""The convolution's own gradients against JAX's, and that they have the form that is fast inside loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import build_network, convolution
from jaxdiff.networks.convolution import Conv, convolve, plain_convolve

CASES = [
    ((2, 5, 6, 3), (3, 3, 3, 4), (1, 1)),
    ((3, 6, 7, 2), (1, 3, 2, 5), (0, 1)),
    ((2, 4, 4, 2), (3, 3, 2, 2), (0, 2)),
]


def arrays(x_shape, kernel_shape):
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], x_shape), jax.random.normal(keys[1], kernel_shape)


@pytest.mark.parametrize(("x_shape", "kernel_shape", "padding"), CASES)
def test_value_and_gradients_are_those_of_jax(x_shape, kernel_shape, padding):
    x, kernel = arrays(x_shape, kernel_shape)

    def results(function):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel, padding)))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, kernel)

    for ours, theirs in zip(*(jax.tree.leaves(results(f)) for f in (convolve, plain_convolve)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("x_shape", "kernel_shape", "padding"), CASES)
def test_kernel_gradients_of_both_kinds_of_device_agree(x_shape, kernel_shape, padding):
    x, kernel = arrays(x_shape, kernel_shape)
    g = jax.random.normal(jax.random.key(1), plain_convolve(x, kernel, padding).shape)
    on_cpu = convolution._kernel_gradient(x, g, padding)
    elsewhere = convolution._plain_kernel_gradient(x, g, kernel, padding)
    np.testing.assert_allclose(on_cpu, elsewhere, rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_those_of_jax():
    x, kernel = arrays(*CASES[0][:2])

    def penalty(function):
        def slope(kernel):
            inner = jax.grad(lambda x: jnp.sum(jnp.sin(function(x, kernel, (1, 1)))))(x)
            return jnp.sum(inner**2)

        return jax.jit(jax.grad(slope))(kernel)

    np.testing.assert_allclose(penalty(convolve), penalty(plain_convolve), rtol=1e-3, atol=1e-3)


def test_gradients_of_each_example():
    x, kernel = arrays(*CASES[0][:2])

    def each(function):
        def loss(kernel, x):
            return jnp.sum(jnp.sin(function(x[None], kernel, (1, 1))))

        return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(kernel, x)

    np.testing.assert_allclose(each(convolve), each(plain_convolve), rtol=1e-4, atol=1e-4)


def test_module_is_a_same_padded_convolution_with_bias():
    x, kernel = arrays(*CASES[0][:2])
    bias = jnp.arange(4.0)
    out = Conv(4).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(
        padded[:, i : i + 5, j : j + 6] @ np.asarray(kernel)[i, j] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(out, expected + np.arange(4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 5), (1, 3)])
def test_small_images_take_another_way_to_the_same_result(size):
    x, kernel = arrays((3, *size, 4), (3, 3, 4, 5))
    variables = {"params": {"kernel": kernel, "bias": jnp.zeros(5)}}
    np.testing.assert_allclose(
        Conv(5).apply(variables, x), plain_convolve(x, kernel, (1, 1)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the form matters to XLA's CPU compiler only")
def test_every_convolution_of_a_scanned_training_step_has_the_fast_form():
    network = build_network("unet", 1, channels=4, channel_mults=(1, 1))
    x, c_noise = jnp.zeros((4, 8, 8, 1)), jnp.zeros(4)
    params = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)

    def step(params, x):
        gradient = jax.grad(lambda p: jnp.mean((network.apply(p, x, c_noise) - 1) ** 2))(params)
        return jax.tree.map(lambda p, g: p - g, params, gradient), None

    lowered = jax.jit(lambda p, xs: jax.lax.scan(step, p, xs)[0]).lower(params, jnp.zeros((2, *x.shape)))
    text = lowered.as_text(dialect="hlo")
    forms = re.findall(r"convolution\(.*dim_labels=(\S+?)[,\s]", text)
    assert len(forms) > 20
    assert set(forms) == {"b01f_01io->b01f"}


@pytest.mark.slow
def test_forward_mode_by_request():
    x, c_noise = jnp.ones((1, 4, 4, 1)), jnp.zeros(1)
    args = {"channels": 4, "channel_mults": (1,), "zero_init": False}
    networks = [build_network("unet", 1, **args, forward_mode=mode) for mode in (True, False)]
    shapes = jax.eval_shape(networks[0].init, jax.random.key(0), x, c_noise)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
    primal, tangent = jax.jit(lambda x: jax.jvp(lambda x: networks[0].apply(params, x, c_noise), (x,), (x,)))(
        x
    )
    step = 1e-2
    finite = networks[1].apply(params, (1 + step) * x, c_noise) - networks[1].apply(
        params, (1 - step) * x, c_noise
    )
    np.testing.assert_allclose(tangent, finite / (2 * step), rtol=0.05, atol=1e-3)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: networks[1].apply(params, x, c_noise), (x,), (x,))
