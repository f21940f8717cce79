"""Which synapses of an input a step may move: few of many, found without a look at their hidden weights.

A step is rounded at random, so `floor(step + draw)` is 0 unless the draw is as close to an end of its range as the step
is large. No gate is above 1: the step before its gate says how close that is, of a whole unit. With 32 bits of a draw,

    moves up      draw + bound >= 2**32      bound: |amount| |x|, in 2**-32 levels
    moves down    draw < bound

are one comparison, `draw + (bound if up else 0) < bound`, on numbers that wrap around. What is forgotten at most,
`rest`, widens both sides.

The search is on LLVM's vectors, as `lava_meta.graph.packed.loops` has them. It is fast with AVX-512, which packs those
of a vector's numbers that were found in one instruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lava_meta.graph.packed.loops import splat
from lava_meta.jit import njit
from lava_meta.online_learning import draws
from lava_meta.online_learning.compiled.signs import has_masks

WIDTH = 16  # units of a vector
GATE_BITS = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_I32, WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)
LEVEL = 2**32  # a whole level, as a bound
_ALL = np.uint32(2**32 - 1)


def _constant(values: Any) -> Any:
    return ir.Constant(_INTS, list(values))


def _keep(builder: Any, values: Any, hit: Any, place: Any) -> None:
    """Store the values that were hit, one after the other; up to 16 more numbers are overwritten."""
    if has_masks():
        kind = ir.FunctionType(_INTS, [_INTS, _INTS, _BITS])
        compress = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.mask.compress.v{WIDTH}i32")
        values = builder.call(compress, [values, values, hit])
        builder.store(values, builder.bitcast(place, _INTS.as_pointer()), align=4)
    else:
        kind = ir.FunctionType(ir.VoidType(), [_INTS, _I32.as_pointer(), _BITS])
        store = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.compressstore.v{WIDTH}i32")
        builder.call(store, [values, place, hit])


def _searcher(
    typing_context: Any, base: Any, j: Any, x: Any, rest: Any, slope: Any, always: Any, up: Any, found: Any, count: Any
) -> Any:
    """Adds the synapses of a row that may move to the first `count` of `found`, and returns how many there are then.

    base: of the row's draws (`draws.draws`). j: its number. x: its input. slope, always, up: of `reach`. found: int32
    (3, room) units, rows, and draws of 32 bits; up to 16 more are written. A unit may be one of those that fill up the
    last vector.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slopes, constants, ups = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (4, 5, 6)
        )
        length = cgutils.unpack_tuple(builder, context.make_array(slope)(context, builder, args[4]).shape)[0]
        room = context.make_array(found)(context, builder, args[7])
        width = cgutils.unpack_tuple(builder, room.shape)[1]
        negative = builder.ashr(args[2], _I32(31))
        flip = splat(builder, negative, WIDTH)
        size = splat(builder, builder.sub(builder.xor(args[2], negative), negative), WIDTH)
        rest_below = splat(builder, args[3], WIDTH)
        rest_both = builder.add(rest_below, rest_below)
        row = splat(builder, args[1], WIDTH)
        # LLVM turns these stack slots into registers.
        total = cgutils.alloca_once_value(builder, args[8])
        units = cgutils.alloca_once_value(builder, _constant(range(WIDTH)))
        columns = _constant(k * draws.GOLDEN % 2**32 for k in range(WIDTH))
        places = cgutils.alloca_once_value(builder, builder.add(splat(builder, args[0], WIDTH), columns))

        def take(slot: Any, step: int) -> Any:
            now = builder.load(slot)
            builder.store(builder.add(now, _constant([step % 2**32] * WIDTH)), slot)
            return now

        with cgutils.for_range(builder, builder.udiv(length, _I64(WIDTH))) as loop:
            first = builder.mul(loop.index, _I64(WIDTH))

            def load(data: Any) -> Any:
                return builder.load(builder.bitcast(builder.gep(data, [first]), _INTS.as_pointer()), align=4)

            v = take(places, WIDTH * draws.GOLDEN)
            v = builder.xor(v, builder.lshr(v, _constant([16] * WIDTH)))
            v = builder.mul(v, _constant([draws.FIRST] * WIDTH))
            v = builder.xor(v, builder.lshr(v, _constant([15] * WIDTH)))
            bound = builder.mul(load(slopes), size)
            upward = builder.and_(bound, builder.xor(load(ups), flip))
            limit = builder.or_(builder.add(bound, rest_both), load(constants))
            hit = builder.icmp_unsigned("<=", builder.add(builder.add(v, rest_below), upward), limit)
            before = builder.load(total)
            rooms = [builder.gep(room.data, [builder.add(builder.mul(width, _I64(part)), before)]) for part in range(3)]
            _keep(builder, take(units, WIDTH), hit, rooms[0])
            builder.store(row, builder.bitcast(rooms[1], _INTS.as_pointer()), align=4)
            _keep(builder, v, hit, rooms[2])
            number = builder.ctpop(builder.bitcast(hit, ir.IntType(WIDTH)))
            builder.store(builder.add(before, builder.zext(number, _I64)), total)
        return builder.load(total)

    return types.intp(base, j, x, rest, slope, always, up, found, count), codegen


search: Any = intrinsic(_searcher)


@njit("int64(int32[::1], int64, int64, int64, int64, uint32[::1], uint32[::1], uint32[::1])", cache=True, nogil=True)
def reach(
    amount: Any, largest: int, level_bits: int, step_bits: int, rest: int, slope: Any, always: Any, up: Any
) -> Any:
    """How many units of a row may move, on average, times 2**32, for inputs of up to `largest` levels.

    slope: bound on a unit's step for an input of 1, in 2**-32 levels. always: all ones if it is a whole level or more.
    up: all ones if the step is upward for inputs above 0.
    """
    total = np.int64(0)
    shift = 32 + GATE_BITS - step_bits - level_bits
    for k in range(amount.shape[0]):
        size = abs(np.int64(amount[k])) << shift
        most = size * largest + 2 * rest
        whole = most >= LEVEL
        slope[k] = np.uint32(0 if whole else size)
        always[k] = _ALL if whole else np.uint32(0)
        up[k] = _ALL if amount[k] > 0 else np.uint32(0)
        total += LEVEL if whole else most
    return total
