"""Sums of any weights by matrix products that are exact: in float32 or float64, of several parts if need be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import exact_product
from lava_meta.graph.packed.matrix import laid, multiply
from lava_meta.graph.packed.patches import windows_of
from lava_meta.graph.packed.sums import fields

_DOUBLE = 53  # bits of the integers that float64 holds
SINGLE = 24  # that float32 holds


class Products:
    """Sums over windows of integers (lanes, rows, columns, channels) that are at most `largest`."""

    def __init__(self, weight: NDArray[Any], window: Window, image: tuple[int, int], groups: int, largest: int) -> None:
        """`weight`: int64 (units, inputs of a group, kernel rows, kernel columns)."""
        self.units, self.groups = len(weight), groups
        self.places = window.positions(*image)
        self._window = fields(window)
        fan_in = math.prod(weight.shape[1:])
        self._matrix = weight.transpose(0, 2, 3, 1).reshape(groups, self.units // groups, fan_in)
        # Sums of less are exact in any order; of more, those of parts of the weights; the widest are the reference's.
        most = int(np.abs(self._matrix).sum(axis=2).max()) * max(1, largest)
        width = _DOUBLE - max(1, largest).bit_length() - fan_in.bit_length()
        self._parts = [(self._matrix, 0)] if most < 2**_DOUBLE else _split(self._matrix, width) if width >= 4 else []
        self._kind = np.dtype(np.float32 if most < 2**SINGLE else np.float64 if self._parts else np.int64)
        # Sums of one part are exact as they come, and go out so.
        self._given = np.float64 if len(self._parts) == 1 else np.int64
        # By group, and part by part: laid out, and by how many bits its sums are shifted.
        self._groups = [
            [(laid(part[group].astype(self._kind)), shift) for part, shift in self._parts] for group in range(groups)
        ]

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """int64 (lanes, down, across, units); float64 if no sum of parts of it passes what that holds."""
        seen = self._seen(x, self._kind)
        total = np.zeros((len(seen), self.units), self._given)
        units, fan_in = self._matrix.shape[1:]
        for group, parts in enumerate(self._groups):
            for weights, shift in parts:
                # Units of the next group may be in the last block: its weights there are zeros.
                multiply(weights, seen, group * fan_in, shift, total, group * units)
        if not self._parts:
            rows = seen.reshape(len(seen), self.groups, fan_in).swapaxes(0, 1)
            total = np.ascontiguousarray(exact_product(rows, self._matrix).swapaxes(0, 1))
        return total.reshape(len(x), *self.places, self.units)

    def _seen(self, x: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
        """What the windows see, of a type that holds it, (places, inputs), group after group."""
        taps = len(self._matrix[0, 0]) * self.groups // x.shape[3]
        plain = tuple(x.shape[1:3]) == self.places and taps == 1
        seen = x.astype(kind, copy=False)
        seen = seen.reshape(-1, x.shape[3]) if plain else windows_of(seen, self._window, *self.places)
        if self.groups > 1:
            split = seen.reshape(len(seen), taps, self.groups, -1).transpose(0, 2, 1, 3)
            seen = np.ascontiguousarray(split).reshape(len(seen), -1)
        return seen


def _split(matrix: NDArray[Any], width: int) -> list[tuple[NDArray[Any], int]]:
    """Parts of at most `width` bits, and by how many bits each is shifted."""
    parts, rest, shift = [], matrix, 0
    while max(1, int(np.abs(rest).max())).bit_length() > width:
        high = rest >> (width - 1)
        parts.append((rest - (high << (width - 1)), shift))
        rest, shift = high, shift + width - 1
    return [*parts, (rest, shift)]
