import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flax.serialization import msgpack_restore, msgpack_serialize

from jaxdiff.data import open_source
from jaxdiff.data.measured import open_measurements
from jaxdiff.data.records import open_records, write_records

IMAGES = {"kind": "images", "pixels": "as they are", "source": "made up"}


def pictures(count=7):
    return np.random.default_rng(0).integers(0, 256, (count, 6, 4, 3)).astype(np.uint8)


def write(path, images, **more):
    return write_records(path, ({"x": image} for image in images), {**IMAGES, **more}, shard_size=3)


def test_what_is_written_comes_back(tmp_path):
    metadata = write(tmp_path / "set", pictures(), labels=[3, 1, 4, 1, 5, 9, 2])
    assert metadata["shards"] == [3, 3, 1] and metadata["count"] == 7
    assert sorted(file.name for file in (tmp_path / "set").iterdir()) == [
        "00000.array_record",
        "00001.array_record",
        "00002.array_record",
        "metadata.json",
    ]
    records = open_records(tmp_path / "set")
    assert records.metadata == metadata == json.loads((tmp_path / "set" / "metadata.json").read_text())
    order = [6, 0, 3, 0, 5]
    x = records.read(order)["x"]
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, pictures()[order])


def test_images_are_a_source(tmp_path):
    write(tmp_path / "set", pictures(), labels=[3, 1, 4, 1, 5, 9, 2])
    source = open_source(f"records:{tmp_path / 'set'}")
    np.testing.assert_array_equal(source.labels, [3, 1, 4, 1, 5, 9, 2])
    assert (len(source), source.shape) == (7, (6, 4, 3))
    np.testing.assert_array_equal(source.gather([6, 2]), pictures()[[6, 2]] / np.float32(127.5) - 1)
    assert source.gather([]).shape == (0, 6, 4, 3)
    assert source.report["converted_from"] == "made up"
    np.savez(tmp_path / "same.npz", x=pictures())
    settings = {"image_size": (3, 2), "channels": 1}
    small = open_source(f"records:{tmp_path / 'set'}", **settings)
    same = open_source(f"npz:{tmp_path / 'same.npz'}", **settings)
    assert small.shape == same.shape == (3, 2, 1)
    assert source.report["pixels"] == "as they are"
    assert small.report["pixels"] == "center crop, bilinear resize to 3x2, 1 channel"
    np.testing.assert_array_equal(small.gather([4, 1]), same.gather([4, 1]))


def test_float_images_stay_floats(tmp_path):
    images = np.linspace(-1, 1, 2 * 6 * 4 * 3).reshape(2, 6, 4, 3).astype(np.float32)
    write(tmp_path / "set", images)
    assert open_source(f"records:{tmp_path / 'set'}").gather([0, 1]).tobytes() == images.tobytes()


def test_many_threads(tmp_path):
    write(tmp_path / "set", pictures())
    source = open_source(f"records:{tmp_path / 'set'}")
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda i: source.gather_pixels([i % 7, (i + 3) % 7]), range(200))
        for i, x in enumerate(results):
            np.testing.assert_array_equal(x, pictures()[[i % 7, (i + 3) % 7]])


def test_the_encoding_is_the_documented_one():
    """docs/data.md: ext type 1, a MessagePack triple of shape, dtype and the bytes in C order."""
    import msgpack

    image = pictures(1)[0]
    ((name, value),) = msgpack.unpackb(msgpack_serialize({"x": image})).items()
    shape, dtype, data = msgpack.unpackb(value.data, raw=False, strict_map_key=False)
    assert (name, value.code, shape, dtype, data) == ("x", 1, [6, 4, 3], "uint8", image.tobytes())
    np.testing.assert_array_equal(msgpack_restore(msgpack_serialize({"x": image}))["x"], image)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    write(tmp_path / "set", pictures())
    with pytest.raises(FileExistsError, match="exists; nothing is overwritten"):
        write(tmp_path / "set", pictures())

    def breaks():
        yield {"x": pictures()[0]}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "other", breaks(), IMAGES)
    with pytest.raises(ValueError, match="no examples to write"):
        write(tmp_path / "other", [])
    with pytest.raises(ValueError, match="example 4 is .*the first one is"):
        write(tmp_path / "other", [*pictures(4), pictures()[0, :3]])
    with pytest.raises(ValueError, match="need a kind"):
        write_records(tmp_path / "other", [], {"kind": "image"})
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_damage_is_named_at_opening(tmp_path):
    path = tmp_path / "set"
    with pytest.raises(FileNotFoundError, match=r"no metadata\.json there; .*jaxdiff\.data\.convert"):
        open_source(f"records:{path}")
    write(path, pictures())
    with pytest.raises(ValueError, match="holds images, measurements are needed here"):
        open_measurements(f"records:{path}")
    metadata = (path / "metadata.json").read_text()
    for old, new, message in [
        ('"jaxdiff records"', '"other"', "does not say format 'jaxdiff records'"),
        ('"version": 1', '"version": 2', "version 2; this code reads 1"),
        ('"count": 7', '"count": 8', "damaged"),
        ('"images"', '"movies"', "damaged"),
        ("{", "", r"metadata\.json is damaged"),
    ]:
        (path / "metadata.json").write_text(metadata.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            open_source(f"records:{path}")
    (path / "metadata.json").write_text(metadata)
    whole = (path / "00001.array_record").read_bytes()
    (path / "00001.array_record").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"the shard 00001\.array_record is damaged"):
        open_source(f"records:{path}")
    (path / "00001.array_record").write_bytes((path / "00002.array_record").read_bytes())
    with pytest.raises(ValueError, match=r"1 records in 00001\.array_record, the metadata says 3"):
        open_source(f"records:{path}")
    (path / "00001.array_record").unlink()
    with pytest.raises(FileNotFoundError, match=r"the shard 00001\.array_record is missing"):
        open_source(f"records:{path}")


def test_a_record_that_does_not_fit_its_operator(tmp_path):
    spec = {"name": "pixel_mask", "in_shape": [6, 4, 1], "p": 0.5}
    y, mask, sigma = np.zeros((6, 4, 1), np.float32), np.ones((6, 4, 1), bool), np.zeros((), np.float32)
    for name, example, message in [
        ("a", {"y": y, "sigma_y": sigma}, "needs the array 'params/mask'"),
        ("b", {"y": y[:3], "params/mask": mask, "sigma_y": sigma}, r"y must have shape \(n, 6, 4, 1\)"),
        ("c", {"y": y, "params/mask": mask}, "have no 'sigma_y'; they have params/mask, y"),
        ("d", {"params/mask": mask, "sigma_y": sigma}, "have no 'y'"),
        ("e", {"y": y, "params/mask": mask, "sigma_y": -sigma - 1}, "sigma_y must be finite"),
        ("f", {"y": y + 1, "params/mask": ~mask, "sigma_y": sigma}, "y is not 0 where pixel_mask"),
    ]:
        write_records(tmp_path / name, [example], {"kind": "measurements", "operator": spec})
        with pytest.raises(ValueError, match=message):
            open_measurements(f"records:{tmp_path / name}")
    with pytest.raises(ValueError, match="holds measurements, images are needed here"):
        open_source(f"records:{tmp_path / 'a'}")
