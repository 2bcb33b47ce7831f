"""Multi-coil k-space in the format of fastMRI: a folder of .h5 files, one volume each.

A file holds `kspace` (slices, coils, readout, lines), fully sampled, complex, zero frequency in the middle. Of each
slice

1. the image of each coil is cropped to `data.image_size` (zeros where it is smaller; the readout is oversampled),
2. the coils are compressed to `data.coils` virtual ones, the leading principal components of k-space,
3. ESPIRiT (sigpy) finds one set of sensitivity maps S_c from the central lines, sum_c |S_c|^2 = 1 on the object,
4. the image is x = sum_c conj(S_c) F^-1 y_c, and all is divided by its `central_scale`.

This is done once for each file and kept in $JAXDIFF_CACHE/fastmri (default ~/.cache/jaxdiff/fastmri): 16 bytes for each
pixel, coil and slice, and 8 for the image. Slices of one volume are no independent subjects; they are neighbours in the
order of the source, so that `split.slab_split` with a gap of a volume keeps volumes apart. Who was scanned
(`patient_id`) is not read: two volumes of one person can be in two parts.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from jaxdiff.data.complex_images import as_channels, central_scale, fft, inverse_fft
from jaxdiff.data.extras import require
from jaxdiff.data.pixels import Settings

SIZE = (384, 320)  # where data.image_size is not given
CALIBRATION = 24  # central lines and columns that ESPIRiT looks at
VERSION = 1  # of what is kept
PARTS = ("images", "k_space", "maps")
SHOWN = 10  # broken files that the report names
MOST_PACKED = 1100  # bytes that deflate makes of one, at most


class Volume(NamedTuple):
    """One file as it is kept: arrays that are read from disk when asked for."""

    images: np.ndarray  # (slices, H, W, 2) float32
    k_space: np.ndarray  # (slices, coils, H, W) complex64
    maps: np.ndarray  # (slices, coils, H, W) complex64


class FastMriSource:
    """Complex slices (H, W, 2) of many volumes, and their k-space; see `sources.Source`."""

    def __init__(self, name: str, volumes: list[Volume], report: dict[str, Any]):
        self.name, self.labels, self.report = name, None, report
        self.shape: tuple[int, ...] = tuple(volumes[0].images.shape[1:])
        self.coils = volumes[0].maps.shape[1]
        self._volumes = volumes
        self._ends = np.cumsum([len(volume.images) for volume in volumes])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images, float32 (n, H, W, 2)."""
        return self._gather("images", indices)

    gather_pixels = gather

    def k_space(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the coils measured, fully sampled, and their maps: complex64 (n, coils, H, W) each."""
        return self._gather("k_space", indices), self._gather("maps", indices)

    def _gather(self, part, indices):
        like = getattr(self._volumes[0], part)
        found = np.empty((len(indices), *like.shape[1:]), like.dtype)
        for row, index in enumerate(np.asarray(indices, np.int64)):
            volume = int(np.searchsorted(self._ends, index, side="right"))
            start = self._ends[volume - 1] if volume else 0
            found[row] = getattr(self._volumes[volume], part)[index - start]
        return found


def open_fastmri(argument: str, settings: Settings) -> FastMriSource:
    """`fastmri:PATH`, a folder of .h5 files (or one file).

    Raises:
        FileNotFoundError: no such folder, no .h5 file in it, or h5py or sigpy is not installed.
        ValueError: more broken files than `max_bad_share` allows; each is named with what is wrong with it.
    """
    if not argument:
        raise ValueError("data source 'fastmri' needs a path, fastmri:PATH, a folder of multi-coil .h5 files")
    path = Path(argument).expanduser()
    files = [path] if path.is_file() else sorted(path.glob("*.h5"))
    if not files:
        what = "has no .h5 file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"fastmri:{path}: '{path}' {what}; expected a folder of multi-coil volumes such as multicoil_train, from "
            "https://fastmri.med.nyu.edu"
        )
    require("h5py", "fastmri"), require("sigpy", "fastmri")
    if settings.rules.channels is not None:
        raise ValueError("data source 'fastmri': its images are complex, two channels; leave data.channels 0")
    size = settings.rules.image_size or SIZE
    volumes, broken = [], []
    for file in track(files, description="coil maps of fastmri", transient=True):
        try:
            volumes.append(_kept(file, size, settings.coils))
        except ValueError as error:
            broken.append([str(file), str(error)])
            if len(broken) > settings.max_bad_share * len(files):
                listed = "\n".join(f"  {name}: {reason}" for name, reason in broken[:SHOWN])
                raise ValueError(
                    f"fastmri:{path}: {len(broken)} of {len(files)} files cannot be used, more than max_bad_share = "
                    f"{settings.max_bad_share:g} of them:\n{listed}"
                ) from error
    if not volumes:
        raise ValueError(f"fastmri:{path}: no usable file: {broken[0][0]}: {broken[0][1]}")
    found = sum(len(volume.images) for volume in volumes)
    report = {
        "source": f"fastmri:{path}",
        "found": found,
        "used": found,
        "skipped": len(broken),
        "skipped_files": broken[:SHOWN],
        "volumes": len(volumes),
        "pixels": f"complex, {size[0]}x{size[1]}, {settings.coils} virtual coils, 99th percentile of the magnitude "
        "(central lines) = 1",
    }
    return FastMriSource(f"fastmri:{path}", volumes, report)


def read_k_space(file: Path) -> np.ndarray:
    """(slices, coils, H, W) complex64.

    Raises:
        ValueError: not an HDF5 file, cut off, no fully sampled multi-coil k-space, or values that are not finite.
    """
    h5py = require("h5py", "fastmri")
    try:
        with h5py.File(file, "r") as opened:
            if "kspace" not in opened:
                raise ValueError(f"no 'kspace'; it has {', '.join(opened) or 'nothing'}")
            if "mask" in opened:
                raise ValueError("undersampled already (it has a 'mask'): a fully sampled volume is needed")
            stored = opened["kspace"]
            if stored.ndim != 4 or stored.dtype.kind != "c" or 0 in stored.shape:
                raise ValueError(
                    f"kspace must be complex (slices, coils, readout, lines), got {stored.dtype} {stored.shape}"
                )
            if stored.size * stored.dtype.itemsize > MOST_PACKED * file.stat().st_size:
                raise ValueError(
                    f"kspace of {stored.shape} cannot be in {file.stat().st_size} bytes: damaged"
                )
            k_space = stored[()].astype(np.complex64)
    except ValueError:
        raise
    except Exception as error:  # h5py raises whatever the C library under it does
        raise ValueError(f"not an HDF5 file, or cut off or damaged ({error})") from error
    if not np.isfinite(k_space).all():
        raise ValueError("kspace has values that are not finite")
    return k_space


def prepare(k_space: np.ndarray, size: tuple[int, int], coils: int) -> Volume:
    """A volume's k-space (slices, coils, H, W) cropped, compressed, calibrated and scaled; steps 1 to 4 above.

    Raises:
        ValueError: fewer than `CALIBRATION` lines, or an empty slice.
    """
    mri = require("sigpy.mri", "fastmri")
    if min(*k_space.shape[-2:], *size) < CALIBRATION:
        raise ValueError(
            f"k-space of {k_space.shape[-2:]} to images {size}: at least {CALIBRATION} lines are needed"
        )
    images, compressed, maps = [], [], []
    for number, one in enumerate(k_space):
        if not one.any():
            raise ValueError(f"slice {number}: k-space is 0 everywhere")
        one = compress(fft(_centred(inverse_fft(one), size)), coils)
        sensitivity = mri.app.EspiritCalib(one, calib_width=CALIBRATION, show_pbar=False).run()
        image = np.sum(np.conj(sensitivity) * inverse_fft(one), axis=0)
        try:
            scale = central_scale(image)
        except ValueError as error:
            raise ValueError(f"slice {number}: {error}") from None
        images.append(as_channels(image / scale))
        compressed.append((one / scale).astype(np.complex64))
        maps.append(sensitivity.astype(np.complex64))
    return Volume(np.stack(images), np.stack(compressed), np.stack(maps))


def compress(k_space: np.ndarray, coils: int) -> np.ndarray:
    """(C, H, W) -> (coils, H, W): principal components, strongest first; zeros where there are fewer coils."""
    flat = k_space.reshape(len(k_space), -1)
    _, directions = np.linalg.eigh(flat @ flat.conj().T)
    leading = directions[:, ::-1][:, :coils].conj().T @ flat
    found = leading.reshape(-1, *k_space.shape[1:])
    return np.concatenate([found, np.zeros((coils - len(found), *k_space.shape[1:]), found.dtype)])


def _centred(image, size):
    """The centre of the last two axes: cut where they are longer than `size`, zeros around where shorter."""
    for axis, wanted in zip((-2, -1), size, strict=True):
        image = np.moveaxis(image, axis, -1)
        have = image.shape[-1]
        # Position 0 is at n // 2 before and after.
        first = have // 2 - wanted // 2
        kept = image[..., max(0, first) : max(0, first) + min(have, wanted)]
        before = max(0, -first)
        pad = [(0, 0)] * (image.ndim - 1) + [(before, wanted - before - kept.shape[-1])]
        image = np.moveaxis(np.pad(kept, pad), -1, axis)
    return image


def _kept(file: Path, size: tuple[int, int], coils: int) -> Volume:
    """The prepared volume of a file; from the cache where it is there."""
    state = file.stat()
    key = json.dumps([VERSION, str(file.resolve()), state.st_size, state.st_mtime_ns, list(size), coils])
    root = Path(os.environ.get("JAXDIFF_CACHE", Path.home() / ".cache" / "jaxdiff")) / "fastmri"
    directory = root / hashlib.sha256(key.encode()).hexdigest()[:24]
    if not directory.is_dir():
        volume = prepare(read_k_space(file), size, coils)
        # Renamed when all of it is written: a kill leaves no half of a volume.
        temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
        temporary.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            np.save(temporary / f"{part}.npy", getattr(volume, part))
        try:
            temporary.rename(directory)
        except OSError:  # another process was first
            if not directory.is_dir():
                raise
    return Volume(*(np.load(directory / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in PARTS))
