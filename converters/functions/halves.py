"""Numbers of half precision: how many lie between 0 and a number in fixed point, and which each of them is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Curves = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # the starts, slopes and intercepts of pieces


def halves(dtype: torch.dtype, unit: float, largest: int, rank: int) -> tuple[Curves, Curves]:
    """Integers in `unit` to the number of the nearest float16 or bfloat16 of them, from 0, and such numbers back.

    From one power of two to the next they lie as far apart as the first ones behind it, which must be powers of two of
    the unit, or finer: the unit then. Halfway between two, both `Curve` and PyTorch take the even one.

    Raises:
        ValueError: integers of up to `largest` are past the greatest number of the type.
    """
    info = torch.finfo(dtype)
    if largest * unit >= info.max:
        raise ValueError(f"has values past the greatest of {dtype}, {info.max:g}, which are infinite there")
    start, apart, before = [0], [max(info.smallest_normal * info.eps, unit)], [0]
    for power in range(math.frexp(info.smallest_normal)[1] - 1, math.frexp(largest * unit)[1] + 1):
        distance = max(2.0**power * info.eps, unit)
        begin = round(2.0**power / unit)
        if distance > apart[-1] and begin > start[-1]:
            before.append(before[-1] + round((begin - start[-1]) * unit / apart[-1]))
            start.append(begin)
            apart.append(distance)
    slopes = np.array(apart) / unit
    integers, numbers = np.array(start, np.int64), np.array(before, np.int64)
    to = _both_sides(integers, 1 / slopes, numbers.astype(np.float64))
    back = _both_sides(numbers, slopes, integers.astype(np.float64))
    shape = (-1, *(1,) * rank)
    first, second = ((a.reshape(shape), b.reshape(shape), c.reshape(shape)) for a, b, c in (to, back))
    return first, second


def _both_sides(start: NDArray[Any], slope: NDArray[Any], value: NDArray[Any]) -> Curves:
    """Pieces of an odd function from those of its positive side, the first of which begins at 0."""
    below = np.append(start[1:], start[-1])[::-1], np.append(value[1:], value[-1])[::-1]
    return (
        np.concatenate([-below[0], start]),
        np.concatenate([slope[::-1], slope]),
        np.concatenate([-below[1], value]),
    )
