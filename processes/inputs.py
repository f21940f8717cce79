"""What may enter a binary layer: signs, or integers of the network's range."""

from __future__ import annotations

import numpy as np

from lava_meta.graph.inputs import check_range

Levels = tuple[int, int] | None  # the least and greatest input of a layer; None if it takes signs


def levels_of(min_level: int, max_level: int | None) -> Levels:
    """The levels of a layer; with no `max_level` it takes signs."""
    return None if max_level is None else (min_level, max_level)


def check_inputs(x: np.ndarray, levels: Levels) -> None:
    """Raises `ValueError` unless x holds +1 and -1, or, with `levels`, whole numbers within them."""
    check_range(x, *(levels or (-1, 1)), signs=levels is None)


def largest(levels: Levels) -> int:
    """The greatest size that an input has."""
    return 1 if levels is None else max(map(abs, levels))
