"""Operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from jaxdiff.evaluation.flops import count_flops
from jaxdiff.networks import build_network


def test_a_matrix_product():
    assert count_flops(jnp.dot, jnp.ones((3, 5)), jnp.ones((5, 7))) == 2 * 3 * 5 * 7


def test_a_batched_product():
    function = lambda a, b: jnp.einsum("bij,bjk->bik", a, b)  # noqa: E731
    assert count_flops(function, jnp.ones((4, 3, 5)), jnp.ones((4, 5, 2))) == 2 * 4 * 3 * 5 * 2


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution(stride, groups):
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4 // groups, 6))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    side = 8 // stride
    assert count_flops(convolve, x, kernel) == 2 * (2 * side * side * 6) * (9 * 4 // groups)


def test_loops_count_as_often_as_they_run():
    def once(x):
        return x @ x

    def looped(x):
        return jax.lax.scan(lambda c, _: (once(c), None), x, None, length=7)[0]

    def mapped(x):
        return jax.lax.map(lambda _: once(x), jnp.arange(5))

    x = jnp.ones((4, 4))
    assert count_flops(jax.jit(looped), x) == 7 * count_flops(once, x)
    assert count_flops(mapped, x) == 5 * count_flops(once, x)


def test_the_dearest_branch_counts():
    def chosen(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count_flops(chosen, jnp.ones((4, 4))) == 2 * 2 * 4**3


def test_a_network_agrees_with_the_compiler():
    network = build_network("unet", 1, channels=32, channel_mults=(1, 2), blocks=1)
    x, s = jnp.zeros((8, 32, 32, 1)), jnp.ones(8)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), x, s))["params"]

    def apply(params, x, s):
        return network.apply({"params": params}, x, s)

    counted = count_flops(apply, params, x, s)
    compiler = jax.jit(apply).lower(params, x, s).cost_analysis()["flops"]
    # The compiler adds elementwise work and leaves out the padding's share of the windows.
    assert counted == pytest.approx(compiler, rel=0.15)
