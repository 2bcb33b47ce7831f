"""Sources of image files: a folder, or a zip archive as downloaded (CelebA's `img_align_celeba.zip`).

A file `name.mask.png` beside `name.png`, `name.jpg` or `name.jpeg` says which pixels of that image were seen
(see `masked`). It is no image, and no source of clean images takes it for one.
"""

import os
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from jaxdiff.data.arrays import ArraySource, existing_file
from jaxdiff.data.encoded import Encoded, EncodedSource, open_encoded
from jaxdiff.data.pixels import Settings

EXTENSIONS = (".png", ".jpg", ".jpeg")
MASK_EXTENSION = ".mask.png"
MAX_FILE_BYTES = 2**29  # of a file in an archive, unpacked: a few kilobytes may claim to be terabytes


class ImageFiles(NamedTuple):
    """The image files of a folder or an archive.

    Attributes:
        name: of the source.
        names: the images, sorted by path.
        masks: image -> its mask file.
        read: path -> bytes; called from several threads at once.
        others: how many files are neither image nor mask.
    """

    name: str
    names: list[str]
    masks: dict[str, str]
    read: Callable[[str], bytes]
    others: int


def open_folder(argument: str, settings: Settings) -> ArraySource | EncodedSource:
    """All PNG and JPEG files below a folder, at any depth, sorted by their path; hidden ones are left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no images in it; or as `open_encoded`.
    """
    return _open(folder_files(argument), settings)


def open_zip(argument: str, settings: Settings) -> ArraySource | EncodedSource:
    """All PNG and JPEG files in a zip archive, sorted by their path in it; read in place, never unpacked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a zip archive, or no images in it; or as `open_encoded`.
    """
    return _open(zip_files(argument), settings)


def encoded_images(files: ImageFiles) -> Encoded:
    """The images by position, with what there is besides them in the report."""
    report = {"mask_files": len(set(files.masks.values())), "other_files": files.others}
    return Encoded(files.name, files.names, lambda i: files.read(files.names[i]), report)


def folder_files(argument: str) -> ImageFiles:
    """The image files below a folder; raises as `open_folder`."""
    if not argument:
        raise ValueError("data source 'folder' needs a path, folder:PATH, a folder of PNG or JPEG files")
    root = Path(argument).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        hint = f" (for an archive: zip:{root})" if root.suffix.lower() == ".zip" else ""
        raise FileNotFoundError(
            f"folder:{root}: '{root}' {what}; expected a folder of PNG or JPEG files, at any depth{hint}"
        )
    files = (
        Path(where, file).relative_to(root).as_posix() for where, _, here in os.walk(root) for file in here
    )
    return _image_files(f"folder:{root}", files, lambda name: (root / name).read_bytes())


def zip_files(argument: str) -> ImageFiles:
    """The image files in a zip archive; raises as `open_zip`."""
    path = existing_file(argument, "zip", "a zip archive of PNG or JPEG files (for a folder: folder:PATH)")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise ValueError(f"zip:{path}: not a zip archive, or cut off ({size} bytes; {error})") from error
    lock = threading.Lock()

    def read(name: str) -> bytes:
        size = archive.getinfo(name).file_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes when unpacked, more than {MAX_FILE_BYTES}")
        with (
            lock
        ):  # one file handle, read (and its CRC checked) by one thread at a time; decoding is parallel
            return archive.read(name)

    files = (info.filename for info in archive.infolist() if not info.is_dir())
    return _image_files(f"zip:{path}", files, read)


def _open(files: ImageFiles, settings: Settings) -> ArraySource | EncodedSource:
    return open_encoded(encoded_images(files), settings)


def _image_files(where: str, files: Iterable[str], read: Callable[[str], bytes]) -> ImageFiles:
    """Images, sorted, with their masks; hidden files and macOS's shadow files are not even counted.

    A `name.mask.png` without an image `name` is listed with the images.
    """
    names, others = [], 0
    for file in files:
        parts = file.split("/")
        if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
            continue
        if file.lower().endswith(EXTENSIONS):
            names.append(file)
        else:
            others += 1
    possible = {name[: -len(MASK_EXTENSION)]: name for name in names if name.lower().endswith(MASK_EXTENSION)}
    masks = {name: possible[stem] for name in names if (stem := os.path.splitext(name)[0]) in possible}
    images = sorted(set(names) - set(masks.values()))
    if not images:
        raise ValueError(f"{where}: no PNG or JPEG files in it ({others} files of other kinds)")
    return ImageFiles(where, images, {name: masks[name] for name in images if name in masks}, read, others)
