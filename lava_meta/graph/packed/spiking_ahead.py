"""Convolutions of the spikes of an image that is held, for all time steps at once.

Neurons with the same current in every step have trains that are known beforehand, and sums are linear:

    sums_t = sum of S_w over the trains w with a spike in step t,   S_w: the sums of all neurons whose train is w

Neurons that are set to 0 with their spike have a train per period, so there are few; each neuron is then summed once
instead of once a spike. Where trains are many, as of neurons that are reset by subtraction, nothing is gained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.packed.spiking_loops import add_scattered, greatest, leaky
from lava_meta.jit import njit

MOST_STEPS = 64  # a train is a word
_MOST_TRAINS = 32
_MOST_BYTES = 2**27  # of the sums of all steps
_SLOTS = 256  # of a table of trains


def worth_it(steps: int, size: int, width: int) -> bool:
    """Whether so many time steps of sums, of this many bytes each, may be kept."""
    return steps <= MOST_STEPS and steps * size * width <= _MOST_BYTES


def sums_of_trains(
    trains: NDArray[Any],
    steps: int,
    weight: NDArray[Any],
    units: int,
    down_stride: int,
    padding: tuple[int, int],
    down_dilation: int,
    shape: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
) -> NDArray[Any] | None:
    """The sums of every step (steps, n, rows, columns, units), of trains (n, channels, rows, columns).

    The bit k of a train is the spike in step k; `shape` are the rows and columns of sums, of which the greatest of each
    window are given (`spiking_loops.greatest`); the other arguments are those of `spiking_loops.scatter_rows`. None if
    there are too many different trains.
    """
    rows, columns = ((extent - k) // s + 1 for extent, k, s in zip(shape, kernel, stride, strict=True))
    out = np.empty((steps, len(trains), rows, columns, units), weight.dtype)
    done = _sums_of_trains(trains, weight, down_stride, padding, down_dilation, shape, kernel, stride, out)
    return out if done else None


def trains_of(
    current: NDArray[Any],
    beta: NDArray[Any],
    threshold: NDArray[Any],
    reset: int,
    steps: int,
    *,
    delayed: bool,
) -> NDArray[Any]:
    """Words (n, units): the spikes of so many steps of `leaky` neurons from rest, with this current in each."""
    trains = np.zeros(current.shape, np.uint32 if steps <= 32 else np.uint64)
    _fill_trains(current, beta, threshold, reset, delayed, steps, trains)
    return trains


@njit(cache=True, nogil=True)
def _fill_trains(current: Any, beta: Any, threshold: Any, reset: int, delayed: Any, steps: int, trains: Any) -> None:
    v, spikes = np.empty((1, current.shape[1]), np.float32), np.empty((1, current.shape[1]), np.bool_)
    for n in range(current.shape[0]):
        v[:] = 0
        for step in range(steps):
            leaky(current[n : n + 1], beta, threshold, reset, delayed, v, spikes)
            fired, words, bit = spikes[0], trains[n], trains.dtype.type(1) << trains.dtype.type(step)
            for j in range(len(words)):
                if fired[j]:
                    words[j] |= bit


@njit(cache=True, nogil=True)
def spikes_of(trains: NDArray[Any], step: int, spikes: NDArray[Any]) -> None:
    """The spikes (n, units) of a step."""
    for n in range(trains.shape[0]):
        for j in range(trains.shape[1]):
            spikes[n, j] = trains[n, j] >> step & 1


@njit(cache=True, nogil=True)
def _numbered(train: Any, known: Any, number: Any) -> int:
    """The number of each neuron's train among those that there are, -1 of the silent; how many, or -1 for too many."""
    slots = np.full(_SLOTS, -1, np.int64)
    found = 0
    for i in range(len(train)):
        word = train[i]
        if word == 0:
            number[i] = -1
            continue
        slot = np.int64((np.uint64(word) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56))
        while slots[slot] >= 0 and known[slots[slot]] != word:
            slot = (slot + 1) % _SLOTS
        if slots[slot] < 0:
            if found == len(known):
                return -1
            known[found] = word
            slots[slot] = found
            found += 1
        number[i] = slots[slot]
    return found


@njit(cache=True, nogil=True)
def _sums_of_trains(
    trains: Any,
    weight: Any,
    down_stride: int,
    padding: Any,
    down_dilation: int,
    shape: Any,
    kernel: Any,
    stride: Any,
    out: Any,
) -> bool:
    images, channels, rows, columns = trains.shape
    steps, units, inputs = out.shape[0], out.shape[4], channels * rows * columns
    known, number = np.empty(_MOST_TRAINS, np.uint64), np.empty(inputs, np.int64)
    order, begin = np.empty(inputs, np.int64), np.empty(_MOST_TRAINS + 2, np.int64)
    sums = np.empty((_MOST_TRAINS, shape[0], shape[1] * units), out.dtype)
    flat = sums.reshape(_MOST_TRAINS, shape[0] * shape[1] * units)
    row = np.empty(flat.shape[1], out.dtype)
    total = row.reshape(1, shape[0], shape[1], units)
    for n in range(images):
        found = _numbered(trains[n].reshape(inputs), known, number)
        if found < 0:
            return False
        begin[: found + 2] = 0
        for i in range(inputs):
            begin[number[i] + 2] += 1
        begin[1] = 0
        for k in range(2, found + 2):
            begin[k] += begin[k - 1]
        for i in range(inputs):
            if number[i] >= 0:
                order[begin[number[i] + 1]] = i
                begin[number[i] + 1] += 1
        first = 0
        for k in range(found):
            flat[k] = 0
            last = begin[k + 1]
            for j in range(first, last):
                i = order[j]
                c, y, x = i // (rows * columns), i // columns % rows, i % columns
                add_scattered(weight[c], units, y, x, down_stride, padding, down_dilation, sums[k])
            first = last
        for step in range(steps):
            row[:] = 0
            for k in range(found):
                if known[k] >> np.uint64(step) & np.uint64(1):
                    added = flat[k]
                    for j in range(len(row)):
                        row[j] += added[j]
            greatest(total, kernel, stride, out[step, n : n + 1])
    return True
