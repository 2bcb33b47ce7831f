"""Files of a run: a local directory or an object store (gs://); nothing is half there, and one message says why a
file could not be written."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EIO: "input/output error of the device",
}

GO_ON = "What was saved before is kept; make room or give permission, and run the same command again to go on"
SPARE = 2**20  # bytes besides the arrays themselves


def is_remote(path: str | Path) -> bool:
    """Whether a path is in an object store and not in a file system."""
    return "://" in os.fspath(path)


def open_workdir(name: str | Path) -> Path:
    """The directory of a run: a `pathlib.Path`, or for gs:// and the like a path of etils, which has its methods."""
    return epath.Path(name) if is_remote(name) else Path(name)


class CannotWrite(OSError):
    """A file of a run could not be written; the message has the path, the reason and what to do."""


def why_not_written(error: BaseException | None) -> str | None:
    """The reason (of `REASONS`) behind an error, looked for along its causes; None where it is another one.

    TensorStore raises ValueError with the system's words in its text, so that is looked at too.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for code, reason in REASONS.items():
            if getattr(error, "errno", None) == code or f": {os.strerror(code)}" in str(error):
                return reason
        error = error.__cause__ or error.__context__
    return None


def require_room(directory: Path, size: int) -> None:
    """Raises CannotWrite where the disk has less than `size` bytes (and a little more) left, before any is used."""
    free = shutil.disk_usage(directory).free
    if free < size + SPARE:
        raise CannotWrite(
            f"{directory} cannot be written: no space left on the device ({size + SPARE} bytes are needed, {free} are "
            f"free). {GO_ON}"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of the disk inside the block into one that names `path`.

    Raises:
      CannotWrite: there is no space, or no permission to write.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        reason = why_not_written(error)
        if reason is None:
            raise
        raise CannotWrite(f"{path} cannot be written: {reason}. {GO_ON}") from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write(temporary path)`, then rename: a kill leaves the old file or the new one, never half of one.

    In an object store an object appears whole by itself: it is written to a local file and sent in one piece.

    Raises:
      CannotWrite: the disk is full, or read-only; the old file is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_remote(path):
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder) / path.name
                write(local)
                path.write_bytes(local.read_bytes())
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)  # gone already where all went well
