"""What every network promises, whatever it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.networks import build_network, init_key, names

SMALL = {"channels": 8, "channel_mults": (1, 1)}
CASES = {
    "unet": ("unet", (4, 8, 8, 1), SMALL),
    "unet patch 2": ("unet", (4, 8, 8, 1), {**SMALL, "patch": 2}),
    "ddpmpp": ("ddpmpp", (4, 8, 8, 1), {**SMALL, "blocks": 1}),
    "mlp": ("mlp", (4, 5), {"width": 16}),
    "mlp of images": ("mlp", (4, 4, 3, 2), {"width": 16}),
}

EACH = [pytest.param(name, marks=pytest.mark.slow if name == "ddpmpp" else ()) for name in names()]
BY_NAME = {"unet": SMALL, "ddpmpp": {**SMALL, "blocks": 1}, "mlp": {"width": 16}}


def example(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    return x, jnp.linspace(-1.0, 1.0, shape[0])


def initialized(name, shape, args, cond=None, out_channels=None):
    """A network with random parameters, none of them 0; drawn by NumPy, which needs no compilation."""
    network = build_network(name, out_channels or shape[-1], **args)
    x, c_noise = example(shape)
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1])
        return (rng.normal(size=leaf.shape) / np.sqrt(max(fan_in, 4))).astype(leaf.dtype)

    shapes = jax.eval_shape(network.init, jax.random.key(1), x, c_noise, cond)
    return network, jax.tree.map(draw, shapes), x, c_noise


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "ddpmpp")) for name in names()]
)
def test_zero_at_the_start(name):
    shape, args = (2, 4, 4, 1), BY_NAME[name]
    x, c_noise = example(shape)
    networks = [build_network(name, 1, zero_init=zero_init, **args) for zero_init in (True, False)]

    @jax.jit
    def outputs(key):
        return [network.init_with_output(key, x, c_noise)[0] for network in networks]

    zero, other = outputs(init_key(jax.random.key(1)))
    assert float(jnp.abs(zero).max()) == 0.0 < float(jnp.abs(other).max())


def test_init_key_keeps_the_entropy():
    keys = [init_key(jax.random.key(seed)) for seed in (0, 0, 1)]
    first, again, other = (np.asarray(jax.random.normal(key, (100,))) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.3 and first.std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("case", CASES)
def test_depends_on_noise_and_not_on_the_rest_of_the_batch(case):
    name, shape, args = CASES[case]
    network, variables, x, c_noise = initialized(name, shape, args)
    apply = jax.jit(network.apply)
    out = apply(variables, x, c_noise)
    assert float(jnp.abs(apply(variables, x, c_noise + 0.3) - out).max()) > 1e-3
    others = x.at[1:].set(7.0)
    np.testing.assert_allclose(apply(variables, others, c_noise)[0], out[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 7, 5, 1), (2, 1, 1, 1), (2, 6, 9, 3)])
@pytest.mark.parametrize("patch", [1, 2])
def test_unet_takes_any_size(shape, patch):
    args = {"channels": 8, "channel_mults": (1, 1), "patch": patch}
    network, variables, x, c_noise = initialized("unet", shape, args, out_channels=2)
    out = jax.jit(network.apply)(variables, x, c_noise)
    assert out.shape == (*shape[:3], 2)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", names())
def test_image_condition_enters(name):
    shape = (4, 8, 8, 1)
    args = BY_NAME[name]
    cond = {"image": jnp.ones((4, 8, 8, 2))}
    network, variables, x, c_noise = initialized(name, shape, args, cond)
    apply = jax.jit(network.apply)
    changed = {"image": cond["image"].at[0, 3, 3, 1].set(-1.0)}
    difference = jnp.abs(apply(variables, x, c_noise, changed) - apply(variables, x, c_noise, cond))
    assert float(difference[0].max()) > 1e-3
    np.testing.assert_allclose(difference[1:], 0, atol=1e-5)


@pytest.mark.parametrize("name", EACH)
def test_label_minus_one_is_no_label(name):
    args = {**BY_NAME[name], "num_classes": 3}
    network, variables, x, c_noise = initialized(name, (4, 8, 8, 1), args)
    apply = jax.jit(network.apply)
    out = apply(variables, x, c_noise, {"label": jnp.asarray([0, 2, -1, -1])})
    without = apply(variables, x, c_noise)
    np.testing.assert_allclose(out[2:], without[2:], rtol=1e-5, atol=1e-5)
    assert all(float(jnp.abs(out[i] - without[i]).max()) > 1e-3 for i in range(2))


@pytest.mark.parametrize("name", EACH)
def test_dropout_is_active_in_training_only(name):
    args = {**BY_NAME[name], "dropout": 0.5}
    network, variables, x, c_noise = initialized(name, (4, 8, 8, 1), args)

    @jax.jit
    def train(key):
        return network.apply(variables, x, c_noise, train=True, rngs={"dropout": key})

    first, again, second = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - second).max()) > 1e-3
    plain = build_network(name, 1, **{**args, "dropout": 0.0})
    np.testing.assert_array_equal(
        jax.jit(network.apply)(variables, x, c_noise), jax.jit(plain.apply)(variables, x, c_noise)
    )


@pytest.mark.parametrize("name", EACH)
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(name):
    args = BY_NAME[name]
    network, _, x, c_noise = initialized(name, (4, 8, 8, 1), args)
    half, variables, _, _ = initialized(name, (4, 8, 8, 1), {**args, "dtype": "bfloat16"})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    low, high = (jax.jit(net.apply)(variables, x, c_noise) for net in (half, network))
    assert low.dtype == jnp.float32
    assert 0 < float(jnp.abs(low - high).max()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_learns_a_shift_that_depends_on_the_noise(name):
    """F(x, c) = -x for c < 0 and x for c > 0: only a network that reads c can learn it."""
    args = {"unet": {"channels": 8, "channel_mults": (1,)}, "mlp": {"width": 64}}.get(name, BY_NAME[name])
    shape = (32, 4, 4, 1)
    network = build_network(name, 1, **args)
    c_noise = jnp.where(jnp.arange(32) % 2 == 0, -0.5, 0.5)
    params = jax.jit(network.init)(init_key(jax.random.key(0)), jnp.zeros(shape), c_noise)
    optimizer = optax.adam(5e-3)

    def loss(params, x):
        target = jnp.sign(c_noise)[:, None, None, None] * x
        return jnp.mean((network.apply(params, x, c_noise) - target) ** 2)

    @jax.jit
    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, jax.random.normal(key, shape))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    carry = (params, optimizer.init(params))
    values = []
    for key in jax.random.split(jax.random.key(1), 150):
        carry, value = step(carry, key)
        values.append(float(value))
    assert values[0] == pytest.approx(1.0, abs=0.15)
    assert np.mean(values[-10:]) < 0.3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"name": "unett"}, "unknown network 'unett'; did you mean 'unet'"),
        ({"name": "unet", "chanels": 8}, "unknown unet argument 'chanels'; did you mean 'channels'"),
        ({"name": "mlp", "dtype": "float23"}, "unknown mlp dtype 'float23'; did you mean 'float32'"),
        ({"name": "unet", "norm": "batch"}, "unknown norm 'batch'.*group, none, rms"),
        (
            {"name": "unet", "channel_mults": ()},
            "unet: channel_mults needs a whole number from 1 up for each",
        ),
        ({"name": "unet", "channel_mults": (0,)}, r"such as \(1, 2\); got \(0,\)"),
        ({"name": "unet", "channel_mults": (1, 1.5)}, r"got \(1, 1.5\)"),
        ({"name": "unet", "attention": [2]}, "attention=.2,. must be levels from 0 to 1"),
        ({"name": "unet", "patch": 0}, "patch and blocks must be at least 1"),
    ],
)
def test_build_names_what_would_be_right(args, message):
    with pytest.raises(ValueError, match=message):
        build_network(out_channels=1, **args)


def test_conditions_are_checked():
    x, c_noise = example((4, 5))
    network = build_network("mlp", 5, width=8)
    with pytest.raises(ValueError, match="unknown network condition 'images'; did you mean 'image'"):
        network.init(jax.random.key(0), x, c_noise, {"images": x})
    with pytest.raises(ValueError, match="label was given to a network without classes"):
        network.init(jax.random.key(0), x, c_noise, {"label": jnp.zeros(4, int)})
