"""Look-up by name with an error that says what would have been right."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, or None where nothing is near."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    starts = [n for n in names if name and (n.startswith(name) or name.startswith(n))]
    return starts[0] if starts else None


def unknown(name: str, names: Iterable[str], what: str) -> ValueError:
    """The error for an unknown `name`: what, the nearest valid name, all valid names."""
    names = sorted(names)
    guess = nearest(name, names)
    hint = f" did you mean '{guess}'?" if guess else ""
    return ValueError(f"unknown {what} '{name}';{hint} Known: {', '.join(names)}")


def lookup(table: Mapping[str, Value], name: str, what: str) -> Value:
    """`table[name]`.

    Raises:
      ValueError: `name` is not in the table; the message names the nearest valid one.
    """
    if name not in table:
        raise unknown(name, table, what)
    return table[name]
