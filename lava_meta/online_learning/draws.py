"""Random bits as a pure function of where and when they are used.

Stochastic rounding needs a draw for every synapse and image. Here a draw is a hash of (seed, image, input, unit): it
does not depend on the order of updates, on which inputs were active, or on where a run was interrupted, so a run in
Lava, a run of the reference implementation and a run that was resumed all draw the same bits.

    key       = mix(seed ^ mix(image))
    row_j     = mix(key + j)                                  j: input
    draw_jk   = top bits of half_mix(row_j + k * 0x9E3779B9)  k: unit;  all modulo 2**32

`mix` is the 32-bit finalizer "lowbias32" of Wellons' hash prospector (public domain), `half_mix` its first half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0x9E3779B9
FIRST, SECOND = 0x7FEB352D, 0x846CA68B


def mix(value: NDArray[Any]) -> NDArray[Any]:
    """Hash of 32-bit words, uint32 of any shape."""
    v: NDArray[Any] = half_mix(value) * np.uint32(SECOND)
    mixed: NDArray[Any] = v ^ (v >> np.uint32(16))
    return mixed


def half_mix(value: NDArray[Any]) -> NDArray[Any]:
    """One multiplication between two shifts: enough if the argument was mixed before."""
    v: NDArray[Any] = np.atleast_1d(np.asarray(value, np.uint32))
    v = v ^ (v >> np.uint32(16))
    v = v * np.uint32(FIRST)
    mixed: NDArray[Any] = v ^ (v >> np.uint32(15))
    return mixed


def key(seed: int, image: int) -> NDArray[Any]:
    """uint32 (1,): the key of one image."""
    return mix(np.array([seed & 0xFFFFFFFF], np.uint32) ^ mix(np.array([image & 0xFFFFFFFF], np.uint32)))


def draws(image_key: NDArray[Any], inputs: NDArray[Any], units: int, bits: int) -> NDArray[Any]:
    """int32 (inputs, units), uniform in 0 .. 2**bits - 1, for the input numbers `inputs`."""
    rows = mix(image_key + inputs.astype(np.uint32))
    columns = np.arange(units, dtype=np.uint32) * np.uint32(GOLDEN)
    return (half_mix(rows[:, None] + columns[None, :]) >> np.uint32(32 - bits)).astype(np.int32)


def bell(image_key: NDArray[Any], inputs: NDArray[Any], units: int) -> NDArray[Any]:
    """int64 (inputs, units): sums of the four bytes of a draw, less their mean of 510; near to normal."""
    rows = mix(image_key + inputs.astype(np.uint32))
    word = mix(rows[:, None] + np.arange(units, dtype=np.uint32) * np.uint32(GOLDEN))
    four = np.ascontiguousarray(word).view(np.uint8).reshape(*word.shape, 4)
    sums: NDArray[Any] = four.sum(axis=-1, dtype=np.int64) - 510
    return sums
