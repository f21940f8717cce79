"""Products of matrices in float64 or float32 for integers that these hold exactly, so that no order or fusing matters.

A block of units takes four vectors of 64 bytes; four rows pass together, which makes as many independent sums as hide
an addition's latency. Where registers are half as wide, and half as many, it takes two, and three rows. Small matrices,
as convolutions have them, are several times faster than by a general library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lava_meta.graph.packed import aligned
from lava_meta.graph.packed.casts import to_longs
from lava_meta.graph.packed.loops import WIDE, pointer, splat
from lava_meta.jit import njit

_VECTORS, _ROWS = (4, 4) if WIDE else (2, 3)
_EIGHT = 8  # sums that are converted together
_I64 = ir.IntType(64)


def width_of(kind: np.dtype[Any]) -> int:
    """Units of a block."""
    return _VECTORS * 64 // kind.itemsize


def laid(matrix: NDArray[Any]) -> NDArray[Any]:
    """Weights (units, n) as (blocks, n, units of a block), filled up with zeros."""
    units, n = matrix.shape
    width = width_of(matrix.dtype)
    whole = np.zeros((-(-units // width) * width, n), matrix.dtype)
    whole[:units] = matrix
    return aligned.copy(whole.reshape(-1, width, n).transpose(0, 2, 1))


def _multiplier(rows: int) -> Any:
    """The products of `rows` rows with a block of units."""

    def multiplied(
        typing_context: Any, weights: Any, start: Any, x: Any, x_start: Any, size: Any, stride: Any, out: Any
    ) -> Any:
        """out[i, u] = sum_k weights[start + k width + u] * x[x_start + i stride + k], k below `size`."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_data, x_data, out_data = (
                context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 6)
            )
            element = context.get_value_type(weights.dtype)
            count = 512 // weights.dtype.bitwidth
            kind = ir.VectorType(element, count)
            name = f"llvm.fmuladd.v{count}f{weights.dtype.bitwidth}"
            fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
            steps = range(0, _VECTORS * count, count)
            zero = ir.Constant(kind, None)
            totals = [[cgutils.alloca_once_value(builder, zero) for _ in steps] for _ in range(rows)]
            with cgutils.for_range(builder, args[4]) as loop:
                first = builder.add(args[1], builder.mul(loop.index, _I64(_VECTORS * count)))
                parts = []
                for step in steps:
                    place = pointer(builder, weights_data, builder.add(first, _I64(step)), kind)
                    parts.append(builder.load(place, align=8))
                for i, sums in enumerate(totals):
                    at = builder.add(builder.add(args[3], loop.index), builder.mul(args[5], _I64(i)))
                    value = splat(builder, builder.load(builder.gep(x_data, [at])), count)
                    for total, part in zip(sums, parts, strict=True):
                        builder.store(builder.call(fused, [value, part, builder.load(total)]), total)
            for i, sums in enumerate(totals):
                for step, total in zip(steps, sums, strict=True):
                    place = pointer(builder, out_data, _I64(i * _VECTORS * count + step), kind)
                    builder.store(builder.load(total), place, align=8)
            return context.get_dummy_value()

        index = types.intp
        return types.void(weights, index, x, index, index, index, out), codegen

    return multiplied


def _adder(typing_context: Any, sums: Any, start: Any, shift: Any, out: Any, to: Any) -> Any:
    """out[to + u] += sums[start + u] << shift, of a block, rounded to integers; or = sums, if out is of floats."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_data, out_data = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 3))
        element = context.get_value_type(sums.dtype)
        kind, doubles, longs = (ir.VectorType(of, _EIGHT) for of in (element, ir.DoubleType(), _I64))
        left = splat(builder, args[2], _EIGHT)
        for step in range(0, width_of(np.dtype(sums.dtype.name)), _EIGHT):
            made = builder.load(pointer(builder, sums_data, builder.add(args[1], _I64(step)), kind), align=4)
            made = builder.fpext(made, doubles) if kind != doubles else made
            if isinstance(out.dtype, types.Float):
                builder.store(made, pointer(builder, out_data, builder.add(args[4], _I64(step)), doubles), align=8)
                continue
            place = pointer(builder, out_data, builder.add(args[4], _I64(step)), longs)
            more = builder.shl(to_longs(builder, made), left)
            builder.store(builder.add(builder.load(place, align=8), more), place, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, types.int64, out, types.intp), codegen


_multiply_rows: Any = intrinsic(_multiplier(_ROWS))
_multiply_row: Any = intrinsic(_multiplier(1))
_add: Any = intrinsic(_adder)


@njit(cache=True)
def multiply(weights, x, first, shift, out, at):  # type: ignore[no-untyped-def]
    """out[r, at + u] += (sum_k weights_uk x[r, first + k]) << shift.

    weights: as `laid` gives them, (blocks, n, width). x: of their type (rows, first + n or more). out: int64 (rows, at
    + units or more); the units at the end of the last block that have no place there are left out. Or float64, which
    become the sums.
    """
    blocks, size, width = weights.shape
    rows, stride = x.shape
    units = min(out.shape[1] - at, blocks * width)
    flat_weights, flat_x, flat_out = weights.reshape(-1), x.reshape(-1), out.reshape(-1)
    buffer, last = np.empty(_ROWS * width, weights.dtype), np.zeros(width, out.dtype)
    for block in range(blocks):
        start = block * size * width
        count = min(width, units - block * width)
        row = 0
        while row < rows:
            together = _ROWS if row + _ROWS <= rows else 1
            if together == _ROWS:
                _multiply_rows(flat_weights, start, flat_x, row * stride + first, size, stride, buffer)
            else:
                _multiply_row(flat_weights, start, flat_x, row * stride + first, size, stride, buffer)
            for i in range(together):
                to = (row + i) * out.shape[1] + at + block * width
                if count == width:
                    _add(buffer, i * width, shift, flat_out, to)
                    continue
                last[:count] = flat_out[to : to + count]
                _add(buffer, i * width, shift, last, 0)
                flat_out[to : to + count] = last[:count]
            row += together
