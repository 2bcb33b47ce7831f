"""One run at a time in a workdir: `lock.json` says whose it is, and its age (its time of change) that they are alive.

A lock whose process is gone is taken over with a message; so is one of another host that nobody has touched for
`STALE_SECONDS` (whether a process runs on another host cannot be asked).
"""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jaxdiff.files import CannotWrite, writing

log = logging.getLogger("jaxdiff")
LOCK = "lock.json"
BEAT_SECONDS = 10.0  # between two signs of life
STALE_SECONDS = 300.0  # without one, a lock of another host is nobody's


class WorkdirInUse(RuntimeError):
    """Another live run has the workdir; the message has its owner and its age."""


def started(pid: int) -> str | None:
    """When a process of this host began, in clock ticks since boot; None where there is none.

    Process numbers are used again: number and start together name one process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _signals(pid) else ""
    fields = text.rpartition(")")[2].split()  # the name, in brackets, may hold anything
    return None if fields[0] == "Z" else fields[19]


def _signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def owner() -> dict[str, Any]:
    """What a lock of this process says."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": started(pid), "since": time.time()}


def holder(path: Path) -> dict[str, Any] | None:
    """Whose lock it is, and `age` in seconds since the last sign of life; None where it is no one's.

    A lock that cannot be read is no one's: it is written under the guard of `_alone`, so its owner died in the act.
    """
    try:
        age = time.time() - path.stat().st_mtime
        found = json.loads(path.read_text())
        found = {"host": str(found["host"]), "pid": int(found["pid"]), **found}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("%s cannot be read: taken over", path)
        return None
    here = found["host"] == socket.gethostname()
    alive = started(found["pid"]) == found.get("started") if here else age < STALE_SECONDS
    if not alive:
        why = "the process is gone" if here else f"no sign of life for {age:.0f} s"
        log.warning(
            "%s was left by process %s on %s: taken over (%s)", path, found["pid"], found["host"], why
        )
        return None
    return {**found, "age": age}


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Looking and taking are one act among the processes of a host."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _take(path: Path) -> dict[str, Any] | None:
    """Take the lock; returns whose it is where it is another's."""
    with _alone(path.parent):
        other = holder(path)
        if other is not None:
            return other
        path.unlink(missing_ok=True)
        text = json.dumps(owner())
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        return None


def _release(path: Path, made: bool) -> None:
    """Give the lock back, if it is still this process's; a directory that was made for it and is empty goes too."""
    with _alone(path.parent):
        try:
            mine = json.loads(path.read_text()).get("pid") == os.getpid()
        except (OSError, ValueError):
            mine = False
        if mine:
            path.unlink()
    if made:
        try:
            path.parent.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except OSError as error:  # the disk may come back; the lock stays this process's on this host anyway
            log.warning("%s: no sign of life could be left (%s)", path, error)


@contextmanager
def locked(workdir: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """No other run is in this block for the same workdir.

    Args:
      workdir: is made where it is not there (and removed again where it stays empty).
      wait_seconds: how long to wait for another run to end.

    Raises:
      WorkdirInUse: another live run has it.
      CannotWrite: the workdir is read-only or the disk is full.
    """
    path, made = Path(workdir) / LOCK, not Path(workdir).exists()
    until = time.monotonic() + wait_seconds
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (other := _take(path)) is not None:
            if time.monotonic() >= until:
                raise WorkdirInUse(
                    f"{workdir} is in use by process {other['pid']} on {other['host']}, for "
                    f"{max(0.0, time.time() - float(other.get('since', 0))):.0f} s, last sign of life "
                    f"{other['age']:.0f} s ago ({path}). Wait for it, stop it, or use another --workdir"
                )
            time.sleep(0.2)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, over), daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        _release(path, made)


@contextmanager
def locked_unless_read_only(workdir: Path) -> Iterator[None]:
    """`locked`; a workdir that exists and cannot be written at all needs no lock: nobody can hurt it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(workdir))
        except CannotWrite as error:
            if not Path(workdir).is_dir() or getattr(error.__cause__, "errno", None) == errno.ENOSPC:
                raise
        yield
