"""A `ConvLayer` on packed bits, the fast form of its reference implementation, integer for integer.

Signs lie as (rows, columns, words) with the channels of a place in its words; levels as bytes, channels last. Sums,
thresholds and packing are one pass (`lava_meta.graph.packed.sums`), unless sums are pooled or a norm decides from them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack, words
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import reachable
from lava_meta.graph.packed.loops import pool_signs
from lava_meta.graph.packed.streams import Limits, pool
from lava_meta.graph.packed.sums import ByteSums, SignSums, fields


class PackedConv:
    """`fire` takes packed signs (lanes, rows, columns, words(channels)), or integers if `low` is given.

    The integers are unsigned (lanes, n_in), `low` less than the levels that the layer's equation is in.
    """

    def __init__(self, layer: ConvLayer, low: int | None = None) -> None:
        self.input_shape = layer.input_shape
        self.output_shape = layer.output_shape
        self._levels = low is not None
        self._norm = layer.norm
        self._shape = layer.sums_shape
        self._sum_window = None if layer.sum_window is None else fields(layer.sum_window)
        # Turning a unit's weights turns its sum: the polarity is folded in.
        positive = layer.weight ^ (layer.polarity < 0)[:, None]
        positive = positive.reshape(layer.channels, -1, *layer.window.kernel)
        _, rows, columns = layer.input_shape
        place = layer.window, (rows, columns), layer.groups
        self._kernel: SignSums | ByteSums
        if low is None:
            self._kernel = SignSums(positive, *place)
        else:
            # Levels of 16 bits are summed byte by byte.
            weight = np.where(positive, 1, -1)
            self._kernel = ByteSums(weight, *place, low=low, outside=-low & 255)
            self._upper = ByteSums(weight, *place, outside=-low >> 8)
        limit = reachable(layer.threshold).reshape(layer.channels, -1).T
        never = np.zeros(limit.shape, bool)
        self._limits = Limits(limit, never, ~never)
        at_once = layer.norm is None and layer.sum_window is None and layer.groups == 1
        self._firing = self._kernel.firing(limit, never, ~never) if at_once else None
        self._pools = [(fields(window), _turned(window.every, layer.channels)) for window in layer.pools]
        self._pooled = []
        rows, columns = layer.sums_shape[1:]
        for window in layer.pools:
            rows, columns = window.positions(rows, columns)
            self._pooled.append((rows, columns))

    @property
    def bytes_an_image(self) -> int:
        """Bytes that `fire` takes for one image: packed signs, and the sums if they are kept."""
        places = max(math.prod(self._kernel.places), math.prod(self._shape[1:]))
        return places * (8 * words(self._shape[0]) + 24 * self._shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of weights and thresholds."""
        return self._kernel.nbytes + self._limits.nbytes

    def fire(self, x: NDArray[Any]) -> NDArray[Any]:
        """Packed signs uint64 (lanes, rows, columns, words(channels)) of the layer's output."""
        lanes = len(x)
        if self._levels:
            x = np.ascontiguousarray(x.reshape(lanes, *self.input_shape).transpose(0, 2, 3, 1))
        if self._firing is not None and x.dtype != np.uint16:
            signs = self._kernel.signs(x, self._firing)
        else:
            sums = self._sums(x)
            if self._norm is None:
                signs = self._limits.signs(sums)
            else:
                fires = self._norm.fires(sums.transpose(0, 3, 1, 2).reshape(lanes, -1).astype(np.int64))
                signs = pack(fires.reshape(lanes, *self._shape).transpose(0, 2, 3, 1))
        for (window, turned), shape in zip(self._pools, self._pooled, strict=True):
            pooled = np.empty((lanes, *shape, signs.shape[-1]), np.uint64)
            pool_signs(signs, window, turned, pooled)
            signs = pooled
        return signs

    def _sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """Integers (lanes, rows, columns, channels)."""
        if x.dtype == np.uint16:
            lower = self._kernel.sums((x & 255).astype(np.uint8))
            sums: NDArray[Any] = lower + (self._upper.sums((x >> 8).astype(np.uint8)).astype(np.int64) << 8)
        else:
            sums = self._kernel.sums(x)
        if self._sum_window is None:
            return sums
        pooled = np.empty((len(x), *self._shape[1:], self._shape[0]), np.int64)
        pool(sums, self._sum_window, greatest=False, out=pooled)
        return pooled

    def flat(self, signs: NDArray[Any]) -> NDArray[Any]:
        """Booleans (lanes, n_out), True for +1, in the order (channel, row, column), of what `fire` returned."""
        return unpack(signs, self.output_shape[0]).transpose(0, 3, 1, 2).reshape(len(signs), -1)


def _turned(every: tuple[int, ...], channels: int) -> NDArray[Any]:
    turned = np.zeros(channels, dtype=bool)
    turned[list(every)] = True
    return pack(turned)
