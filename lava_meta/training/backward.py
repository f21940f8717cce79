"""Compiled passes between the products of a training step: activations to signs, gradients to operands.

A gradient enters a product with binary weights as two signed bytes, 15 bits with a scale a row:

    q = round(d / scale),   scale = max |d| / 16319,   q = 128 * high + low,   -127 <= high <= 127,  -64 <= low <= 63

so that the product itself is one of integers, exact, twice as long; the error is at most half a 16,319th of the row's
largest gradient, well below the rounding of bfloat16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lava_meta.jit import njit

LARGEST = 127 * 128 + 63
_F = np.float32
_options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


@njit(**_options)
def signs_of_sums(sums, scale, y, signs):  # type: ignore[no-untyped-def]
    """Compute y = scale * sums and its signs. sums: int32 (n, units); y: float32; signs: +1 and -1 in any type."""
    for i in range(sums.shape[0]):
        for j in range(sums.shape[1]):
            value = _F(sums[i, j]) * scale
            y[i, j] = value
            signs[i, j] = np.int8(1) if value >= _F(0) else np.int8(-1)


@njit(**_options)
def split_rows(d, digits, scales):  # type: ignore[no-untyped-def]
    """float32 (n, units) into digits int8 (2 n, units), the high ones first, and scales float32 (n,).

    A row that is not finite gets a scale that is not finite.
    """
    n = d.shape[0]
    for i in range(n):
        largest = _F(0)
        total = _F(0)
        for j in range(d.shape[1]):
            largest = max(largest, abs(d[i, j]))
        for j in range(d.shape[1]):
            total += d[i, j] * _F(0)  # a comparison overlooks what is not a number
        scales[i] = largest / _F(LARGEST) + total
        inverse = _F(LARGEST) / largest if largest > _F(0) and total == _F(0) else _F(0)
        for j in range(d.shape[1]):
            q = np.int32(np.floor(d[i, j] * inverse + _F(0.5))) if inverse > _F(0) else np.int32(0)
            high = (q + np.int32(64)) >> np.int32(7)
            digits[i, j] = high
            digits[n + i, j] = q - (high << np.int32(7))


@njit(**_options)
def join_rows(products, scales, y, window, factor, d):  # type: ignore[no-untyped-def]
    """The gradient through a sign: d = factor * scale * (128 high + low) where |y| <= window, else 0.

    products: int32 (2 n, units), the products of `split_rows`'s digits; y, d: float32 (n, units).
    """
    n = d.shape[0]
    for i in range(n):
        scale = scales[i] * factor
        for j in range(d.shape[1]):
            value = _F((products[i, j] << np.int32(7)) + products[n + i, j]) * scale
            d[i, j] = value if abs(y[i, j]) <= window else _F(0)
