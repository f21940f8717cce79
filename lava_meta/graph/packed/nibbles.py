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

from lava_meta.graph.packed import aligned
from lava_meta.jit import compiles_for

USED = compiles_for("avx2") and not compiles_for("avx512vpopcntdq")
MOST_WORDS = (2**16 - 1) // 64  # whose counts 16 bits hold
_TOGETHER = 3  # words, whose counts a byte holds
_UNITS = 32  # whose bytes are looked up at once
_PARTS = range(0, 64, 4)  # of a word
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_ROW = ir.VectorType(_I8, 16)
_BYTES, _SHORTS = ir.VectorType(_I8, _UNITS), ir.VectorType(_I16, _UNITS)
_TABLE = bytes(bin(row ^ column).count("1") for row in range(16) for column in range(16))


def laid(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights uint64 (blocks, words, 64) as uint8 (blocks, 16 * words, 64), four bits to a byte."""
    blocks, words, units = weights.shape
    shifts = np.arange(_PARTS.start, _PARTS.stop, _PARTS.step, dtype=np.uint64)[:, None]
    parts = (weights[:, :, None, :] >> shifts) & np.uint64(15)
    return aligned.copy(parts.astype(np.uint8).reshape(blocks, words * len(_PARTS), units))


def counted(builder: Any, weights: Any, start: Any, x: Any, places: Any, words: Any, units: int) -> list[list[Any]]:
    """For each place of x, vectors <32 x i16> of sum_k popcount(weights of word k ^ x[place + k]), of all units.

    weights, start: a pointer to bytes as `laid` gives them, and the first word's. x: a pointer to words.
    """
    kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    look_up = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pshuf.b")
    table = cgutils.global_constant(
        builder, "lava_meta.popcounts", ir.Constant(ir.ArrayType(_I8, 256), bytearray(_TABLE))
    )
    table = builder.bitcast(table, _I8.as_pointer())
    twice = ir.Constant(ir.VectorType(_I32, _UNITS), [*range(_ROW.count)] * 2)
    steps = range(0, units, _UNITS)
    totals, bytes_ = ([[cgutils.alloca_once(builder, k) for _ in steps] for _ in places] for k in (_SHORTS, _BYTES))
    _clear(builder, totals, _SHORTS)
    with cgutils.for_range_slice(builder, _I64(0), words, _I64(_TOGETHER)) as (begin, _):
        _clear(builder, bytes_, _BYTES)
        rest = builder.sub(words, begin)
        few = builder.select(builder.icmp_signed("<", rest, _I64(_TOGETHER)), rest, _I64(_TOGETHER))
        with cgutils.for_range(builder, few) as loop:
            k = builder.add(begin, loop.index)
            seen = [builder.load(builder.gep(x, [builder.add(place, k)])) for place in places]
            first = builder.add(start, builder.mul(k, _I64(64 * len(_PARTS))))
            for j, shift in enumerate(_PARTS):
                rows = []
                for word in seen:
                    moved = builder.lshr(word, _I64(shift - 4)) if shift else builder.shl(word, _I64(4))
                    place = builder.gep(table, [builder.and_(moved, _I64(240))])
                    row = builder.load(builder.bitcast(place, _ROW.as_pointer()), align=1)
                    rows.append(builder.shuffle_vector(row, row, twice))
                for i, step in enumerate(steps):
                    place = builder.gep(weights, [builder.add(first, _I64(64 * j + step))])
                    weight = builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)
                    for row, counts in zip(rows, bytes_, strict=True):
                        found = builder.call(look_up, [row, weight])
                        builder.store(builder.add(builder.load(counts[i]), found), counts[i])
        for counts, sums in zip(bytes_, totals, strict=True):
            for count, total in zip(counts, sums, strict=True):
                wide = builder.zext(builder.load(count), _SHORTS)
                builder.store(builder.add(builder.load(total), wide), total)
    return [[builder.load(total) for total in sums] for sums in totals]


def _clear(builder: Any, places: list[list[Any]], kind: Any) -> None:
    for row in places:
        for place in row:
            builder.store(ir.Constant(kind, None), place)
