"""Measurements as they lie on disk. Whatever a hidden entry holds, y must be bitwise the same."""

import json
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdiff import operators
from jaxdiff.data import encoded, open_source
from jaxdiff.data.masked import resize_mask
from jaxdiff.data.measured import open_measurements
from jaxdiff.data.pixels import FILTERS, PixelRules, to_pixels

SIZE = (23, 31)  # height, width


@pytest.fixture(params=[2**28, 0], ids=["kept", "decoded_when_asked"])
def keep_bytes(request, monkeypatch):
    monkeypatch.setattr(encoded, "KEEP_BYTES", request.param)


def pictures(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3)).astype(np.uint8)


def scratches(count=3):
    """Mostly seen: a box and some single pixels of each image are hidden."""
    rng = np.random.default_rng(5)
    seen = rng.uniform(size=(count, *SIZE)) > 0.01
    seen[:, 4:9, 8:15] = False
    return seen


def poisoned(images, seen):
    """The same images with other garbage where hidden."""
    return np.where(seen[..., None], images, pictures(len(images), seed=9))


def write_with_masks(root, images, seen):
    root.mkdir()
    for i, (image, mask) in enumerate(zip(images, seen, strict=True)):
        Image.fromarray(image).save(root / f"{i}.png")
        # values other than 0 and 255: thresholded at 128
        Image.fromarray(np.where(mask, 128 + i, 127 - i).astype(np.uint8)).save(root / f"{i}.mask.png")
    return f"folder:{root}"


def write_with_alpha(root, images, seen):
    root.mkdir()
    for i, (image, mask) in enumerate(zip(images, seen, strict=True)):
        alpha = np.where(mask, 255, 254 if i == 0 else 80 * i).astype(np.uint8)
        Image.fromarray(np.dstack([image, alpha])).save(root / f"{i}.png")
    return f"folder:{root}"


@pytest.mark.parametrize("write", [write_with_masks, write_with_alpha])
@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("size", [None, (11, 15), (46, 62), (23, 16)])
def test_no_hidden_pixel_reaches_y(tmp_path, write, resize, size):
    images, seen = pictures(), scratches()
    settings = {"image_size": size, "resize": resize, "channels": 3}
    source = open_measurements(write(tmp_path / "a", images, seen), **settings)
    other = open_measurements(write(tmp_path / "b", poisoned(images, seen), seen), **settings)
    m, n = source.gather([2, 0, 1]), other.gather([2, 0, 1])
    np.testing.assert_array_equal(m.params["mask"], n.params["mask"])
    assert m.y.tobytes() == n.y.tobytes()
    mask = np.broadcast_to(m.params["mask"], m.y.shape)
    assert (m.y[~mask] == 0).all() and 0 < (~mask).sum() < mask.size
    # and what is seen is what the whole image would show
    whole = open_source(write(tmp_path / "c", images, np.ones_like(seen)), **settings).gather([2, 0, 1])
    np.testing.assert_array_equal(m.y[mask], whole[mask])
    assert source.operator.args[0] == ("p", round(1 - m.params["mask"].mean(), 4))


@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("size", [7, 11, 12, 23, 24, 40])
@pytest.mark.parametrize("center_crop", [True, False])
def test_a_pixel_is_seen_only_if_all_that_the_filter_takes_is(resize, size, center_crop):
    """Changing one hidden pixel by all it can never changes a pixel that is said to be seen."""
    rules = PixelRules((size, size), None, resize, center_crop)
    rng = np.random.default_rng(1)
    for row, column in rng.integers(0, SIZE, (12, 2)):
        seen = np.ones(SIZE, bool)
        seen[row, column] = False
        base = np.full(SIZE, 128, np.uint8)
        dark, bright = (np.where(seen, base, v).astype(np.uint8) for v in (0, 255))
        a, b = (to_pixels(Image.fromarray(image), rules)[..., 0] for image in (dark, bright))
        result = resize_mask(seen, rules)
        assert (a == b)[result].all()
        # and not much more is hidden than what it did change
        assert (~result).sum() <= 49 * max(1, size / 23) ** 2 + 20


def test_exact_halving_hides_exactly_the_touched_blocks():
    seen = np.ones((8, 8), bool)
    seen[2, 5] = False
    result = resize_mask(seen, PixelRules((4, 4), None, "box"))
    expected = np.ones((4, 4), bool)
    expected[1, 2] = False
    np.testing.assert_array_equal(result, expected)
    # the triangle of bilinear halving reaches one pixel further on either side
    expected[0:2, 2:4] = False
    np.testing.assert_array_equal(resize_mask(seen, PixelRules((4, 4), None, "bilinear")), expected)
    # a third: the triangle around pixel 4 is 0 three pixels away, so it takes pixel 2 and not pixel 1
    seen = np.arange(9) != 2
    result = resize_mask(np.tile(seen, (9, 1)), PixelRules((3, 3), None, "bilinear"))
    np.testing.assert_array_equal(result[0], [False, False, True])
    seen = np.arange(9) != 1
    result = resize_mask(np.tile(seen, (9, 1)), PixelRules((3, 3), None, "bilinear"))
    np.testing.assert_array_equal(result[0], [False, True, True])


def test_both_ways_to_serve_and_zip(tmp_path, keep_bytes):
    spec = write_with_masks(tmp_path / "a", pictures(), scratches())
    (tmp_path / "a" / "notes.txt").write_text("")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a" / "whole.jpg")
    source = open_measurements(spec, image_size=16)
    m = source.gather([3, 1])
    assert (len(source), source.shape, source.operator.in_shape) == (4, (16, 16, 3), (16, 16, 3))
    assert (m.y.shape, m.y.dtype) == ((2, 16, 16, 3), np.float32)
    assert (m.params["mask"].shape, m.params["mask"].dtype) == ((2, 16, 16, 1), bool)
    assert m.params["mask"][0].all() and not m.params["mask"][1].all()  # whole.jpg has no mask
    np.testing.assert_array_equal(m.sigma_y, np.zeros(2, np.float32))
    assert (source.report["mask_files"], source.report["other_files"]) == (3, 1)
    drawn = source.operator.with_params(m.params)
    np.testing.assert_array_equal(drawn.restrict(m.y), m.y)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "a").iterdir()):
            archive.write(file, f"top/{file.name}")
    zipped = open_measurements(f"zip:{tmp_path / 'a.zip'}", image_size=16)
    np.testing.assert_array_equal(zipped.gather(range(4)).y, source.gather(range(4)).y)
    assert len(source.gather([]).y) == 0


def test_gray_images_have_one_channel(tmp_path, keep_bytes):
    spec = write_with_masks(tmp_path / "a", pictures()[..., :1].repeat(1, -1)[..., 0], scratches())
    m = open_measurements(spec).gather([0])
    assert m.y.shape == (1, *SIZE, 1)
    np.testing.assert_array_equal(m.params["mask"][0, ..., 0], scratches()[0])
    np.testing.assert_array_equal(
        m.y[0, ..., 0], np.where(scratches()[0], pictures()[0, ..., 0] / np.float32(127.5) - np.float32(1), 0)
    )


def test_a_mask_and_transparency_hide_together(tmp_path):
    image = np.dstack([pictures(1)[0], np.full(SIZE, 255, np.uint8)])
    image[0, 0, 3] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    mask = np.full(SIZE, 255, np.uint8)
    mask[1, 1] = 0
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    seen = open_measurements(f"folder:{tmp_path}").gather([0]).params["mask"][0, ..., 0]
    assert not seen[0, 0] and not seen[1, 1] and seen.sum() == seen.size - 2


def test_a_mask_belongs_to_the_image_as_it_is_looked_at(tmp_path):
    """A camera that was held upright stores rows as columns and says so (EXIF orientation 6)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png", exif=exif)
    seen = np.ones(SIZE[::-1], bool)
    seen[5, 2] = False
    Image.fromarray(seen).save(tmp_path / "a.mask.png")  # one bit a pixel
    m = open_measurements(f"folder:{tmp_path}").gather([0])
    np.testing.assert_array_equal(m.params["mask"][0, ..., 0], seen)
    upright = np.rot90(pictures(1)[0], -1) / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(m.y[0], np.where(seen[..., None], upright, 0))


def test_clean_sources_leave_masks_out(tmp_path):
    source = open_source(write_with_masks(tmp_path / "a", pictures(), scratches()))
    assert (len(source), source.report["mask_files"]) == (3, 3)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a" / "lonely.mask.png")
    assert len(open_source(f"folder:{tmp_path / 'a'}")) == 4


def test_broken_masks_are_named_and_skipped(tmp_path):
    spec = write_with_masks(tmp_path / "a", pictures(6), scratches(6))
    root = tmp_path / "a"
    (root / "0.mask.png").write_bytes(b"no image")
    Image.new("L", (4, 5), 255).save(root / "1.mask.png")
    Image.new("L", SIZE[::-1], 0).save(root / "2.mask.png")
    (root / "3.png").rename(root / "moved.png")
    source = open_measurements(spec, max_bad_share=0.9)
    reasons = dict(source.report["skipped_files"])
    assert "its mask is broken" in reasons["0.png"]
    assert "its mask has 5x4 pixels, the image 23x31" in reasons["1.png"]
    assert "nothing is seen" in reasons["2.png"]
    assert "a mask without its image" in reasons["3.mask.png"]
    assert (len(source), source.report["skipped_by_reason"]) == (3, {"ValueError": 4})
    with pytest.raises(ValueError, match="4 of 7 images are broken"):
        open_measurements(spec)


# npz


def write_npz(path, y, spec, **more):
    np.savez(path, y=y, operator=json.dumps(spec), **more)
    return f"npz:{path}"


SPEC = {"name": "pixel_mask", "in_shape": [6, 5, 3], "p": 0.4}


def drawn(n=7):
    op = operators.build("pixel_mask", (6, 5, 3), p=0.4).draw(jax.random.split(jax.random.key(3), n))
    x = np.random.default_rng(0).uniform(-1, 1, (n, 6, 5, 3)).astype(np.float32)
    return np.asarray(op(x)), np.asarray(op.params["mask"])


def test_npz_whatever_hidden_entries_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdiff.data.measured.CHUNK", 3)  # 7 examples: the last chunk is filled up
    y, mask = drawn()
    garbage = np.where(mask, y, np.nan)
    source = open_measurements(
        write_npz(tmp_path / "a.npz", garbage, SPEC, sigma_y=0.25, **{"params/mask": mask.astype(np.uint8)})
    )
    m = source.gather([6, 0, 3])
    assert m.y.tobytes() == y[[6, 0, 3]].tobytes()
    np.testing.assert_array_equal(m.params["mask"], mask[[6, 0, 3]])
    assert m.params["mask"].dtype == bool
    np.testing.assert_array_equal(m.sigma_y, np.full(3, 0.25, np.float32))
    assert (len(source), source.shape, source.report["operator"]) == (7, (6, 5, 3), SPEC)


def test_npz_of_an_operator_without_parameters(tmp_path):
    spec = {"name": "compose", "in_shape": [6, 4, 3]}
    spec["operators"] = [{"name": "grayscale"}, {"name": "avg_pool", "factor": 2}]
    y = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 1)).astype(np.uint8)
    sigma = np.arange(4) / 10
    m = open_measurements(write_npz(tmp_path / "a.npz", y, spec, sigma_y=sigma)).gather([1, 3])
    np.testing.assert_array_equal(m.y, y[[1, 3]] / np.float32(127.5) - np.float32(1))
    assert m.params is None
    np.testing.assert_array_equal(m.sigma_y, sigma[[1, 3]].astype(np.float32))


def test_npz_of_a_fixed_mask(tmp_path):
    y = np.full((2, 6, 4, 1), np.inf)
    y[:, :3] = 0.5
    source = open_measurements(
        write_npz(tmp_path / "a.npz", y, {"name": "mask", "in_shape": [6, 4, 1], "mask": "top"})
    )
    assert (source.gather([0, 1]).y == np.where(np.arange(6) < 3, 0.5, 0)[:, None, None]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": "{"}, "must be one JSON string"),
        ({"operator": json.dumps({"name": "mask"})}, "the operator needs in_shape"),
        ({"operator": json.dumps({**SPEC, "name": "pixel_mosk"})}, "did you mean 'pixel_mask'"),
        ({"operator": json.dumps({**SPEC, "q": 1})}, "unknown pixel_mask argument 'q'"),
        ({"operator": None}, "no key 'operator'"),
        ({"y": None}, "no key 'y'"),
        ({"y": np.zeros((7, 6, 5, 1))}, r"y must have shape \(n, 6, 5, 3\) by pixel_mask"),
        ({"y": np.zeros((7, 6, 5, 3), np.int16)}, "y must be uint8"),
        ({"y": np.full((7, 6, 5, 3), np.nan)}, "not finite where the operator sees, the first .* example 0"),
        ({"y": np.full((7, 6, 5, 3), None)}, "objects are not read"),
        ({"params/mask": None}, "needs the array 'params/mask'"),
        ({"params/mask": np.ones((7, 6, 5, 3), bool)}, r"must have shape \(7, 6, 5, 1\), got \(7, 6, 5, 3\)"),
        ({"params/mask": np.full((7, 6, 5, 1), 0.5)}, "values that are not of dtype bool"),
        ({"params/mosk": np.ones(7)}, "unknown parameter .*'params/mosk'; did you mean 'params/mask'"),
        ({"sigma_y": -1.0}, "finite and not negative"),
        ({"sigma_y": np.ones(3)}, r"sigma_y must be one number or \(7,\), got \(3,\)"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, change, message):
    y, mask = drawn()
    arrays = {"y": y, "operator": json.dumps(SPEC), "params/mask": mask, **change}
    np.savez(tmp_path / "a.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        open_measurements(f"npz:{tmp_path / 'a.npz'}")


def test_parameters_of_an_operator_without_any(tmp_path):
    spec = {"name": "identity", "in_shape": [6, 5, 3]}
    path = write_npz(tmp_path / "a.npz", np.zeros((2, 6, 5, 3)), spec, **{"params/mask": np.ones(2)})
    with pytest.raises(ValueError, match="has no parameters, got 'params/mask'"):
        open_measurements(path)


def test_measurements_are_not_resized(tmp_path):
    y, mask = drawn()
    path = write_npz(tmp_path / "a.npz", y, SPEC, **{"params/mask": mask})
    assert len(open_measurements(path, image_size=(6, 5), channels=3)) == 7
    with pytest.raises(ValueError, match="6x5x3 images by pixel_mask.* leave image_size and channels out"):
        open_measurements(path, image_size=4)


def test_unknown_source_names_the_nearest():
    with pytest.raises(ValueError, match="unknown source of measurements 'record'; did you mean 'records'"):
        open_measurements("record:x")
    with pytest.raises(FileNotFoundError, match="expected an .npz file with the keys 'y' and 'operator'"):
        open_measurements("npz:/nowhere.npz")
