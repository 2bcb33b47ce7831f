import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import pixels
from jaxdiff.data.pixels import PixelRules, apply_to_array, crop_box, decode, make_rules, to_unit

AS_IT_IS = PixelRules()


def ramp(height=12, width=16):
    """Every pixel different in every channel: any shift, flip or swap shows."""
    values = np.arange(height * width * 3).reshape(height, width, 3) * 7 % 256
    return values.astype(np.uint8)


def test_bytes_map_onto_minus_one_to_one():
    x = to_unit(np.array([0, 51, 255], np.uint8))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, [-1, -0.6, 1], atol=1e-7)


def test_rgb_png_is_exact(png):
    pixels_, gray = decode(png(Image.fromarray(ramp())), AS_IT_IS)
    assert not gray
    np.testing.assert_array_equal(pixels_, ramp())


def test_gray_files_are_told_from_color(png):
    image = Image.fromarray(ramp()[..., 0])
    for mode, expected in [("L", True), ("1", True), ("LA", True), ("P", False), ("RGB", False)]:
        assert decode(png(image.convert(mode)), AS_IT_IS)[1] is expected, mode


def test_sixteen_bits_are_divided_by_257(png):
    values = np.array([[0, 257, 128], [65535, 385, 129]], np.uint16)  # 385 / 257 = 1.498, 129 / 257 = 0.502
    got, gray = decode(png(Image.fromarray(values)), PixelRules(channels=1))
    assert gray
    np.testing.assert_array_equal(got[..., 0], [[0, 1, 0], [255, 1, 1]])


def test_transparent_pixels_are_laid_over_black(png):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[..., :3], rgba[0, :, 3] = 200, [0, 128, 255]
    got, _ = decode(png(Image.fromarray(rgba)), AS_IT_IS)
    np.testing.assert_allclose(got[0, :, 0], [0, 100.4, 200], atol=1)


def test_palette_with_a_transparent_color(png):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([250, 10, 20, 30, 240, 50])
    got, _ = decode(png(image, transparency=0), AS_IT_IS)
    np.testing.assert_array_equal(got[0], [[0, 0, 0], [30, 240, 50]])


def test_cmyk_jpeg_has_the_colors_of_the_photograph(photos, png):
    got, _ = decode(png(photos[0].convert("CMYK"), "JPEG", quality=95), AS_IT_IS)
    difference = got.astype(int) - np.asarray(photos[0], int)
    assert np.abs(difference).mean() < 6


def test_exif_orientation_is_applied(png):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    got, _ = decode(png(Image.fromarray(ramp()), exif=exif), AS_IT_IS)
    np.testing.assert_array_equal(got, np.rot90(ramp(), -1))


def test_gray_is_the_luma_of_bt601(png):
    got, _ = decode(png(Image.fromarray(ramp())), PixelRules(channels=1))
    np.testing.assert_allclose(got[..., 0], ramp() @ [0.299, 0.587, 0.114], atol=1)
    as_array = apply_to_array(ramp()[None], PixelRules(channels=1))
    np.testing.assert_allclose(as_array[0].astype(int), got.astype(int), atol=1)


def test_a_huge_image_is_refused_before_it_is_decoded(png, monkeypatch):
    data = png(Image.new("L", (40, 30)))
    monkeypatch.setattr(pixels, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="40x30 pixels, more than 1000"):
        decode(data, AS_IT_IS)


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((218, 178), (64, 64), (0, 20, 178, 198)),  # CelebA
        ((178, 218), (64, 64), (20, 0, 198, 178)),
        ((100, 100), (50, 25), (25, 0, 75, 100)),
        ((3, 1), (8, 8), (0, 1, 1, 2)),
    ],
)
def test_crop_is_the_largest_centered_box(size, target, box):
    assert crop_box(size, target) == box


def test_box_resize_by_two_is_the_mean_of_four(png):
    image = ramp(8, 8)
    got, _ = decode(png(Image.fromarray(image)), make_rules(4, 3, "box", True))
    means = image.reshape(4, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(got, means, atol=1)


@pytest.mark.parametrize("name", ["bilinear", "box", "lanczos"])
def test_every_filter_is_antialiased(name):
    """The finest stripes become the mean gray, not one of the two colors."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[None, ..., None]
    small = apply_to_array(stripes, make_rules(8, 1, name, True))
    assert small.shape == (1, 8, 8, 1)
    assert np.abs(small.astype(int) - 127.5).max() < 16


def test_squeezing_keeps_what_the_crop_cuts_off():
    image = np.zeros((1, 8, 16, 1), np.uint8)
    image[:, :, :4] = 255
    rules = make_rules(8, 0, "box", False)
    assert apply_to_array(image, rules)[0, 0, 0, 0] == 255
    assert apply_to_array(image, rules._replace(center_crop=True)).max() == 0


def test_floats_are_resized_without_rounding():
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    got = apply_to_array(x, make_rules(2, 0, "box", True))
    np.testing.assert_allclose(got[0, ..., 0], x.reshape(2, 2, 2, 2).mean((1, 3)), atol=1e-6)


def test_lanczos_does_not_leave_the_range():
    edge = np.where(np.arange(16) < 8, -1, 1).astype(np.float32)
    got = apply_to_array(np.tile(edge, (1, 16, 1))[..., None], make_rules(12, 0, "lanczos", True))
    assert got.min() >= -1 and got.max() <= 1


def test_bad_rules():
    with pytest.raises(ValueError, match="unknown resize filter 'bilnear'; did you mean 'bilinear'"):
        make_rules(8, 3, "bilnear", True)
    with pytest.raises(ValueError, match="channels must be 1 or 3"):
        make_rules(8, 4, "box", True)
    with pytest.raises(ValueError, match="image_size must be"):
        make_rules(-8, 3, "box", True)


def test_rules_say_what_they_do():
    assert (
        make_rules(64, 3, "bilinear", True).describe() == "center crop, bilinear resize to 64x64, 3 channels"
    )
    assert AS_IT_IS.describe() == "as they are"
