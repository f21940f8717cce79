"""Convolutions as products of matrices: what each window sees lies side by side and meets 64 units at once.

    sums of signs    s = 2 * popcount(~w ^ x) - base      64 channels of a place to a word; `base` is the number of
                                                          terms, and what the zeros outside the image count
    sums of bytes    s = sum x * w + base                 unsigned bytes times signed ones, by AVX-512 VNNI if there

Sums have 32 bits. Windows are laid out for as many places as stay in a cache, and a block of weights passes over them.
The inner loops are on LLVM's vectors, for the reasons in `lava_meta.graph.packed.loops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lava_meta.graph.packed import nibbles
from lava_meta.graph.packed.loops import BLOCK, WIDE, multiply_add, pointer, splat
from lava_meta.jit import njit

CHUNK = 2**16  # bytes of windows laid out at once
_LINE = 64  # bytes copied at once
_FEW = 32  # units of half a block
_WINDOWS = 4 if nibbles.USED else 2  # of signs that are counted together
ROWS = 4  # windows of bytes that are multiplied together: enough independent sums to hide an addition's latency
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_WORDS = ir.VectorType(_I64, 8)
_INTS = ir.VectorType(_I32, 16)


def _sign_summer(units: int, windows: int) -> Any:
    """The sums of some windows, which share what is read, with the first units of a block."""

    def summed(
        typing_context: Any, weights: Any, start: Any, x: Any, size: Any, base: Any, out: Any, spots: Any
    ) -> Any:
        """out[to + u] = 2 * sum_k popcount(weights[start + 64 k + u] ^ x[at + k]) - base[row + u], k < size.

        spots: int64 (windows, 3), the at, row and to of each. Modulo 2^16 if `out` and `base` have 16 bits.
        """

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_data, x_data, base_data, out_data, spots_data = (
                context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 4, 5, 6)
            )
            places = [builder.load(builder.gep(spots_data, [_I64(i)])) for i in range(3 * windows)]
            counter = nibbles.counted if weights.dtype.bitwidth == 8 else _counted
            counted = counter(builder, weights_data, args[1], x_data, places[::3], args[3], units)
            element = context.get_value_type(out.dtype)
            kind = ir.VectorType(element, min(counted[0][0].type.count, 256 // element.width))
            for row, to, counts in zip(places[1::3], places[2::3], counted, strict=True):
                for i in range(0, units, kind.count):
                    count = _some(builder, counts, i, kind)
                    less = builder.load(pointer(builder, base_data, builder.add(row, _I64(i)), kind), align=2)
                    sums = builder.sub(builder.add(count, count), less)
                    builder.store(sums, pointer(builder, out_data, builder.add(to, _I64(i)), kind), align=2)
            return context.get_dummy_value()

        index = types.intp
        return types.void(weights, index, x, index, base, out, spots), codegen

    return summed


def _counted(builder: Any, weights: Any, start: Any, x: Any, places: Any, words: Any, units: int) -> list[list[Any]]:
    """For each place of x, <8 x i64> of sum_k popcount(weights[start + 64 k + u] ^ x[place + k]), of all units."""
    popcount = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WORDS, [_WORDS]), "llvm.ctpop.v8i64")
    steps = range(0, units, _WORDS.count)
    zero = ir.Constant(_WORDS, None)
    totals = [[cgutils.alloca_once_value(builder, zero) for _ in steps] for _ in places]
    with cgutils.for_range(builder, words) as loop:
        seen = [
            splat(builder, builder.load(builder.gep(x, [builder.add(at, loop.index)])), _WORDS.count) for at in places
        ]
        first = builder.add(start, builder.mul(loop.index, _I64(BLOCK)))
        for j, i in enumerate(steps):
            weight = builder.load(pointer(builder, weights, builder.add(first, _I64(i)), _WORDS), align=8)
            for word, counts in zip(seen, totals, strict=True):
                bits = builder.call(popcount, [builder.xor(weight, word)])
                builder.store(builder.add(builder.load(counts[j]), bits), counts[j])
    return [[builder.load(total) for total in counts] for counts in totals]


def _some(builder: Any, counts: list[Any], first: int, kind: Any) -> Any:
    """The counts of some units, from vectors that hold as many or more."""
    width = counts[0].type.count
    whole = counts[first // width]
    if width > kind.count:
        mask = [*range(first % width, first % width + kind.count)]
        whole = builder.shuffle_vector(whole, whole, ir.Constant(ir.VectorType(_I32, kind.count), mask))
    bits = whole.type.element.width, kind.element.width
    if bits[0] == bits[1]:
        return whole
    return builder.zext(whole, kind) if bits[0] < bits[1] else builder.trunc(whole, kind)


def _byte_summer(rows: int) -> Any:
    """The products of `rows` windows with a block of units."""

    def summed(
        typing_context: Any,
        weights: Any,
        start: Any,
        x: Any,
        x_start: Any,
        quads: Any,
        base: Any,
        row: Any,
        out: Any,
        to: Any,
        stride: Any,
    ) -> Any:
        """out[to + i stride + u] = base[row + u] + the products of window i with unit u.

        These are sum_kj byte j of weights[start + 64 k + u] * byte j of x[x_start + i quads + k]. weights, x: int32 and
        uint32, four bytes to a number. out: int32.
        """

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_data, x_data, base_data, out_data = (
                context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 5, 7)
            )
            steps = range(0, BLOCK, _INTS.count)
            first = [
                builder.load(pointer(builder, base_data, builder.add(args[6], _I64(i)), _INTS), align=4) for i in steps
            ]
            totals = [[cgutils.alloca_once_value(builder, value) for value in first] for _ in range(rows)]
            with cgutils.for_range(builder, args[4]) as loop:
                begin = builder.add(args[1], builder.mul(loop.index, _I64(BLOCK)))
                weight = [
                    builder.load(pointer(builder, weights_data, builder.add(begin, _I64(i)), _INTS), align=4)
                    for i in steps
                ]
                for i, sums in enumerate(totals):
                    place = builder.add(builder.add(args[3], loop.index), builder.mul(args[4], _I64(i)))
                    four = splat(builder, builder.load(builder.gep(x_data, [place])), _INTS.count)
                    for total, by in zip(sums, weight, strict=True):
                        builder.store(multiply_add(builder, builder.load(total), four, by), total)
            for i, sums in enumerate(totals):
                first = builder.add(args[8], builder.mul(args[9], _I64(i)))
                for step, total in zip(steps, sums, strict=True):
                    place = pointer(builder, out_data, builder.add(first, _I64(step)), _INTS)
                    builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        index = types.intp
        return types.void(weights, index, x, index, index, base, index, out, index, index), codegen

    return summed


def _reacher(typing_context: Any, x: Any, start: Any, limits: Any, row: Any) -> Any:
    """A word: bit u = x[start + u] >= limits[row + u], of int16, int32, int64 or float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_data, limit_data = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        element = context.get_value_type(x.dtype)
        # Elsewhere LLVM gathers bits one by one, unless they are of one register.
        kind = ir.VectorType(element, BLOCK if WIDE else 256 // x.dtype.bitwidth)
        compared = builder.fcmp_ordered if isinstance(x.dtype, types.Float) else builder.icmp_signed
        word = _I64(0)
        for i in range(0, BLOCK, kind.count):
            values = builder.load(pointer(builder, x_data, builder.add(args[1], _I64(i)), kind), align=2)
            least = builder.load(pointer(builder, limit_data, builder.add(args[3], _I64(i)), kind), align=2)
            below = builder.bitcast(compared("<", values, least), ir.IntType(kind.count))
            below = below if kind.count == BLOCK else builder.zext(below, _I64)
            word = builder.or_(word, builder.shl(below, _I64(i)))
        return builder.not_(word)

    return types.uint64(x, types.intp, limits, types.intp), codegen


def _copier(typing_context: Any, x: Any, start: Any, out: Any, at: Any) -> Any:
    """out[at : at + 64] = x[start : start + 64], of bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_data, out_data = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2))
        line = builder.load(pointer(builder, x_data, args[1], _WORDS), align=1)
        builder.store(line, pointer(builder, out_data, args[3], _WORDS), align=1)
        return context.get_dummy_value()

    return types.void(x, types.intp, out, types.intp), codegen


_copy_line: Any = intrinsic(_copier)
_sum_sign_row: Any = intrinsic(_sign_summer(BLOCK, 1))
_sum_signs: Any = intrinsic(_sign_summer(BLOCK, _WINDOWS))
_sum_few_signs: Any = intrinsic(_sign_summer(_FEW, _WINDOWS))
_sum_bytes: Any = intrinsic(_byte_summer(ROWS))
_sum_byte_row: Any = intrinsic(_byte_summer(1))
reach: Any = intrinsic(_reacher)


@njit(cache=True)
def _framed(x, window, outside):  # type: ignore[no-untyped-def]
    """The images with their padding, (lanes, rows, columns, depth), and what may be read behind the last of them."""
    lanes, rows, columns, depth = x.shape
    _, _, padding, _, after = window
    shape = lanes, rows + 2 * padding[0] + after[0], columns + 2 * padding[1] + after[1], depth
    flat = np.empty(shape[0] * shape[1] * shape[2] * depth + _LINE, x.dtype)
    framed = flat[: flat.size - _LINE].reshape(shape)
    if padding.any() or after.any():
        framed[:] = outside
    for lane in range(lanes):
        for row in range(rows):
            framed[lane, row + padding[0], padding[1] : padding[1] + columns] = x[lane, row]
    return framed, flat.view(np.uint8)


@njit(cache=True)
def lay(image, shape, window, down, across, begin, end, patches, size):  # type: ignore[no-untyped-def]
    """What the windows begin .. end - 1 see, `size` bytes each; window: kernel, stride, ..., int64 (5, 2).

    image: uint8, of images with their padding, (lanes, rows, columns, bytes) = shape. Windows are counted over lanes,
    rows and columns. `_LINE` bytes may be written behind the last.
    """
    _, rows, columns, depth = shape
    (high, wide), stride, _, dilation, _ = window
    run = wide if dilation[1] == 1 else 1  # taps that lie side by side
    lane, rest = begin // (down * across), begin % (down * across)
    i, j = rest // across, rest % across
    for place in range(end - begin):
        first = ((lane * rows + i * stride[0]) * columns + j * stride[1]) * depth
        at = place * size
        for ky in range(high):
            for kx in range(0, wide, run):
                start = first + (ky * dilation[0] * columns + kx * dilation[1]) * depth
                for done in range(0, run * depth, _LINE):
                    _copy_line(image, start + done, patches, at + done)
                at += run * depth
        j += 1
        if j == across:
            i, j = i + 1, 0
            if i == down:
                lane, i = lane + 1, 0


@njit(cache=True, nogil=True)
def convolve_signs(weights, x, window, base, rows, limits, below, above, signs, sums):  # type: ignore[no-untyped-def]
    """Sums of packed signs with packed weights, or signs of them.

    weights: uint64 (blocks, words of a kernel, 64), inverted. x: uint64 (lanes, rows, columns, words). Or both in bytes
    of four signs, as `nibbles` lays them. window: as for `lay`. base: of the type of sums, (kinds, 64 * blocks); rows:
    int32 (places,), which of them a place has. limits: likewise (kinds of limits, ...), of the same kinds, or one for
    all. below, above: uint64 (kinds of limits, blocks): bits of what does not reach its limit, and of what does. signs:
    uint64 (lanes, down, across, blocks); or of no size, and sums: int16 or int32 (lanes, down, across, units).
    """
    fires = signs.size > 0
    if fires:
        lanes, down, across, blocks = signs.shape
    else:
        lanes, down, across, _ = sums.shape
        blocks = weights.shape[0]
    units = sums.shape[3]
    places = lanes * down * across
    (high, wide), stride, padding, _, after = window
    size = weights.shape[1]
    plain = high * wide * stride[0] * stride[1] == 1 and not padding.any() and not after.any()
    chunk = places if plain else max(1, min(places, CHUNK // (x.itemsize * size)))
    patches = x.reshape(-1) if plain else np.empty(chunk * size + _LINE, x.dtype)
    framed, image = _framed(x[:0] if plain else x, window, x.dtype.type(0))
    shape = framed.shape[0], framed.shape[1], framed.shape[2], x.itemsize * framed.shape[3]
    buffer, spots = np.empty(_WINDOWS * BLOCK, sums.dtype), np.empty((_WINDOWS, 3), np.int64)
    kinds = np.empty(_WINDOWS, np.int64)
    flat_weights, flat_base, flat_sums = weights.reshape(-1), base.reshape(-1), sums.reshape(-1)
    flat_limits, flat_signs = limits.reshape(-1), signs.reshape(-1)
    for begin in range(0, places, chunk):
        end = min(begin + chunk, places)
        start = 0 if plain else begin
        if not plain:
            lay(image, shape, window, down, across, begin, end, patches.view(np.uint8), x.itemsize * size)
        for block in range(blocks):
            first = block * size * BLOCK
            whole = (block + 1) * BLOCK <= units
            place, row = begin, begin % rows.size  # a division takes as long as some sums
            while place < end:
                count = _WINDOWS if place + _WINDOWS <= end else 1
                # What a single block writes behind its units is written over by the next window.
                room = blocks == 1 and (place + count - 1) * units + BLOCK <= flat_sums.size
                direct = not fires and (whole or room)
                out = flat_sums if direct else buffer
                for i in range(count):
                    kinds[i] = rows[row]
                    row = row + 1 if row + 1 < rows.size else 0
                    spots[i, 0] = (place + i - start) * size
                    spots[i, 1] = (kinds[i] * blocks + block) * BLOCK
                    spots[i, 2] = (place + i) * units + block * BLOCK if direct else i * BLOCK
                if count == 1:
                    _sum_sign_row(flat_weights, first, patches, size, flat_base, out, spots)
                elif units <= _FEW:
                    _sum_few_signs(flat_weights, first, patches, size, flat_base, out, spots)
                else:
                    _sum_signs(flat_weights, first, patches, size, flat_base, out, spots)
                for i in range(0 if direct else count):
                    if fires:
                        kind = min(kinds[i], limits.shape[0] - 1)
                        word = reach(buffer, i * BLOCK, flat_limits, (kind * blocks + block) * BLOCK)
                        word = (word & above[kind, block]) | (~word & below[kind, block])
                        flat_signs[(place + i) * blocks + block] = word
                    else:
                        for u in range(min(BLOCK, units - block * BLOCK)):
                            flat_sums[(place + i) * units + block * BLOCK + u] = buffer[i * BLOCK + u]
                place += count


@njit(cache=True)
def convolve_bytes(weights, x, outside, window, base, rows, limits, below, above, signs, sums):  # type: ignore[no-untyped-def]
    """Sums of unsigned bytes with signed ones, or signs of them.

    weights: int32 (blocks, quads, 64), four bytes to a number. x: uint8 (lanes, rows, columns, channels). outside: the
    byte of what lies outside the image. base: int32 (64 * blocks). rows: int32 (places,), the limits of each place. The
    rest as for `convolve_signs`.
    """
    fires = signs.size > 0
    if fires:
        lanes, down, across, blocks = signs.shape
    else:
        lanes, down, across, _ = sums.shape
        blocks = weights.shape[0]
    units = sums.shape[3]
    quads = weights.shape[1]
    places = lanes * down * across
    chunk = max(1, min((places + ROWS - 1) // ROWS, CHUNK // (4 * quads * ROWS))) * ROWS
    patches = np.zeros(4 * quads * chunk + _LINE, np.uint8)
    words = patches.view(np.uint32)
    framed, image = _framed(x, window, np.uint8(outside))
    buffer = np.empty(ROWS * BLOCK, np.int32)
    flat_weights, flat_limits, flat_sums = weights.reshape(-1), limits.reshape(-1), sums.reshape(-1)
    flat_signs = signs.reshape(-1)
    for begin in range(0, places, chunk):
        end = min(begin + chunk, places)
        lay(image, framed.shape, window, down, across, begin, end, patches, 4 * quads)
        for block in range(blocks):
            first = block * quads * BLOCK
            direct = not fires and (block + 1) * BLOCK <= units
            for together in range(begin, end, ROWS):
                count = min(ROWS, end - together)
                at = (together - begin) * quads
                if count == ROWS and direct:
                    to = together * units + block * BLOCK
                    _sum_bytes(flat_weights, first, words, at, quads, base, block * BLOCK, flat_sums, to, units)
                    continue
                if count == 1:
                    _sum_byte_row(flat_weights, first, words, at, quads, base, block * BLOCK, buffer, 0, BLOCK)
                else:
                    _sum_bytes(flat_weights, first, words, at, quads, base, block * BLOCK, buffer, 0, BLOCK)
                for i in range(count):
                    place = together + i
                    if fires:
                        kind = np.int64(rows[place % rows.size]) if limits.shape[0] > 1 else 0
                        word = reach(buffer, i * BLOCK, flat_limits, (kind * blocks + block) * BLOCK)
                        word = (word & above[kind, block]) | (~word & below[kind, block])
                        flat_signs[place * blocks + block] = word
                    else:
                        to = place * units + block * BLOCK
                        for u in range(min(BLOCK, units - block * BLOCK)):
                            flat_sums[to + u] = buffer[i * BLOCK + u]


@njit(cache=True)
def windows_of(x, window, down, across):  # type: ignore[no-untyped-def]
    """What each window sees, (lanes * down * across, kernel rows * columns * channels), zeros outside the image."""
    size = window[0, 0] * window[0, 1] * x.shape[3]
    places = x.shape[0] * down * across
    patches = np.empty(places * size + _LINE // x.itemsize, x.dtype)
    framed, image = _framed(x, window, 0)
    shape = framed.shape[0], framed.shape[1], framed.shape[2], x.itemsize * framed.shape[3]
    lay(image, shape, window, down, across, 0, places, patches.view(np.uint8), x.itemsize * size)
    return patches[: places * size].reshape(places, size)
