"""What a network takes: integers of a range, or signs; and signs made of integers in front of the first layer.

levels      p in min_level .. max_level: unsigned pixels, or signed features
signs       p is +1 or -1; there is no 0
binarized   a_i = +1 if polarity_i * p_i >= threshold_i, else -1: the first layer takes a instead of p
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.dense import check_array
from lava_meta.graph.given import Floats, as_array, batches, odd_one


@dataclass(frozen=True, eq=False)
class Binarize:
    """The signs of integer inputs, `a_i = +1` if `polarity_i * p_i >= threshold_i`, else -1.

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    threshold: NDArray[Any]  # int64 (n_in,)
    polarity: NDArray[Any]  # int8 (n_in,), +1 or -1: -1 if what stands before the sign falls

    def __post_init__(self) -> None:
        check_array("the inputs' threshold", self.threshold, np.int64, (self.threshold.size,))
        check_array("the inputs' polarity", self.polarity, np.int8, (self.threshold.size,))
        if not np.isin(self.polarity, (-1, 1)).all():
            raise ValueError("the inputs' polarity holds a value that is neither +1 nor -1")

    def fires(self, p: NDArray[Any]) -> NDArray[Any]:
        """Booleans (n, n_in), True for +1, of integers (n, n_in)."""
        return self.polarity * p.astype(np.int64) >= self.threshold


class Domain:
    """The inputs of a network: integers min_level .. max_level, or +1 and -1, in images of `input_shape`."""

    max_level: int
    input_shape: tuple[int, ...]
    min_level: int
    signs: bool

    def check_domain(self) -> None:
        """Raises `ValueError` or `TypeError` for a domain that no network has; makes a tuple of the shape."""
        object.__setattr__(self, "input_shape", tuple(int(operator.index(extent)) for extent in self.input_shape))
        check_levels(self.min_level, self.max_level, signs=self.signs)
        if not isinstance(self.signs, bool):
            raise TypeError(f"signs is {self.signs!r}; it is True or False")
        if not self.input_shape or min(self.input_shape) < 1:
            raise ValueError(f"input_shape is {self.input_shape}; every extent must be positive")

    @property
    def n_in(self) -> int:
        """Inputs: pixels per image."""
        return math.prod(self.input_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `check_images` gives: the narrowest integer type that holds the inputs."""
        return level_dtype(self.min_level, self.max_level)

    @property
    def domain(self) -> str:
        """The inputs that the network takes, in words."""
        if self.signs:
            return "the integers +1 and -1"
        return f"{'unsigned' if self.min_level == 0 else 'signed'} integers {self.min_level} to {self.max_level}"

    def check_images(self, images: Any, floats: Floats | None = None) -> NDArray[Any]:
        """Images (n, ...) of `n_in` inputs, as an array (n, n_in) of `dtype` within the network's levels.

        Takes numpy arrays and torch tensors of integers, of floats that are whole, and for two levels of bits; and
        DataLoaders and Datasets of these, whose labels are left out. `floats` reads floats that are scaled. Raises
        `TypeError` for other types and `ValueError` for a wrong shape, no images, or inputs out of range.
        """
        parts = batches(images)
        if parts is not None:
            checked = [self.check_images(part, floats) for part in parts]
            return np.concatenate(checked) if checked else self.check_images(np.zeros((0, *self.input_shape), np.uint8))
        array = self._integers(as_array(images), floats)
        # Dense networks read pixels in C order whatever the shape; others need theirs. One channel may go unsaid.
        dense = len(self.input_shape) == 1 and array.ndim >= 2 and math.prod(array.shape[1:]) == self.n_in
        one_channel = len(self.input_shape) >= 3 and (1, *array.shape[1:]) == self.input_shape
        if not dense and not one_channel and array.shape[1:] not in (self.input_shape, (self.n_in,)):
            raise ValueError(
                f"images have shape {array.shape}; expected (n, {', '.join(map(str, self.input_shape))}): "
                f"{self.n_in} pixels per image"
            )
        if len(array) == 0:
            raise ValueError("no images were given")
        check_range(array, self.min_level, self.max_level, signs=self.signs)
        return np.ascontiguousarray(array.reshape(len(array), -1).astype(self.dtype, copy=False))

    def _integers(self, array: NDArray[Any], floats: Floats | None) -> NDArray[Any]:
        """Of bits for two levels, of floats that are whole or that `floats` knows; `TypeError` for others."""
        if array.dtype.kind in "ui":
            return array
        if array.dtype == bool and self.signs:
            return np.where(array, 1, -1)
        if array.dtype == bool and (self.min_level, self.max_level) == (0, 1):
            return array.astype(np.uint8)
        odd = None
        if array.dtype.kind == "f":
            if floats is not None:
                return floats(array)
            odd = odd_one(array)
            if odd is None:
                return array.astype(np.int64)
        raise TypeError(
            f"images are {array.dtype}{'' if odd is None else f' and hold {odd:g}'}; this network takes {self.domain} "
            "(raw ones: its own thresholds hold the normalisation)"
        )


def check_levels(min_level: int, max_level: int, *, signs: bool) -> None:
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


def check_range(p: Any, min_level: int, max_level: int, *, signs: bool) -> None:
    """Raises `ValueError` for numbers outside the levels, or for signs that are not +1 or -1."""
    if signs:
        if not (np.abs(p) == 1).all():
            raise ValueError("a network of +1 and -1 received another value (0/1 bits b become signs as 2*b - 1)")
        return
    low, high = int(p.min()), int(p.max())
    if low < min_level or high > max_level:
        kind = "pixels" if min_level == 0 else "features"
        raise ValueError(f"{kind} run from {low} to {high}; this network takes {min_level} to {max_level}")
