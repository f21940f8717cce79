"""Compiled loops for the integers between layers: thresholds to packed signs, curves, pooling, depthwise sums.

Values lie as (lanes, places, channels), channels last, int64; what belongs to a channel lies as (..., 1 or places,
channels). Each loop computes what the node of `lava_meta.graph.nodes` says, operation by operation: nothing is fused
that would round otherwise.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def threshold_signs(x, limit, low, high, out):  # type: ignore[no-untyped-def]
    """Packed signs: bit c of a place is `high[c]` where x reaches the limit, else `low[c]`.

    x: int64 (lanes, places, channels). limit: int64 (1 or places, channels). low, high: bool likewise. out: uint64
    (lanes, places, words).
    """
    lanes, places, channels = x.shape
    shared = limit.shape[0] == 1
    for lane in range(lanes):
        for place in range(places):
            row = 0 if shared else place
            for k in range(out.shape[2]):
                word = np.uint64(0)
                for c in range(k * 64, min(channels, k * 64 + 64)):
                    fires = high[row, c] if x[lane, place, c] >= limit[row, c] else low[row, c]
                    word |= np.uint64(fires) << np.uint64(c - k * 64)
                out[lane, place, k] = word


@njit(cache=True)
def threshold_codes(x, limits, codes, out):  # type: ignore[no-untyped-def]
    """`codes[k]`, k the number of limits that x reaches.

    x, out: int64 (lanes, places, channels). limits: int64 (m, 1 or places, channels). codes: int64 (m + 1, ...).
    """
    lanes, places, channels = x.shape
    shared = limits.shape[1] == 1
    for lane in range(lanes):
        for place in range(places):
            row = 0 if shared else place
            for c in range(channels):
                k = 0
                while k < limits.shape[0] and x[lane, place, c] >= limits[k, row, c]:
                    k += 1
                out[lane, place, c] = codes[k, row, c]


@njit(cache=True)
def follow(x, start, slope, intercept, out):  # type: ignore[no-untyped-def]
    """`round(slope * (x - start) + intercept)` of the last piece that begins at or below x.

    x, out: int64 (lanes, places, channels). start: int64 (pieces, 1 or places, 1 or channels); slope, intercept:
    float64 likewise.
    """
    lanes, places, channels = x.shape
    pieces = start.shape[0]
    one_place, one_channel = start.shape[1] == 1, start.shape[2] == 1
    for lane in range(lanes):
        for place in range(places):
            row = 0 if one_place else place
            for c in range(channels):
                column = 0 if one_channel else c
                value = x[lane, place, c]
                low, high = 0, pieces
                while high - low > 1:
                    middle = (low + high) // 2
                    if start[middle, row, column] <= value:
                        low = middle
                    else:
                        high = middle
                line = slope[low, row, column] * np.float64(value - start[low, row, column])
                out[lane, place, c] = np.int64(np.rint(line + intercept[low, row, column]))


@njit(cache=True)
def pool(x, window, greatest, out):  # type: ignore[no-untyped-def]
    """The greatest or the sum of a window; what lies outside does not count.

    x: int64 (lanes, rows, columns, channels). window: int64 (5, 2): kernel, stride, padding, dilation, after.
    out: int64 (lanes, down, across, channels).
    """
    lanes, rows, columns, channels = x.shape
    (high, wide), stride, padding, dilation, _ = window
    for lane in range(lanes):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                total = out[lane, i, j]
                total[:] = np.iinfo(np.int64).min if greatest else 0
                for ky in range(high):
                    row = i * stride[0] - padding[0] + ky * dilation[0]
                    for kx in range(wide):
                        column = j * stride[1] - padding[1] + kx * dilation[1]
                        if row < 0 or row >= rows or column < 0 or column >= columns:
                            continue
                        if greatest:
                            for c in range(channels):
                                total[c] = max(total[c], x[lane, row, column, c])
                        else:
                            for c in range(channels):
                                total[c] += x[lane, row, column, c]


@njit(cache=True)
def convolve_depthwise(x, weight, window, out):  # type: ignore[no-untyped-def]
    """Each channel with a kernel of its own.

    x: int64 (lanes, rows, columns, channels). weight: int64 (kernel rows, kernel columns, channels). The
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
                        for c in range(channels):
                            total[c] += weight[ky, kx, c] * x[lane, row, column, c]


@njit(cache=True)
def unpack_signs(words, out):  # type: ignore[no-untyped-def]
    """+1 and -1, int64 (lanes, places, channels), from uint64 (lanes, places, words)."""
    lanes, places, channels = out.shape
    for lane in range(lanes):
        for place in range(places):
            for c in range(channels):
                bit = (words[lane, place, c // 64] >> np.uint64(c % 64)) & np.uint64(1)
                out[lane, place, c] = 2 * np.int64(bit) - 1
