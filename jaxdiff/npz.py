"""Reading .npz files that may be damaged, or made to harm: arrays or one kind of error, and nothing is unpickled."""

import errno
import io
import lzma
import zipfile
import zlib
from pathlib import Path

import numpy as np

# What NumPy and zipfile raise for damaged files, besides OSError: damage may look like encryption, another
# compression, another kind of file, or an array larger than memory.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    MemoryError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    SyntaxError,
)


def read_npz(source: str | Path | io.BytesIO) -> dict[str, np.ndarray]:
    """Every array of an .npz file by name.

    Raises:
        ValueError: it is none, it is damaged, or it holds objects; the message does not name the file.
        OSError: it cannot be read from the disk.
    """
    try:
        if not zipfile.is_zipfile(source):
            raise ValueError("not an .npz file, or cut off")
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        if error.errno not in (
            None,
            errno.EINVAL,
        ):  # a place outside the file is damage; the disk's errors are not
            raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
    except UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error
