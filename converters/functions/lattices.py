"""Numbers of which the values of functions that jump are whole multiples, from 0 or from an offset."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LEVELS = 256
MOST_FLAT = 2**16  # of all units together, of functions that are flat between their changes


@dataclass(frozen=True)
class Steps:
    """Functions that jump: their first values, and by change its unit, the integer from which it holds, the value."""

    first: NDArray[Any]  # (units,)
    unit: NDArray[Any]
    limit: NDArray[Any]
    after: NDArray[Any]

    def of_each(self) -> list[NDArray[Any]]:
        """The values of each unit."""
        order = np.argsort(self.unit, kind="stable")
        starts = np.searchsorted(self.unit[order], np.arange(1, len(self.first)))
        after = np.split(self.after[order], starts)
        return [np.append(own, first) for own, first in zip(after, self.first, strict=True)]


Multiples = tuple[NDArray[Any], NDArray[Any]]  # the number (1,), or one for each unit, and the offset, likewise


def multiples_of(steps: Steps, *, flat: bool) -> Multiples | None:
    """The number of which all values are multiples, if there is one; of `flat` functions, perhaps from an offset."""
    return _found(steps, _from_zero) or (_found(steps, _from_offset) if flat else None)


def finest_of(steps: Steps) -> Multiples:
    """A power of two of which all values are multiples, but for float64's rounding."""
    largest = max(distance(part, 0 * part) for part in (steps.first, steps.after))
    return np.full(1, 2.0 ** (math.frexp(largest)[1] - 52)), np.zeros(1)


def _found(steps: Steps, of: Callable[[NDArray[Any]], tuple[float, float] | None]) -> Multiples | None:
    one = of(np.concatenate([steps.first, steps.after]))
    if one is not None:
        return np.full(1, one[0]), np.full(1, one[1])
    if len(steps.first) > 2**16:
        return None
    found = [of(values) for values in steps.of_each()]
    if None in found:
        return None
    units, offsets = np.array(found, np.float64).T
    return units, offsets if offsets.any() else np.zeros(1)


def _from_zero(values: NDArray[Any]) -> tuple[float, float] | None:
    unit = _lattice(values)
    return None if unit is None else (unit, 0.0)


def _from_offset(values: NDArray[Any]) -> tuple[float, float] | None:
    """Of two values, -1 and +1 times a number."""
    least, most = float(values.min()), float(values.max())
    if least == most:
        return (abs(most), 0.0) if most else (1.0, -1.0)
    if not ((values != least) & (values != most)).any():
        return (most - least) / 2, (most + least) / 2
    unit = _lattice(values - least)
    return None if unit is None else ((most - least) / round((most - least) / unit), least)


def _lattice(values: NDArray[Any]) -> float | None:
    """The number of which all values are whole multiples, where these multiples are small."""
    scale = float(np.abs(values).max())
    if scale == 0:
        return 1.0
    sizes = np.unique(np.round(np.abs(values) / scale, 10))
    if len(sizes) > MOST_FLAT:
        return None
    least = float(sizes[sizes > 1e-9].min()) * scale
    near = values[np.abs(np.abs(values) - least) <= 1e-9 * scale]
    least = float(np.abs(near).max())
    for parts in (1, 2, 3, 4, 5, 6, 8):
        unit = least / parts
        if scale / unit > 2**15:
            return None
        whole = np.rint(values / unit)
        if (np.abs(values - whole * unit) <= rounding(values, scale)).all():
            return _tidy(unit)
    return None


def _tidy(unit: float) -> float:
    """A number that differs from a short one by rounding alone, as it was meant."""
    for factor in (1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0):
        whole = round(unit * factor)
        if whole and abs(unit * factor - whole) < 1e-13 * whole:
            return whole / factor
    return unit


def codes_of(values: NDArray[Any], units: NDArray[Any]) -> NDArray[Any] | None:
    """The multiples that values are, if they are."""
    codes = np.rint(values / units)
    scale = float(np.abs(values).max(initial=0.0))
    if (np.abs(values - codes * units) > 10 * rounding(values, max(scale, 1e-300))).any():
        return None
    whole: NDArray[Any] = codes.astype(np.int64)
    return whole


def rounding(values: NDArray[Any], scale: float | NDArray[Any]) -> NDArray[Any]:
    """By how much numbers may differ from what they were meant to be, in functions that reach `scale`."""
    most: NDArray[Any] = 1e-11 * np.abs(values) + 1e-15 * scale
    return most


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The greatest difference."""
    return float(np.abs(a - b).max(initial=0.0))
