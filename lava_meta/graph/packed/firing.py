"""Signs of sums that are known to within bounds: only those whose limit lies between are computed in full."""

from __future__ import annotations

import numpy as np

from lava_meta.graph.packed.loops import BLOCK
from lava_meta.graph.packed.patches import reach
from lava_meta.jit import njit


@njit(cache=True)
def fire(  # type: ignore[no-untyped-def]
    parts, shift, bounds, rest, window, leads, limits, kinds, below, above, low, x, signs
):
    """Signs of sums, of which few are computed in full.

    parts: integers (lanes, down, across, planes * units + 1): sums of each plane of digits, and of x. shift: int64
    (units,), by which digits are shifted. bounds: int64 (4, units), two lines over the sum of x between which lies what
    the digits leave out: their slopes, and their values at 0. rest: int32 or int64 (units, kernel rows, columns,
    channels), the weights' part that they leave out, or if not `leads` the weights, since the digits' sums are not
    exact. signs: uint64 (lanes, down, across, blocks). The rest as for `threshold_signs`.
    """
    lanes, down, across, blocks = signs.shape
    units = rest.shape[0]
    planes = (parts.shape[3] - 1) // units
    flat_limits = limits.reshape(-1)
    lead, lower, upper = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    for lane in range(lanes):
        for place in range(down * across):
            i, j = place // across, place % across
            part = parts[lane, i, j]
            total = np.int64(part[planes * units])
            kind = np.int64(kinds[min(place, kinds.size - 1)])
            for block in range(blocks):
                first = block * BLOCK
                count = min(BLOCK, units - first)
                lead[:] = 0
                for plane in range(planes - 1, -1, -1):
                    digits = part[plane * units + first : plane * units + first + count]
                    for u in range(count):
                        lead[u] = (lead[u] << 8) + digits[u]
                for u in range(count):
                    lead[u] <<= shift[first + u]
                    lower[u] = lead[u] + bounds[0, first + u] * total + bounds[2, first + u]
                    upper[u] = lead[u] + bounds[1, first + u] * total + bounds[3, first + u]
                row = (kind * blocks + block) * BLOCK
                word = reach(lower, 0, flat_limits, row)
                uncertain = word ^ reach(upper, 0, flat_limits, row)
                for u in range(count if uncertain else 0):
                    bit = np.uint64(1) << np.uint64(u)
                    if not uncertain & bit:
                        continue
                    base = lead[u] if leads else 0
                    if base + _sum(rest[first + u], x[lane], window, i, j, low) >= flat_limits[row + u]:
                        word |= bit
                signs[lane, i, j, block] = (word & above[kind, block]) | (~word & below[kind, block])


@njit(cache=True)
def _sum(weight, x, window, i, j, low):  # type: ignore[no-untyped-def]
    """The sum of one window, weight: (kernel rows, columns, channels), x: (rows, columns, channels)."""
    _, stride, padding, dilation, _ = window
    total = np.int64(0)
    for ky in range(weight.shape[0]):
        row = i * stride[0] - padding[0] + ky * dilation[0]
        for kx in range(weight.shape[1]):
            column = j * stride[1] - padding[1] + kx * dilation[1]
            if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                by, seen = weight[ky, kx], x[row, column]
                for c in range(seen.size):
                    total += np.int64(by[c]) * (np.int64(seen[c]) + low)
    return total
