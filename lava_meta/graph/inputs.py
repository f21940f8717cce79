"""What a `BinaryGraph` takes: integers of a range, or signs; and signs made of integers in front of the first layer.

levels      p in min_level .. max_level: unsigned pixels, or signed features
signs       p is +1 or -1; there is no 0
binarized   a_i = +1 where polarity_i * p_i >= threshold_i, else -1: the first layer takes a instead of p
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.dense import check_array


@dataclass(frozen=True, eq=False)
class Binarize:
    """The signs of integer inputs, `a_i = +1` where `polarity_i * p_i >= threshold_i`, else -1.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    threshold: NDArray[Any]  # int64 (n_in,)
    polarity: NDArray[Any]  # int8 (n_in,), +1 or -1: -1 where what stands before the sign falls

    def __post_init__(self) -> None:
        check_array("the inputs' threshold", self.threshold, np.int64, (self.threshold.size,))
        check_array("the inputs' polarity", self.polarity, np.int8, (self.threshold.size,))
        if not np.isin(self.polarity, (-1, 1)).all():
            raise ValueError("the inputs' polarity holds a value that is neither +1 nor -1")

    def fires(self, p: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, n_in), True for +1, of integers (n, n_in)."""
        return self.polarity * p.astype(np.int64) >= self.threshold


def check_levels(min_level: int, max_level: int, signs: bool) -> None:
    """Raises `ValueError` for a range that no network takes, `TypeError` for levels that are no integers."""
    min_level, max_level = operator.index(min_level), operator.index(max_level)
    if signs and (min_level, max_level) != (-1, 1):
        raise ValueError(f"signs are -1 and +1, not {min_level} to {max_level}")
    if min_level == 0 and not 1 <= max_level < 2**16:
        raise ValueError(f"max_level is {max_level}; pixels have 1 to 16 bits")
    if min_level and not -(2**15) <= min_level < 0 < max_level < 2**15:
        raise ValueError(f"levels run from {min_level} to {max_level}; signed features lie around 0 and have 16 bits")


def level_dtype(min_level: int, max_level: int) -> np.dtype[Any]:
    """The narrowest type that holds the levels: uint8, uint16, int8 or int16."""
    if min_level < 0:
        return np.dtype(np.int8 if min_level >= -128 and max_level < 128 else np.int16)
    return np.dtype(np.uint8 if max_level < 256 else np.uint16)


def check_range(p: Any, min_level: int, max_level: int, signs: bool) -> None:
    """Raises `ValueError` for numbers outside the levels, or for signs that are not +1 or -1."""
    if signs:
        if not (np.abs(p) == 1).all():
            raise ValueError("a network of +1 and -1 received another value (0/1 bits b become signs as 2*b - 1)")
        return
    low, high = int(p.min()), int(p.max())
    if low < min_level or high > max_level:
        kind = "pixels" if min_level == 0 else "features"
        raise ValueError(f"{kind} run from {low} to {high}; this network takes {min_level} to {max_level}")
