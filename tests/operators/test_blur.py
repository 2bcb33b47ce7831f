import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators


def test_periodic_blur_is_multiplication_in_the_fourier_domain():
    op = operators.build("gaussian_blur", (12, 10, 1), std=0.8)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 10))
    point = np.zeros((12, 10), np.float32)
    point[0, 0] = 1.0
    response = np.asarray(op(jnp.asarray(point)[None, ..., None]))[0, ..., 0]
    expected = np.fft.ifft2(np.fft.fft2(x) * np.fft.fft2(response)).real
    measured = op(jnp.asarray(x, jnp.float32)[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(measured, expected, atol=1e-5)
    assert response[1, 0] / response[0, 0] == pytest.approx(np.exp(-0.5 / 0.8**2), rel=1e-3)


def test_constant_images_are_kept_except_at_a_zero_boundary():
    ones = jnp.ones((1, 9, 9, 3))
    np.testing.assert_allclose(operators.build("gaussian_blur", (9, 9, 3), std=1.0)(ones), ones, atol=1e-6)
    zero = operators.build("gaussian_blur", (9, 9, 3), std=1.0, boundary="zero")(ones)
    assert float(zero[0, 0, 0, 0]) < 0.6 < 0.99 < float(zero[0, 4, 4, 0])


@pytest.mark.parametrize(
    ("args", "message"),
    [({"std": 0.0}, "std must be positive"), ({"std": 1.0, "boundary": "mirror"}, "one of periodic, zero")],
)
def test_refusals(args, message):
    with pytest.raises(ValueError, match=message):
        operators.build("gaussian_blur", (4, 4, 1), **args)
