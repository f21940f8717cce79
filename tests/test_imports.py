"""Imports point one way: every import is read, those inside functions and for type checkers too.

A *room* is a folder or file directly below `lava_meta` (processes, converters and experiments are rooms as well,
wherever their folders lie). Rooms stand on floors, listed here from the ground up; a room may import from the floors
below it and from itself. Within a room no two modules import each other, directly or around a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "lava_meta": "lava_meta",
    "processes": "lava_meta.processes",
    "converters": "lava_meta.converters",
    "experiments": "lava_meta.experiments",
}
FLOORS = (
    {"errors", "html", "interrupts", "jit", "moved", "progress", "providers", "turn", "version"},
    {"io"},
    {"rule"},
    {"data", "graph"},
    {"nn"},
    {"optim"},
    {"training"},
    {"avalanche", "plotting"},
    {"loihi", "tuning"},
    {"online_learning"},
    {"processes"},
    {"converters"},
    {"experiments"},
    {"lava_meta"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder, package in FOLDERS.items():
        for file in sorted((root / folder).rglob("*.py")):
            parts = file.relative_to(root / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = file
    return found


def imports(source: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of the package in `source`; `known` tells modules from their names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import; Lava loads Processes by path"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in known else str(node.module) for name in inner]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "lava_meta":
                yield node.lineno, target


def room(module: str) -> str:
    """The folder or file directly below the package; the package's own `__init__` is "lava_meta"."""
    return [*module.split("."), "lava_meta"][1]


MODULES = modules()
ARROWS = {
    name: [(line, target) for line, target in imports(file.read_text(), set(MODULES)) if target != name]
    for name, file in MODULES.items()
}


def wrong_arrows(arrows: dict[str, list[tuple[int, str]]]) -> list[str]:
    """Imports that do not point down, each with its line. The package's `__init__` hands on names of all rooms."""
    wrong = []
    for name, targets in arrows.items():
        here = room(name)
        for line, target in targets:
            there = room(target)
            if here not in (there, "lava_meta") and FLOOR[there] >= FLOOR[here]:
                wrong.append(f"{name}, line {line}, imports {target}")
    return wrong


def circle(arrows: dict[str, list[tuple[int, str]]]) -> list[str]:
    """Modules that import each other in a circle, the first found; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for _, target in arrows.get(name, ()):
                if found := visit(target, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in arrows if (found := visit(name, []))), [])


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in MODULES} == set(FLOOR)


def test_imports_point_down() -> None:
    assert wrong_arrows(ARROWS) == []


def test_no_circles() -> None:
    assert circle(ARROWS) == []


@pytest.mark.parametrize(
    "source",
    [
        "import lava_meta.training\n",
        "from lava_meta.training import train\n",
        "def late():\n    from lava_meta.training.loop import train\n",
        "if TYPE_CHECKING:\n    from lava_meta import training\n",
    ],
)
def test_a_wrong_arrow_is_found_wherever_it_stands(source: str) -> None:
    arrows = {"lava_meta.rule.consolidation": list(imports(source, {*MODULES}))}
    assert len(wrong_arrows(arrows)) == 1


def test_a_circle_is_found() -> None:
    assert circle({"a": [(1, "b")], "b": [(1, "c")], "c": [(1, "a")]}) == ["a", "b", "c", "a"]


def test_lava_is_imported_by_processes_alone() -> None:
    """Everything else works where Lava is missing: only `processes` may import it, and what runs them."""
    users = {
        name
        for name, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for target in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)])
        if target.split(".")[0] == "lava"
    }
    assert {room(name) for name in users} == {"processes"}
