"""Sums of bytes with weights of any width: the digits of 8 bits of a weight are weights of units of their own.

    w = sum_p 256**p d_p,   -128 <= d_p <= 127         sum_k w_k x_k = sum_p 256**p (sum_k d_pk x_k)

A threshold needs less: the leading digits say where a sum lies, to within what they leave out of a weight times the sum
of the bytes. Only sums whose limit lies between are computed in full.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import words
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import MOST
from lava_meta.graph.packed.firing import fire
from lava_meta.graph.packed.streams import Limits
from lava_meta.graph.packed.sums import MOST_SUM, ByteSums, fields
from lava_meta.jit import njit

_LEADING = 2  # digits that are summed for a threshold


class PlaneSums:
    """Sums of x with integer weights, from bytes x - low (lanes, rows, columns, channels); outside, x is 0."""

    groups = 1

    def __init__(self, weight: NDArray[Any], window: Window, image: tuple[int, int], *, low: int = 0) -> None:
        """`weight`: int64 (units, channels, kernel rows, kernel columns), which `fits`."""
        self._weight, self._window, self._image, self._low = weight, window, image, low
        self.places = window.positions(*image)

    @staticmethod
    def fits(weight: NDArray[Any]) -> bool:
        """Whether sums of digits fit 32 bits, and bounds of all sums 63."""
        fan_in = math.prod(weight.shape[1:])
        return 255 * 128 * fan_in <= MOST_SUM and 255 * fan_in * int(np.abs(weight).max()) <= MOST

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """int64 (lanes, down, across, units)."""
        sums = np.empty((len(x), *self.places, len(self._weight)), np.int64)
        units = len(self._weight)
        _join(self._whole.sums(x).reshape(-1, self._whole.units // units, units), sums.reshape(-1, units))
        return sums

    def firing(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> Limits:
        """How `signs` is to fire: int64 limits (1 or places, units); bools of what lies below and what reaches them."""
        return Limits(limits, below, above)

    def signs(self, x: NDArray[Any], firing: Limits) -> NDArray[Any]:
        """Packed signs uint64 (lanes, down, across, words)."""
        signs = np.empty((len(x), *self.places, words(len(self._weight))), np.uint64)
        kernel, tables = self._leading
        fire(kernel.sums(x), *tables, firing.limits, firing.kinds, firing.below, firing.above, self._low, x, signs)
        return signs

    @cached_property
    def _whole(self) -> ByteSums:
        return ByteSums(np.concatenate(_digits(self._weight)), self._window, self._image, low=self._low)

    @cached_property
    def _leading(self) -> tuple[ByteSums, tuple[Any, ...]]:
        """Sums of the leading digits, and of x; and what `fire` takes of the weights."""
        # Of the positive numbers of 16 bits the last 128 have a third digit.
        bits = np.frexp(np.abs(self._weight).max(axis=(1, 2, 3)) * (65 / 64))[1].astype(np.int64)
        shift = np.maximum(0, bits - 8 * _LEADING + 1)
        leading = (self._weight + _each(1 << shift >> 1)) >> _each(shift)
        ones = np.ones((1, *self._weight.shape[1:]), np.int64)
        kernel = ByteSums(np.concatenate([*_digits(leading), ones]), self._window, self._image, low=self._low)
        rest = (self._weight - (leading << _each(shift))).transpose(0, 2, 3, 1)
        flat = rest.reshape(len(rest), -1)
        slopes = np.stack([flat.min(axis=1), flat.max(axis=1)])
        # sum r x = sum r (x - low) + low sum r, and x - low >= 0.
        starts = self._low * (flat.sum(axis=1) - flat.shape[1] * slopes)
        rest = rest.astype(np.int32 if shift.max() <= 32 else np.int64, order="C")
        return kernel, (shift, np.concatenate([slopes, starts]), rest, fields(self._window), True)


def _each(numbers: NDArray[Any]) -> NDArray[Any]:
    """One number for the weights of each unit."""
    return numbers.reshape(-1, 1, 1, 1)


def _digits(weight: NDArray[Any]) -> list[NDArray[Any]]:
    """Digits of 8 bits with a sign, the least first."""
    digits = []
    while True:
        digit = ((weight + 128) & 255) - 128
        digits.append(digit)
        weight = (weight - digit) >> 8
        if not weight.any():
            return digits


@njit(cache=True)
def _join(parts, sums):  # type: ignore[no-untyped-def]
    """sums[r, u] = sum_p 256**p parts[r, p, u]: int32 (rows, planes, units) to int64 (rows, units)."""
    for row in range(parts.shape[0]):
        total = sums[row]
        total[:] = 0
        for plane in range(parts.shape[1] - 1, -1, -1):
            part = parts[row, plane]
            for u in range(total.size):
                total[u] = (total[u] << 8) + part[u]
