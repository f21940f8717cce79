"""Signs that differ, counted by tables of four bits: for processors that count no bits in vectors.

    popcount(w ^ x) = sum_j T[x_j][w_j]          T[a][b] = popcount(a ^ b), over the four bits j of each

x_j chooses a row of the table, which one instruction looks up for 32 units at once. This takes two operations for 128
signs where counting takes nine for 256, and twice the memory: four bits of a weight take a byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from lava_meta.graph.packed.loops import BLOCK, pointer
from lava_meta.jit import compiles_for, njit

USED = compiles_for("avx2") and not compiles_for("avx512vpopcntdq")
MOST = 2**16 - 1  # signs whose counts 16 bits hold
_UNITS = 32  # whose bytes are looked up at once
_AT_ONCE = 4  # parts of four bits in one round of the loop
_TOGETHER = 15 * _AT_ONCE  # whose counts a byte holds
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_ROW = ir.VectorType(_I8, 16)
_BYTES, _SHORTS = ir.VectorType(_I8, _UNITS), ir.VectorType(_I16, _UNITS)
_TABLE = bytearray(bin(row ^ column).count("1") for row in range(16) for column in range(16))


def laid(bits: NDArray[Any]) -> NDArray[Any]:
    """Weights bool (units, taps, inputs) as uint8 (units, taps * parts), four inputs of a tap to a byte."""
    units, taps, inputs = bits.shape
    fours = np.zeros((units, taps, -(-inputs // 8) * 2, 4), np.uint8)
    fours.reshape(units, taps, -1)[:, :, :inputs] = bits
    first, second, third, fourth = (fours[..., i] << i for i in range(4))
    return (first | second | third | fourth).reshape(units, -1)


@njit(cache=True, nogil=True)
def spread(x, channels):  # type: ignore[no-untyped-def]
    """Packed signs uint64 (lanes, rows, columns, words) as uint8 (..., parts): of each four, the row of the table."""
    lanes, rows, columns, words = x.shape
    size = (channels + 7) // 8
    out = np.empty((lanes, rows, columns, 2 * size), np.uint8)
    packed, parts = x.view(np.uint8).reshape(-1), out.reshape(-1)
    if size == 8 * words:
        _spread(packed, 0, packed.size, parts, 0)
    elif size % 4 == 0:
        fours, eights = x.view(np.uint32).reshape(-1), parts.view(np.uint64)
        for place in range(lanes * rows * columns):
            for i in range(size // 4):
                eights[size // 4 * place + i] = _spread_four(fours[2 * words * place + i])
    else:
        for place in range(lanes * rows * columns):
            _spread(packed, 8 * words * place, size, parts, 2 * size * place)
    return out


@njit(cache=True)
def _spread_four(part):  # type: ignore[no-untyped-def]
    """The rows of four bytes, in eight."""
    wide = np.uint64(part)
    wide = (wide | wide << np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    wide = (wide | wide << np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    low, high = wide & np.uint64(0x000F000F000F000F), wide & np.uint64(0x00F000F000F000F0)
    return low << np.uint64(4) | high << np.uint64(8)


@njit(cache=True)
def _spread(x, start, size, out, to):  # type: ignore[no-untyped-def]
    for i in range(size):
        part = x[start + i]
        out[to + 2 * i] = (part & np.uint8(15)) << np.uint8(4)
        out[to + 2 * i + 1] = part & np.uint8(240)


def counted(builder: Any, weights: Any, start: Any, x: Any, places: Any, parts: Any, units: int) -> list[list[Any]]:
    """For each place of x, <32 x i16> of sum_k popcount(weights[start + 64 k + u] ^ x[place + k]), of all units.

    weights: a pointer to bytes as `laid` gives them, in blocks of 64 units. x: a pointer to what `spread` gives.
    """
    kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    look_up = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pshuf.b")
    table = ir.Constant(ir.ArrayType(_I8, len(_TABLE)), _TABLE)
    table = builder.bitcast(cgutils.global_constant(builder, "lava_meta.popcounts", table), _I8.as_pointer())
    twice = ir.Constant(ir.VectorType(_I32, _UNITS), [*range(_ROW.count)] * 2)
    steps = range(0, units, _UNITS)
    totals, bytes_ = ([[cgutils.alloca_once(builder, k) for _ in steps] for _ in places] for k in (_SHORTS, _BYTES))

    def count(k: Any) -> None:
        rows = []
        for place in places:
            at = builder.zext(builder.load(builder.gep(x, [builder.add(place, k)])), _I64)
            row = builder.load(pointer(builder, table, at, _ROW), align=1)
            rows.append(builder.shuffle_vector(row, row, twice))
        first = builder.add(start, builder.mul(k, _I64(BLOCK)))
        for i, step in enumerate(steps):
            weight = builder.load(pointer(builder, weights, builder.add(first, _I64(step)), _BYTES), align=1)
            for row, counts in zip(rows, bytes_, strict=True):
                found = builder.call(look_up, [row, weight])
                builder.store(builder.add(builder.load(counts[i]), found), counts[i])

    _clear(builder, totals, _SHORTS)
    with cgutils.for_range_slice(builder, _I64(0), parts, _I64(_TOGETHER)) as (begin, _):
        _clear(builder, bytes_, _BYTES)
        rest = builder.sub(parts, begin)
        few = builder.select(builder.icmp_signed("<", rest, _I64(_TOGETHER)), rest, _I64(_TOGETHER))
        rounds = builder.sdiv(few, _I64(_AT_ONCE))
        with cgutils.for_range(builder, rounds) as loop:
            first = builder.add(begin, builder.mul(loop.index, _I64(_AT_ONCE)))
            for j in range(_AT_ONCE):
                count(builder.add(first, _I64(j)))
        with cgutils.for_range(builder, few, builder.mul(rounds, _I64(_AT_ONCE))) as loop:
            count(builder.add(begin, loop.index))
        for counts, sums in zip(bytes_, totals, strict=True):
            for part, total in zip(counts, sums, strict=True):
                wide = builder.zext(builder.load(part), _SHORTS)
                builder.store(builder.add(builder.load(total), wide), total)
    return [[builder.load(total) for total in sums] for sums in totals]


def _clear(builder: Any, places: list[list[Any]], kind: Any) -> None:
    for row in places:
        for place in row:
            builder.store(ir.Constant(kind, None), place)
