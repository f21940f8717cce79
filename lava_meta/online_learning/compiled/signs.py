"""Sums over the signs of hidden weights, compiled.

In fixed point they are on LLVM's vectors, as `lava_meta.graph.packed.loops` has them, and what is added up is the part
of the negative weights: `sum_j sign_j x_j = sum_j x_j - 2 sum_{h_j < 0} x_j`. Down the inputs, 32 units at once in 16
bits, the last of them under a mask, which without AVX-512 would be a branch for each: then `has_masks` is False, and
numba makes vectors of what it can. Along a row, 16 units at once in 32 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lava_meta.graph.packed.loops import splat
from lava_meta.jit import compiles_for, njit
from lava_meta.online_learning.settings import ERROR_LIMIT

WIDTH = 32  # units that `_add_negative` takes at once
WIDE = 4 * WIDTH  # and `_add_negative_wide`
LANES = 16  # units of a vector of `_negative_of`
_LARGEST = np.int64(2**15 - 1)  # that a sum of 16 bits holds
_I1, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))


def has_masks() -> bool:
    """Whether numba compiles for a processor that loads and stores some of a vector's numbers in one instruction."""
    return compiles_for("avx512f", "avx512bw")


def _adder(vectors: int) -> Any:
    """out[k] += sum of the inputs j of start .. end - 1 with hidden[rows[j], k] < 0; k = first, first + 1, ..."""

    def add(typing_context: Any, hidden: Any, first: Any, rows: Any, x: Any, start: Any, end: Any, out: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights, places, inputs, sums = (
                context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 2, 3, 6)
            )
            units = cgutils.unpack_tuple(builder, weights.shape)[1]
            kind, wide = ir.VectorType(_I16, WIDTH), ir.VectorType(_I32, WIDTH)
            zero = ir.Constant(kind, None)
            numbers = ir.Constant(ir.VectorType(_I64, WIDTH), list(range(WIDTH)))
            load = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind.as_pointer(), _I32, ir.VectorType(_I1, WIDTH), kind]),
                f"llvm.masked.load.v{WIDTH}i16.p0v{WIDTH}i16",
            )
            totals = [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
            firsts = [builder.add(args[1], _I64(i * WIDTH)) for i in range(vectors)]
            with cgutils.for_range_slice(builder, args[4], args[5], _I64(1)) as (j, _):
                value = splat(builder, builder.load(builder.gep(inputs.data, [j])), WIDTH)
                row = builder.mul(builder.zext(builder.load(builder.gep(places.data, [j])), _I64), units)
                for total, unit in zip(totals, firsts, strict=True):
                    place = builder.gep(weights.data, [builder.add(row, unit)])
                    inside = builder.icmp_signed("<", numbers, splat(builder, builder.sub(units, unit), WIDTH))
                    h = builder.call(load, [builder.bitcast(place, kind.as_pointer()), _I32(2), inside, zero])
                    negative = builder.ashr(h, ir.Constant(kind, [15] * WIDTH))
                    builder.store(builder.add(builder.load(total), builder.and_(negative, value)), total)
            for total, unit in zip(totals, firsts, strict=True):
                place = builder.bitcast(builder.gep(sums.data, [unit]), wide.as_pointer())
                more = builder.sext(builder.load(total), wide)
                builder.store(builder.add(builder.load(place, align=4), more), place, align=4)
            return context.get_dummy_value()

        return types.void(hidden, types.intp, rows, x, types.intp, types.intp, out), codegen

    return add


def _row_adder(typing_context: Any, hidden: Any, start: Any, d: Any) -> Any:
    """Sum of d[k] with hidden[start + k] < 0. hidden, d: int16 and int32, of one axis; d has whole vectors of LANES."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        weights, errors = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 2))
        kinds = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES)
        zeros = [ir.Constant(kind, None) for kind in kinds]
        total = cgutils.alloca_once_value(builder, zeros[1])
        vectors = builder.udiv(cgutils.unpack_tuple(builder, errors.shape)[0], _I64(LANES))
        with cgutils.for_range(builder, vectors) as loop:
            first = builder.mul(loop.index, _I64(LANES))
            places = builder.gep(weights.data, [builder.add(args[1], first)]), builder.gep(errors.data, [first])
            h, values = (
                builder.load(builder.bitcast(place, kind.as_pointer()), align=2)
                for place, kind in zip(places, kinds, strict=True)
            )
            negative = builder.icmp_signed("<", h, zeros[0])
            builder.store(builder.add(builder.load(total), builder.select(negative, values, zeros[1])), total)
        together = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_I32, [kinds[1]]), f"llvm.vector.reduce.add.v{LANES}i32"
        )
        return builder.call(together, [builder.load(total)])

    return types.int32(hidden, types.intp, d), codegen


_add_negative: Any = intrinsic(_adder(1))
_add_negative_wide: Any = intrinsic(_adder(WIDE // WIDTH))
_negative_of: Any = intrinsic(_row_adder)
_MASKS = has_masks()


@njit("int64(int16[::1], int32[::1])", cache=True, nogil=True)
def active(x: Any, rows: Any) -> Any:
    """How many inputs are not 0; `rows` has their numbers."""
    count = np.int64(0)
    for j in range(x.shape[0]):
        rows[count] = j
        count += np.int64(x[j] != 0)  # no branch: which inputs are active is not to be foreseen
    return count


@njit(
    ["void(int16[:, ::1], int16[:, ::1], int32[:, ::1])", "void(float32[:, ::1], int16[:, ::1], int32[:, ::1])"],
    cache=True,
    nogil=True,
)
def _sum_rows(hidden: Any, x: Any, u: Any) -> None:
    """As `sum_up`, by numba's vectors."""
    units = hidden.shape[1]
    for lane in range(x.shape[0]):
        row_u = u[lane]
        row_u[:] = 0
        for j in range(x.shape[1]):
            value = np.int32(x[lane, j])
            if value == 0:
                continue
            row = hidden[j]
            for k in range(units):
                row_u[k] += value if row[k] >= 0 else -value


@njit("void(int16[:, ::1], int16[:, ::1], int32[:, ::1])", cache=True, nogil=True)
def sum_up(hidden: Any, x: Any, u: Any) -> None:
    """u[lane, k] = sum_j sign(hidden[j, k]) x[lane, j]."""
    if not _MASKS:
        _sum_rows(hidden, x, u)
        return
    units = hidden.shape[1]
    rows, values = np.empty(x.shape[1], np.int32), np.empty(x.shape[1], np.int16)
    negative = np.empty(units + WIDTH, np.int32)
    for lane in range(x.shape[0]):
        count, total, largest = active(x[lane], rows), np.int32(0), np.int64(1)
        for i in range(count):
            values[i] = x[lane, rows[i]]
            total += np.int32(values[i])
            largest = max(largest, abs(np.int64(values[i])))
        together = max(np.int64(1), _LARGEST // largest)
        negative[:] = 0
        for start in range(0, count, together):
            end, first = min(count, start + together), 0
            while first < units:
                if first + WIDE <= units:
                    _add_negative_wide(hidden, first, rows, values, start, end, negative)
                    first += WIDE
                else:
                    _add_negative(hidden, first, rows, values, start, end, negative)
                    first += WIDTH
        for k in range(units):
            u[lane, k] = total - np.int32(2) * negative[k]


@njit("void(int16[:, ::1], int64[::1], int64, int32[::1])", cache=True, nogil=True)
def pass_down(hidden: Any, d: Any, shift: int, out: Any) -> None:
    """out[j] = clip((sum_k sign(hidden[j, k]) d[k]) >> shift)."""
    units = hidden.shape[1]
    errors, flat = np.zeros(-(-units // LANES) * LANES, np.int32), hidden.reshape(-1)
    whole, largest = np.int64(0), np.int64(0)
    for k in range(units):
        errors[k] = np.int32(d[k])
        whole += d[k]
        largest += abs(d[k])
    # The last vector reads into the next row, and there must be one.
    vectors = (flat.size - errors.size) // units + 1 if largest < 2**31 and flat.size >= errors.size else 0
    for j in range(hidden.shape[0]):
        if j < vectors:
            total = whole - 2 * np.int64(_negative_of(flat, j * units, errors))
        else:
            row, total = hidden[j], np.int64(0)
            for k in range(units):
                total += d[k] if row[k] >= 0 else -d[k]
        out[j] = np.int32(min(np.int64(ERROR_LIMIT), max(np.int64(-ERROR_LIMIT), total >> shift)))


def sums(hidden: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """int32 (lanes, units): sum_j sign(hidden[j, k]) x[lane, j] of inputs int16 (lanes, n_in)."""
    u = np.empty((len(x), hidden.shape[1]), np.int32)
    (sum_up if hidden.dtype == np.int16 else _sum_rows)(hidden, x, u)
    return u
