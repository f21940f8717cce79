"""What a caller says of a model that is to be converted, in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """The arguments of `lava_meta.convert` beside the model, where each is described."""

    task: int = 0
    mean: Any = None
    std: Any = None
    max_level: int = 255
    min_level: int = 0
    raw: bool = False
    signs: bool = False
    input_shape: Sequence[int] | None = None
    output: str | int | None = None
