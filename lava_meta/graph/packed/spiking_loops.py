"""Loops over spikes: a silent input costs nothing but being looked at.

Sums are integers, equal in every order. Potentials are float32, rounded as `lava_meta.graph.spiking_neurons` does,
operation by operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit


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


@njit(cache=True, nogil=True)
def add_scattered(
    weight: NDArray[Any],
    units: int,
    y: int,
    x: int,
    down_stride: int,
    padding: tuple[int, int],
    down_dilation: int,
    out: NDArray[Any],
) -> None:
    """Add what one spike at (y, x) of a channel gives, weights (down, across * units), to (rows, columns * units)."""
    across, width = weight.shape[1] // units, out.shape[1] // units
    begin = x + padding[1] - across + 1
    first, last = max(begin, 0), min(begin + across, width)
    length, start, place = (last - first) * units, (first - begin) * units, first * units
    for a in range(weight.shape[0]):
        top = y + padding[0] - a * down_dilation
        if top < 0 or top % down_stride or top // down_stride >= out.shape[0]:
            continue
        row = out[top // down_stride, place : place + length]
        added = weight[a, start : start + length]
        for j in range(length):
            row[j] += added[j]


@njit(cache=True, nogil=True)
def scatter_rows(
    spikes: NDArray[Any],
    weight: NDArray[Any],
    units: int,
    down_stride: int,
    padding: tuple[int, int],
    down_dilation: int,
    out: NDArray[Any],
) -> None:
    """`scatter` where a spike's places lie side by side: no stride and no dilation along the rows.

    `weight` (channels, down, across * units) has the last column of each kernel first, `out` is
    (n, rows, columns * units).
    """
    _, channels, rows, columns = spikes.shape
    for n in range(spikes.shape[0]):
        out[n] = 0
        for c in range(channels):
            for y in range(rows):
                for x in range(columns):
                    if spikes[n, c, y, x]:
                        add_scattered(weight[c], units, y, x, down_stride, padding, down_dilation, out[n])


@njit(cache=True, nogil=True)
def greatest(sums: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], out: NDArray[Any]) -> None:
    """The greatest of each window of (n, rows, columns, channels), without padding."""
    for n in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                place = out[n, y, x]
                place[:] = sums[n, y * stride[0], x * stride[1]]
                for a in range(kernel[0]):
                    for b in range(kernel[1]):
                        seen = sums[n, y * stride[0] + a, x * stride[1] + b]
                        for c in range(out.shape[3]):
                            place[c] = max(place[c], seen[c])


SUBTRACT, ZERO, NONE = 0, 1, 2


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
def leaky(
    current: NDArray[Any],
    beta: NDArray[Any],
    threshold: NDArray[Any],
    reset: int,
    delayed: bool,  # noqa: FBT001  # numba takes no keyword-only arguments
    v: NDArray[Any],
    spikes: NDArray[Any],
) -> None:
    """One step of `Leaky` neurons (n, units), whose potentials and spikes are written."""
    zero = np.float32(0)
    for n in range(v.shape[0]):
        for j in range(v.shape[1]):
            u, t = v[n, j], threshold[j]
            fired = u - t > zero
            if reset == ZERO and fired:
                u = zero
            u = beta[j] * u + current[n, j]
            if reset == SUBTRACT and fired:
                u = u - t
            fires = u - t > zero
            spikes[n, j] = fires
            v[n, j] = u if delayed else _reset_at_once(u, t, fires, fired, reset)


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
    zero = np.float32(0)
    for n in range(v.shape[0]):
        for j in range(v.shape[1]):
            u, t = v[n, j], threshold[j]
            fired = u - t > zero
            s[n, j] = alpha[j] * s[n, j] + current[n, j]
            u = beta[j] * u + s[n, j]
            if fired and reset == SUBTRACT:
                u = u - t
            elif fired and reset == ZERO:
                u = zero
            fires = u - t > zero
            spikes[n, j] = fires
            v[n, j] = u if delayed else _reset_at_once(u, t, fires, fired, reset)


@njit(cache=True, nogil=True)
def currents(sums: NDArray[Any], gain: NDArray[Any], constant: NDArray[Any], out: NDArray[Any]) -> None:
    """float32 `gain * sums + constant` of integers (n, units), computed in float64."""
    for n in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[n, j] = np.float32(gain[j] * np.float64(sums[n, j]) + constant[j])
