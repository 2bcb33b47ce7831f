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


def response(op):
    """A of a point in the middle of an image of odd size: the kernel."""
    height, width, channels = op.in_shape
    point = np.zeros((1, *op.in_shape), np.float32)
    point[0, height // 2, width // 2] = 1.0
    return np.asarray(op(point))[0, ..., 0]


@pytest.mark.parametrize(
    ("length", "angle", "line"),
    [
        (1, 33.0, [0, 0, 1, 0, 0]),
        (2, 0.0, [0, 1 / 8, 3 / 4, 1 / 8, 0]),
        (3, 0.0, [0, 1 / 4, 1 / 2, 1 / 4, 0]),
        (5, 180.0, [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8]),
    ],
)
@pytest.mark.parametrize("boundary", ["periodic", "zero"])
def test_motion_along_a_row_is_the_integral_of_the_interpolation(length, angle, line, boundary):
    args = {"length": length, "boundary": boundary}
    along_row = operators.build("motion_blur", (5, 5, 1), angle=angle, **args)
    expected = np.zeros((5, 5))
    expected[2] = line
    np.testing.assert_allclose(response(along_row), expected, atol=1e-6)
    along_column = operators.build("motion_blur", (5, 5, 1), angle=angle + 90, **args)
    np.testing.assert_allclose(response(along_column), expected.T, atol=1e-6)


def test_motion_turns_anticlockwise_and_is_symmetric():
    kernel = response(operators.build("motion_blur", (9, 9, 1), length=5, angle=45.0))
    assert kernel[3, 5] > 0.1 > kernel[5, 5] == 0.0  # up and to the right
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(kernel, kernel.T[::-1, ::-1], atol=1e-6)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    rows, columns = np.indices(kernel.shape) - 4
    # The second moment of a path of length L - 1 is (L - 1)^2 / 12; bilinear splitting adds < 1/2.
    assert 16 / 12 < (kernel * (rows**2 + columns**2)).sum() < 16 / 12 + 0.5


def test_motion_wraps_around_or_leaves_the_frame():
    edge = np.zeros((1, 4, 6, 1), np.float32)
    edge[0, 1, 0] = 1.0
    periodic = np.asarray(operators.build("motion_blur", (4, 6, 1), length=3)(edge))[0, 1, :, 0]
    np.testing.assert_allclose(periodic, [0.5, 0.25, 0, 0, 0, 0.25], atol=1e-6)
    zero = np.asarray(operators.build("motion_blur", (4, 6, 1), length=3, boundary="zero")(edge))
    np.testing.assert_allclose(zero[0, 1, :, 0], [0.5, 0.25, 0, 0, 0, 0], atol=1e-6)
    longer = operators.build("motion_blur", (4, 6, 1), length=17, angle=10.0)
    np.testing.assert_allclose(longer(jnp.ones((1, 4, 6, 1))), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"length": 0.5}, "1 or more; got 0.5, nearest valid: 1"),
        ({"length": float("nan")}, "1 or more; got nan"),
        ({"length": 3, "angle": float("inf")}, "angle is in degrees"),
        ({"length": 3, "boundary": "mirror"}, "motion_blur: boundary is one of periodic, zero"),
    ],
)
def test_refusals_of_motion(args, message):
    with pytest.raises(ValueError, match=message):
        operators.build("motion_blur", (4, 4, 1), **args)
