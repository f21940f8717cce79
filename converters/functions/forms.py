"""What an elementwise function is: a line, levels, or pieces of lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max  # where a piece begins, or a limit lies, that a unit does not have


@dataclass(frozen=True)
class Affine:
    """`slope * x + offset`."""

    slope: NDArray[Any]
    offset: NDArray[Any]
    error: float = 0.0  # the greatest difference to the model's function


@dataclass(frozen=True)
class Levels:
    """`unit * codes[k] + offset`, k the number of limits that x reaches."""

    limits: NDArray[Any]  # int64 (m, *shared)
    codes: NDArray[Any]  # int64 (m + 1, *shared)
    unit: NDArray[Any]  # float64, of the rank of the shape
    offset: NDArray[Any]  # likewise
    error: float = 0.0  # the greatest difference of the model's value to its multiple
    fine: bool = False  # the values are multiples of no number but float64's own steps

    @property
    def values(self) -> NDArray[Any]:
        """What it gives, float64 (m + 1, *shared)."""
        found: NDArray[Any] = self.codes * self.unit + self.offset
        return found


@dataclass(frozen=True)
class Pieces:
    """`slope * (x - start) + intercept` of the last piece that begins at or below x."""

    start: NDArray[Any]  # int64 (pieces, *shared)
    slope: NDArray[Any]
    intercept: NDArray[Any]
    error: float  # the greatest difference to the model's function that was seen

    @property
    def offset(self) -> float:
        """The greatest size of what is added where a piece is evaluated."""
        start = np.where(self.start < NEVER, np.abs(self.start.astype(np.float64)), 0.0)
        return float((np.abs(self.slope) * start + np.abs(self.intercept)).max())

    def changes(self, low: float, high: float) -> tuple[NDArray[Any], float]:
        """By how much each unit's function changes at most from an integer to the next; and the greatest slope.

        Of integers between `low` and `high`: by a slope, or by a jump.
        """
        end = np.concatenate([self.start[1:], np.full((1, *self.start.shape[1:]), NEVER)])
        begin = np.concatenate([np.full((1, *self.start.shape[1:]), -NEVER), self.start[1:]])
        slope = np.where((begin <= high) & (end > low), np.abs(self.slope), 0.0).max(axis=0)
        ends = self.intercept[:-1] + self.slope[:-1] * np.diff(self.start, axis=0)
        jumps = (self.start[1:] > low) & (self.start[1:] <= min(high, NEVER - 1))
        steps = np.where(jumps, np.abs(self.intercept[1:] - ends), 0.0).max(axis=0, initial=0.0)
        # Where a bend lies between two integers, lines meet in a step that is none of the function.
        greatest: NDArray[Any] = slope + np.where(steps > slope + 2 * self.error, steps, 0.0)
        return greatest, float(slope.max())


Form = Affine | Levels | Pieces


def evaluate_pieces(pieces: Pieces, x: NDArray[Any]) -> NDArray[Any]:
    """float64 of integers (k, *shared)."""
    flat = x.reshape(len(x), -1)
    start, slope, intercept = (part.reshape(len(part), -1) for part in (pieces.start, pieces.slope, pieces.intercept))
    found = np.empty(flat.shape)
    for i in range(flat.shape[1]):
        place = np.maximum(np.searchsorted(start[:, i], flat[:, i], side="right") - 1, 0)
        found[:, i] = slope[place, i] * (flat[:, i] - start[place, i]).astype(np.float64) + intercept[place, i]
    return found.reshape(x.shape)


def one_unit(form: Form) -> float | None:
    """The one number of which all values are multiples, if there is one."""
    if isinstance(form, Levels) and form.unit.size == 1 and not form.offset.any() and not form.fine:
        return float(form.unit.reshape(-1)[0])
    if isinstance(form, Affine) and form.slope.size == 1 and not form.offset.any():
        return float(form.slope.reshape(-1)[0])
    return None
