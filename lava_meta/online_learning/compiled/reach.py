"""Which synapses of an input a step may move: few of many, found without a look at their hidden weights.

A step is rounded at random, so `floor(step + draw)` is 0 unless the draw is as close to an end of its range as the step
is large. No gate is above 1: the step before its gate says how close that is, of a whole unit. With 32 bits of a draw,

    moves up      draw + bound >= 2**32      bound: |amount| |x|, in 2**-32 levels
    moves down    draw < bound

are one comparison, `draw + (bound if up else 0) < bound`, on numbers that wrap around. What is forgotten at most,
`rest`, widens both sides.

The search is on LLVM's vectors, as `lava_meta.graph.packed.loops` has them, and stores what it found by an instruction
of AVX-512; on a processor without it `searches` is False, and every synapse is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from lava_meta.graph.packed.loops import splat
from lava_meta.jit import njit
from lava_meta.online_learning import draws

WIDTH = 16  # units of a vector
GATE_BITS = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_I32, WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)
_ALL, _END = np.uint32(2**32 - 1), np.int64(2**32)


def searches() -> bool:
    """Whether numba compiles for a processor that stores some of a vector's numbers in one instruction."""
    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]


def _constant(values: Any) -> Any:
    return ir.Constant(_INTS, list(values))


def _searcher(
    typing_context: Any, base: Any, x: Any, rest: Any, units: Any, slope: Any, always: Any, up: Any, found: Any
) -> Any:
    """How many units of a row may move; `found` has their numbers.

    base: of the row's draws (`draws.draws`). x: the input. slope, always, up: of `reach`, whole vectors.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slopes, constants, ups, room = (
            context.make_array(signature.args[i])(context, builder, args[i]).data for i in (4, 5, 6, 7)
        )
        size = splat(
            builder, builder.select(builder.icmp_signed("<", args[1], _I32(0)), builder.neg(args[1]), args[1]), WIDTH
        )
        flip = splat(builder, builder.ashr(args[1], _I32(31)), WIDTH)
        rest_one = splat(builder, args[2], WIDTH)
        rest_both = builder.add(rest_one, rest_one)
        last = splat(builder, builder.trunc(args[3], _I32), WIDTH)
        store = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [_INTS, _I32.as_pointer(), _BITS]),
            "llvm.masked.compressstore.v16i32",
        )
        count = cgutils.alloca_once_value(builder, _I64(0))
        vectors = builder.sdiv(builder.add(args[3], _I64(WIDTH - 1)), _I64(WIDTH))
        with cgutils.for_range(builder, vectors) as loop:
            first = builder.mul(loop.index, _I64(WIDTH))

            def load(data: Any) -> Any:
                return builder.load(builder.bitcast(builder.gep(data, [first]), _INTS.as_pointer()), align=4)

            number = builder.trunc(first, _I32)
            units_here = builder.add(splat(builder, number, WIDTH), _constant(range(WIDTH)))
            start = builder.add(args[0], builder.mul(number, _I32(draws.GOLDEN)))
            v = builder.add(splat(builder, start, WIDTH), _constant(k * draws.GOLDEN % 2**32 for k in range(WIDTH)))
            v = builder.xor(v, builder.lshr(v, _constant([16] * WIDTH)))
            v = builder.mul(v, _constant([draws.FIRST] * WIDTH))
            v = builder.xor(v, builder.lshr(v, _constant([15] * WIDTH)))
            bound = builder.mul(load(slopes), size)
            upward = builder.and_(bound, builder.xor(load(ups), flip))
            v = builder.add(builder.add(v, rest_one), upward)
            limit = builder.or_(builder.add(bound, rest_both), load(constants))
            hit = builder.and_(builder.icmp_unsigned("<=", v, limit), builder.icmp_unsigned("<", units_here, last))
            before = builder.load(count)
            builder.call(store, [units_here, builder.gep(room, [before]), hit])
            bits = builder.bitcast(hit, ir.IntType(WIDTH))
            builder.store(builder.add(before, builder.zext(builder.ctpop(bits), _I64)), count)
        return builder.load(count)

    return types.intp(base, x, rest, units, slope, always, up, found), codegen


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
        whole = most >= _END
        slope[k] = np.uint32(0 if whole else size)
        always[k] = _ALL if whole else np.uint32(0)
        up[k] = _ALL if amount[k] > 0 else np.uint32(0)
        total += _END if whole else most
    return total
