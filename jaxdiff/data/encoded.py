"""Sources whose examples are encoded images (PNG, JPEG), decoded when asked for.

All are decoded once at opening, by a pool of threads: broken ones are named, counted and left out, so that an
index means the same image ever after. Where all decoded pixels fit in `KEEP_BYTES` they are kept and nothing
is read twice.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from jaxdiff.data.arrays import ArraySource
from jaxdiff.data.pixels import PixelRules, Settings, decode, to_unit

KEEP_BYTES = 2**28  # decoded uint8 pixels kept in memory
SHOW_PROGRESS_FROM = 2000  # examples
NAMED_IN_ERROR, NAMED_IN_REPORT = 5, 20


class Encoded(NamedTuple):
    """Encoded images by position.

    Attributes:
        name: of the source.
        names: one name for each image, for messages.
        read: position -> bytes; called from several threads at once.
        report: what the opener has to say (files that are no images, for one).
    """

    name: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    report: dict[str, Any]


class Checked(NamedTuple):
    """What the check learnt of one image: its pixels' shape, or the reason why it cannot be used."""

    shape: tuple[int, ...]
    gray: bool
    reason: str


class EncodedSource:
    """Images decoded when asked for; see `sources.Source`."""

    def __init__(
        self, encoded: Encoded, rules: PixelRules, good: np.ndarray, shape: tuple[int, ...], report: dict
    ):
        self.name, self.labels, self.shape, self.report = encoded.name, None, shape, report
        self._encoded, self._rules, self._good = encoded, rules, good
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._good)

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index, float32 (n, H, W, C) in [-1, 1].

        Raises:
            OSError: a file has changed since the source was opened; the message names it.
        """
        positions = self._good[np.asarray(indices, np.int64)]
        if len(positions) == 0:
            return np.empty((0, *self.shape), np.float32)
        return to_unit(np.stack(list(self._pool.map(self._one, positions))))

    def _one(self, position: int) -> np.ndarray:
        name = self._encoded.names[position]
        try:
            pixels, _ = decode(self._encoded.read(int(position)), self._rules)
        except Exception as error:
            raise OSError(f"{name}: was readable at opening, and is not now: {error}") from error
        if pixels.shape != self.shape:
            raise OSError(f"{name}: shape {pixels.shape}, at opening {self.shape}")
        return pixels


def open_encoded(encoded: Encoded, settings: Settings) -> ArraySource | EncodedSource:
    """Decode every image once, leave out the broken ones, and open the rest.

    Returns:
        An `ArraySource` where the pixels fit in `KEEP_BYTES`, else an `EncodedSource`.

    Raises:
        ValueError: more than `max_bad_share` of the images are broken (the first few are named), or they have
            different sizes and no `image_size` is set.
    """
    kept: dict[int, np.ndarray] = {}
    room = KEEP_BYTES

    def check(position: int) -> tuple[Checked, np.ndarray | None]:
        try:
            pixels, gray = decode(encoded.read(position), settings.rules)
        except Exception as error:  # a decoder may raise anything on a damaged file: it becomes the reason
            return Checked((), False, f"{type(error).__name__}: {error}"), None
        return Checked(pixels.shape, gray, ""), pixels

    checks = []
    for position, (checked, pixels) in enumerate(_in_threads(check, len(encoded.names), encoded.name)):
        checks.append(checked)
        if pixels is not None and room >= 0:
            kept[position], room = pixels, room - pixels.nbytes
        elif room < 0:
            kept.clear()
    good = np.asarray([i for i, checked in enumerate(checks) if not checked.reason], np.int64)
    report = _report(encoded, checks, settings)
    _require_good(encoded, checks, settings.max_bad_share)
    shape = _one_shape(encoded, checks)
    gray = all(checks[i].gray for i in good)
    rules = settings.rules._replace(channels=settings.rules.channels or (1 if gray else 3))
    shape = (*shape[:2], rules.channels)
    if room < 0:
        return EncodedSource(encoded, rules, good, shape, report)
    pixels = np.stack(
        [kept.pop(i)[..., : rules.channels] for i in good]
    )  # gray files hold three equal channels
    return ArraySource(encoded.name, pixels, None, report)


def threads() -> int:
    """How many threads decode: one for each CPU this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _in_threads(function: Callable[[int], Any], count: int, name: str) -> Iterable[Any]:
    """function(0), function(1), ... in order, by threads a few items ahead; a bar where it is long."""
    ahead = 8 * threads()

    def results():
        with ThreadPoolExecutor(threads(), thread_name_prefix="check") as pool:
            waiting = deque(pool.submit(function, i) for i in range(min(ahead, count)))
            for following in range(len(waiting), len(waiting) + count):
                result = waiting.popleft().result()
                if following < count:
                    waiting.append(pool.submit(function, following))
                yield result

    if count < SHOW_PROGRESS_FROM:
        return results()
    return track(results(), total=count, description=f"checking {name}")


def _report(encoded: Encoded, checks: Sequence[Checked], settings: Settings) -> dict[str, Any]:
    bad = [[name, c.reason] for name, c in zip(encoded.names, checks, strict=True) if c.reason]
    return {
        "source": encoded.name,
        "found": len(checks),
        "used": len(checks) - len(bad),
        "skipped": len(bad),
        "skipped_files": bad[:NAMED_IN_REPORT],
        "pixels": settings.rules.describe(),
        **encoded.report,
    }


def _require_good(encoded: Encoded, checks: Sequence[Checked], max_bad_share: float) -> None:
    bad = [f"{name} ({c.reason})" for name, c in zip(encoded.names, checks, strict=True) if c.reason]
    if len(bad) < len(checks) and len(bad) <= max_bad_share * len(checks):
        return
    more = f", and {len(bad) - NAMED_IN_ERROR} more" if len(bad) > NAMED_IN_ERROR else ""
    raise ValueError(
        f"{encoded.name}: {len(bad)} of {len(checks)} images are broken, more than the allowed share "
        f"{max_bad_share:g} (max_bad_share): {'; '.join(bad[:NAMED_IN_ERROR])}{more}"
    )


def _one_shape(encoded: Encoded, checks: Sequence[Checked]) -> tuple[int, ...]:
    first = next(i for i, checked in enumerate(checks) if not checked.reason)
    shape = checks[first].shape
    for name, checked in zip(encoded.names, checks, strict=True):
        if not checked.reason and checked.shape != shape:
            sizes = [f"{s[0]}x{s[1]}" for s in (shape, checked.shape)]
            raise ValueError(
                f"{encoded.name}: images of different sizes ({encoded.names[first]} is {sizes[0]}, {name} is "
                f"{sizes[1]}); set image_size"
            )
    return shape
