"""Sixty-four signs to a word.

A bit of 1 is +1 and a bit of 0 is -1. A row of `n` signs takes `ceil(n / 64)` words of uint64; bit `i % 64` of word
`i // 64` is sign `i` (little-endian along the row), and the bits past `n` are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def words(n: int) -> int:
    """Number of uint64 words that hold `n` bits."""
    return -(-n // 64)


def pack(positive: NDArray[Any]) -> NDArray[Any]:
    """Pack booleans (..., n), True for +1, into uint64 (..., words(n))."""
    n = positive.shape[-1]
    padded = np.zeros((*positive.shape[:-1], words(n) * 64), dtype=bool)
    padded[..., :n] = positive
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8")


def unpack(packed: NDArray[Any], n: int) -> NDArray[Any]:
    """Undo `pack`: uint64 (..., words(n)) to booleans (..., n)."""
    as_bytes = np.ascontiguousarray(packed, dtype="<u8").view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=n, bitorder="little").astype(bool)
