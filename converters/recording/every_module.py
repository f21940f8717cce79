"""All modules of a model, those too that lie in lists, tuples and dictionaries of others' attributes.

`self.blocks = [Block(), Block()]` is no `nn.ModuleList`: PyTorch's `parameters()`, `double()` and `eval()` do not reach
these blocks, though the forward calls them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_OWN = frozenset(vars(nn.Module()))  # attributes that PyTorch keeps for itself
_MANY = 10_000  # parts of a list, as of images or words, that is none of modules


def every_module(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by their places in it, as `blocks[0].conv`."""
    found: dict[str, nn.Module] = {}
    places: dict[int, str] = {}
    waiting = [("", model)]
    while waiting:
        place, top = waiting.pop()
        for name, module in top.named_modules(prefix=place):
            if id(module) not in places:
                places[id(module)], found[name] = name, module
                waiting += _unlisted(module, name)
    return found


def _unlisted(module: nn.Module, place: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules among the attributes of a module that PyTorch does not list."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    for name, value in vars(module).items():
        if name not in _OWN:
            for own, part in held(value, f"{place}.{name}" if place else name):
                if isinstance(part, nn.Module):
                    yield own, part


def held(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What a value is, or holds in lists, tuples and dictionaries, with its place."""
    if not isinstance(value, (list, tuple, dict)):
        yield place, value
    elif len(value) <= _MANY:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from held(part, f"{place}[{key!r}]")
