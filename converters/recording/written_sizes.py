"""Batch sizes that are written into a forward, as in `x.view(128, -1)`: the whole numbers that its code names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from torch import nn

_LIBRARIES = ("torch", "snntorch", "lava_meta")
_MOST_IMAGES = 4096
_MOST_SIZES = 8


def written_sizes(model: nn.Module) -> list[int]:
    """Numbers in the forwards of a model's own modules that may be batch sizes, those of such a name first.

    Literals, constants of the file, attributes of the module, and what such a constant holds if it is a dictionary.
    """
    named: list[tuple[str, int]] = []
    for module in model.modules():
        forward = type(module).forward
        if type(module).__module__.partition(".")[0] not in _LIBRARIES and isinstance(forward, FunctionType):
            named += [pair for code in _codes(forward.__code__) for pair in _numbers(code, forward, module)]
    named.sort(key=lambda pair: "batch" not in pair[0].lower())
    sizes = [size for _, size in named if type(size) is int and 2 < size <= _MOST_IMAGES]
    return [*dict.fromkeys(sizes)][:_MOST_SIZES]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _numbers(code: CodeType, forward: FunctionType, module: nn.Module) -> Iterator[tuple[str, Any]]:
    cells = zip(forward.__code__.co_freevars, forward.__closure__ or (), strict=True)
    known = {**forward.__globals__, **module.__dict__, **{name: cell.cell_contents for name, cell in cells}}
    for name in (*code.co_names, *code.co_freevars):
        value = known.get(name)
        if isinstance(value, Mapping):
            yield from ((str(key), inner) for key, inner in value.items())
        else:
            yield name, value
    yield from (("", constant) for constant in code.co_consts)
    yield from (("", inner) for constant in code.co_consts if isinstance(constant, tuple) for inner in constant)
