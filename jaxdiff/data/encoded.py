"""Sources whose examples are encoded images (PNG, JPEG), decoded when asked for.

All are decoded once at opening, by a pool of threads: broken ones are named, counted and left out, so that an
index means the same image ever after. Where all decoded pixels fit in `KEEP_BYTES` they are kept and nothing
is read twice.
"""

import os
from collections import Counter, deque
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


Decode = Callable[[int, PixelRules], tuple[np.ndarray, bool]]  # position -> uint8 (H, W, K), file is gray


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
    """Images decoded when asked for; see `sources.Source`. `files` are the names of the examples."""

    def __init__(
        self,
        encoded: Encoded,
        decode_at: Decode,
        rules: PixelRules,
        good: np.ndarray,
        shape: tuple[int, ...],
        report: dict,
    ):
        self.name, self.shape, self.report = encoded.name, shape, report
        self.labels: np.ndarray | None = None
        self._names, self._decode_at, self._rules, self._good = encoded.names, decode_at, rules, good
        self.files = [encoded.names[position] for position in good]
        self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._good)

    def gather(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index, float32 (n, H, W, C) in [-1, 1].

        Raises:
            OSError: a file has changed since the source was opened; the message names it.
        """
        return to_unit(self.gather_pixels(indices))

    def gather_pixels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Examples by index, uint8 (n, H, W, C); raises as `gather`."""
        positions = self._good[np.asarray(indices, np.int64)]
        if len(positions) == 0:
            return np.empty((0, *self.shape), np.uint8)
        return np.stack(list(self._pool.map(self._one, positions)))

    def _one(self, position: int) -> np.ndarray:
        name = self._names[position]
        try:
            pixels, _ = self._decode_at(int(position), self._rules)
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
    source, _ = open_decoded(encoded, settings, lambda i, rules: decode(encoded.read(i), rules))
    return source


def open_decoded(
    encoded: Encoded, settings: Settings, decode_at: Decode
) -> tuple[ArraySource | EncodedSource, np.ndarray]:
    """`open_encoded` with another decoder, whose pixels may have more channels than those of the image.

    Args:
        encoded: the names of the examples, and the report to extend.
        settings: the rules and what to do with those that do not fit.
        decode_at: (position, rules) -> uint8 (H, W, C + extra), whether the file is gray; C is
            `rules.channels`, 3 where that is None; called from several threads at once.

    Returns:
        The source of shape (H, W, C + extra), and the positions (n,) of its examples in `encoded.names`.

    Raises:
        ValueError: as `open_encoded`.
    """
    kept: dict[int, np.ndarray] = {}
    room = KEEP_BYTES

    def check(position: int) -> tuple[Checked, np.ndarray | None]:
        try:
            pixels, gray = decode_at(position, settings.rules)
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
    if settings.skip_odd_sizes:
        checks = _without_odd_sizes(checks)
    good = np.asarray([i for i, checked in enumerate(checks) if not checked.reason], np.int64)
    report = _report(encoded, checks, settings)
    _require_good(encoded, checks, settings.max_bad_share)
    shape = _one_shape(encoded, checks)
    gray = all(checks[i].gray for i in good)
    rules = settings.rules._replace(channels=settings.rules.channels or (1 if gray else 3))
    # gray files were decoded to three equal channels: one of them is enough
    channels = [*range(rules.channels), *range(settings.rules.channels or 3, shape[-1])]
    if room < 0:
        shape = (*shape[:2], len(channels))
        return EncodedSource(encoded, decode_at, rules, good, shape, report), good
    pixels = np.stack([kept.pop(i)[..., channels] for i in good])
    return ArraySource(encoded.name, pixels, None, report, [encoded.names[i] for i in good]), good


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
        "skipped_by_reason": dict(Counter(reason.partition(":")[0] for _, reason in bad).most_common()),
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


def _without_odd_sizes(checks: Sequence[Checked]) -> list[Checked]:
    """The checks, with those of another shape than most turned into broken ones."""
    shapes = Counter(checked.shape for checked in checks if not checked.reason).most_common(1)
    result = []
    for checked in checks:
        if not checked.reason and checked.shape != shapes[0][0]:
            sizes = [f"{s[0]}x{s[1]}" for s in (checked.shape, shapes[0][0])]
            checked = checked._replace(reason=f"another size: {sizes[0]}, most are {sizes[1]}")
        result.append(checked)
    return result


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
