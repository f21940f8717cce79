"""What a caller says of a model that is to be converted, in one record."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lava_meta.errors import ConversionError
from lava_meta.io.memory import require_memory

TAKES_SIGNS = "signs=True is for a model whose first layer takes +1 and -1 as they are"
_BYTES = 64  # of an input, while a model is read and checked, at the least


@dataclass(frozen=True)
class Options:
    """The arguments of `lava_meta.convert` beside the model, where each is described.

    Raises:
        ConversionError: Two of them say different things of what the model takes.
        TypeError: A level or an extent is no whole number.
        ValueError: An extent is not positive.
    """

    task: int = 0
    mean: Any = None
    std: Any = None
    max_level: int = 255
    min_level: int = 0
    raw: bool = False
    signs: bool = False
    input_shape: Sequence[int] | None = None
    output: str | int | None = None

    def __post_init__(self) -> None:
        told = self.mean is not None or self.std is not None
        if self.raw and told:
            raise ConversionError(
                "raw=True says that the model takes raw levels, mean= and std= that it does not: pass one"
            )
        if self.signs and (self.raw or told):
            other = "raw=True" if self.raw else "mean= and std="
            raise ConversionError(f"{TAKES_SIGNS}, and {other} says that it takes something else: pass one")
        for name in ("max_level", "min_level"):
            check_whole(name, getattr(self, name))
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", extents(self.input_shape))

    def of_pixels(self, min_level: int, max_level: int) -> tuple[int, int]:
        """The levels that a model's own Pixels take. Raises `ConversionError` where the caller says something else."""
        if self.signs:
            raise ConversionError(f"{TAKES_SIGNS}: leave out signs=, since its Pixels take levels")
        if self.mean is not None or self.std is not None:
            raise ConversionError("the model normalises its own pixels (Pixels): mean= and std= do not apply")
        if (self.min_level, self.max_level) not in ((0, 255), (min_level, max_level)):
            raise ConversionError(
                f"levels {self.min_level} to {self.max_level} are given, but the model's Pixels take {min_level} to "
                f"{max_level}: leave out max_level= and min_level="
            )
        return min_level, max_level


def check_whole(name: str, value: Any) -> None:
    """Raises `TypeError` for an argument that is no whole number."""
    try:
        operator.index(value)
        whole = not isinstance(value, bool)
    except TypeError:
        whole = False
    if not whole:
        raise TypeError(f"{name} is {value!r}; it is a whole number")


def extents(given: Any) -> tuple[int, ...]:
    """The shape of an image, from any sequence of whole numbers.

    Raises:
        TypeError: It is none.
        ValueError: An extent is not positive.
        TooLargeError: An image of this shape does not fit in memory.
    """
    try:
        if isinstance(given, (str, bytes, set, frozenset, dict)):
            raise TypeError
        found = tuple(operator.index(extent) for extent in given)
    except TypeError as error:
        raise TypeError(f"input_shape is {given!r}; give whole numbers, as (784,) or (1, 28, 28)") from error
    if not found or min(found) < 1:
        raise ValueError(f"input_shape is {given!r}; give the extents of an image, all positive, as (1, 28, 28)")
    require_memory(_BYTES * math.prod(found), f"an image of shape {found}", "give its own extents as input_shape=")
    return found
