"""Numbers as a reader sees them: the same rounding on the page, in the summary and on the terminal.

Results come straight from memory or back from JSON, so a number can be a float, a NumPy scalar, None or the
string "nan". Everything passes through `number`; what is not finite is printed as `nan`, `inf` or `-inf`.
"""

import math
from collections.abc import Iterable, Mapping

ABSENT = "–"
MINUS = "−"
REFERENCE = "gaussian"  # the method that all others are measured against


def present(tree: Mapping) -> dict:
    """A copy of nested mappings without the entries that are None: JSON's null is as good as absent."""
    return {
        key: present(value) if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if value is not None
    }


def number(value: object) -> float:
    """The value as a float; NaN for None and for anything that is not a number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def interval(entry: object) -> tuple[float, float, float]:
    """(mean, low, high) of a `{'mean', 'low', 'high'}` mapping; NaN for whatever is missing."""
    entry = entry if isinstance(entry, Mapping) else {"mean": entry}
    return number(entry.get("mean")), number(entry.get("low")), number(entry.get("high"))


def decimals(entries: Iterable[object], most: int = 4) -> int:
    """Decimal places that give the narrowest interval two significant digits; one precision a column.

    A half-width h needs 1 - floor(log10 h) places: 2.1 gives 1, 0.03 gives 3, 25 gives 0. Intervals of no
    width (the reference method, exactly zero) do not count; with no usable interval at all, one place.
    """
    halves = [(high - low) / 2 for _, low, high in map(interval, entries)]
    halves = [half for half in halves if math.isfinite(half) and half > 0]
    if not halves:
        return 1
    return min(most, max(0, 1 - math.floor(math.log10(min(halves)))))


def fixed(value: object, places: int = 1, signed: bool = False) -> str:
    """Fixed-point text with thousands separators: `fixed(1234.56, 1) == '1,234.6'`; never '-0.0'."""
    if value is None:
        return ABSENT
    value = number(value)
    if not math.isfinite(value):
        return f"{value}"
    value = round(value, places) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:{'+' if signed and value else ''},.{places}f}".replace("-", MINUS)


def spread(entry: object, places: int, joint: str = " to ") -> str:
    """The interval's two ends, `'2.1 to 6.0'`."""
    _, low, high = interval(entry)
    return f"{fixed(low, places)}{joint}{fixed(high, places)}"


def extent(name: str, entry: object, places: int) -> str:
    """The interval of a method's score; the word "reference" for the method that is zero by definition."""
    return "reference" if name == REFERENCE and interval(entry)[0] == 0 else spread(entry, places)


def count(value: object) -> str:
    """A whole number with thousands separators."""
    if value is None:
        return ABSENT
    value = number(value)
    return f"{round(value):,}" if math.isfinite(value) else f"{value}"


def short_count(value: object) -> str:
    """A count in at most five characters: 812, 15.0k, 1.23M."""
    if value is None:
        return ABSENT
    value = number(value)
    if not math.isfinite(value):
        return f"{value}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.{0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2}f}{suffix}"
    return f"{round(value)}"


def level_percent(value: object) -> str:
    """The level of intervals, '95 %' for 0.95; that of `evaluate.level` where nobody says."""
    return f"{100 * float(value or 0.95):g} %"


def level_in_text(value: object) -> str:
    """`level_percent` in a sentence or a caption: no line may begin with the sign."""
    return level_percent(value).replace(" ", "\u00a0")


def level_of(results: Mapping) -> object:
    """`evaluate.level` of the config in the results, that of their intervals; None where nobody says."""
    return ((results.get("config") or {}).get("evaluate") or {}).get("level")


def interval_heading(level: object) -> str:
    """The heading of a column of intervals, '95 % interval' for 0.95."""
    return f"{level_percent(level)} interval"


def significant(value: object, digits: int = 3) -> str:
    """A measured quantity of unknown scale, to `digits` significant digits."""
    if value is None:
        return ABSENT
    value = number(value)
    if not math.isfinite(value):
        return f"{value}"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def duration(seconds: object) -> str:
    """Seconds as a person says them: 4.2 s, 8 min 12 s, 2 h 5 min."""
    if seconds is None:
        return ABSENT
    value = number(seconds)
    if not math.isfinite(value):
        return f"{value}"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
