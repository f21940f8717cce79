"""Loops over spikes: a silent input costs nothing but being looked at.

Sums are integers, equal in every order. Potentials are float32, rounded as `lava_meta.graph.spiking_neurons` does,
operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lava_meta.graph.conv import Window
from lava_meta.graph.packed import aligned
from lava_meta.graph.packed.loops import pointer
from lava_meta.jit import njit

_I64 = ir.IntType(64)


@njit(cache=True, nogil=True)
def add_rows(spikes: NDArray[Any], weight: NDArray[Any], out: NDArray[Any]) -> None:
    """`out = spikes @ weight` for spikes (n, inputs) of 0 and 1 and weights (inputs, units)."""
    units = out.shape[1]
    active = np.empty(spikes.shape[1] + 1, np.int64)
    for n in range(spikes.shape[0]):
        row, given = out[n], spikes[n]
        count = 0
        for i in range(len(given)):  # without a branch, of which the processor would guess one in two wrong
            active[count] = i
            count += given[i]
        row[:] = 0
        for k in range(count):
            added = weight[active[k]]
            for j in range(units):
                row[j] += added[j]


@njit(cache=True, nogil=True)
def scatter(
    spikes: NDArray[Any],
    weight: NDArray[Any],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    out: NDArray[Any],
) -> None:
    """A convolution of spikes (n, channels, rows, columns) with weights (channels, down, across, units).

    `out` is (n, rows, columns, units): every spike adds the weights of all units at the places that see it.
    """
    _, channels, rows, columns = spikes.shape
    _, down, across, units = weight.shape
    for n in range(spikes.shape[0]):
        out[n] = 0
        for c in range(channels):
            for y in range(rows):
                for x in range(columns):
                    if not spikes[n, c, y, x]:
                        continue
                    for a in range(down):
                        top = y + padding[0] - a * dilation[0]
                        if top < 0 or top % stride[0] or top // stride[0] >= out.shape[1]:
                            continue
                        for b in range(across):
                            left = x + padding[1] - b * dilation[1]
                            if left < 0 or left % stride[1] or left // stride[1] >= out.shape[2]:
                                continue
                            place, added = out[n, top // stride[0], left // stride[1]], weight[c, a, b]
                            for j in range(units):
                                place[j] += added[j]


class Reach(NamedTuple):
    """Where the spikes of an input add weights, if the places that see one lie side by side along the rows."""

    weight: NDArray[Any]  # (channels * down * across * units,), the last column of each kernel first
    width: int  # across * units, a row of a kernel
    rows: NDArray[Any]  # int64 (places of inputs, down): where among the sums a row is added, -1 if no place sees it
    seen: NDArray[Any]  # int64 (places of inputs, 2): where in each row the columns begin that are seen, and how many
    size: int  # of the sums of an image, which lie as (rows, columns, units)


def reach_of(weight: NDArray[Any], window: Window, entering: tuple[int, int]) -> Reach:
    """Of weights (channels, down, across, units) and an image of so many rows and columns."""
    _, down, across, units = weight.shape
    height, width = window.positions(*entering)
    y, x, a = np.ogrid[: entering[0], : entering[1], :down]
    top, off = np.divmod(y + window.padding[0] - a * window.dilation[0], window.stride[0])
    begin = x + window.padding[1] - across + 1
    first, last = np.maximum(begin, 0), np.minimum(begin + across, width)
    rows = np.where((off == 0) & (top >= 0) & (top < height), (top * width + first) * units, -1)
    columns = np.concatenate([first - begin, np.maximum(last - first, 0)], axis=2) * units
    seen = np.broadcast_to(columns, (*entering, 2))
    turned = aligned.copy(weight[:, :, ::-1].reshape(-1))
    return Reach(turned, across * units, rows.reshape(-1, down), seen.reshape(-1, 2).copy(), height * width * units)


def _by_line(combined: Callable[[Any, Any, Any], Any]) -> Any:
    """out[at + j] = combined(a[i + j], b[k + j]) for j < length, of integers: numba takes half the width at a time.

    Of what is left of the last line few come one by one: so few that LLVM does not try to take more at once, for which
    it would compare addresses at every call.
    """

    def typed(typing_context: Any, out: Any, at: Any, a: Any, i: Any, b: Any, k: Any, length: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            into, *given = (context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 2, 4))
            one, size = context.get_value_type(out.dtype), out.dtype.bitwidth // 8
            done, left = _I64(0), args[6]
            for together in (aligned.LINE, aligned.LINE // 4, size):
                width = _I64(together // size)
                kind = one if together == size else ir.VectorType(one, together // size)
                count = builder.udiv(left, width)
                with cgutils.for_range(builder, count) as loop:
                    offset = builder.add(done, builder.mul(loop.index, width))
                    places = [
                        pointer(builder, data, builder.add(begin, offset), kind)
                        for data, begin in zip((into, *given), args[1::2], strict=False)
                    ]
                    values = [builder.load(place, align=size) for place in places[1:]]
                    builder.store(combined(builder, *values), places[0], align=size)
                done, left = builder.add(done, builder.mul(count, width)), builder.urem(left, width)
            return context.get_dummy_value()

        index = types.intp
        return types.void(out, index, a, index, b, index, index), codegen

    return intrinsic(typed)


sum_line: Any = _by_line(lambda builder, a, b: builder.add(a, b))
greatest_line: Any = _by_line(lambda builder, a, b: builder.select(builder.icmp_signed(">", a, b), a, b))


@njit(cache=True, nogil=True, inline="always")
def add_neuron(
    place: int, channel: int, weight: Any, width: int, rows: Any, seen: Any, out: Any, begins: Any, spikes: int
) -> None:
    """Add what each of a neuron's spikes gives to sums that begin at the first of `begins` in `out`, one array for all.

    The fields of a `Reach` come one by one: its arrays are counted whenever they are taken from it.
    """
    down = rows.shape[1]
    start, length = channel * down * width + seen[place, 0], seen[place, 1]
    for a in range(down):
        row = rows[place, a]
        if row >= 0:
            for k in range(spikes):
                to = begins[k] + row
                sum_line(out, to, out, to, weight, start + a * width, length)


@njit(cache=True, nogil=True)
def scatter_rows(spikes: NDArray[Any], reach: Reach, out: NDArray[Any]) -> None:
    """`scatter` of (n, channels, places) if the places that see a spike lie side by side; `out` is one array."""
    weight, width, rows, seen, size = reach
    begins = np.empty(1, np.int64)
    out[:] = 0
    for n in range(spikes.shape[0]):
        begins[0] = n * size
        for channel in range(spikes.shape[1]):
            for place in range(spikes.shape[2]):
                if spikes[n, channel, place]:
                    add_neuron(place, channel, weight, width, rows, seen, out, begins, 1)


@njit(cache=True, nogil=True)
def greatest(sums: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], out: NDArray[Any]) -> None:
    """The greatest of each window of (n, rows, columns, channels), without padding: of whole rows first."""
    _, rows, columns, channels = sums.shape
    images, down, across, kept = out.shape
    taken, found, row = sums.reshape(-1), out.reshape(-1), columns * channels
    above = np.empty(row, sums.dtype)
    to = 0
    for image in range(images):
        for y in range(down):
            first = (image * rows + y * stride[0]) * row
            greatest_line(above, 0, taken, first, taken, first + (kernel[0] - 1) * row, row)
            for a in range(1, kernel[0] - 1):
                greatest_line(above, 0, above, 0, taken, first + a * row, row)
            for x in range(across):
                left = x * stride[1] * channels
                greatest_line(found, to, above, left, above, left + (kernel[1] - 1) * channels, kept)
                for b in range(1, kernel[1] - 1):
                    greatest_line(found, to, found, to, above, left + b * channels, kept)
                to += kept


@njit(cache=True, nogil=True)
def summed(sums: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], out: NDArray[Any]) -> None:
    """The sum of each window of (n, rows, columns, channels), without padding."""
    channels = out.shape[3]
    for n in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                for c in range(channels):
                    out[n, y, x, c] = 0
                for k in range(kernel[0] * kernel[1]):
                    below, beside = y * stride[0] + k // kernel[1], x * stride[1] + k % kernel[1]
                    for c in range(channels):
                        out[n, y, x, c] += sums[n, below, beside, c]


def _first_bit(typing_context: Any, word: Any) -> Any:
    """The number of the lowest bit that is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        count = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind, ir.IntType(1)]), f"llvm.cttz.i{kind.width}"
        )
        found = builder.call(count, [args[0], ir.IntType(1)(1)])
        return builder.zext(found, _I64) if kind.width < 64 else found

    return types.intp(word), codegen


first_bit: Any = intrinsic(_first_bit)


SUBTRACT, ZERO, NONE = 0, 1, 2
RESETS = {"subtract": SUBTRACT, "zero": ZERO, "none": NONE}
STATES = ("leaky", "synaptic")  # the models of neurons that have a loop


@njit(cache=True, nogil=True)
def _reset_at_once(u: Any, t: Any, fires: Any, fired: Any, reset: int) -> Any:
    """A potential behind a reset that follows its spike at once; in the types of the neuron's loop."""
    if fires != fired:
        if reset == SUBTRACT:
            u = u - t if fires else u + t
        elif reset == ZERO:
            u = np.float32(0) if fires else u + u
    return u


@njit(cache=True, nogil=True)
def leaky_at(u: Any, current: Any, beta: Any, t: Any, reset: int, delayed: bool) -> Any:  # noqa: FBT001
    """The potential of a `Leaky` neuron behind one step, and whether it fires; numba takes no flags by name."""
    zero = np.float32(0)
    fired = u - t > zero
    if reset == ZERO and fired:
        u = zero
    u = beta * u + current
    if reset == SUBTRACT and fired:
        u = u - t
    fires = u - t > zero
    return (u if delayed else _reset_at_once(u, t, fires, fired, reset)), fires


@njit(cache=True, nogil=True)
def synaptic_at(s: Any, u: Any, current: Any, alpha: Any, beta: Any, t: Any, reset: int, delayed: bool) -> Any:  # noqa: FBT001
    """The current and potential of a `Synaptic` neuron behind one step, and whether it fires."""
    zero = np.float32(0)
    fired = u - t > zero
    s = alpha * s + current
    u = beta * u + s
    if fired and reset == SUBTRACT:
        u = u - t
    elif fired and reset == ZERO:
        u = zero
    fires = u - t > zero
    return s, (u if delayed else _reset_at_once(u, t, fires, fired, reset)), fires


@njit(cache=True, nogil=True)
def leaky(
    current: NDArray[Any],
    beta: NDArray[Any],
    threshold: NDArray[Any],
    reset: int,
    delayed: bool,  # noqa: FBT001
    v: NDArray[Any],
    spikes: NDArray[Any],
) -> None:
    """One step of `Leaky` neurons (n, units), whose potentials and spikes are written."""
    for n in range(v.shape[0]):
        for j in range(v.shape[1]):
            v[n, j], spikes[n, j] = leaky_at(v[n, j], current[n, j], beta[j], threshold[j], reset, delayed)


@njit(cache=True, nogil=True)
def synaptic(
    current: NDArray[Any],
    alpha: NDArray[Any],
    beta: NDArray[Any],
    threshold: NDArray[Any],
    reset: int,
    delayed: bool,  # noqa: FBT001
    s: NDArray[Any],
    v: NDArray[Any],
    spikes: NDArray[Any],
) -> None:
    """One step of `Synaptic` neurons (n, units), whose states and spikes are written."""
    for n in range(v.shape[0]):
        for j in range(v.shape[1]):
            s[n, j], v[n, j], spikes[n, j] = synaptic_at(
                s[n, j], v[n, j], current[n, j], alpha[j], beta[j], threshold[j], reset, delayed
            )


@njit(cache=True, nogil=True)
def currents(sums: NDArray[Any], gain: NDArray[Any], constant: NDArray[Any], out: NDArray[Any]) -> None:
    """float32 `gain * sums + constant` of integers (n, units), computed in float64."""
    for n in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[n, j] = np.float32(gain[j] * np.float64(sums[n, j]) + constant[j])
