import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from jaxdiff.data.damage import build_damage

CASES = [
    ("jpeg", {"quality": 20}),
    ("quantize", {"levels": 4}),
    ("unknown_blur", {"std_min": 0.5, "std_max": 2.0}),
]


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (4, 10, 12, 3)).astype(np.float32)


@pytest.mark.parametrize(("name", "args"), CASES)
def test_an_example_s_damage_knows_only_the_seed_and_its_index(name, args, x):
    damage, indices, before = build_damage(name, **args), np.array([7, 3, 11, 5]), x.copy()
    y = damage(x, indices, 2)
    assert (y.shape, y.dtype) == (x.shape, np.float32) and np.abs(y).max() <= 1
    np.testing.assert_array_equal(x, before)
    order = [2, 0]
    np.testing.assert_array_equal(damage(x[order], indices[order], 2), y[order])
    assert not np.array_equal(y, x)


def test_jpeg_is_what_the_file_would_hold(x):
    y = build_damage("jpeg", quality=30)(x[:1], np.arange(1), 0)
    buffer = io.BytesIO()
    pixels = np.rint((x[0] + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=30, subsampling=2)
    np.testing.assert_array_equal(y[0], np.asarray(Image.open(buffer)) / np.float32(127.5) - np.float32(1))
    gray = build_damage("jpeg", quality=30)(x[..., :1], np.arange(4), 0)
    assert gray.shape == (4, 10, 12, 1)


def test_a_worse_jpeg_is_worse():
    ramp = np.linspace(-1, 1, 16, dtype=np.float32)
    x = np.broadcast_to(ramp[:, None, None] * ramp[:, None], (1, 16, 16, 3))
    errors = [np.abs(build_damage("jpeg", quality=q)(x, np.arange(1), 0) - x).mean() for q in (5, 50, 95)]
    assert errors[0] > errors[1] > errors[2]


def test_quantize_rounds_to_equally_spaced_levels():
    x = np.array([-1, -0.7, -0.6, 0.1, 0.6, 0.7, 1, 3], np.float32).reshape(1, 1, 8, 1)
    y = build_damage("quantize", levels=4)(x, np.arange(1), 0)
    np.testing.assert_allclose(y.ravel(), [-1, -1, -1 / 3, 1 / 3, 1 / 3, 1, 1, 1], atol=1e-6)
    assert set(build_damage("quantize", levels=2)(x, np.arange(1), 0).ravel()) == {-1.0, 1.0}


def test_unknown_blur_is_gaussian_in_space_alone(x):
    y = build_damage("unknown_blur", std_min=1.5, std_max=1.5)(x, np.arange(4), 0)
    for c in range(3):
        expected = gaussian_filter(x[0, ..., c], 1.5)
        np.testing.assert_allclose(y[0, ..., c], expected, atol=1e-6)


def test_unknown_blur_draws_from_the_whole_interval():
    point = np.zeros((400, 31, 31, 1), np.float32)
    point[:, 15, 15] = 1
    y = build_damage("unknown_blur", std_min=1, std_max=3)(point, np.arange(400), 0).astype(np.float64)
    offset = np.arange(31) - 15
    std = np.sqrt((y[..., 0].sum(1) * offset**2).sum(-1) / y.sum((1, 2, 3)))  # of each point's image
    assert 0.95 < std.min() < 1.1 and 2.85 < std.max() < 3.05
    assert abs(std.mean() - 2) < 0.1
    other = build_damage("unknown_blur", std_min=1, std_max=3)(point[:4], np.arange(4), 1)
    assert not np.array_equal(other, y[:4].astype(np.float32))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("jpg", {}, "unknown damage 'jpg'; did you mean 'jpeg'"),
        ("jpeg", {"qualty": 3}, "unknown jpeg argument 'qualty'; did you mean 'quality'"),
        ("jpeg", {}, "needs the argument quality"),
        ("jpeg", {"quality": 96}, "from 1 to 95, got 96"),
        ("quantize", {"levels": 1}, "from 2 to 256, got 1"),
        ("unknown_blur", {"std_min": 2, "std_max": 1}, "std_min <= std_max"),
        ("unknown_blur", {"std_min": 2, "std_max": float("nan")}, "std_min <= std_max"),
    ],
)
def test_errors_come_before_any_image(name, args, message):
    with pytest.raises(ValueError, match=message):
        build_damage(name, **args)


def test_images_must_have_their_indices(x):
    with pytest.raises(ValueError, match=r"n indices; got \(4, 10, 12, 3\) and \(3,\)"):
        build_damage("quantize", levels=4)(x, np.arange(3), 0)
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        build_damage("jpeg", quality=4)(x[..., :2], np.arange(4), 0)
