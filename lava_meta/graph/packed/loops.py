"""The compiled code: inner loops on LLVM's vectors, and the pass of a batch through a network built from them.

Numba's vectoriser counts bits in registers of half the machine's width and keeps its counters in memory; the inner
loops below are 2.5 times faster. They run on any machine: `<8 x i64>` and `llvm.ctpop` are LLVM's portable vectors,
which become one AVX-512 instruction if there is one and several instructions elsewhere, with equal results. Only the
product of bytes names an instruction (AVX-512 VNNI), and takes four portable steps if it is missing.

The inner loops serve numba functions; their arrays are in C order.

    _add_xor(weights, start, x, x_start, words, counts)
        counts[u] += sum_k popcount(weights[start + 64 * k + u] ^ x[x_start + k]),   k = 0 .. words - 1
    _add_plane(weights, start, x, x_start, words, counts)
        counts[u] = 2 * counts[u] + sum_k popcount(weights[start + 64 * k + u] & x[x_start + k])
            weights, x: uint64, of any shape; counts: int64 (64,)
    _count_products(mask, quads, lane, counts)
        counts[i, u] = sum_g sum_j byte j of quads[lane + i, g] * byte j of mask[g, u],   i = 0 .. 3, j = 0 .. 3
            mask: uint32 (groups, 64), bytes of 0 and 1; quads: uint32 (lanes, groups); counts: int64 (4, 64);
            at most MOST_PRODUCTS bytes in a row, since sums are unsigned with 32 bits on their way
    _split_planes(pixels, x, lane)
        bit i of x[lane, b, k] = bit b of pixels[64 * k + i]
            pixels: unsigned (64 * words,); x: uint64 (lanes, planes, words)
    _word_of_signs(signs, start) -> uint64
        bit i = signs[start + i] > 0
            signs: int8, of any shape

All in one file, since numba's cache notices changes of the file that holds a compiled function, and of no other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lava_meta.jit import compiles_for, njit

BLOCK = 64  # units counted together: their signs make one word of output
MOST_PRODUCTS = (2**32 - 1) // 255  # bytes that _count_products adds up without wrapping
WIDE = compiles_for("avx512f")  # 32 registers of 64 bytes, elsewhere 16 of 32 or less
QUAD = 4  # lanes that count_products takes together: enough independent sums to hide an addition's latency
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_WORDS = ir.VectorType(_I64, 8)
_INTS = ir.VectorType(_I32, 16)


def has_byte_products() -> bool:
    """Whether numba compiles for a processor that multiplies and adds 64 bytes in one instruction."""
    return compiles_for("avx512vnni")


def pointer(builder: Any, data: Any, index: Any, kind: Any) -> Any:
    """To a vector of this type that begins at an element."""
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def splat(builder: Any, value: Any, width: int) -> Any:
    """A vector that holds one value `width` times."""
    vector = ir.VectorType(value.type, width)
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, width), [0] * width))


def _bit_counter(planes: bool) -> Any:
    """The counting loop: XOR between weights and inputs, or AND for one plane of several."""

    def count(typing_context: Any, weights: Any, start: Any, x: Any, x_start: Any, words: Any, counts: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_data, x_data, counts_data = (
                context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 5)
            )
            popcount = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_WORDS, [_WORDS]), "llvm.ctpop.v8i64"
            )
            places = [pointer(builder, counts_data, _I64(i), _WORDS) for i in range(0, BLOCK, _WORDS.count)]
            before = [builder.load(place, align=8) for place in places]
            # LLVM turns these stack slots into registers.
            totals = [cgutils.alloca_once_value(builder, builder.add(v, v) if planes else v) for v in before]
            with cgutils.for_range(builder, args[4]) as loop:
                word = builder.load(builder.gep(x_data, [builder.add(args[3], loop.index)]))
                word = splat(builder, word, _WORDS.count)
                row = builder.add(args[1], builder.mul(loop.index, _I64(BLOCK)))
                for i, total in enumerate(totals):
                    place = pointer(builder, weights_data, builder.add(row, _I64(i * _WORDS.count)), _WORDS)
                    bits = builder.load(place, align=8)
                    pairs = builder.and_(bits, word) if planes else builder.xor(bits, word)
                    builder.store(builder.add(builder.load(total), builder.call(popcount, [pairs])), total)
            for place, total in zip(places, totals, strict=True):
                builder.store(builder.load(total), place, align=8)
            return context.get_dummy_value()

        return types.void(weights, types.intp, x, types.intp, types.intp, counts), codegen

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
            start = pointer(builder, pixel_array.data, builder.mul(word.index, _I64(64)), levels)
            values = builder.load(start, align=level.width // 8)
            with cgutils.for_range(builder, planes) as plane:
                mask = splat(builder, builder.shl(level(1), builder.trunc(plane.index, level)), 64)
                set_bits = builder.icmp_unsigned("!=", builder.and_(values, mask), ir.Constant(levels, None))
                place = builder.add(builder.mul(plane.index, words), word.index)
                builder.store(builder.bitcast(set_bits, _I64), builder.gep(row, [place]))
        return context.get_dummy_value()

    return types.void(pixels, x, types.intp), codegen


def multiply_add(builder: Any, total: Any, quads: Any, weights: Any) -> Any:
    """Each of 16 totals plus the products of its four unsigned bytes with four signed ones."""
    if has_byte_products():
        kind = ir.FunctionType(_INTS, [_INTS, _INTS, _INTS])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(instruction, [total, quads, weights])
    if compiles_for("avx2"):
        return builder.add(total, _pair_products(builder, quads, weights))
    byte, most = (ir.Constant(_INTS, [number] * _INTS.count) for number in (255, 24))
    for shift in (0, 8, 16, 24):
        right, left = (ir.Constant(_INTS, [number] * _INTS.count) for number in (shift, 24 - shift))
        level = builder.and_(builder.lshr(quads, right), byte)
        weight = builder.ashr(builder.shl(weights, left), most)
        total = builder.add(total, builder.mul(level, weight))
    return total


def _pair_products(builder: Any, quads: Any, weights: Any) -> Any:
    """By sums of two products of 16 bits: bytes 0 and 2 of each four, and bytes 1 and 3."""
    eight, byte = (ir.Constant(_INTS, [number] * _INTS.count) for number in (8, 0x00FF00FF))
    shorts, ints = ir.VectorType(ir.IntType(16), 16), ir.VectorType(_I32, 8)
    whole = ir.VectorType(ir.IntType(16), 32)
    eights = ir.Constant(whole, [8] * whole.count)
    kind = ir.FunctionType(ints, [shorts, shorts])
    instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
    signed = builder.bitcast(weights, whole)
    total = None
    for level, weight in (
        (builder.and_(quads, byte), builder.ashr(builder.shl(signed, eights), eights)),
        (builder.and_(builder.lshr(quads, eight), byte), builder.ashr(signed, eights)),
    ):
        halves = []
        for start in (0, shorts.count):
            mask = ir.Constant(ir.VectorType(_I32, shorts.count), [*range(start, start + shorts.count)])
            parts = (builder.shuffle_vector(x, x, mask) for x in (builder.bitcast(level, whole), weight))
            halves.append(builder.call(instruction, [*parts]))
        made = builder.shuffle_vector(*halves, ir.Constant(_INTS, [*range(_INTS.count)]))
        total = made if total is None else builder.add(total, made)
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
                masks.append(builder.load(pointer(builder, mask_array.data, place, _INTS), align=4))
            for row, lane_totals in zip(rows, totals, strict=True):
                pixels = splat(builder, builder.load(builder.gep(row, [loop.index])), _INTS.count)
                for total, bits in zip(lane_totals, masks, strict=True):
                    builder.store(multiply_add(builder, builder.load(total), pixels, bits), total)
        wide = ir.VectorType(_I64, _INTS.count)
        for i, lane_totals in enumerate(totals):
            for part, total in zip(parts, lane_totals, strict=True):
                start = pointer(builder, counts_array.data, _I64(i * BLOCK + part * _INTS.count), wide)
                builder.store(builder.zext(builder.load(total), wide), start, align=8)
        return context.get_dummy_value()

    return types.void(mask, quads, types.intp, counts), codegen


def _sign_packer(typing_context: Any, signs: Any, start: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        values = ir.VectorType(ir.IntType(8), 64)
        place = pointer(builder, array.data, args[1], values)
        positive = builder.icmp_signed(">", builder.load(place, align=1), ir.Constant(values, None))
        return builder.bitcast(positive, _I64)

    return types.uint64(signs, types.intp), codegen


_add_xor: Any = intrinsic(_bit_counter(planes=False))
_add_plane: Any = intrinsic(_bit_counter(planes=True))
_count_products: Any = intrinsic(_product_counter)
_split_planes: Any = intrinsic(_plane_splitter)
_word_of_signs: Any = intrinsic(_sign_packer)


# One dense layer's row in the table that `forward` reads.
N_IN, N_OUT, WORDS, WEIGHTS, UNITS, COLUMNS = range(6)  # and if its part of each flat array begins
PLAIN = -1  # in COLUMNS: the layer is not centred

# What comes into the first dense layer.
PLANES, PRODUCTS, SIGNS = range(3)  # pixels, counted in bit planes; pixels, as products of bytes; packed signs


@njit(cache=True)
def forward(  # type: ignore[no-untyped-def]
    weights, threshold, polarity, columns, table, pixels, planes, packed, kind, lanes, signs, sums
):
    """Images through all dense layers: packed signs of the hidden ones into `signs`, the readout's sums into `sums`.

    `lanes` images pass at a time. pixels: unsigned (n, n_in), for the kinds PLANES and PRODUCTS (uint8 only). Returns
    the OR of all. packed: uint64 (n, 1, words), signs, for the kind SIGNS. signs: uint64 (n * hidden blocks,), layer
    after layer, each (n, blocks). sums: int64 (n, classes).
    """
    images = sums.shape[0]
    last = table.shape[0] - 1
    offset = np.empty(lanes, np.int64)
    totals = np.zeros(lanes, np.int64)
    counts = np.empty((QUAD, BLOCK), np.int64)
    groups = (pixels.shape[1] + QUAD - 1) // QUAD if kind == PRODUCTS else 0
    quads = np.zeros(((lanes + QUAD - 1) // QUAD * QUAD, groups), np.uint32)
    mask = np.empty((groups, BLOCK), np.uint32)
    pixel_words = (pixels.shape[1] + 63) // 64 if kind == PLANES else 0
    bits = np.empty((lanes, planes, pixel_words), np.uint64)
    padded = np.zeros(64 * pixel_words, pixels.dtype)
    seen = np.int64(0)
    for begin in range(0, images, lanes):
        end = min(begin + lanes, images)
        batch = pixels[begin:end]
        seen |= _sum_pixels(batch, offset)
        entering = kind
        x = packed[begin:end]
        if kind == PRODUCTS:
            _fill_quads(batch, quads)
        elif kind == PLANES:
            _fill_planes(batch, padded, bits)
            x = bits
        done = 0
        for i in range(last + 1):
            n_in, n_out, words, start, units, centre = table[i]
            blocks = (n_out + BLOCK - 1) // BLOCK
            if entering == SIGNS:
                offset[:] = n_in
            if centre != PLAIN:
                column = columns[centre : centre + 64 * words]
                for lane in range(end - begin):
                    if entering == SIGNS:
                        totals[lane] = _sign_total(column, x, lane)
                    else:
                        totals[lane] = _pixel_total(column, batch, lane)
            for block in range(blocks):
                first = start + block * words * BLOCK
                if entering == PRODUCTS:
                    _spread(weights, first, mask)
                limit = threshold[units + block * BLOCK : units + (block + 1) * BLOCK]
                sign = polarity[units + block * BLOCK : units + (block + 1) * BLOCK]
                for lane in range(end - begin):
                    row = counts[lane % QUAD]
                    if entering == SIGNS:
                        row[:] = 0
                        _add_xor(weights, first, x, lane * words, words, row)
                    elif entering == PLANES:
                        row[:] = 0
                        for plane in range(planes - 1, -1, -1):
                            _add_plane(weights, first, x, (lane * planes + plane) * words, words, row)
                    elif lane % QUAD == 0:
                        _count_products(mask, quads, lane, counts)
                    place = done + (begin + lane) * blocks + block
                    if i == last:
                        for u in range(min(BLOCK, n_out - block * BLOCK)):
                            sums[begin + lane, block * BLOCK + u] = 2 * row[u] - offset[lane]
                    elif centre == PLAIN:
                        signs[place] = _fire(row, offset[lane], limit)
                    else:
                        signs[place] = _fire_centred(row, offset[lane], n_out, sign, totals[lane], limit)
            if i < last:
                x = signs[done + begin * blocks : done + end * blocks].reshape(end - begin, 1, blocks)
                done += images * blocks
                entering = SIGNS
    return seen


@njit(cache=True, nogil=True)
def sums_of_signs(signs, x, start, end, sums):  # type: ignore[no-untyped-def]
    """sums[i, u] = sum_j signs[u, j] * x[i, j] for the units u of start .. end - 1.

    signs: int8 (units, n_in), +1 and -1. x: uint64 (n, words). sums: int32 (n, units). Sixty-four units are packed at a
    time, so that their bits are still in the first-level cache when they are counted.
    """
    n_in, words = signs.shape[1], x.shape[1]
    weights = np.zeros((words, BLOCK), np.uint64)
    counts = np.empty(BLOCK, np.int64)
    for first in range(start, end, BLOCK):
        units = min(BLOCK, end - first)
        for u in range(0, units, 8):  # so many words make one line of the cache
            _pack_rows(signs, first + u, min(8, units - u), weights[:, u : u + 8])
        for lane in range(x.shape[0]):
            counts[:] = 0
            _add_xor(weights, 0, x, lane * words, words, counts)
            for u in range(units):
                sums[lane, first + u] = np.int32(n_in - 2 * counts[u])
    return True


@njit(cache=True, nogil=True)
def _pack_rows(signs, first, rows, x):  # type: ignore[no-untyped-def]
    """Rows first .. first + rows - 1 of signs, int8 (any, n), to the columns of x, uint64 (words, rows or more)."""
    n = signs.shape[1]
    for k in range(n // 64):
        for row in range(rows):
            x[k, row] = _word_of_signs(signs, (first + row) * n + 64 * k)
    for row in range(rows if n % 64 else 0):
        word = np.uint64(0)
        for i in range(n % 64):
            word |= np.uint64(signs[first + row, n - n % 64 + i] > 0) << np.uint64(i)
        x[n // 64, row] = word


@njit(cache=True)
def pool_signs(x, window, turned, out):  # type: ignore[no-untyped-def]
    """OR over a window of packed signs (lanes, rows, columns, words), AND in the channels whose bit is in `turned`."""
    lanes, rows, columns, words = x.shape
    (high, wide), stride, padding, dilation, _ = window
    for lane in range(lanes):
        for down in range(out.shape[1]):
            for across in range(out.shape[2]):
                for k in range(words):
                    word = np.uint64(0)
                    for tap in range(high * wide):
                        row = down * stride[0] - padding[0] + tap // wide * dilation[0]
                        column = across * stride[1] - padding[1] + tap % wide * dilation[1]
                        if 0 <= row < rows and 0 <= column < columns:
                            word |= x[lane, row, column, k] ^ turned[k]
                    out[lane, down, across, k] = word ^ turned[k]


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
def _fill_planes(pixels, row, x):  # type: ignore[no-untyped-def]
    """The bits of the pixels into uint64 (lanes, planes, words); `row`: zeros, one image's pixels and what fills up."""
    n = pixels.shape[1]
    for lane in range(pixels.shape[0]):
        row[:n] = pixels[lane]
        _split_planes(row, x, lane)


@njit(cache=True)
def _fill_quads(pixels, quads):  # type: ignore[no-untyped-def]
    """Four pixels to a word, into uint32 (lanes, groups); what fills up is zero or not read."""
    places = quads.view(np.uint8)
    for lane in range(pixels.shape[0]):
        for i in range(pixels.shape[1]):
            places[lane, i] = pixels[lane, i]


@njit(cache=True)
def _spread(weights, start, mask):  # type: ignore[no-untyped-def]
    """The bits of one block as bytes of 0 and 1: four inputs of a unit to a word, (groups, 64)."""
    for group in range(mask.shape[0]):
        shift, row = np.uint64(4 * (group % 16)), start + group // 16 * BLOCK
        for u in range(BLOCK):
            four = (weights[row + u] >> shift) & np.uint64(15)
            # Bits 0 .. 3 to bits 0, 8, 16, 24: the product holds copies of the four at distances of 7.
            mask[group, u] = np.uint32((four * np.uint64(0x204081)) & np.uint64(0x01010101))


@njit(cache=True)
def _pixel_total(columns, pixels, lane):  # type: ignore[no-untyped-def]
    """`sum_k s_k = sum_i columns_i p_i`, if columns_i is the sum of W's column i."""
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
