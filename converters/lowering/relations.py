"""What a difference of two values of a run is by the steps that made them, whatever their bounds.

`x - max(x)` is at most 0, and 0 at one place of each row at least: intervals know neither. With it, powers of it stay
below 1, and their sums above: softmaxes, as people write them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.converters.functions.monotone import NARROW
from lava_meta.converters.recording.steps import MOVES, SAME, Ref, Step

Makers = Mapping[int, tuple[Step, int]]  # by the number of a value, the step that made it, and which output it is

_ENDS = {  # operations by which output is the greatest (1) or the least (-1) of rows
    **{("amax", 0): 1, ("max", 0): 1, ("aminmax", 1): 1, ("logsumexp", 0): 1},  # that one lies above the greatest
    **{("amin", 0): -1, ("min", 0): -1, ("aminmax", 0): -1},
}
_MOVED = MOVES - {"constant_pad_nd"}  # which writes any number around


@dataclass(frozen=True)
class Rows:
    """Of a difference to the ends of rows: for each of its elements, whose difference to the end of what it is."""

    own: NDArray[np.int64]  # the place of the element among the values that the ends were taken of
    row: NDArray[np.int64]
    size: int  # of a row: with all of one, one of the differences is 0

    def all_of_one(self, places: NDArray[np.int64]) -> bool:
        """Whether in each line of some elements' places (k, n) there are all of one row, among others maybe."""
        if not places.size or places.min() < 0:
            return False
        row, own = self.row.reshape(-1)[places], self.own.reshape(-1)[places]
        found = np.sort(np.where(row == row[:, :1], own, own[:, :1]), axis=1)
        return bool((1 + (np.diff(found, axis=1) != 0).sum(axis=1) == self.size).all())


@dataclass(frozen=True)
class Ordered:
    """A difference that is at most 0 (1), or at least 0 (-1), or that and what was added to the end of a row."""

    sign: int
    rows: Rows | None  # None if it need not be 0 anywhere
    besides: Ref | None = None


def ordered(step: Step, made_by: Makers) -> Ordered | None:
    """Of a step that takes one value from another, if one of them is the end of rows that the other is in."""
    a, b = (*step.args[:2], None, None)[:2]
    if step.name != "sub" or step.kwargs or not isinstance(a, Ref) or not isinstance(b, Ref):
        return None
    shape = torch.broadcast_shapes(a.shape, b.shape)
    for own, end, sign in ((a, b, 1), (b, a, -1)):
        ends = _ends(end, made_by)
        if ends is not None and (rows := _in_rows(own, ends, shape, made_by)) is not None:
            return Ordered(sign * ends.sign, None if ends.above else rows)
    return _below_a_sum(a, b, shape, made_by)


def _below_a_sum(own: Ref, end: Ref, shape: tuple[int, ...], made_by: Makers) -> Ordered | None:
    """Of `x - (max(x) + ...)`."""
    traced = _Traced.of(end, made_by)
    step, _ = made_by.get(traced.root.number, (None, 0))
    if step is None or step.name != "add" or step.kwargs or len(step.refs) != 2 or traced.scales:
        return None
    for part, other in (step.refs, step.refs[::-1]):
        ends = _ends(part, made_by)
        if ends is not None and ends.sign > 0:
            spread = np.broadcast_to(ends.places, traced.root.shape).reshape(-1)
            moved = _Ends(ends.sign, ends.values, ends.scales, ends.row, spread[traced.places], above=True)
            if _in_rows(own, moved, shape, made_by) is not None:
                return Ordered(1, None, other)
    return None


@dataclass(frozen=True)
class _Traced:
    """What a value was, before it was moved and multiplied with positive numbers."""

    root: Ref
    moves: list[tuple[Step, int]]
    scales: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, ref: Ref, made_by: Makers) -> _Traced:
        moves: list[tuple[Step, int]] = []
        scales: list[tuple[str, float]] = []
        while ref.number in made_by:
            step, output = made_by[ref.number]
            scale = _scale(step)
            if len(step.refs) != 1 or step.refs[0] is not step.args[0] or not (step.name in _MOVED | SAME or scale):
                break
            ref = step.args[0]
            if scale:
                scales.append((step.name, scale))
            elif step.name in MOVES:
                moves.append((step, output))
        return cls(ref, moves[::-1], tuple(scales[::-1]))

    @property
    def places(self) -> NDArray[np.int64]:
        """Of each element, its place in the root; -1 for zeros between."""
        numbers: Tensor = torch.from_numpy(_numbers(self.root.shape) + 1.0)
        for step, output in self.moves:
            found = step.op(numbers, *step.args[1:], **step.kwargs)
            numbers = (found[output] if isinstance(found, (list, tuple)) else found).contiguous()
        places: NDArray[np.int64] = numbers.long().numpy() - 1
        return places


@dataclass(frozen=True)
class _Ends:
    """A value whose elements are the ends of rows of another."""

    sign: int
    values: Ref
    scales: tuple[tuple[str, float], ...]  # with which these are multiplied
    row: NDArray[np.int64]  # of each of these values, -1 if it is in none
    places: NDArray[np.int64]  # of each element, the row that it is the end of
    above: bool  # none of the row reaches it


def _ends(ref: Ref, made_by: Makers) -> _Ends | None:
    """Whether a value is the ends of rows."""
    traced = _Traced.of(ref, made_by)
    step, output = made_by.get(traced.root.number, (None, 0))
    sign = None if step is None else _ENDS.get((step.name, output))
    if step is None or sign is None or not isinstance(step.args[0], Ref):
        return None
    rows = _rows(step, traced.root)
    inner, above = _ends(step.args[0], made_by), step.name == "logsumexp"
    if rows is None or (inner is not None and (inner.sign != sign or above or inner.above)):
        return None
    if inner is None:
        own = _Traced.of(step.args[0], made_by)
        values, scales, row = own.root, own.scales, _spread(rows, own.places, math.prod(own.root.shape))
    else:  # the ends of ends
        values, scales = inner.values, inner.scales
        row = _spread(rows, inner.places, 1 + int(inner.row.max()))
        row = None if row is None else np.where(inner.row < 0, -1, row[inner.row])
    return None if row is None else _Ends(sign, values, scales + traced.scales, row, traced.places, above)


def _in_rows(own: Ref, ends: _Ends, shape: tuple[int, ...], made_by: Makers) -> Rows | None:
    """The rows that values are in, if the ends beside each are those of its own; None else."""
    traced = _Traced.of(own, made_by)
    if traced.root != ends.values or traced.scales != ends.scales:
        return None
    mine, theirs = (np.broadcast_to(places, shape) for places in (traced.places, ends.places))
    sizes = np.bincount(ends.row[ends.row >= 0])
    if min(mine.min(), theirs.min()) < 0 or not np.array_equal(ends.row[mine], theirs) or np.ptp(sizes):
        return None
    return Rows(mine, theirs, int(sizes[0]))


def _rows(step: Step, made: Ref) -> NDArray[np.int64] | None:
    """For each value that a step takes the ends of rows of, the number of that end."""
    shape = step.args[0].shape
    dims: Any = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
    if not isinstance(dims, int | Sequence | None):  # the greater of two values
        return None
    axes = {int(dim) % len(shape) for dim in ([dims] if isinstance(dims, int) else dims or range(len(shape)))}
    kept = [1 if axis in axes else extent for axis, extent in enumerate(shape)]
    return np.broadcast_to(_numbers(made.shape).reshape(kept), shape)


def _spread(rows: NDArray[np.int64], places: NDArray[np.int64], count: int) -> NDArray[np.int64] | None:
    """The rows that `count` values are in, of those at some places; None if one of them is in several."""
    row = np.full(count, -1)
    if places.min() < 0:
        return None
    row[places] = rows
    return row if np.array_equal(row[places], rows) else None


def _scale(step: Step) -> float | None:
    """The positive number with which a step multiplies, or by which it divides."""
    if (
        step.name not in ("mul", "div")
        or step.kwargs
        or len(step.args) != 2
        or any(kind in NARROW for kind in step.types)
    ):
        return None
    number = step.args[1]
    if isinstance(number, Ref) or (isinstance(number, Tensor) and number.numel() != 1):
        return None
    return float(number) if float(number) > 0 else None


def _numbers(shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.arange(math.prod(shape)).reshape(shape)
