"""One look per method and per view, the same in every figure and legend, on light and on dark ground.

Colors follow Okabe & Ito (2008), a set that people with any common color vision tell apart, shifted in
lightness until each has a contrast of 3:1 on its ground. Marker and dash differ as well, so that nothing is
said by color alone. Figures are drawn in placeholder colors (`Look.ink`) which `svg.inline` turns into
the CSS variable named by `Look.variable`; the page defines the variables once for light and once for dark.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Look(NamedTuple):
    """How one method or view is drawn: CSS variable, its placeholder `ink`, marker and dash of the line."""

    variable: str
    ink: str
    marker: str
    dash: tuple[float, ...]

    @property
    def line(self) -> dict:
        """Color and dash of a line, as `axes.plot` takes them."""
        return {"color": self.ink, "dashes": self.dash or (None, None)}


#        variable  light      dark
COLORS = {
    "ink": ("#1b1f24", "#e8eaed"),
    "muted": ("#5b6470", "#a2abb8"),
    "grid": ("#e3e6ea", "#2f353e"),
    "ground": ("#ffffff", "#15181d"),
    "m0": ("#767d88", "#98a1ae"),
    "m1": ("#0067a8", "#4c9be0"),
    "m2": ("#008a64", "#27c498"),
    "m3": ("#d04a00", "#ff7d3c"),
    "m4": ("#3f9ad6", "#9ad4f8"),
    "m5": ("#b9538f", "#e79cc8"),
    "m6": ("#b97a00", "#f0c350"),
    "m7": ("#6a51a3", "#b7a3e6"),
    "m8": ("#7d5a36", "#c9a277"),
    "v0": ("#3b3199", "#9d95f0"),
    "v1": ("#1f8f80", "#5fd0c0"),
    "v2": ("#8a8420", "#cfca62"),
    "v3": ("#962b5c", "#e57fae"),
    "v4": ("#b5523f", "#f2a08f"),
    "v5": ("#5b6470", "#a2abb8"),
}
PLACEHOLDERS = {f"#fa{index:02x}ce": name for index, name in enumerate(COLORS)}
_INK = {name: placeholder for placeholder, name in PLACEHOLDERS.items()}

KNOWN_METHODS = ("gaussian", "views_only", "clean_only", "residual", "fusion", "anchored", "fusion+residual")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = (
    (),
    (5.0, 1.6),
    (1.4, 1.4),
    (),
    (6.0, 1.6, 1.4, 1.6),
    (3.0, 1.4),
    (8.0, 2.0),
    (2.2, 1.2),
    (4.0, 1.2, 1.2, 1.2),
)


def ink(name: str) -> str:
    """The placeholder under which the color `name` is drawn."""
    return _INK[name]


def _look(prefix: str, slots: int, index: int) -> Look:
    slot = f"{prefix}{index % slots}"
    return Look(slot, ink(slot), MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])


def method_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for every method or candidate: fixed for the known ones, in order of name for the others."""
    others = sorted(set(names) - set(KNOWN_METHODS))
    return {name: _look("m", 9, index) for index, name in enumerate((*KNOWN_METHODS, *others))}


def distinct_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each of up to 15 methods, no color twice: known ones keep theirs, others take what is free.

    Beyond 15 colors repeat, and marker and dash alone tell two apart.
    """
    names = list(dict.fromkeys(names))
    taken = {name: KNOWN_METHODS.index(name) for name in names if name in KNOWN_METHODS}
    free = [("m", 9, index) for index in range(9) if index not in taken.values()]
    free += [("v", 6, index) for index in range(6)]
    others = [name for name in names if name not in taken]
    looks = {name: _look("m", 9, index) for name, index in taken.items()}
    looks |= {name: _look(*free[index % len(free)]) for index, name in enumerate(others)}
    return {name: looks[name] for name in names}


def view_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for every view, in order of appearance; none of the colors is a method's."""
    return {name: _look("v", 6, index) for index, name in enumerate(dict.fromkeys(names))}


def css_variables() -> tuple[str, str]:
    """The declarations `--name: color;` for light and for dark ground."""
    return tuple(" ".join(f"--{name}:{pair[i]};" for name, pair in COLORS.items()) for i in (0, 1))
