"""Compiled loops for the integers between layers: thresholds to packed signs or codes, pooling, depthwise sums.

Values lie as (lanes, places, channels), channels last, in the narrowest type that holds them. What belongs to a place
lies in tables with a row for each kind of place, (..., kinds, channels): an image's borders differ from its inside.
Each loop computes what the node of `lava_meta.graph.nodes` says, operation by operation: nothing is fused that would
round otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, words
from lava_meta.graph.packed.loops import BLOCK
from lava_meta.graph.packed.patches import reach
from lava_meta.graph.packed.sums import by_kind, padded
from lava_meta.jit import njit


class Limits:
    """Thresholds with two codes: +1 and -1 by whether an integer reaches its limit."""

    def __init__(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> None:
        """int64 (1 or places, channels); bools of what lies below the limit, and of what reaches it: True for +1."""
        wide = padded(limits, np.iinfo(np.int64).max)
        self.kinds, (self.limits, self.below, self.above) = by_kind(wide, pack(below), pack(above))
        self._real = self.limits.astype(np.float64)
        self._narrow = np.clip(self.limits, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
        # A limit past 32 bits is reached by no integer of 32 bits.
        self._narrow_above = self.above
        if (self.limits > np.iinfo(np.int32).max).any():
            absent = pack(self.limits > np.iinfo(np.int32).max)
            self._narrow_above = (self.above & ~absent) | (self.below & absent)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return int(self.limits.nbytes + self._real.nbytes + self._narrow.nbytes)

    def signs(self, x: NDArray[Any]) -> NDArray[Any]:
        """Packed signs uint64 (lanes, rows, columns, words) of integers or float64 (lanes, rows, columns, channels)."""
        out = np.empty((*x.shape[:3], words(x.shape[3])), np.uint64)
        flat = x.reshape(len(x), -1, x.shape[3])
        if x.dtype in (np.int64, np.float64):
            limits = self.limits if x.dtype == np.int64 else self._real
            threshold_signs(flat, limits, self.kinds, self.below, self.above, out.reshape(-1))
        else:
            narrow = flat.astype(np.int32, copy=False)
            threshold_signs(narrow, self._narrow, self.kinds, self.below, self._narrow_above, out.reshape(-1))
        return out


@njit(cache=True)
def threshold_signs(x, limits, kinds, below, above, out):  # type: ignore[no-untyped-def]
    """Packed signs: bits of `above` for what reaches its limit, of `below` for what does not.

    x: int32, int64 or float64 (lanes, places, channels). limits: of the same type (kinds, 64 * words). kinds: int32
    (places,), or of one element for all. below, above: uint64 (kinds, words). out: uint64 (lanes * places * words,).
    """
    lanes, places, channels = x.shape
    blocks = below.shape[1]
    flat, flat_limits = x.reshape(-1), limits.reshape(-1)
    last = np.zeros(BLOCK, x.dtype)
    for lane in range(lanes):
        for place in range(places):
            kind = np.int64(kinds[min(place, kinds.size - 1)])
            start = (lane * places + place) * channels
            for block in range(blocks):
                first, row = start + block * BLOCK, (kind * blocks + block) * BLOCK
                if first + BLOCK <= flat.size:  # channels of the next place have no bits in `above` and `below`
                    word = reach(flat, first, flat_limits, row)
                else:
                    for u in range(flat.size - first):
                        last[u] = flat[first + u]
                    word = reach(last, 0, flat_limits, row)
                word = (word & above[kind, block]) | (~word & below[kind, block])
                out[(lane * places + place) * blocks + block] = word


@njit(cache=True)
def threshold_codes(x, limits, codes, kinds, out):  # type: ignore[no-untyped-def]
    """`codes[k]`, k the number of limits that x reaches.

    x, out: integers (lanes, places, channels). limits: int64 (m, kinds, channels). codes: int64 (m + 1, kinds, ...).
    """
    lanes, places, channels = x.shape
    for lane in range(lanes):
        for place in range(places):
            kind = kinds[min(place, kinds.size - 1)]
            row, made = x[lane, place], out[lane, place]
            code = codes[0, kind]
            for c in range(channels):
                made[c] = code[c]
            for k in range(limits.shape[0]):
                limit, code = limits[k, kind], codes[k + 1, kind]
                for c in range(channels):
                    made[c] = code[c] if np.int64(row[c]) >= limit[c] else made[c]


@njit(cache=True)
def pool(x, window, greatest, out):  # type: ignore[no-untyped-def]
    """The greatest or the sum of a window; what lies outside does not count.

    x: integers (lanes, rows, columns, channels). window: int64 (5, 2): kernel, stride, padding, dilation, after.
    out: integers (lanes, down, across, channels).
    """
    lanes, rows, columns, channels = x.shape
    (high, wide), stride, padding, dilation, _ = window
    for lane in range(lanes):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                total = out[lane, i, j]
                begun = False
                for ky in range(high):
                    row = i * stride[0] - padding[0] + ky * dilation[0]
                    for kx in range(wide):
                        column = j * stride[1] - padding[1] + kx * dilation[1]
                        if row < 0 or row >= rows or column < 0 or column >= columns:
                            continue
                        seen = x[lane, row, column]
                        if not begun:
                            for c in range(channels):
                                total[c] = seen[c]
                            begun = True
                        elif greatest:
                            for c in range(channels):
                                total[c] = max(total[c], seen[c])
                        else:
                            for c in range(channels):
                                total[c] += seen[c]
                if not begun:
                    total[:] = 0


@njit(cache=True)
def convolve_depthwise(x, weight, window, out):  # type: ignore[no-untyped-def]
    """Each channel with a kernel of its own.

    x: integers (lanes, rows, columns, channels). weight: of the type of `out`, (kernel rows, columns, channels). The
    rest as for `pool`.
    """
    lanes, rows, columns, channels = x.shape
    (high, wide), stride, padding, dilation, _ = window
    for lane in range(lanes):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                total = out[lane, i, j]
                total[:] = 0
                for ky in range(high):
                    row = i * stride[0] - padding[0] + ky * dilation[0]
                    for kx in range(wide):
                        column = j * stride[1] - padding[1] + kx * dilation[1]
                        if row < 0 or row >= rows or column < 0 or column >= columns:
                            continue
                        seen, by = x[lane, row, column], weight[ky, kx]
                        for c in range(channels):
                            total[c] += by[c] * seen[c]
