"""The compiled code: inner loops on LLVM's vectors, and the pass of a batch through a network built from them.

Numba's vectoriser counts bits in registers of half the machine's width and keeps its counters in memory; the inner
loops below are 2.5 times faster. They run on any machine: `<8 x i64>` and `llvm.ctpop` are LLVM's portable vectors,
which become one AVX-512 instruction where there is one and several instructions elsewhere, with equal results. Only the
product of bytes names an instruction (AVX-512 VNNI), and takes four portable steps where it is missing.

The inner loops serve numba functions; their arrays are in C order.

    _count_xor(weight, block, x, lane, counts)
        counts[u] = sum_k popcount(weight[block, k, u] ^ x[lane, 0, k])
    _count_and(weight, block, x, lane, counts)
        counts[u] = sum_b 2**b * sum_k popcount(weight[block, k, u] & x[lane, b, k])
            weight: uint64 (blocks, words, 64); x: uint64 (lanes, planes, words); counts: int64 (64,)
    _count_products(mask, quads, lane, counts)
        counts[i, u] = sum_g sum_j byte j of quads[lane + i, g] * byte j of mask[g, u],   i = 0 .. 3, j = 0 .. 3
            mask: uint32 (groups, 64), bytes of 0 and 1; quads: uint32 (lanes, groups); counts: int64 (4, 64)
    _split_planes(pixels, x, lane)
        bit i of x[lane, b, k] = bit b of pixels[64 * k + i]
            pixels: unsigned (64 * words,); x: uint64 (lanes, planes, words)

All in one file, since numba's cache notices changes of the file that holds a compiled function, and of no other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

BLOCK = 64  # units counted together: their signs make one word of output
QUAD = 4  # lanes that count_products takes together: enough independent sums to hide an addition's latency
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_WORDS = ir.VectorType(_I64, 8)
_INTS = ir.VectorType(_I32, 16)


def has_byte_products() -> bool:
    """Whether numba compiles for a processor that multiplies and adds 64 bytes in one instruction."""
    return "+avx512vnni" in cpu_target.target_context.codegen().magic_tuple()[2]


def _splat(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, width), [0] * width))


def _bit_counter(exclusive: bool) -> Any:
    """The counting loop, with XOR (`exclusive`) or AND between weights and inputs."""

    def count(typing_context: Any, weight: Any, block: Any, x: Any, lane: Any, counts: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            weight_array = context.make_array(kinds[0])(context, builder, args[0])
            x_array = context.make_array(kinds[2])(context, builder, args[2])
            counts_array = context.make_array(kinds[4])(context, builder, args[4])
            _, planes, words = cgutils.unpack_tuple(builder, x_array.shape)
            block_start = builder.mul(args[1], builder.mul(words, _I64(BLOCK)))
            block_data = builder.gep(weight_array.data, [block_start])
            row = builder.gep(x_array.data, [builder.mul(args[3], builder.mul(planes, words))])
            popcount = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_WORDS, [_WORDS]), "llvm.ctpop.v8i64"
            )
            # LLVM turns these stack slots into registers.
            totals = [
                cgutils.alloca_once_value(builder, ir.Constant(_WORDS, None)) for _ in range(BLOCK // _WORDS.count)
            ]
            downwards = cgutils.for_range_slice(builder, builder.sub(planes, _I64(1)), _I64(-1), _I64(-1), inc=False)
            with downwards as (plane, _):
                for total in totals:
                    value = builder.load(total)
                    builder.store(builder.add(value, value), total)
                plane_row = builder.gep(row, [builder.mul(plane, words)])
                with cgutils.for_range(builder, words) as loop:
                    word = _splat(builder, builder.load(builder.gep(plane_row, [loop.index])), _WORDS.count)
                    word_start = builder.mul(loop.index, _I64(BLOCK))
                    for i, total in enumerate(totals):
                        start = builder.gep(block_data, [builder.add(word_start, _I64(i * _WORDS.count))])
                        bits = builder.load(builder.bitcast(start, _WORDS.as_pointer()), align=8)
                        pairs = builder.xor(bits, word) if exclusive else builder.and_(bits, word)
                        builder.store(builder.add(builder.load(total), builder.call(popcount, [pairs])), total)
            for i, total in enumerate(totals):
                start = builder.gep(counts_array.data, [_I64(i * _WORDS.count)])
                builder.store(builder.load(total), builder.bitcast(start, _WORDS.as_pointer()), align=8)
            return context.get_dummy_value()

        return types.void(weight, types.intp, x, types.intp, counts), codegen

    return count


def _plane_splitter(typing_context: Any, pixels: Any, x: Any, lane: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        pixel_array = context.make_array(kinds[0])(context, builder, args[0])
        x_array = context.make_array(kinds[1])(context, builder, args[1])
        _, planes, words = cgutils.unpack_tuple(builder, x_array.shape)
        row = builder.gep(x_array.data, [builder.mul(args[2], builder.mul(planes, words))])
        level = context.get_value_type(kinds[0].dtype)
        levels = ir.VectorType(level, 64)
        with cgutils.for_range(builder, words) as word:
            start = builder.gep(pixel_array.data, [builder.mul(word.index, _I64(64))])
            values = builder.load(builder.bitcast(start, levels.as_pointer()), align=level.width // 8)
            with cgutils.for_range(builder, planes) as plane:
                mask = _splat(builder, builder.shl(level(1), builder.trunc(plane.index, level)), 64)
                set_bits = builder.icmp_unsigned("!=", builder.and_(values, mask), ir.Constant(levels, None))
                place = builder.add(builder.mul(plane.index, words), word.index)
                builder.store(builder.bitcast(set_bits, _I64), builder.gep(row, [place]))
        return context.get_dummy_value()

    return types.void(pixels, x, types.intp), codegen


def _multiply_add(builder: Any, total: Any, quads: Any, mask: Any) -> Any:
    """Each of 16 totals plus the products of its four bytes."""
    if has_byte_products():
        kind = ir.FunctionType(_INTS, [_INTS, _INTS, _INTS])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(instruction, [total, quads, mask])
    byte = ir.Constant(_INTS, [255] * _INTS.count)
    for shift in (0, 8, 16, 24):
        by = ir.Constant(_INTS, [shift] * _INTS.count)
        pair = [builder.and_(builder.lshr(value, by), byte) for value in (quads, mask)]
        total = builder.add(total, builder.mul(*pair))
    return total


def _product_counter(typing_context: Any, mask: Any, quads: Any, lane: Any, counts: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        mask_array = context.make_array(kinds[0])(context, builder, args[0])
        quads_array = context.make_array(kinds[1])(context, builder, args[1])
        counts_array = context.make_array(kinds[3])(context, builder, args[3])
        _, groups = cgutils.unpack_tuple(builder, quads_array.shape)
        parts = range(BLOCK // _INTS.count)
        zero = ir.Constant(_INTS, None)
        totals = [[cgutils.alloca_once_value(builder, zero) for _ in parts] for _ in range(QUAD)]
        rows = [
            builder.gep(quads_array.data, [builder.mul(builder.add(args[2], _I64(i)), groups)]) for i in range(QUAD)
        ]
        with cgutils.for_range(builder, groups) as loop:
            masks = []
            for part in parts:
                place = builder.add(builder.mul(loop.index, _I64(BLOCK)), _I64(part * _INTS.count))
                start = builder.bitcast(builder.gep(mask_array.data, [place]), _INTS.as_pointer())
                masks.append(builder.load(start, align=4))
            for row, lane_totals in zip(rows, totals, strict=True):
                pixels = _splat(builder, builder.load(builder.gep(row, [loop.index])), _INTS.count)
                for total, bits in zip(lane_totals, masks, strict=True):
                    builder.store(_multiply_add(builder, builder.load(total), pixels, bits), total)
        wide = ir.VectorType(_I64, _INTS.count)
        for i, lane_totals in enumerate(totals):
            for part, total in zip(parts, lane_totals, strict=True):
                start = builder.gep(counts_array.data, [_I64(i * BLOCK + part * _INTS.count)])
                value = builder.zext(builder.load(total), wide)
                builder.store(value, builder.bitcast(start, wide.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(mask, quads, types.intp, counts), codegen


_count_xor: Any = intrinsic(_bit_counter(exclusive=True))
_count_and: Any = intrinsic(_bit_counter(exclusive=False))
_count_products: Any = intrinsic(_product_counter)
_split_planes: Any = intrinsic(_plane_splitter)


# One layer's row in the table that `forward` reads.
N_IN, N_OUT, WEIGHTS, UNITS, COLUMNS = range(5)  # inputs, units, and where its part of each flat array begins
PLAIN = -1  # in COLUMNS: the layer is not centred


@njit(cache=True)
def forward(weights, threshold, polarity, columns, table, pixels, planes, products, signs, sums):  # type: ignore[no-untyped-def]
    """A batch through all layers: packed signs of the hidden layers into `signs`, the readout's sums into `sums`.

    pixels: unsigned (lanes, n_in). signs: uint64 (lanes * hidden blocks,), layer after layer, each (lanes, blocks).
    sums: int64 (lanes, classes). products: whether the first layer multiplies bytes (uint8 only) or counts bits of
    planes. Returns the OR of all pixels.
    """
    lanes = pixels.shape[0]
    last = table.shape[0] - 1
    offset = np.empty(lanes, np.int64)
    seen = _sum_pixels(pixels, offset)
    if products:
        quads = _quads(pixels)
        x = np.empty((1, 1, 1), np.uint64)
    else:
        quads = np.empty((1, 1), np.uint32)
        x = _planes(pixels, planes)
    mask = np.empty((quads.shape[1], BLOCK), np.uint32)
    counts = np.empty((QUAD, BLOCK), np.int64)
    totals = np.zeros(lanes, np.int64)
    done = 0
    for i in range(last + 1):
        n_in, n_out, start, units, centre = table[i]
        words, blocks = (n_in + 63) // 64, (n_out + BLOCK - 1) // BLOCK
        weight = weights[start : start + blocks * words * BLOCK].reshape(blocks, words, BLOCK)
        if centre != PLAIN:
            column = columns[centre : centre + 64 * words]
            for lane in range(lanes):
                totals[lane] = _pixel_total(column, pixels, lane) if i == 0 else _sign_total(column, x, lane)
        for block in range(blocks):
            if products and i == 0:
                _spread(weight, block, mask)
            limit = threshold[units + block * BLOCK : units + (block + 1) * BLOCK]
            sign = polarity[units + block * BLOCK : units + (block + 1) * BLOCK]
            for lane in range(lanes):
                row = counts[lane % QUAD]
                if i > 0:
                    _count_xor(weight, block, x, lane, row)
                elif not products:
                    _count_and(weight, block, x, lane, row)
                elif lane % QUAD == 0:
                    _count_products(mask, quads, lane, counts)
                if i == last:
                    for u in range(min(BLOCK, n_out - block * BLOCK)):
                        sums[lane, block * BLOCK + u] = 2 * row[u] - offset[lane]
                elif centre == PLAIN:
                    signs[done + lane * blocks + block] = _fire(row, offset[lane], limit)
                else:
                    signs[done + lane * blocks + block] = _fire_centred(
                        row, offset[lane], n_out, sign, totals[lane], limit
                    )
        if i < last:
            x = signs[done : done + lanes * blocks].reshape(lanes, 1, blocks)
            done += lanes * blocks
            offset[:] = n_out
    return seen


@njit(cache=True)
def _fire(counts, offset, threshold):  # type: ignore[no-untyped-def]
    """A word of signs: `2 * count - offset >= threshold`."""
    word = np.uint64(0)
    for u in range(BLOCK):
        word |= np.uint64(2 * counts[u] - offset >= threshold[u]) << np.uint64(u)
    return word


@njit(cache=True)
def _fire_centred(counts, offset, n_out, polarity, total, threshold):  # type: ignore[no-untyped-def]
    """A word of signs: `n_out * (2 * count - offset) - polarity * total >= threshold`."""
    word = np.uint64(0)
    for u in range(BLOCK):
        d = n_out * (2 * counts[u] - offset) - polarity[u] * total
        word |= np.uint64(d >= threshold[u]) << np.uint64(u)
    return word


@njit(cache=True)
def _sum_pixels(pixels, total):  # type: ignore[no-untyped-def]
    """Sum of each lane's pixels; returns the OR of all pixels."""
    seen = np.int64(0)
    for lane in range(pixels.shape[0]):
        value = np.int64(0)
        for i in range(pixels.shape[1]):
            value += pixels[lane, i]
            seen |= pixels[lane, i]
        total[lane] = value
    return seen


@njit(cache=True)
def _planes(pixels, planes):  # type: ignore[no-untyped-def]
    """The bits of the pixels, uint64 (lanes, planes, words)."""
    lanes, n = pixels.shape
    x = np.empty((lanes, planes, (n + 63) // 64), np.uint64)
    row = np.zeros(64 * x.shape[2], pixels.dtype)
    for lane in range(lanes):
        row[:n] = pixels[lane]
        _split_planes(row, x, lane)
    return x


@njit(cache=True)
def _quads(pixels):  # type: ignore[no-untyped-def]
    """Four pixels to a word, uint32 (lanes, groups); what fills up meets bytes of 0 in the mask, or is not read."""
    lanes, n = pixels.shape
    padded = np.empty(((lanes + QUAD - 1) // QUAD * QUAD, (n + 3) // 4 * 4), np.uint8)
    for lane in range(lanes):
        for i in range(n):
            padded[lane, i] = pixels[lane, i]
    return padded.view(np.uint32)


@njit(cache=True)
def _spread(weight, block, mask):  # type: ignore[no-untyped-def]
    """The bits of one block as bytes of 0 and 1: four inputs of a unit to a word, (groups, 64)."""
    for group in range(mask.shape[0]):
        for u in range(BLOCK):
            four = (weight[block, group // 16, u] >> np.uint64(4 * (group % 16))) & np.uint64(15)
            # Bits 0 .. 3 to bits 0, 8, 16, 24: the product holds copies of the four at distances of 7.
            mask[group, u] = np.uint32((four * np.uint64(0x204081)) & np.uint64(0x01010101))


@njit(cache=True)
def _pixel_total(columns, pixels, lane):  # type: ignore[no-untyped-def]
    """`sum_k s_k = sum_i columns_i p_i`, where columns_i is the sum of W's column i."""
    total = np.int64(0)
    for i in range(pixels.shape[1]):
        total += columns[i] * np.int64(pixels[lane, i])
    return total


@njit(cache=True)
def _sign_total(columns, x, lane):  # type: ignore[no-untyped-def]
    """`sum_k s_k = sum_i columns_i a_i` of packed signs a."""
    total = np.int64(0)
    for k in range(x.shape[2]):
        word = x[lane, 0, k]
        for i in range(64):
            total += columns[64 * k + i] * np.int64((word >> np.uint64(i)) & np.uint64(1))
    return 2 * total - columns.sum()


@njit(cache=True)
def column_sums(bits, columns):  # type: ignore[no-untyped-def]
    """Sum of each column of a matrix of signs, from its bits uint64 (n_out, words), into int64 (64 * words,)."""
    columns[:] = -bits.shape[0]
    for j in range(bits.shape[0]):
        for k in range(bits.shape[1]):
            for i in range(64):
                columns[64 * k + i] += 2 * np.int64((bits[j, k] >> np.uint64(i)) & np.uint64(1))
