"""Pictures: every byte where it belongs, at a size that can be seen, and broken pixels in plain sight."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from jaxdiff.report import images


def ramp(n: int, height: int = 4, width: int = 6, channels: int = 1) -> np.ndarray:
    """Image i is constant: -1 for the first, 1 for the last."""
    return np.broadcast_to(np.linspace(-1, 1, n)[:, None, None, None], (n, height, width, channels))


def test_to_uint8_maps_the_range_and_clips():
    x = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 7.0]).reshape(6, 1, 1, 1)
    assert images.to_uint8(x)[:, 0, 0, 0].tolist() == [0, 0, 128, 191, 255, 255]


@pytest.mark.parametrize("channels, expected", [(1, 3), (2, 3), (3, 3), (5, 3)])
def test_to_uint8_always_gives_rgb(channels, expected):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 3, channels))
    pixels = images.to_uint8(x)
    assert pixels.shape == (2, 3, 3, expected)
    if channels != 3:
        assert (pixels == pixels[..., :1]).all()


def test_to_uint8_paints_what_is_not_finite():
    x = np.zeros((1, 2, 2, 1))
    x[0, 0, 1], x[0, 1, 0] = np.nan, np.inf
    pixels = images.to_uint8(x)[0]
    assert tuple(pixels[0, 1]) == tuple(pixels[1, 0]) == images.NOT_FINITE
    assert tuple(pixels[0, 0]) == tuple(pixels[1, 1]) == (128, 128, 128)


@pytest.mark.parametrize("shape", [(4, 4, 1), (0, 4, 4, 1), (3, 2)])
def test_to_uint8_refuses_what_is_no_stack_of_images(shape):
    with pytest.raises(ValueError, match="non-empty"):
        images.to_uint8(np.zeros(shape))


def test_grid_places_every_image_and_leaves_the_rest_transparent():
    picture = np.asarray(images.grid(ramp(5), columns=3, scale=10))
    gap = 4  # 6 % of the longer side, 60 pixels
    assert picture.shape == (2 * 40 + gap, 3 * 60 + 2 * gap, 4)
    expected = images.to_uint8(ramp(5))[:, 0, 0, 0]
    for index in range(5):
        top, left = (index // 3) * (40 + gap), (index % 3) * (60 + gap)
        block = picture[top : top + 40, left : left + 60]
        assert (block[..., :3] == expected[index]).all() and (block[..., 3] == 255).all()
    assert (picture[40 : 40 + gap, :, 3] == 0).all(), "the gap between rows"
    assert (picture[44:, 128:, 3] == 0).all(), "the place of the missing sixth image"


def test_small_images_grow_by_whole_pixels_and_large_ones_stay():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3))
    picture = np.asarray(images.grid(x, columns=1))[..., :3]
    factor = picture.shape[0] // 8
    assert factor * 8 == picture.shape[0] >= images.LEGIBLE_SIDE
    assert (picture[::factor, ::factor] == images.to_uint8(x)[0]).all()
    assert (picture[factor - 1 :: factor, factor - 1 :: factor] == images.to_uint8(x)[0]).all()
    assert images.grid(np.zeros((1, 64, 96, 3)), columns=1).size == (96, 64)


def test_pairs_keep_partners_one_over_the_other():
    upper, lower = ramp(4, 8, 8) * 0 - 1, ramp(4, 8, 8)
    picture = np.asarray(images.pair_grid(upper, lower, columns=2))
    side = images.magnification(8, 8) * 8
    gap = picture.shape[1] - 2 * side
    assert picture.shape[0] == 4 * side + 3 * gap + 2 * gap, "one wider gap between the two blocks"
    expected = images.to_uint8(lower)[:, 0, 0, 0]
    tops = [side + gap, 3 * (side + gap) + 2 * gap]  # the lower row of each block
    found = [picture[top + 3, left + 3, 0] for top in tops for left in (0, side + gap)]
    assert found == expected.tolist()


def test_pairs_must_match():
    with pytest.raises(ValueError, match="equal shapes"):
        images.pair_grid(ramp(4), ramp(3), columns=2)


def test_data_uri_decodes_to_the_same_pixels():
    picture = images.grid(ramp(3), columns=3)
    head, _, body = images.data_uri(picture).partition(",")
    assert head == "data:image/png;base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (np.asarray(decoded) == np.asarray(picture)).all()


def test_save_grid_writes_an_opaque_png_near_a_square(tmp_path):
    path = images.save_grid(tmp_path / "new" / "grid.png", ramp(9, 64, 64))
    with Image.open(path) as picture:
        assert picture.mode == "RGB" and picture.width == picture.height == 3 * 64 + 2 * 4
        assert picture.getpixel((66, 1)) == (255, 255, 255), "white between the images"
        assert picture.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("columns", [0, -1])
def test_columns_must_be_positive(columns, tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        images.save_grid(tmp_path / "grid.png", ramp(2), columns)
