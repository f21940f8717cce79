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
# The same within the converters, by folder or file directly below them; "converters" is their own `__init__`.
CONVERTER_FLOORS = (
    {"feed", "kernels", "options", "refusals", "weights"},
    {"brevitas"},
    {"registry"},
    {"recording"},
    {"functions"},
    {"chain"},
    {"lowering"},
    {"parity"},
    {"lava", "rounding"},
    {"spiking"},
    {"nir"},
    {"bundle", "backends", "snntorch"},
    {"converters"},
    {"online"},
)


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


def room(module: str, package: str = "lava_meta") -> str:
    """The folder or file directly below the package; the package's own `__init__` has its last name."""
    inner = module.removeprefix(package).lstrip(".")
    return inner.split(".")[0] or package.split(".")[-1]


def heights(floors: tuple[set[str], ...]) -> dict[str, int]:
    """The floor of every room, counted from the ground."""
    return {room: height for height, rooms in enumerate(floors) for room in rooms}


MODULES = modules()
ARROWS = {
    name: [(line, target) for line, target in imports(file.read_text(), set(MODULES)) if target != name]
    for name, file in MODULES.items()
}


def wrong_arrows(
    arrows: dict[str, list[tuple[int, str]]],
    floors: tuple[set[str], ...] = FLOORS,
    package: str = "lava_meta",
) -> list[str]:
    """Imports within `package` that do not point down, each with its line. `lava_meta` hands on names of all."""
    wrong = []
    floor = heights(floors)
    for name, targets in arrows.items():
        here = room(name, package)
        for line, target in targets:
            there = room(target, package)
            if here not in (there, "lava_meta") and floor[there] >= floor[here]:
                wrong.append(f"{name}, line {line}, imports {target}")
    return wrong


def within(package: str) -> dict[str, list[tuple[int, str]]]:
    """The arrows between modules of `package`."""
    return {
        name: [(line, target) for line, target in targets if target.startswith(package)]
        for name, targets in ARROWS.items()
        if name.startswith(package)
    }


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
    assert {room(name) for name in MODULES} == set(heights(FLOORS))
    package = "lava_meta.converters"
    assert {room(name, package) for name in within(package)} == set(heights(CONVERTER_FLOORS))


def test_imports_point_down() -> None:
    assert wrong_arrows(ARROWS) == []
    package = "lava_meta.converters"
    assert wrong_arrows(within(package), CONVERTER_FLOORS, package) == []


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


def test_a_wrong_arrow_is_found_within_the_converters() -> None:
    package = "lava_meta.converters"
    arrows = {f"{package}.chain.reading": [(1, f"{package}.lowering.graph"), (2, f"{package}.feed")]}
    assert len(wrong_arrows(arrows, CONVERTER_FLOORS, package)) == 1


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
