"""The embedded brain: complex, of a declared scale, a function of the index; and parts that are slabs of it."""

import numpy as np
import pytest

from jaxdiff.data import open_source, slab_split
from jaxdiff.data.complex_images import central_scale, fft

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def source():
    return open_source("mni152:3", image_size=32)


def test_slices_are_complex_and_scaled(source):
    assert source.shape == (32, 32, 2) and len(source) == 3 * source.report["slices"] > 300
    x = source.gather(np.arange(0, len(source), 40))
    z = x[..., 0] + 1j * x[..., 1]
    np.testing.assert_allclose([central_scale(one) for one in z], 1.0, rtol=1e-5)
    assert x.dtype == np.float32 and np.abs(z).max() < 2
    assert (np.abs(z[:, 0]) < 0.05).all()  # air
    # The phase is smooth and no constant: low frequencies hold nearly all of the energy.
    inside = np.abs(z[4]) > 0.3
    assert np.ptp(np.angle(z[4])[inside]) > 0.3
    energy = np.abs(fft(z)) ** 2
    assert energy[:, 8:24, 8:24].sum() > 0.95 * energy.sum()


def test_an_example_depends_on_its_index_alone(source):
    np.testing.assert_array_equal(source.gather([7, 200])[1], source.gather([200])[0])
    again = open_source("mni152:3", image_size=32)
    np.testing.assert_array_equal(again.gather([7]), source.gather([7]))
    # Variants of a slice differ, and are more alike than slices far apart.
    size = np.sqrt((source.gather([150, 151, 0]) ** 2).sum(axis=-1))
    near, far = (np.linalg.norm(size[0] - other) for other in size[1:])
    assert 0.1 < near < far
    assert source.gather([]).shape == (0, 32, 32, 2)


@pytest.mark.parametrize(("spec", "channels"), [("mni152:0", 0), ("mni152:few", 0), ("mni152", 1)])
def test_bad_arguments(spec, channels):
    with pytest.raises(ValueError, match="data source 'mni152"):
        open_source(spec, channels=channels)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nilearn", None)
    with pytest.raises(FileNotFoundError, match=r"mni152: needs the package 'nilearn'.*\[mri\]"):
        open_source("mni152")


def test_slabs_are_apart_and_disjoint():
    sizes = {"held_out": 10, "reference": 0, "tuning": 5, "view/mri": 60}
    parts = slab_split(100, sizes, gap=8)
    assert {name: len(rows) for name, rows in parts.items()} == sizes
    np.testing.assert_array_equal(parts["held_out"], np.arange(50, 60))
    owner = np.full(100, -1)
    for number, rows in enumerate(parts.values()):
        assert (owner[rows] == -1).all()
        owner[rows] = number
        steps = np.diff(rows)
        assert ((steps == 1) | (steps == -99)).all()
    # Between examples of two parts lie at least 8 others, also around the end.
    used = np.flatnonzero(owner >= 0)
    for a, b in zip(used, np.append(used[1:], used[0] + 100), strict=True):
        assert owner[a] == owner[b % 100] or b - a > 8


@pytest.mark.parametrize(
    ("sizes", "gap", "message"),
    [({"a": 90}, 11, "are 101 examples, there are 100"), ({"a": -1}, 0, ">= 0"), ({"a": 1}, -1, ">= 0")],
)
def test_bad_slabs(sizes, gap, message):
    with pytest.raises(ValueError, match=message):
        slab_split(100, sizes, gap)
