import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import encoded, open_source


@pytest.fixture(params=[2**28, 0], ids=["kept", "decoded_when_asked"])
def keep_bytes(request, monkeypatch):
    """Both ways to serve: pixels kept from the check, or decoded again."""
    monkeypatch.setattr(encoded, "KEEP_BYTES", request.param)
    return request.param


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._000.png", b"shadow")
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, f"img_align_celeba/{file.relative_to(folder)}")
    return f"zip:{path}"


def test_folder_at_any_depth_in_sorted_order(folder, photos, keep_bytes):
    source = open_source(f"folder:{folder}", image_size=16)
    x = source.gather([4, 0])
    assert (len(source), source.shape, x.shape, x.dtype) == (5, (16, 16, 3), (2, 16, 16, 3), np.float32)
    # sorted paths: 000.png 002.png 004.JPG deep/er/001.png deep/er/003.JPG
    square = photos[0].resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(x[1], np.asarray(square) / 127.5 - 1, atol=1e-6)
    last = np.asarray(photos[3].crop((13, 0, 66, 53)).resize((16, 16), Image.Resampling.BILINEAR)) / 127.5 - 1
    assert np.abs(x[0] - last).mean() < 0.05  # a JPEG
    assert source.report["other_files"] == 1
    assert (source.report["found"], source.report["used"], source.report["skipped"]) == (5, 5, 0)
    assert source.report["pixels"] == "center crop, bilinear resize to 16x16"
    assert source.labels is None


def test_zip_as_downloaded_equals_the_folder(folder, tmp_path, keep_bytes):
    source = open_source(zipped(folder, tmp_path / "faces.zip"), image_size=12, channels=1)
    expected = open_source(f"folder:{folder}", image_size=12, channels=1)
    np.testing.assert_array_equal(source.gather(range(5)), expected.gather(range(5)))
    assert source.report["other_files"] == 1


def test_zip_is_read_by_many_threads(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "KEEP_BYTES", 0)
    source = open_source(zipped(folder, tmp_path / "faces.zip"), image_size=8)
    whole = source.gather(range(5))
    with ThreadPoolExecutor(8) as pool:
        for i, x in zip(range(200), pool.map(lambda i: source.gather([i % 5]), range(200)), strict=True):
            np.testing.assert_array_equal(x[0], whole[i % 5])


def test_channels_are_gray_only_where_every_file_is(tmp_path, photos, png, keep_bytes):
    for i, photo in enumerate(photos[:3]):
        (tmp_path / f"{i}.png").write_bytes(png(photo.convert("L")))
    gray = open_source(f"folder:{tmp_path}", image_size=8)
    assert gray.shape == gray.gather([1]).shape[1:] == (8, 8, 1)
    (tmp_path / "3.png").write_bytes(png(photos[3]))
    color = open_source(f"folder:{tmp_path}", image_size=8)
    assert color.shape == color.gather([1]).shape[1:] == (8, 8, 3)
    np.testing.assert_array_equal(color.gather([1])[..., 2:], gray.gather([1]))


def spoil(folder, photos, png):
    """Files as they are found in the wild: name -> whether it can be used."""
    jpeg = png(photos[1], "JPEG")
    files = {
        "cmyk.jpg": png(photos[0].convert("CMYK"), "JPEG"),
        "palette.png": png(photos[1].quantize(16)),
        "sixteen.png": png(Image.fromarray(np.asarray(photos[2].convert("L")).astype(np.uint16) * 257)),
        "alpha.png": png(photos[3].convert("RGBA")),
        "one_bit.png": png(photos[4].convert("1")),
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "empty.png": b"",
        "page.jpeg": b"<html>404</html>",
        "truncated.png": png(photos[2])[:-40],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [name for name in files if name.split(".")[0] in ("truncated", "empty", "page")]


def test_broken_files_are_named_counted_and_skipped(folder, photos, png, keep_bytes):
    bad = spoil(folder, photos, png)
    source = open_source(f"folder:{folder}", image_size=8, max_bad_share=0.5)
    assert (source.report["found"], source.report["used"], source.report["skipped"]) == (14, 10, 4)
    assert {name for name, _ in source.report["skipped_files"]} == set(bad)
    assert all(reason for _, reason in source.report["skipped_files"])
    x = source.gather(range(10))
    assert len(source) == 10 and np.isfinite(x).all() and np.abs(x).max() <= 1
    assert x.reshape(10, -1).std(axis=1).min() > 0.05


def test_too_many_broken_files_are_an_error_that_names_them(folder, photos, png):
    bad = spoil(folder, photos, png)
    with pytest.raises(
        ValueError, match=r"4 of 14 images are broken, .* share 0\.01 \(max_bad_share\)"
    ) as error:
        open_source(f"folder:{folder}", image_size=8)
    assert all(name in str(error.value) for name in bad)


def test_nothing_but_broken_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 1 images are broken"):
        open_source(f"folder:{tmp_path}", max_bad_share=1.0)


def test_a_bomb_is_a_broken_file(folder, png, monkeypatch):
    (folder / "bomb.png").write_bytes(png(Image.new("1", (3000, 2000))))
    monkeypatch.setattr("jaxdiff.data.pixels.MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # PIL's own guard raises
    source = open_source(f"folder:{folder}", image_size=8, max_bad_share=0.5)
    assert [name for name, _ in source.report["skipped_files"]] == ["bomb.png"]
    assert "DecompressionBomb" in source.report["skipped_files"][0][1]


def test_damaged_member_of_a_zip_is_skipped(folder, tmp_path):
    spec = zipped(folder, tmp_path / "faces.zip")
    path = tmp_path / "faces.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        data[archive.getinfo("img_align_celeba/000.png").header_offset + 500] ^= 255
    path.write_bytes(data)
    source = open_source(spec, image_size=8, max_bad_share=0.2)
    assert [name for name, _ in source.report["skipped_files"]] == ["img_align_celeba/000.png"]
    assert "CRC" in source.report["skipped_files"][0][1]


def test_sizes_must_agree_where_none_is_set(folder, tmp_path, photos, png):
    with pytest.raises(
        ValueError, match=r"different sizes \(000\.png is 64x64, 002\.png is .*set image_size"
    ):
        open_source(f"folder:{folder}")
    same = tmp_path / "same"
    same.mkdir()
    for i in range(2):
        (same / f"{i}.png").write_bytes(png(photos[1]))
    assert open_source(f"folder:{same}").shape == (photos[1].height, photos[1].width, 3)


def test_a_file_that_vanishes_later_is_named(folder, monkeypatch):
    monkeypatch.setattr(encoded, "KEEP_BYTES", 0)
    source = open_source(f"folder:{folder}", image_size=8)
    (folder / "002.png").unlink()
    with pytest.raises(OSError, match=r"002\.png: was readable at opening"):
        source.gather([0, 1])


def test_no_images(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no PNG or JPEG files in it \(1 files of other kinds\)"):
        open_source(f"folder:{tmp_path}")


def test_folder_and_zip_mistaken_for_each_other(folder, tmp_path):
    zipped(folder, tmp_path / "faces.zip")
    with pytest.raises(FileNotFoundError, match=r"is a file, not a folder.*zip:.*faces\.zip"):
        open_source(f"folder:{tmp_path / 'faces.zip'}")
    with pytest.raises(FileNotFoundError, match="is a directory; expected a zip archive.*folder:PATH"):
        open_source(f"zip:{folder}")


def test_zip_that_was_cut_off(folder, tmp_path):
    spec = zipped(folder, tmp_path / "faces.zip")
    path = tmp_path / "faces.zip"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match="not a zip archive, or cut off"):
        open_source(spec)


def test_many_files_stay_in_order(tmp_path, png, monkeypatch):
    """More files than the check reads ahead: the results come in the order of the names, with a bar too."""
    monkeypatch.setattr(encoded, "SHOW_PROGRESS_FROM", 50)
    for i in range(120):
        (tmp_path / f"{i:04d}.png").write_bytes(png(Image.new("L", (2, 2), i)) if i != 7 else b"")
    source = open_source(f"folder:{tmp_path}")
    values = np.rint((source.gather(range(119))[:, 0, 0, 0] + 1) * 127.5)
    np.testing.assert_array_equal(values, [i for i in range(120) if i != 7])
