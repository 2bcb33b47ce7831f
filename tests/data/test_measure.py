import jax
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import measure

SHAPE = (8, 8, 2)
RANDOM = {"pixel_mask": {"p": 0.6}, "box_mask": {"size": 4}}


def images(n=150):
    return np.random.default_rng(0).uniform(-1, 1, (n, *SHAPE)).astype(np.float32)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_without_noise_it_is_a_x():
    x = images()
    got = measure(operators.build("avg_pool", SHAPE, factor=2), x, np.arange(150), 0)
    np.testing.assert_allclose(got.y, x.reshape(-1, 4, 2, 4, 2, 2).mean((2, 4)), atol=1e-6)
    assert got.params is None
    np.testing.assert_array_equal(got.sigma_y, np.zeros(150, np.float32))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("name", RANDOM)
def test_random_parameters_go_with_the_measurement(name):
    x, op = images(), operators.build(name, SHAPE, **RANDOM[name])
    got = measure(op, x, np.arange(150), 0)
    np.testing.assert_array_equal(got.y, op.with_params(got.params)(x))
    hidden = (got.y == 0).all(axis=-1).mean(axis=(1, 2))
    expected = 0.6 if name == "pixel_mask" else 0.25
    assert abs(hidden.mean() - expected) < 0.02
    assert len(np.unique((got.y != 0).reshape(150, -1), axis=0)) > 20


@pytest.mark.parametrize("name", ["avg_pool", "pixel_mask", "box_mask"])
def test_an_example_is_the_same_in_any_company(name):
    """Bitwise: alone, in another order, in another batch."""
    args = {"avg_pool": {"factor": 2}, **RANDOM}[name]
    op, x, indices = operators.build(name, SHAPE, **args), images(), np.arange(1000, 1150)
    whole = measure(op, x, indices, 7, 0.3)
    order = np.random.default_rng(1).permutation(150)[:70]
    equal(measure(op, x[order], indices[order], 7, 0.3), jax.tree.map(lambda leaf: leaf[order], whole))
    equal(measure(op, x[149:], indices[149:], 7, 0.3), jax.tree.map(lambda leaf: leaf[149:], whole))


def test_seed_and_index_matter():
    op, x = operators.build("pixel_mask", SHAPE, p=0.5), np.repeat(images(1), 3, axis=0)
    first, second, again = measure(op, x, np.array([4, 5, 4]), 0, 0.1).y
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert (measure(op, x[:1], np.array([4]), 1, 0.1).y[0] != first).any()


def test_noise_has_the_level_asked_for_and_is_white():
    op, levels = operators.build("avg_pool", SHAPE, factor=2), np.repeat([0.2, 2.0], 400).astype(np.float32)
    got = measure(op, np.zeros((800, *SHAPE), np.float32), np.arange(800), 0, levels)
    noise = got.y.reshape(800, -1) / levels[:, None]
    covariance = noise.T @ noise / 800
    np.testing.assert_allclose(covariance, np.eye(32), atol=5 * np.sqrt(2 / 800))
    np.testing.assert_allclose(noise[:400].std(), 1, atol=0.03)
    np.testing.assert_array_equal(got.sigma_y, levels)


def test_noise_is_not_the_draw_of_the_mask():
    """Separate keys: the noise at a pixel says nothing about the mask."""
    op = operators.build("pixel_mask", (64, 64, 1), p=0.5)
    got = measure(op, np.zeros((8, 64, 64, 1), np.float32), np.arange(8), 0, 1.0)
    seen = got.y[got.params["mask"]]
    assert abs(seen.mean()) < 5 / np.sqrt(seen.size) and abs(seen.std() - 1) < 0.03


@pytest.mark.parametrize("sigma_y", [0.0, 0.5])
@pytest.mark.parametrize("name", ["mask", "pixel_mask", "box_mask"])
def test_poisoned_hidden_pixels_do_not_leak(name, sigma_y):
    """Whatever stands in the hidden pixels, NaN included, y is the same, and exactly 0 there."""
    args = {"mask": {"hidden_box": [1, 2, 3, 4]}, **RANDOM}[name]
    op, x, indices = operators.build(name, SHAPE, **args), images(), np.arange(150)
    clean = measure(op, x, indices, 3, sigma_y)
    ones = op.with_params(clean.params)(np.ones_like(x))
    poisoned = measure(op, np.where(np.asarray(ones) == 0, np.nan, x), indices, 3, sigma_y)
    equal(poisoned, clean)
    assert (clean.y[np.asarray(ones) == 0] == 0).all() and (np.asarray(ones) == 0).any()


def test_x_is_nowhere_in_what_is_returned():
    x = images(4)
    got = measure(operators.build("crop", SHAPE, top=0, left=0, height=4, width=8), x, np.arange(4), 0)
    assert {leaf.shape for leaf in jax.tree.leaves(got)} == {(4, 4, 8, 2), (4,)}


@pytest.mark.parametrize(
    ("count", "indices", "sigma_y", "message"),
    [
        (2, [0], 0.0, "need the same n >= 1"),
        (0, [], 0.0, "need the same n >= 1"),
        (1, [0], -0.1, "sigma_y must be finite and not negative"),
        (1, [0], np.nan, "sigma_y must be finite and not negative"),
    ],
)
def test_refusals(count, indices, sigma_y, message):
    op = operators.build("identity", SHAPE)
    with pytest.raises(ValueError, match=message):
        measure(op, images(count), np.array(indices, int), 0, sigma_y)
