"""Where in the user's code a model is while it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lava_meta.converters.recording.steps import Place

_TORCH = os.path.join(os.path.dirname(torch.__file__), "")
_CONVERTERS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


def innermost(names: Mapping[int, str]) -> Place:
    """The innermost line that is not PyTorch's or this package's converters', and the innermost module.

    `names` are those of the modules, by their `id`.
    """
    line: tuple[str, int] | None = None
    module: Any = None
    for frame in _frames():
        file = frame.f_code.co_filename
        own = frame.f_locals.get("self")
        if module is None and isinstance(own, nn.Module) and id(own) in names:
            module = own
        if line is None and not file.startswith((_TORCH, _CONVERTERS, "<")):
            line = file, frame.f_lineno
        if line is not None and module is not None:
            break
    name, kind = (names[id(module)], type(module).__name__) if module is not None else ("", "?")
    return Place(*(line or ("?", 0)), name, kind)


def _frames() -> Iterator[Any]:
    frame: Any = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back
