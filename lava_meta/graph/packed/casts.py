"""int64 as float64 and back, in vectors: before AVX-512, processors convert one number at a time.

float64 has the whole numbers between 2^52 and 2^53 in its last bits, so an addition converts what is below 2^51, and
rounds to the nearest integer, halves to the even one:

    rint(x) = bits(x + M) - bits(M)          M = 2^52 + 2^51

Larger numbers are taken in two halves; so are integers, of whose halves the last addition alone can round.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from lava_meta.jit import compiles_for

NATIVE = compiles_for("avx512dq")  # has instructions for all of it
_MIDDLE = 2.0**52 + 2.0**51
_MIDDLE_BITS = 0x4338000000000000
_LOW, _LOW_BITS = 2.0**52, 0x4330000000000000  # 2^52 + a number of 32 bits
_HIGH, _HIGH_BITS = 2.0**84 + 2.0**63, 0x4530000080000000  # 2^84 + 2^32 times a number of 32 bits, 2^31 for 0


def to_doubles(builder: Any, longs: Any) -> Any:
    """A vector of int64 as float64."""
    kind, doubles = longs.type, ir.VectorType(ir.DoubleType(), longs.type.count)
    if NATIVE:
        return builder.sitofp(longs, doubles)
    low = builder.or_(builder.and_(longs, _all(kind, 2**32 - 1)), _all(kind, _LOW_BITS))
    high = builder.xor(builder.lshr(longs, _all(kind, 32)), _all(kind, _HIGH_BITS))
    above = builder.fsub(builder.bitcast(high, doubles), _all(doubles, _HIGH + _LOW))
    return builder.fadd(above, builder.bitcast(low, doubles))


def to_longs(builder: Any, doubles: Any) -> Any:
    """A vector of float64, rounded to int64, halves to even."""
    kind, longs = doubles.type, ir.VectorType(ir.IntType(64), doubles.type.count)
    if NATIVE:
        return builder.fptosi(rounded(builder, doubles), longs)
    whole = rounded(builder, doubles)
    high = rounded(builder, builder.fmul(whole, _all(kind, 2.0**-32)))
    low = builder.fsub(whole, builder.fmul(high, _all(kind, 2.0**32)))
    above = builder.shl(_small_longs(builder, high, longs), _all(longs, 32))
    return builder.add(above, _small_longs(builder, low, longs))


def rounded(builder: Any, doubles: Any) -> Any:
    """A vector of float64, each rounded to a whole number, halves to even."""
    kind = doubles.type
    rint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.rint.v{kind.count}f64")
    return builder.call(rint, [doubles])


def _small_longs(builder: Any, doubles: Any, longs: Any) -> Any:
    """Of numbers below 2^51."""
    moved = builder.fadd(doubles, _all(doubles.type, _MIDDLE))
    return builder.sub(builder.bitcast(moved, longs), _all(longs, _MIDDLE_BITS))


def _all(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count)
