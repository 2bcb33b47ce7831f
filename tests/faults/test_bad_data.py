"""Whatever lies in a file of data: a named error, counted where there are many files; never a crash, never a pickle."""

import gzip
import io
import json
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from PIL import Image

from jaxdiff.data import images as image_files
from jaxdiff.data.measured import open_measurements
from jaxdiff.data.pixels import MAX_PIXELS, PixelRules, decode
from jaxdiff.data.records import open_records, write_records
from jaxdiff.data.sources import open_source
from tests.faults.fuzzing import Evil, fuzz, fuzzed, npz, survives


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed=0, size=(12, 12), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width=50_000, height=50_000):
    """A PNG of a few hundred bytes that says it has 2.5 thousand million pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def animation(kind):
    frames = [photograph(i) for i in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


BROKEN = {
    "empty": (b"", "the file is empty"),
    "truncated png": (encoded(photograph())[:-200], "truncated"),
    "truncated jpeg": (encoded(photograph(), "JPEG")[:200], "not a PNG or JPEG|Truncated|broken"),
    "text": (b"<html>404</html>", "not a PNG or JPEG"),
    "animated png": (animation("PNG"), "animated: 3 frames"),
    "gif": (animation("GIF"), "not a PNG or JPEG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not a PNG or JPEG"),
    "bomb": (bomb(), "exceeds limit|more than"),
    "large": (bomb(10_000, 9_000), f"10000x9000 pixels, more than {MAX_PIXELS}"),
    "float tiff": (encoded(Image.new("F", (8, 8)), "TIFF"), "not a PNG or JPEG"),
}
UNUSUAL = {
    "cmyk": encoded(photograph(mode="CMYK"), "JPEG"),
    "16 bit": encoded(Image.fromarray(np.full((12, 12), 40_000, np.uint16))),
    "palette": encoded(photograph(mode="P")),
    "one bit": encoded(photograph(mode="1")),
    "transparent": encoded(photograph(mode="RGBA")),
    "two pictures": encoded(photograph(), "MPO", save_all=True, append_images=[photograph(1)]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_named_and_counted(tmp_path, name):
    data, reason = BROKEN[name]
    for number in range(9):
        (tmp_path / f"good{number}.png").write_bytes(encoded(photograph(number)))
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"1 of 10 images are broken.*bad.png .*({reason})"):
        open_source(f"folder:{tmp_path}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(f"folder:{tmp_path}", max_bad_share=0.1)
    assert len(source) == 9 and source.report["skipped"] == 1
    assert (
        source.report["skipped_files"][0][0] == "bad.png"
        and sum(source.report["skipped_by_reason"].values()) == 1
    )


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_image_is_read_by_the_declared_rules(name):
    pixels, _ = decode(UNUSUAL[name], PixelRules(channels=3))
    assert pixels.shape == (12, 12, 3) and pixels.dtype == np.uint8


def test_a_file_in_an_archive_that_says_it_is_huge_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", encoded(photograph()))
        archive.writestr("bomb.png", bytes(10_001))
    with pytest.raises(
        ValueError, match=r"bomb.png \(ValueError: 10001 bytes when unpacked, more than 10000\)"
    ):
        open_source(f"zip:{tmp_path / 'a.zip'}")


@pytest.mark.parametrize("mask", [(8, 8), (12, 13), (1, 1)])
def test_a_mask_of_the_wrong_size_is_named_and_counted(tmp_path, mask):
    (tmp_path / "a.png").write_bytes(encoded(photograph()))
    (tmp_path / "a.mask.png").write_bytes(encoded(Image.new("L", mask, 255)))
    (tmp_path / "b.png").write_bytes(encoded(photograph(1)))
    with pytest.raises(
        ValueError, match=rf"1 of 2 images are broken.*its mask has {mask[1]}x{mask[0]} pixels"
    ):
        open_measurements(f"folder:{tmp_path}")


def evil_npz(path, mark, **others):
    np.savez(path, x=np.array([Evil(mark)], object), **others)


def test_object_arrays_are_refused_and_never_unpickled(tmp_path):
    path, mark = tmp_path / "evil.npz", tmp_path / "mark"
    evil_npz(path, mark)
    with pytest.raises(ValueError, match="objects are not read"):
        open_source(f"npz:{path}")
    np.savez(
        path,
        y=np.array([Evil(mark)], object),
        operator=json.dumps({"name": "identity", "in_shape": [4, 4, 1]}),
    )
    with pytest.raises(ValueError, match="objects are not read"):
        open_measurements(f"npz:{path}")
    path.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(ValueError, match="not an .npz file"):
        open_source(f"npz:{path}")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 8, 8), 256), "integers must be 0..255, got 256..256"),
        (np.full((4, 8, 8), -1), "integers must be 0..255"),
        (np.full((4, 8, 8), 1.5), r"floats must be in \[-1, 1\] or \[0, 1\] \(or uint8\), got 1.5..1.5"),
        (np.full((4, 8, 8), np.nan), "256 values are not finite"),
        (np.full((4, 8, 8), np.inf), "256 values are not finite"),
        (np.full((4, 8, 8), "a"), "images must be numbers"),
        (np.full((4, 8, 8), 1j), "images must be numbers"),
        (np.zeros((4, 8, 8, 2)), r"images must be \(n, H, W\)"),
        (np.zeros((0, 8, 8)), r"images must be \(n, H, W\)"),
        (np.zeros(()), r"images must be \(n, H, W\)"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(ValueError, match=message):
        open_source(f"npz:{tmp_path / 'a.npz'}")


def test_measurements_with_unknown_parameters_are_named(tmp_path):
    spec = json.dumps({"name": "pixel_mask", "in_shape": [4, 4, 1], "p": 0.5})
    np.savez(tmp_path / "a.npz", y=np.zeros((2, 4, 4, 1)), operator=spec, **{"params/mosk": np.zeros(2)})
    with pytest.raises(ValueError, match="params/mosk.*params/mask"):
        open_measurements(f"npz:{tmp_path / 'a.npz'}")


def claims_too_much(shape):
    """An .npz whose array says it has more numbers than there is memory for."""
    header = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(10**14, 8, 8), (2**62, 4, 4), (-1, 8, 8), (True, "a")])
def test_an_array_that_claims_more_than_there_is_is_damaged(tmp_path, shape):
    (tmp_path / "a.npz").write_bytes(claims_too_much(shape))
    with pytest.raises(ValueError, match=f"npz:{tmp_path}"):
        open_source(f"npz:{tmp_path / 'a.npz'}")


def test_an_operator_nested_without_end_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", y=np.zeros((2, 4, 4, 1)), operator="[" * 100_000)
    with pytest.raises(ValueError, match="'operator' must be one JSON string"):
        open_measurements(f"npz:{tmp_path / 'a.npz'}")


def idx():
    return bytes([0, 0, 8, 3]) + struct.pack(">III", 2, 8, 8) + bytes(range(128))


def first(source):
    return source.gather(range(min(2, len(source))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpeg", "rgba png", "16 bit png"])
def test_fuzzed_images(tmp_path, record_property, kind):
    good = {
        "png": encoded(photograph()),
        "jpeg": encoded(photograph(), "JPEG"),
        "rgba png": UNUSUAL["transparent"],
        "16 bit png": UNUSUAL["16 bit"],
    }[kind]
    path = tmp_path / "a.png"
    fuzz(record_property, kind, good, path, lambda: first(open_source(f"folder:{tmp_path}", image_size=8)))


@pytest.mark.slow
def test_fuzzed_masks(tmp_path, record_property):
    (tmp_path / "a.png").write_bytes(encoded(photograph()))
    good = encoded(Image.new("L", (12, 12), 255))
    path = tmp_path / "a.mask.png"
    fuzz(record_property, "masks", good, path, lambda: first(open_measurements(f"folder:{tmp_path}")))


@pytest.mark.slow
def test_fuzzed_zip(tmp_path, record_property):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", encoded(photograph(number)))
    path = tmp_path / "a.zip"
    fuzz(record_property, "zip", buffer.getvalue(), path, lambda: first(open_source(f"zip:{path}")))


@pytest.mark.slow
def test_fuzzed_npz(tmp_path, record_property):
    good = npz(x=np.zeros((3, 8, 8), np.uint8), labels=np.zeros(3, np.int64))
    path = tmp_path / "a.npz"
    fuzz(record_property, "npz", good, path, lambda: first(open_source(f"npz:{path}")))


@pytest.mark.slow
def test_fuzzed_measurements(tmp_path, record_property):
    spec = json.dumps({"name": "pixel_mask", "in_shape": [4, 4, 1], "p": 0.5})
    arrays = {"params/mask": np.ones((2, 4, 4, 1), bool), "sigma_y": np.float32(0.1)}
    good = npz(y=np.zeros((2, 4, 4, 1), np.float32), operator=spec, **arrays)
    path = tmp_path / "a.npz"
    fuzz(record_property, "npz of measurements", good, path, lambda: first(open_measurements(f"npz:{path}")))


SPECS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("identity", "pixel_mask", "avg_pool", "sensing", "crop", "no such")),
        "in_shape": st.just([4, 4, 1]) | st.lists(st.integers(-1, 5), max_size=4) | st.none(),
    },
    optional={
        "p": st.floats() | st.text(max_size=2),
        "factor": st.integers(-1, 3) | st.none(),
        "height": st.integers(-5, 5),
    },
)


@pytest.mark.slow
@pytest.mark.parametrize("opener", [open_source, open_measurements])
def test_fuzzed_arrays(tmp_path, record_property, opener):
    path, counts = tmp_path / "a.npz", {"read": 0, "refused": 0}
    shapes = st.sampled_from(((2, 4, 4, 1), (2, 4, 4), (2,), ())) | array_shapes(
        min_dims=0, max_dims=5, max_side=4
    )
    array = arrays(scalar_dtypes() | st.sampled_from((np.uint8, np.float32, bool)), shapes)
    keys = st.sampled_from(
        ("x", "y", "labels", "range", "sigma_y", "params/mask", "params/other", "operator")
    )

    @fuzzed
    @given(st.dictionaries(keys, array, max_size=4), st.none() | SPECS, array)
    def attempt(found, spec, main):
        found = {"x": main, "y": main} | found if spec else found
        np.savez(path, **(found | ({"operator": json.dumps(spec)} if spec else {})))
        survives(lambda: first(opener(f"npz:{path}")), counts, path)

    attempt()
    ended = f"{counts['read']} read, {counts['refused']} refused, 0 crashed"
    record_property(f"fuzzed arrays, {opener.__name__}", ended)
    assert counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["idx", "idx.gz"])
def test_fuzzed_idx(tmp_path, record_property, packed):
    path = tmp_path / ("a-ubyte.gz" if packed else "a-ubyte")
    good = gzip.compress(idx()) if packed else idx()
    fuzz(record_property, path.name, good, path, lambda: first(open_source(f"idx:{path}")))


@pytest.fixture
def records(tmp_path):
    directory = tmp_path / "records"
    examples = [{"x": np.full((4, 4, 1), i, np.uint8)} for i in range(3)]
    write_records(directory, examples, {"kind": "images"})
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("file", ["00000.array_record", "metadata.json"])
def test_fuzzed_records(records, record_property, file):
    path = records / file
    fuzz(
        record_property,
        f"records, {file}",
        path.read_bytes(),
        path,
        lambda: first(open_source(f"records:{records}")),
    )


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(2**16)])
def test_a_shard_that_is_none_is_damaged(records, data):
    (records / "00000.array_record").write_bytes(data)
    with pytest.raises(ValueError, match="00000.array_record"):
        open_records(records)
