"""What a checkpoint consists of: the size and SHA-256 of each of its files, so that one changed bit is seen.

The list is written into the checkpoint's own directory before that gets its name: a checkpoint that has a name has a
list. One without is of an older version; it is read without the check.

In an object store the list has the sizes alone: the store keeps checksums of its own and checks them whenever an object
is sent or read, and whole checkpoints are not read twice over the network.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from jaxdiff.files import is_remote, write_atomically

NAME = "manifest.json"
ORBAX, COMMITTED = "_CHECKPOINT_METADATA", "commit_timestamp_nsecs"
# Orbax writes two things after the list: the time of the commit into its own note, and this mark, which nobody reads.
MARK, MARKED = "commit_success.txt", "Checkpoint commit was successful"


def listing(directory: Path) -> dict[str, list]:
    """Path below `directory` -> [bytes, SHA-256], for every file but the list itself and the mark."""
    found = {}
    for name, path in sorted(_files(directory)):
        if name not in (NAME, MARK):
            found[name] = _without_time(path) if name == ORBAX else _whole(path)
    return found


def _files(directory: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for path in directory.iterdir():  # paths of object stores know no rglob
        if path.is_dir():
            yield from _files(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, path


def _whole(path: Path) -> list:
    if is_remote(path):
        return [path.stat().length, None]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [path.stat().st_size, digest]


def _without_time(path: Path) -> list:
    """Of Orbax's own note: all but the time of the commit; of one that is no JSON, all of it."""
    try:
        note = json.loads(path.read_bytes())
        text = json.dumps({key: value for key, value in note.items() if key != COMMITTED}, sort_keys=True)
    except (ValueError, AttributeError):
        return _whole(path)
    return [len(text), hashlib.sha256(text.encode()).hexdigest()]


def write_manifest(directory: Path) -> None:
    """List the files of a checkpoint that is complete."""
    text = json.dumps(listing(directory), indent=0)
    write_atomically(directory / NAME, lambda temporary: temporary.write_text(text))


def has_manifest(directory: Path) -> bool:
    """Whether the checkpoint has a list of its files."""
    return (directory / NAME).exists()


def fault(directory: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where they are as they were written.

    Names the first file that is missing, that nobody wrote, or whose bytes are others.
    """
    try:
        expected = json.loads((directory / NAME).read_text())
        expected = {str(name): list(entry) for name, entry in expected.items()}
    except (ValueError, AttributeError, TypeError) as error:
        return f"{NAME} is damaged ({error})"
    mark = directory / MARK
    if mark.exists() and not mark.read_bytes().startswith(MARKED.encode()):
        return f"{MARK} has changed since it was written"
    found = listing(directory)
    for name in sorted({*expected, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not of this checkpoint"
        if found[name][0] != expected[name][0]:
            return f"{name} has {found[name][0]} bytes, {expected[name][0]} were written"
        if found[name] != expected[name]:
            return f"{name} has changed since it was written"
    return None
