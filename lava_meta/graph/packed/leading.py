"""Signs of sums of any weights, from products in float32 whose rounding is bounded.

    |fl(sum_k w_k x_k) - sum_k w_k x_k|  <=  e / (1 - e) max_k |w_k| sum_k |x_k|,   e = (n + 2) 2^-24

for n terms in any order (Higham 2002, section 3.1, and one rounding of each weight).

It takes half the time of float64, or less, where exact sums need several products. Only sums whose limit lies within
the bound, some in a thousand, are computed exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import words
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import MOST
from lava_meta.graph.packed.firing import fire
from lava_meta.graph.packed.matrix import laid, multiply
from lava_meta.graph.packed.products import SINGLE, Products
from lava_meta.graph.packed.streams import Limits

_MOST_TERMS = 20  # bits of their number, from which the bound says little


class LeadingProducts(Products):
    """Sums and signs over windows of integers (lanes, rows, columns, channels) that are at most `largest`."""

    def __init__(self, weight: NDArray[Any], window: Window, image: tuple[int, int], largest: int) -> None:
        """`weight`: int64 (units, channels, kernel rows, kernel columns), which `fits`."""
        super().__init__(weight, window, image, 1, largest)
        self._leading = laid(self._matrix[0].astype(np.float32))
        slope = _slope(weight)
        one = np.ones_like(slope)  # what is rounded behind the point
        bounds = np.stack([-slope, slope, -one, one])
        rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
        self._tables = np.zeros(len(weight), np.int64), bounds, rows, self._window, False

    @staticmethod
    def fits(weight: NDArray[Any], largest: int) -> bool:
        """Whether float32 holds what comes in but not the sums, and their bounds 63 bits."""
        fan_in = math.prod(weight.shape[1:])
        if fan_in >= 2**_MOST_TERMS or largest >= 2**SINGLE:
            return False
        most = int(np.abs(weight).sum(axis=(1, 2, 3)).max()) * largest
        return most >= 2**SINGLE and most + int(_slope(weight).max()) * largest * fan_in <= MOST

    def firing(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> Limits:
        """How `signs` is to fire: int64 limits (1 or places, units); bools of what lies below and what reaches them."""
        return Limits(limits, below, above)

    def signs(self, x: NDArray[Any], firing: Limits) -> NDArray[Any]:
        """Packed signs uint64 (lanes, down, across, words)."""
        signs = np.empty((len(x), *self.places, words(self.units)), np.uint64)
        seen = self._seen(x, np.dtype(np.float32))
        leading = np.zeros((len(seen), self.units + 1), np.int64)
        multiply(self._leading, seen, 0, 0, leading, 0)
        leading[:, -1] = np.abs(seen).sum(axis=1, dtype=np.float64)
        parts = leading.reshape(*signs.shape[:3], -1)
        fire(parts, *self._tables, firing.limits, firing.kinds, firing.below, firing.above, 0, x, signs)
        return signs


def _slope(weight: NDArray[Any]) -> NDArray[Any]:
    """By unit, how much the bound grows with the sum of |x|."""
    error = (math.prod(weight.shape[1:]) + 2) * 2.0**-SINGLE
    return np.ceil(error / (1 - error) * np.abs(weight).max(axis=(1, 2, 3))).astype(np.int64)
