"""fastMRI volumes: small synthetic .h5 files in the same format, and what is wrong with broken ones."""

import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import open_source, view_dataset
from jaxdiff.data.complex_images import central_scale, fft, inverse_fft
from jaxdiff.data.fastmri import _centred, compress, read_k_space
from jaxdiff.operators.fourier import simulated_maps

h5py = pytest.importorskip("h5py")
pytest.importorskip("sigpy")
SIZE, COILS = (32, 24), 3


def phantom(height=64, width=24):
    """An ellipse with another inside and a smooth phase, complex."""
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    size = ((v / 0.45) ** 2 + (u / 0.8) ** 2 < 1) + 0.5 * ((v / 0.2) ** 2 + ((u - 0.2) / 0.3) ** 2 < 1)
    return size * np.exp(0.5j * (1 + u + v))


def write(path, slices=2, coils=4, **changes):
    """A volume: coil images of the phantom through smooth maps, as k-space, readout oversampled by two."""
    import jax

    maps = np.asarray(simulated_maps(jax.random.key(1), (64, 24), coils))
    images = (maps[..., 0] + 1j * maps[..., 1]) * phantom()
    k_space = np.stack([(1 + s) * 1e-4 * fft(images) for s in range(slices)]).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["kspace"] = changes.get("kspace", k_space)
        file["ismrmrd_header"] = "<ismrmrdHeader/>"
        file["reconstruction_rss"] = np.zeros((slices, 32, 24), np.float32)
        for name in changes.get("extra", ()):
            file[name] = np.ones(24, np.float32)
        file.attrs.update(acquisition="AXT1", max=1.0, norm=1.0, patient_id="0")
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "volumes").mkdir()
    return tmp_path / "volumes"


def opened(folder, **changes):
    return open_source(f"fastmri:{folder}", **{"image_size": SIZE, "coils": COILS, **changes})


def test_images_are_the_phantom_and_k_space_is_theirs(folder):
    write(folder / "b.h5", slices=1)
    write(folder / "a.h5", slices=2)
    source = opened(folder)
    assert len(source) == 3 and source.shape == (*SIZE, 2) and source.report["volumes"] == 2
    x = source.gather([0, 1, 2])
    # Scaled alike, whatever the gain of the scanner; the order is that of the files' names.
    np.testing.assert_allclose(x[0], x[1], atol=1e-4)
    z = x[..., 0] + 1j * x[..., 1]
    assert central_scale(z[0]) == pytest.approx(1, abs=1e-4)
    truth = np.abs(phantom()[16:48])
    inside = truth > 0
    ratio = np.abs(z[0])[inside] / truth[inside]
    assert ratio.std() / ratio.mean() < 0.05
    k_space, maps = source.k_space([2, 0])
    assert k_space.shape == maps.shape == (2, COILS, *SIZE)
    predicted = fft(maps[0] * z[2])
    assert np.linalg.norm(predicted - k_space[0]) < 0.1 * np.linalg.norm(k_space[0])
    support = np.square(np.abs(maps)).sum(axis=1)
    assert (np.isclose(support, 1, atol=1e-3) | np.isclose(support, 0)).all() and support.max() > 0.9
    assert source.gather([]).shape == (0, *SIZE, 2)


def test_a_view_holds_lines_of_what_was_measured_and_nothing_else(folder):
    write(folder / "a.h5")
    source = opened(folder)
    op = operators.build("multicoil_fourier", source.shape, acceleration=3, coils=COILS, center=2)
    view = view_dataset(source, np.array([1, 0]), op, seed=5).take(np.arange(2))
    k_space, maps = source.k_space([1, 0])
    seen = view.params["lines"][:, None, None, :]
    y = view.y[..., 0] + 1j * view.y[..., 1]
    np.testing.assert_allclose(y, np.where(seen, k_space, 0))
    assert (view.params["lines"].sum(axis=1) == 8).all() and view.params["lines"][:, 11:13].all()
    np.testing.assert_array_equal(view.params["maps"][..., 1], maps.imag)
    # The same lines whatever the company.
    alone = view_dataset(source, np.array([0]), op, seed=5).take(np.arange(1))
    np.testing.assert_array_equal(alone.params["lines"][0], view.params["lines"][1])
    other = operators.build("multicoil_fourier", source.shape, coils=5)
    with pytest.raises(ValueError, match="3 coils needs multicoil_fourier.coils=3"):
        view_dataset(source, np.arange(2), other, seed=5)
    with pytest.raises(ValueError, match="has its own noise; leave sigma_y 0"):
        view_dataset(source, np.arange(2), op, seed=5, sigma_y=0.1)


def test_the_second_opening_reads_what_the_first_kept(folder, monkeypatch):
    write(folder / "a.h5", slices=1)
    first = opened(folder).gather([0])
    monkeypatch.setattr("jaxdiff.data.fastmri.prepare", lambda *_: pytest.fail("prepared twice"))
    np.testing.assert_array_equal(opened(folder).gather([0]), first)


def test_compression_keeps_the_energy_of_few_components():
    rng = np.random.default_rng(0)
    mixed = np.einsum("ij,jhw->ihw", rng.normal(size=(6, 2)), rng.normal(size=(2, 8, 8)) + 0j)
    few = compress(mixed, 2)
    assert np.linalg.norm(few) == pytest.approx(np.linalg.norm(mixed))
    assert np.linalg.norm(few[0]) > np.linalg.norm(few[1])
    assert compress(mixed, 8).shape == (8, 8, 8) and not compress(mixed, 8)[6:].any()


@pytest.mark.parametrize("size", [(6, 4), (9, 12), (8, 8)])
def test_the_centre_stays_the_centre(size):
    image = np.zeros((8, 8))
    image[4, 4] = 1
    cut = _centred(image, size)
    assert cut.shape == size and cut[size[0] // 2, size[1] // 2] == 1 and cut.sum() == 1
    np.testing.assert_allclose(inverse_fft(fft(cut)), cut, atol=1e-12)


def truncated(folder):
    path = write(folder / "bad.h5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "not an HDF5 file, or cut off or damaged"),
        (lambda folder: (folder / "bad.h5").write_bytes(b"nothing"), "not an HDF5 file, or cut off"),
        (
            lambda folder: write(folder / "bad.h5", kspace=np.zeros((2, 8, 8), np.complex64)),
            "must be complex",
        ),
        (lambda folder: write(folder / "bad.h5", extra=["mask"]), "undersampled already"),
        (lambda folder: write(folder / "bad.h5", kspace=np.full((1, 2, 32, 24), np.nan + 0j)), "not finite"),
        (
            lambda folder: write(folder / "bad.h5", kspace=np.zeros((1, 2, 32, 24), np.complex64)),
            "slice 0: .* 0 every",
        ),
        (
            lambda folder: write(folder / "bad.h5", kspace=np.zeros((1, 2, 8, 8), np.complex64)),
            "at least 24 lines",
        ),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(folder, make, message):
    make(folder)
    with pytest.raises(ValueError, match=rf"bad\.h5: .*{message}"):
        opened(folder)
    # Few enough of them are left out, and the report says so.
    write(folder / "good.h5", slices=1)
    report = opened(folder, max_bad_share=0.5).report
    assert report["skipped"] == 1 and report["used"] == 1 and "bad.h5" in report["skipped_files"][0][0]


def test_files_without_k_space_or_none_at_all(folder):
    with h5py.File(folder / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(ValueError, match="no 'kspace'; it has images"):
        read_k_space(folder / "other.h5")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no .h5 file; expected a folder of multi-coil volumes"):
        open_source(f"fastmri:{folder / 'empty'}")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_source(f"fastmri:{folder / 'nowhere'}")
    with pytest.raises(ValueError, match="needs a path"):
        open_source("fastmri")
