"""What a section of the page is made of. The template knows these kinds and nothing of diffusion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jaxdiff.report.figures import Drawing


@dataclass(frozen=True)
class Table:
    """Text cells under a head; `text_columns` are set flush left, all others flush right as numbers.

    A row that holds a single cell is a heading that spans the table.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: Sequence[int] = (0,)
    mono: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A PNG in a `data:` address with its size in pixels, title, caption and alternative text."""

    source: str
    width: int
    height: int
    title: str
    caption: str
    alt: str
    kind: str = "picture"


@dataclass(frozen=True)
class Row:
    """Figures side by side where there is room, stacked where there is not."""

    items: Sequence[Drawing | Picture]
    kind: str = "row"


@dataclass(frozen=True)
class Listing:
    """Preformatted text, such as a command."""

    text: str
    caption: str = ""
    kind: str = "listing"


@dataclass(frozen=True)
class Remarks:
    """Sentences as a bulleted list."""

    sentences: Sequence[str]
    kind: str = "remarks"


@dataclass(frozen=True)
class Folded:
    """A block that opens on a click; `label` says what is inside."""

    label: str
    block: Table
    kind: str = "folded"


Block = Table | Row | Listing | Remarks | Folded


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, one or two sentences of lead, and blocks."""

    anchor: str
    title: str
    lead: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)


def row(items: Iterable[Drawing | Picture | None]) -> Row | None:
    """A row of those items that exist; None when none does."""
    present = [item for item in items if item is not None]
    return Row(present) if present else None


def section(anchor: str, title: str, lead: str, blocks: Iterable[Block | None]) -> Section | None:
    """A section of those blocks that exist; None when none does."""
    present = [block for block in blocks if block is not None]
    return Section(anchor, title, lead, present) if present else None
