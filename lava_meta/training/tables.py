"""Products of real numbers with signs by tables of sums: for processors that multiply neither bytes nor bfloat16.

    sum_i d_i s_i = sum_g T_g[b_g]        T[b] = sum_i d_i where bit i of b is 1, `low` d_i where it is 0, i = 0 .. 7

Eight numbers have 256 such sums, each of which is one addition away from another. A table is built once and read by all
inputs and taps of a kernel, so that one addition stands for eight multiplications, as Arlazarov, Dinic, Kronrod and
Faradzev (1970) multiply Boolean matrices. Signs have a `low` of -1, units of 0 and 1 one of 0. Entries hold `LANES`
images or units side by side, in float32.

The inner loops are on LLVM's vectors, for the reasons in `lava_meta.graph.packed.loops`; arrays are in C order.

    _build(d, start, step, bits, low, tables, table)
                                                    table number `table`: the sums of d[start + i step ..], i < bits
    _look_up(tables, index, start, stride, count, out, to)
                                                    out[to + j ..] += sum_g T_g[index[start + g stride + j]], j < count
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lava_meta.graph.packed.loops import pointer, splat
from lava_meta.jit import njit

LANES = 8
BITS = 8  # of an index: the numbers of a table
_ENTRIES = 2**BITS
_TOGETHER = 4  # tables that are read in one pass over the results: 32 KiB, a first-level cache
_LINE = 64  # bytes: an entry that lies in two lines takes twice the time
_LOW = np.float32(-1)  # of signs
_I64 = ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


def _table_builder(
    typing_context: Any, d: Any, start: Any, step: Any, bits: Any, low: Any, tables: Any, table: Any
) -> tuple[Any, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        d_data, table_data = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 5))
        low = splat(builder, args[4], LANES)
        first = pointer(builder, table_data, builder.mul(args[6], _I64(_ENTRIES * LANES)), _FLOATS)

        def number(i: Any) -> Any:
            place = builder.add(args[1], builder.mul(i, args[2]))
            return builder.load(pointer(builder, d_data, place, _FLOATS), align=4)

        total = cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, None))
        with cgutils.for_range(builder, args[3]) as loop:
            value = builder.fmul(number(loop.index), low)
            builder.store(builder.fadd(builder.load(total), value), total)
        builder.store(builder.load(total), first)
        with cgutils.for_range(builder, args[3]) as loop:
            value = number(loop.index)
            more = builder.fsub(value, builder.fmul(value, low))
            known = builder.shl(_I64(1), loop.index)
            with cgutils.for_range(builder, known) as entry:
                less = builder.load(builder.gep(first, [entry.index]))
                builder.store(builder.fadd(less, more), builder.gep(first, [builder.add(known, entry.index)]))
        return context.get_dummy_value()

    index = types.intp
    return types.void(d, index, index, index, types.float32, tables, index), codegen


def _reader(tables_read: int) -> Any:
    def read(
        typing_context: Any, tables: Any, index: Any, start: Any, stride: Any, count: Any, out: Any, to: Any
    ) -> tuple[Any, Any]:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            table_data, index_data, out_data = (
                context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1, 5)
            )
            places = [builder.add(args[2], builder.mul(args[3], _I64(g))) for g in range(tables_read)]
            places = [builder.gep(index_data, [place]) for place in places]
            entries = builder.bitcast(table_data, _FLOATS.as_pointer())
            sums = pointer(builder, out_data, args[6], _FLOATS)
            with cgutils.for_range(builder, args[4]) as loop:
                total = builder.load(builder.gep(sums, [loop.index]), align=4)
                for g, place in enumerate(places):
                    entry = builder.zext(builder.load(builder.gep(place, [loop.index])), _I64)
                    entry = builder.add(entry, _I64(_ENTRIES * g))
                    total = builder.fadd(total, builder.load(builder.gep(entries, [entry])))
                builder.store(total, builder.gep(sums, [loop.index]), align=4)
            return context.get_dummy_value()

        number = types.intp
        return types.void(tables, index, number, number, number, out, number), codegen

    return read


_build: Any = intrinsic(_table_builder)
_look_up_one, _look_up_two, _look_up_three, _look_up_four = (intrinsic(_reader(number)) for number in (1, 2, 3, 4))


@njit(cache=True)
def _no_tables():  # type: ignore[no-untyped-def]
    """Room for `_TOGETHER` tables, from the begin of a line of the cache on."""
    memory = np.empty(_TOGETHER * _ENTRIES * LANES + _LINE // 4, np.float32)
    return memory[(-memory.ctypes.data % _LINE) // 4 :]


@njit(cache=True)
def _add(tables, number, index, start, stride, count, out, to):  # type: ignore[no-untyped-def]
    """`_look_up` in the first `number` tables, 1 to `_TOGETHER`."""
    if number == 4:
        _look_up_four(tables, index, start, stride, count, out, to)
    elif number == 3:
        _look_up_three(tables, index, start, stride, count, out, to)
    elif number == 2:
        _look_up_two(tables, index, start, stride, count, out, to)
    else:
        _look_up_one(tables, index, start, stride, count, out, to)


@njit(cache=True)
def _seen(window, i, j, tap):  # type: ignore[no-untyped-def]
    """The row and column that a tap of the kernel sees from a place of the result; they may lie outside the image."""
    (_, wide), stride, padding, dilation, _ = window
    y = i * stride[0] - padding[0] + tap // wide * dilation[0]
    x = j * stride[1] - padding[1] + tap % wide * dilation[1]
    return y, x


@njit(cache=True)
def _to_lanes(x, first, lanes):  # type: ignore[no-untyped-def]
    """lanes[i, j] = x[first + j, i], 0 where x ends. x: float32 (n, size); lanes: (size, 8)."""
    for j in range(LANES):
        if first + j < x.shape[0]:
            for i in range(x.shape[1]):
                lanes[i, j] = x[first + j, i]
        else:
            lanes[:, j] = 0


@njit(cache=True)
def _from_lanes(lanes, taps, x, first):  # type: ignore[no-untyped-def]
    """x[first + j, i taps + tap] = lanes[tap size + i, j] for the rows that x has. lanes: (taps * size, 8)."""
    size, count = len(lanes) // taps, min(LANES, len(x) - first)
    for tap in range(taps):
        for i in range(size):
            for j in range(count):
                x[first + j, i * taps + tap] = lanes[tap * size + i, j]


@njit(cache=True, nogil=True)
def indices(values, out):  # type: ignore[no-untyped-def]
    """out[g, k]: bit i is values[8 g + i, k] > 0. values: int8 (n, size); out: uint8 (groups, size), zeros."""
    for i in range(len(values)):
        row, joined, bit = values[i], out[i // BITS], np.uint8(1 << i % BITS)
        for k in range(len(row)):
            joined[k] |= bit if row[k] > 0 else np.uint8(0)


@njit(cache=True, nogil=True)
def back(d, index, window, begin, end, out):  # type: ignore[no-untyped-def]
    """The gradient of a convolution's input: out[n, y, x, c] = sum_o d[n, i, j, o] W[o, c, tap].

    Over all places (i, j) and the taps whose pixel is (y, x), for the images of the blocks of 8 begin .. end - 1.

    d: float32 (images, rows, columns, units). index: uint8 (groups, taps, channels), bit i of group g is unit 8 g + i,
    1 for +1. window: int64 (5, 2), kernel, stride, padding, dilation and what is not used. out: float32 (images,
    height, width, channels).
    """
    images, rows, columns, units = d.shape
    _, height, width, channels = out.shape
    groups, taps, _ = index.shape
    tables, places = _no_tables(), index.reshape(-1)
    lanes, sums = np.empty((units, LANES), np.float32), np.empty((height * width * channels, LANES), np.float32)
    numbers, results = lanes.reshape(-1), sums.reshape(-1)
    for block in range(begin, end):
        sums[:] = 0
        for i in range(rows):
            for j in range(columns):
                _to_lanes(d[:, i, j], block * LANES, lanes)
                for g in range(0, groups, _TOGETHER):
                    number = min(_TOGETHER, groups - g)
                    for k in range(number):
                        first = BITS * (g + k)
                        _build(numbers, first * LANES, LANES, min(BITS, units - first), _LOW, tables, k)
                    for tap in range(taps):
                        y, x = _seen(window, i, j, tap)
                        if 0 <= y < height and 0 <= x < width:
                            start, to = (g * taps + tap) * channels, (y * width + x) * channels * LANES
                            _add(tables, number, places, start, taps * channels, channels, results, to)
        _from_lanes(sums, 1, out.reshape(images, -1), block * LANES)
    return True


@njit(cache=True, nogil=True)
def outer(d, index, low, window, begin, end, out):  # type: ignore[no-untyped-def]
    """The gradient of a convolution's weights: out[o, c, tap] = sum_n d[n, i, j, o] x[n, y, x, c].

    Over all images n and places (i, j), of which the tap sees (y, x), for the units of the blocks of 8 begin .. end-1.

    d: float32 (images, rows, columns, blocks * 8). index: uint8 (groups, height, width, channels), bit i of group g is
    image 8 g + i. low: float32, what a bit of 0 stands for. window: as for `back`. out: float32 (units, channels,
    taps).
    """
    images, rows, columns, units = d.shape
    groups, height, width, channels = index.shape
    taps = window[0, 0] * window[0, 1]
    tables, places, numbers = _no_tables(), index.reshape(-1), d.reshape(-1)
    sums = np.empty((taps * channels, LANES), np.float32)
    results = sums.reshape(-1)
    area, image = height * width * channels, rows * columns * units
    for block in range(begin, end):
        sums[:] = 0
        for spot in range(rows * columns):
            i, j = spot // columns, spot % columns
            for g in range(0, groups, _TOGETHER):
                number = min(_TOGETHER, groups - g)
                for k in range(number):
                    first = BITS * (g + k)
                    start = first * image + spot * units + block * LANES
                    _build(numbers, start, image, min(BITS, images - first), low, tables, k)
                for tap in range(taps):
                    y, x = _seen(window, i, j, tap)
                    if 0 <= y < height and 0 <= x < width:
                        start = g * area + (y * width + x) * channels
                        _add(tables, number, places, start, area, channels, results, tap * channels * LANES)
        _from_lanes(sums, taps, out.reshape(len(out), -1), block * LANES)
    return True
