"""Sources of image files: a folder, or a zip archive as downloaded (CelebA's `img_align_celeba.zip`)."""

import os
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

from jaxdiff.data.arrays import ArraySource, existing_file
from jaxdiff.data.encoded import Encoded, EncodedSource, open_encoded
from jaxdiff.data.pixels import Settings

EXTENSIONS = (".png", ".jpg", ".jpeg")


def open_folder(argument: str, settings: Settings) -> ArraySource | EncodedSource:
    """All PNG and JPEG files below a folder, at any depth, sorted by their path; hidden ones are left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no images in it; or as `open_encoded`.
    """
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
    names, others = _images(files)
    _require_images(f"folder:{root}", names, others)
    encoded = Encoded(
        f"folder:{root}", names, lambda i: (root / names[i]).read_bytes(), {"other_files": others}
    )
    return open_encoded(encoded, settings)


def open_zip(argument: str, settings: Settings) -> ArraySource | EncodedSource:
    """All PNG and JPEG files in a zip archive, sorted by their path in it; read in place, never unpacked.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a zip archive, or no images in it; or as `open_encoded`.
    """
    path = existing_file(argument, "zip", "a zip archive of PNG or JPEG files (for a folder: folder:PATH)")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise ValueError(f"zip:{path}: not a zip archive, or cut off ({size} bytes; {error})") from error
    names, others = _images(info.filename for info in archive.infolist() if not info.is_dir())
    _require_images(f"zip:{path}", names, others)
    lock = threading.Lock()

    def read(position: int) -> bytes:
        with (
            lock
        ):  # one file handle, read (and its CRC checked) by one thread at a time; decoding is parallel
            return archive.read(names[position])

    return open_encoded(Encoded(f"zip:{path}", names, read, {"other_files": others}), settings)


def _images(files: Iterable[str]) -> tuple[list[str], int]:
    """The image files, sorted, and how many others there are; hidden and macOS's shadow files are neither."""
    names, others = [], 0
    for file in files:
        parts = file.split("/")
        if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
            continue
        if file.lower().endswith(EXTENSIONS):
            names.append(file)
        else:
            others += 1
    return sorted(names), others


def _require_images(where: str, names: list[str], others: int) -> None:
    if not names:
        raise ValueError(f"{where}: no PNG or JPEG files in it ({others} files of other kinds)")
