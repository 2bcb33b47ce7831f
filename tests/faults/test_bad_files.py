"""Readers of files that others prepared: k-space, TFDS, weights, statistics, measurements as records; all fuzzed."""

import json

import numpy as np
import pytest

from jaxdiff.data import fastmri
from jaxdiff.data.complex_images import as_channels, inverse_fft
from jaxdiff.data.measured import open_measurements
from jaxdiff.data.records import write_records
from jaxdiff.data.sources import open_source
from jaxdiff.evaluation import statistics
from jaxdiff.evaluation.frechet import Moments
from jaxdiff.evaluation.stored import write_stored
from jaxdiff.evaluation.weight_file import read_weights, save_weights
from jaxdiff.npz import read_npz
from tests.faults.fuzzing import Evil, fuzz
from tests.faults.test_bad_data import encoded, first, photograph

SHAPES = {"a/kernel": (3, 2), "a/bias": (2,)}


def weights_of(path):
    return read_weights(path, SHAPES, "test", "make {path}")


@pytest.mark.slow
def test_fuzzed_weights(tmp_path, record_property):
    path = tmp_path / "weights.npz"
    save_weights(path, {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    fuzz(record_property, "converted weights", path.read_bytes(), path, lambda: weights_of(path))


def made_statistics(path):
    law = Moments(np.zeros(3), np.eye(3), 5)
    features = np.ones((5, 3), np.float32)
    made = statistics.Statistics("test", {"size": 8}, law, features, "folder:x", "as they are")
    statistics.save_statistics(made, path)


@pytest.mark.slow
def test_fuzzed_statistics(tmp_path, record_property):
    path = tmp_path / "statistics.npz"
    made_statistics(path)
    assert statistics.load_statistics(path).moments.count == 5
    read = lambda: statistics.load_statistics(path)  # noqa: E731
    fuzz(record_property, "stored statistics", path.read_bytes(), path, read)


@pytest.mark.parametrize(
    ("arrays", "about", "message"),
    [
        ({}, {"dimension": "3"}, "damaged: dimension is '3'"),
        ({}, {"preprocessing": None}, "damaged: preprocessing is None"),
        ({"mean": np.full(3, np.nan)}, {}, "mean holds values that are not finite"),
        ({"mean": np.array(["a", "b", "c"])}, {}, "mean holds values that are not finite"),
        ({"covariance": np.eye(2)}, {}, "damaged: arrays"),
    ],
)
def test_statistics_that_cannot_be_are_named(tmp_path, arrays, about, message):
    good = {"extractor": "t", "dimension": 3, "preprocessing": {}, "count": 5, "source": "s", "pixels": "p"}
    made = {"mean": np.zeros(3), "covariance": np.eye(3)} | arrays
    write_stored(tmp_path / "s.npz", statistics.KIND, made, good | about)
    with pytest.raises(ValueError, match=message):
        statistics.load_statistics(tmp_path / "s.npz")


def test_a_pickle_in_an_array_is_not_read_by_any_of_the_readers(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "evil.npz"
    np.savez(path, metadata=np.array([Evil(mark)], object), **{"a/kernel": np.array([Evil(mark)], object)})
    for read in (weights_of, statistics.load_statistics, read_npz):
        with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
            read(path)
    assert not mark.exists()


@pytest.fixture
def measurements(tmp_path):
    directory = tmp_path / "measured"
    spec = {"name": "pixel_mask", "in_shape": [4, 4, 1], "p": 0.5}
    example = {"y": np.ones((4, 4, 1), np.float32), "sigma_y": np.float32(0.1)}
    example["params/mask"] = np.ones((4, 4, 1), bool)
    write_records(directory, [example] * 3, {"kind": "measurements", "operator": spec})
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("file", ["00000.array_record", "metadata.json"])
def test_fuzzed_records_of_measurements(measurements, record_property, file):
    path, name = measurements / file, f"records of measurements, {file}"
    read = lambda: first(open_measurements(f"records:{measurements}"))  # noqa: E731
    read()
    fuzz(record_property, name, path.read_bytes(), path, read)


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """A small k-space file; coil maps, which take seconds, are left out: here the file is read, and nothing else."""
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("sigpy")

    def prepare(k_space, size, coils):
        return fastmri.Volume(as_channels(inverse_fft(k_space)[:, 0]), k_space, k_space)

    monkeypatch.setattr(fastmri, "prepare", prepare)
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones((2, 2, 8, 8), np.complex64)
        file.attrs["acquisition"] = "AXT1"
    return path


@pytest.mark.slow
def test_fuzzed_k_space(volume, record_property):
    read = lambda: first(open_source(f"fastmri:{volume}"))  # noqa: E731
    read()
    fuzz(record_property, "fastmri .h5", volume.read_bytes(), volume, read)


def test_k_space_that_claims_more_than_its_file_can_hold_is_named(volume):
    import h5py

    with h5py.File(volume, "w") as file:
        file.create_dataset("kspace", (10**6, 10**4, 640, 368), "c8", chunks=(1, 1, 640, 368))
    with pytest.raises(ValueError, match=r"a.h5: kspace of \(1000000, .* cannot be in \d+ bytes"):
        open_source(f"fastmri:{volume}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    from tests.tfds_format import prepare

    root = tmp_path_factory.mktemp("tfds")
    prepare(root, [encoded(photograph(i)) for i in range(3)])
    return root / "small_faces" / "1.0.0"


def read_prepared(directory):
    return first(open_source("tfds:small_faces", image_size=8, data_dir=str(directory.parents[1])))


def hurt_file(directory, ending):
    return next(path for path in sorted(directory.iterdir()) if ending in path.name)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".array_record", "dataset_info.json", "features.json"])
def test_fuzzed_tfds(prepared, record_property, ending):
    path = hurt_file(prepared, ending)
    good = path.read_bytes()
    read_prepared(prepared)
    try:
        read = lambda: read_prepared(prepared)  # noqa: E731
        fuzz(record_property, f"tfds, {ending}", good, path, read, "tfds:small_faces:1.0.0")
    finally:
        path.write_bytes(good)


def test_a_module_that_tfds_would_import_is_refused(prepared):
    path = prepared / "features.json"
    good = path.read_text()
    evil = json.loads(good) | {"type": "antigravity.Feature", "pythonClassName": "antigravity.Feature"}
    try:
        path.write_text(json.dumps(evil))
        with pytest.raises(ValueError, match="names the class 'antigravity.Feature', which is not of TFDS"):
            read_prepared(prepared)
    finally:
        path.write_text(good)
