"""int64 as float64 and back, in vectors: before AVX-512, processors convert one number at a time.

float64 has the whole numbers between 2^52 and 2^53 in its last bits, so an addition converts what is below 2^51:

    float64(i) = float(i + bits(M)) - M          rint(x) = bits(x + M) - bits(M)          M = 2^52 + 2^51

The one is exact, and the other rounds to the nearest integer, halves to the even one. Others are taken in two halves of
32 bits, of which the last addition alone can round.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from lava_meta.jit import compiles_for

MOST_SMALL = 2**51 - 1  # of what is small
NATIVE = compiles_for("avx512dq")  # has instructions for all of it
_MIDDLE = 2.0**52 + 2.0**51
_MIDDLE_BITS = 0x4338000000000000
_LOW, _LOW_BITS = 2.0**52, 0x4330000000000000  # 2^52 + a number of 32 bits
_HIGH, _HIGH_BITS = 2.0**84 + 2.0**63, 0x4530000080000000  # 2^84 + 2^32 times a number of 32 bits, 2^31 for 0


def to_doubles(builder: Any, longs: Any, *, small: bool) -> Any:
    """A vector of int64 as float64; `small`: none passes `MOST_SMALL`."""
    kind, doubles = longs.type, ir.VectorType(ir.DoubleType(), longs.type.count)
    if NATIVE:
        return builder.sitofp(longs, doubles)
    if small:
        return builder.fsub(
            builder.bitcast(builder.add(longs, _all(kind, _MIDDLE_BITS)), doubles), _all(doubles, _MIDDLE)
        )
    low = builder.or_(builder.and_(longs, _all(kind, 2**32 - 1)), _all(kind, _LOW_BITS))
    high = builder.xor(builder.lshr(longs, _all(kind, 32)), _all(kind, _HIGH_BITS))
    above = builder.fsub(builder.bitcast(high, doubles), _all(doubles, _HIGH + _LOW))
    return builder.fadd(above, builder.bitcast(low, doubles))


def to_longs(builder: Any, doubles: Any, *, small: bool) -> Any:
    """A vector of float64, rounded to int64, halves to even; `small`: none passes `MOST_SMALL`."""
    kind, longs = doubles.type, ir.VectorType(ir.IntType(64), doubles.type.count)
    rint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.rint.v{kind.count}f64")
    if NATIVE:
        return builder.fptosi(builder.call(rint, [doubles]), longs)
    if small:
        return _small_longs(builder, doubles, longs)
    whole = builder.call(rint, [doubles])
    high = builder.call(rint, [builder.fmul(whole, _all(kind, 2.0**-32))])
    low = builder.fsub(whole, builder.fmul(high, _all(kind, 2.0**32)))
    above = builder.shl(_small_longs(builder, high, longs), _all(longs, 32))
    return builder.add(above, _small_longs(builder, low, longs))


def _small_longs(builder: Any, doubles: Any, longs: Any) -> Any:
    moved = builder.fadd(doubles, _all(doubles.type, _MIDDLE))
    return builder.sub(builder.bitcast(moved, longs), _all(longs, _MIDDLE_BITS))


def _all(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)
