import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators


def test_avg_pool_of_known_blocks():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y = operators.build("avg_pool", (4, 4, 1), factor=2)(x)
    np.testing.assert_allclose(y[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])


def test_avg_pool_spreads_back_evenly():
    op = operators.build("avg_pool", (4, 4, 1), factor=2)
    back = op.pinv(jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1))
    np.testing.assert_allclose(back[0, :, :, 0], np.kron([[1, 2], [3, 4]], np.ones((2, 2))))


def test_grayscale_of_a_gray_image_is_that_image():
    x = jnp.linspace(-1, 1, 8).reshape(1, 4, 2, 1)
    y = operators.build("grayscale", (4, 2, 3))(jnp.tile(x, (1, 1, 1, 3)))
    np.testing.assert_allclose(y, x, atol=1e-6)


def test_grayscale_with_its_own_weights():
    op = operators.build("grayscale", (2, 2, 2), weights=[0.0, 2.0])
    assert op.c == 4.0
    np.testing.assert_allclose(op(jnp.ones((1, 2, 2, 2))), 2 * jnp.ones((1, 2, 2, 1)))


@pytest.mark.parametrize("factor", [0, -2, 5, 2.5, 100])
def test_avg_pool_names_the_nearest_factor(factor):
    with pytest.raises(ValueError, match=r"does not divide 12x8 pixels; nearest valid factor: [124]"):
        operators.build("avg_pool", (12, 8, 1), factor=factor)


def test_avg_pool_refuses_what_is_not_a_number():
    with pytest.raises(ValueError, match=r"factor='two' does not divide 12x8 pixels \(valid: \[1, 2, 4\]\)"):
        operators.build("avg_pool", (12, 8, 1), factor="two")


def test_grayscale_refuses_wrong_weights():
    with pytest.raises(ValueError, match="3 weights for images of 1 channels"):
        operators.build("grayscale", (4, 4, 1))
    with pytest.raises(ValueError, match="at least one weight must be other than 0"):
        operators.build("grayscale", (4, 4, 1), weights=(0.0,))


def test_images_only():
    with pytest.raises(ValueError, match=r"'avg_pool' works on images \(H, W, C\), got the shape \(4,\)"):
        operators.build("avg_pool", (4,), factor=2)
