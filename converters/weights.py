"""Weights as integers times a unit: signs, few-bit integers, or all the binary digits of a float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW = 128  # of integers that are few-bit weights
_FIRST = 4  # rows that are looked at first
_CLOSE = 8 * 2.0**-53  # relative difference of a weight to a multiple of its unit that float64 rounds


@dataclass(frozen=True)
class Decomposed:
    """`weight = unit * integers`, a unit per row."""

    integers: NDArray[Any]  # int64 (units, fan_in)
    unit: NDArray[Any]  # float64 (units, 1)
    error: float  # the greatest difference, in units
    close: bool  # whether each weight is its multiple to the last digit


def decompose(weight: NDArray[Any], largest: int, most: int) -> Decomposed:
    """Integers for weights float64 (units, fan_in) whose sums, of inputs up to `largest`, stay below `most`.

    Rows of +c and -c become signs, rows of few multiples small integers; other float32 weights are integers times a
    power of two. What does not fit is rounded, and `error` says by how much.
    """
    small = _small(weight)
    if small is not None:
        return small
    # The last binary digit of every weight, and the bits that a row then takes.
    mantissa, exponent = np.frexp(weight)
    digits = (mantissa * 2.0**53).astype(np.int64)
    trailing = np.log2(np.maximum(digits & -digits, 1).astype(np.float64)).astype(np.int64)
    last = np.where(digits == 0, 2000, exponent - 53 + trailing).min(axis=1, keepdims=True)
    total = np.abs(weight).sum(axis=1, keepdims=True) * max(1, largest)
    fits = np.where(total > 0, np.ceil(np.log2(np.maximum(total, 1e-300))) - np.log2(float(most)) + 1, -1000)
    least = np.where(last > 1000, 0, np.maximum(last, fits)).astype(np.int64)
    # One unit for all, if it loses nothing, keeps what follows simple.
    if (last[last <= 1000] >= least.max()).all():
        least = np.full_like(least, least.max())
    unit = 2.0 ** least.astype(np.float64)
    integers = np.rint(weight / unit)
    error = float(np.abs(weight / unit - integers).max())
    return Decomposed(integers.astype(np.int64), unit, error, error == 0)


def _small(weight: NDArray[Any]) -> Decomposed | None:
    """Small multiples of one unit for all rows, or of one each; None if there are none."""
    sizes = np.abs(weight)
    for rows in (False, True):
        axes = 1 if rows else None
        least = np.min(np.where(sizes > 0, sizes, np.inf), axis=axes, keepdims=True)
        most = np.max(sizes, axis=axes, keepdims=True)
        least = np.where(np.isfinite(least), least, 1.0)
        steps = [least / parts for parts in (1, 2, 3, 4)]
        if rows:  # the largest weight of each row is the largest integer of so many bits
            steps += [most / (2**bits - 1) for bits in range(2, 8)] + [most / 128]
        for step in steps:
            # The largest multiple rounds the unit least.
            top = np.rint(most / np.where(most > 0, step, 1.0))
            unit = np.where(top > 0, most / np.maximum(top, 1), 1.0)
            if _multiples(weight[:_FIRST], unit[:_FIRST]) is None:  # as most are not, at first sight
                continue
            whole = _multiples(weight, unit)
            if whole is not None:
                exact = bool((weight == whole * unit).all())
                return Decomposed(whole.astype(np.int64), np.broadcast_to(unit, (len(weight), 1)).copy(), 0.0, exact)
    return None


def _multiples(weight: NDArray[Any], unit: NDArray[Any]) -> NDArray[Any] | None:
    """The small integers of which weights are multiples; None if they are not."""
    whole: NDArray[Any] = np.rint(weight / unit)
    few = (np.abs(whole) <= _FEW).all() and (np.abs(weight - whole * unit) <= _CLOSE * np.abs(weight)).all()
    return whole if few else None
