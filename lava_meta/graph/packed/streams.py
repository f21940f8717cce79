"""Compiled loops for the integers between layers: thresholds to packed signs, curves, pooling, depthwise sums.

Values lie as (lanes, places, channels), channels last, in the narrowest type that holds them. What belongs to a place
lies in tables with a row for each kind of place, (..., kinds, channels): an image's borders differ from its inside.
Each loop computes what the node of `lava_meta.graph.nodes` says, operation by operation: nothing is fused that would
round otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, words
from lava_meta.graph.packed.casts import to_doubles, to_longs
from lava_meta.graph.packed.loops import BLOCK, pointer
from lava_meta.graph.packed.patches import reach
from lava_meta.graph.packed.sums import by_kind, padded
from lava_meta.jit import njit

_I64 = ir.IntType(64)
_EIGHT = 8  # values that a vector takes
_FEW = 4  # pieces of a curve that are looked at one after the other
_ONE = _I64(1)
_LONGS = ir.VectorType(_I64, _EIGHT)
_DOUBLES = ir.VectorType(ir.DoubleType(), _EIGHT)


def _liner(*, small: bool) -> Any:
    """Eight values of a curve; `small`: no integer on the way passes `casts.MOST_SMALL`."""

    def line(
        typing_context: Any,
        x: Any,
        i: Any,
        start: Any,
        slope: Any,
        intercept: Any,
        j: Any,
        stride: Any,
        pieces: Any,
        adds: Any,
        base: Any,
        out: Any,
        to: Any,
    ) -> Any:
        """out[to + u] = round(slope * (x[i + u] - start) + intercept) of the piece of x, with `adds` base[i + u] more.

        start, slope, intercept: of piece p at j + p stride + u.
        """

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x_data, start_data, slope_data, intercept_data, base_data, out_data = (
                context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 2, 3, 4, 9, 10)
            )

            def load(data: Any, at: Any, kind: Any) -> Any:
                return builder.load(pointer(builder, data, at, kind), align=1)

            def long(data: Any, kind: Any) -> Any:
                element = context.get_value_type(kind.dtype)
                value = load(data, args[1], ir.VectorType(element, _EIGHT))
                if element.width == 64:
                    return value
                return builder.sext(value, _LONGS) if kind.dtype.signed else builder.zext(value, _LONGS)

            value = long(x_data, x)
            tables = (start_data, _LONGS), (slope_data, _DOUBLES), (intercept_data, _DOUBLES)
            places = [cgutils.alloca_once_value(builder, load(data, args[5], kind)) for data, kind in tables]
            with cgutils.for_range(builder, args[7], _ONE) as loop:
                later = builder.add(args[5], builder.mul(loop.index, args[6]))
                reached = builder.icmp_signed(">=", value, load(start_data, later, _LONGS))
                for place, (data, kind) in zip(places, tables, strict=True):
                    builder.store(builder.select(reached, load(data, later, kind), builder.load(place)), place)
            begin, rise, level = (builder.load(place) for place in places)
            distance = to_doubles(builder, builder.sub(value, begin), small=small)
            made = to_longs(builder, builder.fadd(builder.fmul(rise, distance), level), small=small)
            kept = ir.Constant(_LONGS, None)
            made = builder.add(made, builder.select(args[8], long(base_data, base), kept))
            element = context.get_value_type(out.dtype)
            kind = ir.VectorType(element, _EIGHT)
            made = made if element.width == 64 else builder.trunc(made, kind)
            builder.store(made, pointer(builder, out_data, args[11], kind), align=1)
            return context.get_dummy_value()

        index = types.intp
        kinds = x, index, start, slope, intercept, index, index, index, types.boolean, base, out, index
        return types.void(*kinds), codegen

    return line


_line: Any = intrinsic(_liner(small=False))
_small_line: Any = intrinsic(_liner(small=True))


class Limits:
    """Thresholds with two codes: +1 and -1 by whether an integer reaches its limit."""

    def __init__(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> None:
        """int64 (1 or places, channels); bools of what lies below the limit, and of what reaches it: True for +1."""
        wide = padded(limits, np.iinfo(np.int64).max)
        self.kinds, (self.limits, self.below, self.above) = by_kind(wide, pack(below), pack(above))
        self._narrow = np.clip(self.limits, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
        # A limit past 32 bits is reached by no integer of 32 bits.
        self._narrow_above = self.above
        if (self.limits > np.iinfo(np.int32).max).any():
            absent = pack(self.limits > np.iinfo(np.int32).max)
            self._narrow_above = (self.above & ~absent) | (self.below & absent)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return int(self.limits.nbytes + self._narrow.nbytes)

    def signs(self, x: NDArray[Any]) -> NDArray[Any]:
        """Packed signs uint64 (lanes, rows, columns, words) of integers (lanes, rows, columns, channels)."""
        out = np.empty((*x.shape[:3], words(x.shape[3])), np.uint64)
        flat = x.reshape(len(x), -1, x.shape[3])
        if x.dtype == np.int64:
            threshold_signs(flat, self.limits, self.kinds, self.below, self.above, out.reshape(-1))
        else:
            narrow = flat.astype(np.int32, copy=False)
            threshold_signs(narrow, self._narrow, self.kinds, self.below, self._narrow_above, out.reshape(-1))
        return out


@njit(cache=True)
def threshold_signs(x, limits, kinds, below, above, out):  # type: ignore[no-untyped-def]
    """Packed signs: bits of `above` for what reaches its limit, of `below` for what does not.

    x: int32 or int64 (lanes, places, channels). limits: of the same type (kinds, 64 * words). kinds: int32 (places,),
    or of one element for all. below, above: uint64 (kinds, words). out: uint64 (lanes * places * words,).
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
def follow(x, start, slope, intercept, kinds, small, adds, base, out, first):  # type: ignore[no-untyped-def]
    """`round(slope * (x - start) + intercept)` of the last piece that begins at or below x, with `adds` base more.

    x: integers (lanes, places, channels). start: int64 (pieces, kinds, channels); slope, intercept: float64 likewise.
    small: neither `x - start` nor what the line gives passes `casts.MOST_SMALL`.
    base: as x, of the type of `out`: integers (lanes, places, first + channels or more), written from `first` on.
    """
    lanes, places, channels = x.shape
    pieces, tables, _ = start.shape
    flat_x, flat_base, flat_out = x.reshape(-1), base.reshape(-1), out.reshape(-1)
    starts, slopes, intercepts = start.reshape(-1), slope.reshape(-1), intercept.reshape(-1)
    stride = tables * channels
    for lane in range(lanes):
        for place in range(places):
            table = np.int64(kinds[min(place, kinds.size - 1)]) * channels
            at, to = (lane * places + place) * channels, (lane * places + place) * out.shape[2] + first
            done = 0
            while pieces <= _FEW and done + _EIGHT <= channels:
                i, j, o = at + done, table + done, to + done
                if small:
                    _small_line(flat_x, i, starts, slopes, intercepts, j, stride, pieces, adds, flat_base, flat_out, o)
                else:
                    _line(flat_x, i, starts, slopes, intercepts, j, stride, pieces, adds, flat_base, flat_out, o)
                done += _EIGHT
            for c in range(done, channels):
                value = np.int64(flat_x[at + c])
                low, high = 0, pieces
                while high - low > 1:
                    middle = (low + high) // 2
                    if starts[middle * stride + table + c] <= value:
                        low = middle
                    else:
                        high = middle
                row = low * stride + table + c
                made = np.int64(np.rint(slopes[row] * np.float64(value - starts[row]) + intercepts[row]))
                flat_out[to + c] = made + (np.int64(flat_base[at + c]) if adds else 0)


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
