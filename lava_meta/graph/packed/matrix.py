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
from lava_meta.graph.packed.loops import WIDE, splat
from lava_meta.jit import njit

_VECTORS, _ROWS = (4, 4) if WIDE else (2, 3)
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
                    place = builder.gep(weights_data, [builder.add(first, _I64(step))])
                    parts.append(builder.load(builder.bitcast(place, kind.as_pointer()), align=8))
                for i, sums in enumerate(totals):
                    at = builder.add(builder.add(args[3], loop.index), builder.mul(args[5], _I64(i)))
                    value = splat(builder, builder.load(builder.gep(x_data, [at])), count)
                    for total, part in zip(sums, parts, strict=True):
                        builder.store(builder.call(fused, [value, part, builder.load(total)]), total)
            for i, sums in enumerate(totals):
                for step, total in zip(steps, sums, strict=True):
                    place = builder.gep(out_data, [_I64(i * _VECTORS * count + step)])
                    builder.store(builder.load(total), builder.bitcast(place, kind.as_pointer()), align=8)
            return context.get_dummy_value()

        index = types.intp
        return types.void(weights, index, x, index, index, index, out), codegen

    return multiplied


_multiply_rows: Any = intrinsic(_multiplier(_ROWS))
_multiply_row: Any = intrinsic(_multiplier(1))


@njit(cache=True)
def multiply(weights, x, first, scale, out, at):  # type: ignore[no-untyped-def]
    """out[r, at + u] += scale * sum_k weights_uk x[r, first + k].

    weights: as `laid` gives them, (blocks, n, width). x: of their type (rows, first + n or more). out: int64 (rows, at
    + units or more); the units at the end of the last block that have no place there are left out.
    """
    blocks, size, width = weights.shape
    rows, stride = x.shape
    units = min(out.shape[1] - at, blocks * width)
    flat_weights, flat_x = weights.reshape(-1), x.reshape(-1)
    buffer = np.empty(_ROWS * width, weights.dtype)
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
                made = out[row + i, at + block * width : at + block * width + count]
                sums = buffer[i * width : i * width + count]
                for u in range(count):
                    made[u] += scale * np.int64(sums[u])
            row += together
