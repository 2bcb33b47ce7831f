"""Imports run downwards only, and the pure rooms know no configuration: docs/design.md, Rooms."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxdiff"
ANYBODY = {"registry", "progress", "files", "npz", "__version__"}  # files beside the rooms that know no room
MAY_KNOW = {
    "operators": set(),
    "diffusion": set(),
    "networks": set(),
    "composition": {"operators", "diffusion", "networks"},
    "sampling": {"operators", "diffusion"},
    "methods": {"operators", "diffusion", "networks", "composition", "sampling"},
    "data": {"operators"},
    "training": set(),
    "evaluation": {"operators", "diffusion", "networks", "composition", "sampling", "data"},
    "report": set(),
}
PURE = ("operators", "diffusion", "networks", "composition", "sampling", "methods")


def imported(source: str) -> set[str]:
    """Modules that a file imports, such as {'jax', 'jaxdiff.data.pixels'}; of `from jaxdiff import x`, 'jaxdiff.x'."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxdiff":
            found |= {f"jaxdiff.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def modules(room: str) -> set[str]:
    return set().union(*(imported(path.read_text()) for path in (PACKAGE / room).rglob("*.py")))


def test_imports_are_seen_wherever_they_stand():
    source = "import a.b\nfrom jaxdiff import c\ndef f():\n    from jaxdiff.d import e"
    assert imported(source) == {"a.b", "jaxdiff.c", "jaxdiff.d"}


@pytest.mark.parametrize("room", MAY_KNOW)
def test_a_room_knows_only_those_below(room):
    known = {name.split(".")[1] for name in modules(room) if name.startswith("jaxdiff.")} - {room}
    assert known <= MAY_KNOW[room] | ANYBODY


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_know_no_configuration(room):
    assert not {name.split(".")[0] for name in modules(room)} & {"ml_collections", "absl", "rich"}


def test_every_room_is_listed():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms - {"experiment"} == set(MAY_KNOW)
    for name in ("registry", "progress", "files", "npz"):
        assert not {m for m in imported((PACKAGE / f"{name}.py").read_text()) if m.startswith("jaxdiff")}
