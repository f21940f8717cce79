"""Elementwise functions, one for each unit: computed on their integers, and what comes out says what they are.

Functions that are proven to rise or fall (`lava_meta.converters.functions.monotone`) are computed between ends and
changes alone, others on all integers where these are few, else on samples between which each change is searched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.converters.functions.expressions import Apply, Expr, Leaf, cancelled, evaluate, mapped
from lava_meta.converters.functions.forms import NEVER, Affine, Form, Levels, Pieces, evaluate_pieces
from lava_meta.converters.functions.lattices import (
    MOST_FLAT,
    MOST_LEVELS,
    Multiples,
    Steps,
    codes_of,
    distance,
    finest_of,
    multiples_of,
    rounding,
)
from lava_meta.converters.functions.monotone import EPS, Proof, prove

_FLAT = 8  # integers to each change, at least, of a function that jumps and does not rise steadily
_EVERY = 2**23  # values of a function that are all computed; of more, samples are
_CHUNK = 2**21  # values computed at a time
_SAMPLES = 1025  # of an interval, evenly; and as many again, ever closer to 0
_MOST_LINES = 4  # of which the zeros are sought
_MOST_PIECES = 48  # of lines; a function with more is followed as a curve
_KNOTS = 2**16  # of a curve over samples
_MOST_FLOATS = 512  # changes of a function that rounds to floats of 8 bits, twice where float64 rounds them
_BETWEEN = 2.0**-6  # of the distance of two levels, by which float64 moves none
_ROUNDED = 1e-11  # of a level's size: by which its values may differ
_LEFT_OUT = 1e-8  # of a function's greatest size: by which float64 may round terms that cancel
_NOT_FINITE = "gives NaN or infinity for values in its bounds: add a small number where it divides or takes logarithms"
_FOLLOWED = 2.0**-30  # how closely its lines follow it: of values above 1, relative to them


class Units:
    """Functions (units,) of integers low .. high."""

    def __init__(self, leaf: Leaf, expr: Expr) -> None:
        self.leaf, self.expr = leaf, expr
        self.low, self.high = leaf.source.low, leaf.source.high
        self.count = len(self.low)
        self.rounding = 0.0  # of terms that were left out
        self._shorten()
        self.proof: Proof | None = prove(self.expr, self.low, self.high)
        if self.proof is not None and not bool(self.proof.ends.isfinite().all()):
            raise ValueError(_NOT_FINITE)

    def _shorten(self) -> None:
        """Leave out terms that cancel, where float64 rounds them by far less than what remains."""
        shorter, gone = cancelled(self.expr)
        if not gone:
            return
        ends = np.stack([self.low, self.high])
        proofs = [prove(term, self.low, self.high) for term in gone]
        sizes = [float(proof.size.max()) if proof is not None else np.inf for proof in proofs]
        if not np.isfinite(sum(sizes)):  # of terms that are not monotone: what they reach where they are computed
            x = self.points()
            sizes = [float(np.abs(evaluated(term, self.leaf, x)).max()) for term in gone]
        if 4 * EPS * sum(sizes) <= _LEFT_OUT * float(np.abs(evaluated(shorter, self.leaf, ends)).max()):
            self.expr, self.rounding = shorter, 4 * EPS * sum(sizes)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Values, float64, of integers (k, units)."""
        return evaluated(self.expr, self.leaf, x)

    def at(self, unit: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """Of one integer each, of the units `unit`, in any order."""
        leaf = self.leaf
        own = leaf.of(leaf.source, lambda numbers, _: numbers[unit])
        places = torch.from_numpy(unit)
        expr = mapped(self.expr, own, lambda value: value if value.numel() == 1 else value[:, places])
        values: NDArray[Any] = evaluated(expr, own, x[None])[0]
        return values

    @cached_property
    def every(self) -> bool:
        """Whether its integers are few enough to compute all."""
        count = (int(self.high.max()) - int(self.low.min())) // self.leaf.source.step + 1
        return count * self.count <= _EVERY

    def direction(self) -> NDArray[Any] | None:
        """Where it rises (1) or falls (-1), (units,)."""
        if self.proof is not None:
            rises, falls = self.proof.rises, self.proof.falls
        elif self.every:
            steps = np.diff(self(self.points()), axis=0)
            rises, falls = (steps >= 0).all(axis=0), (steps <= 0).all(axis=0)
        else:
            return None
        return np.where(rises, 1.0, -1.0) if bool((rises | falls).all()) else None

    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value."""
        if self.proof is not None and bool((self.proof.rises | self.proof.falls).all()):
            values = self.proof.ends.double().numpy()
        elif self.every:
            values = self(self.points())
        else:
            return None
        return float(values.min()) - self.rounding, float(values.max()) + self.rounding

    def points(self) -> NDArray[Any]:
        """Integers (k, units), rising: all that can be reached, or samples with both ends."""
        low, high = self.low, self.high
        if self.every:
            line = np.arange(int(low.min()), int(high.max()) + 1, self.leaf.source.step)[:, None]
            return np.clip(np.broadcast_to(line, (len(line), self.count)), low, high)
        count = max(33, min(_SAMPLES, _EVERY // self.count // 2))
        share = np.linspace(0, 1, count)[:, None]
        even = low + np.rint(share * (high - low).astype(np.float64)).astype(np.int64)
        sizes = np.unique(np.rint(2.0 ** np.linspace(0, 62, 187)).astype(np.int64))
        around = [self._around(slope, offset, size, sizes) for slope, offset, size in self._straight()]
        every = np.concatenate([even, *around, low[None], high[None]])
        ordered: NDArray[Any] = np.sort(np.clip(every, low, high), axis=0)
        return ordered

    def _straight(self) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Slope, offset and size of each line, as of a norm, that is part of the functions and of no other line."""
        found, seen = [], set()

        def visit(part: Expr) -> None:
            seen.add(id(part))
            proof = prove(part, self.low, self.high) if isinstance(part, Apply) else None
            if isinstance(part, Leaf):
                found.append((part.gain, part.constant, self._before()))
            elif proof is not None and proof.error is not None:
                first, slope = self._ends(proof)
                found.append((slope, first - slope * self.low.astype(np.float64), proof.size))
            else:
                for own in part.parts:
                    if isinstance(own, (Leaf, Apply)) and id(own) not in seen:
                        visit(own)

        visit(self.expr)
        return found[:_MOST_LINES]

    def _around(
        self, slope: NDArray[Any], offset: NDArray[Any], size: NDArray[Any], sizes: NDArray[Any]
    ) -> NDArray[Any]:
        """Integers ever closer to where a line is 0: there signs change and rectifiers bend."""
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.nan_to_num(np.where(slope != 0, -offset / slope, 0.0))
        root = np.clip(np.rint(root), -(2.0**61), 2.0**61).astype(np.int64)
        # Nearer to it than this, float64's rounding hides what the function does.
        with np.errstate(divide="ignore", invalid="ignore"):
            blurred = np.nan_to_num(np.where(slope != 0, 2**12 * EPS * size / np.abs(slope), 0.0))
        far = np.maximum(sizes[:, None], blurred)
        near = np.concatenate([-far[::-1], 0 * far[:1], far])
        around: NDArray[Any] = np.clip(root + near, -(2.0**62), 2.0**62).astype(np.int64)
        return around

    def form(self, *, levels: bool = True) -> Form:
        """What they are."""
        proof = self.proof
        if proof is not None and proof.error is not None:
            return self._line(proof)
        steady = proof is not None and bool((proof.rises | proof.falls).all())
        if levels and proof is not None and steady:
            steps = self._steps(proof)
            found = None if steps is None else self._levels(steps)
            if found is not None:
                return found
        x = self.points()
        values = self(x)
        if not np.isfinite(values).all():
            raise ValueError(_NOT_FINITE)
        if levels and not steady:
            found = self._seen_levels(x, values)
            if found is not None:
                return found
        made = self._affine(x, values) or self._pieces(x, values)
        if levels and proof is not None and self.every and isinstance(made, Pieces) and not made.slope.any():
            return self._seen_levels(x, values) or made  # steps up and down
        return made

    def _line(self, proof: Proof) -> Affine:
        """A line by its operations: through both ends, and closest where its integer is nearest to 0."""
        assert proof.error is not None
        _, slope = self._ends(proof)
        middle = np.clip(0, self.low, self.high)
        return Affine(slope, self(middle[None])[0] - slope * middle, 4 * float(proof.error.max()))

    def _ends(self, proof: Proof) -> tuple[NDArray[Any], NDArray[Any]]:
        """The values of the least integers, and the slopes from these to the greatest."""
        first, last = proof.ends.double().numpy()
        with np.errstate(invalid="ignore"):  # minus infinity at both, as of places that are masked
            return first, (last - first) / np.maximum(self.high - self.low, 1).astype(np.float64)

    def _affine(self, x: NDArray[Any], values: NDArray[Any]) -> Affine | None:
        span = np.maximum(x[-1] - x[0], 1).astype(np.float64)
        slope = (values[-1] - values[0]) / span
        line = slope * (x - x[0]).astype(np.float64) + values[0]
        difference = np.abs(values - line)
        if (difference > 32 * EPS * self._size(values)).any():
            return None
        place = np.abs(x).argmin(axis=0)[None]
        middle, value = (np.take_along_axis(part, place, axis=0)[0] for part in (x, values))
        return Affine(slope, value - slope * middle.astype(np.float64), float(difference.max()))

    def _size(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the functions' values reach, before and behind what may cancel: it decides how the model rounds."""
        before = self._before()
        size: NDArray[Any] = np.abs(values).max(axis=0) + before * np.minimum(
            1.0, np.ptp(values, axis=0) / (before + 1e-300)
        )
        return size

    def _before(self) -> NDArray[Any]:
        """The greatest size of what the functions take."""
        ends = np.abs(self.leaf.values(np.stack([self.low, self.high])).numpy())
        greatest: NDArray[Any] = ends.max(axis=0)
        return greatest

    # Few levels.

    def _steps(self, proof: Proof) -> Steps | None:
        """Every change of monotone functions, by bisection; None if a unit has more than levels may have."""
        step = self.leaf.source.step
        first, last = proof.ends.double().numpy()
        unit = np.flatnonzero(first != last)
        left, right = np.zeros(len(unit), np.int64), (self.high - self.low)[unit] // step
        before, after = first[unit], last[unit]
        found: list[tuple[NDArray[Any], ...]] = []
        most = np.zeros(self.count, np.int64)  # changes of each unit that are known
        while len(unit):
            near = right - left == 1
            found.append(tuple(part[near] for part in (unit, right, before, after)))
            most += np.bincount(unit[near], minlength=self.count)
            unit, left, right, before, after = (part[~near] for part in (unit, left, right, before, after))
            if (most + np.bincount(unit, minlength=self.count)).max() > max(MOST_LEVELS, MOST_FLAT // self.count):
                return None
            middle = left + (right - left) // 2
            value = self.at(unit, self.low[unit] + step * middle)
            lower, upper = value != before, value != after
            unit = np.concatenate([unit[lower], unit[upper]])
            left, right = np.concatenate([left[lower], middle[upper]]), np.concatenate([middle[lower], right[upper]])
            before, after = np.concatenate([before[lower], value[upper]]), np.concatenate([value[lower], after[upper]])
        if not found:
            return Steps(first, unit, right, after)
        unit, right, before, after = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Steps(first, unit, self.low[unit] + step * right, after)

    def _levels(self, steps: Steps) -> Levels | None:
        """Changes as limits and codes, if the values are multiples of one number, or of one for each unit.

        Those of functions that are flat between few changes may be so from an offset, or be any values.
        """
        changes = np.bincount(steps.unit, minlength=self.count)
        flat = bool((_FLAT * changes <= (self.high - self.low) // self.leaf.source.step).all())
        if not flat and changes.max(initial=0) > MOST_LEVELS:
            return None
        multiples = multiples_of(steps, flat=flat)
        fine = multiples is None and flat
        if fine:
            multiples = finest_of(steps)
        if multiples is None:
            return None
        unit, offset = (np.broadcast_to(part, (self.count,)) for part in multiples)
        first, after = (steps.first - offset, unit), (steps.after - offset[steps.unit], unit[steps.unit])
        codes = [found for part in (first, after) if (found := codes_of(*part)) is not None]
        if len(codes) < 2:
            return None
        if len(np.unique(np.concatenate(codes))) > MOST_LEVELS and not flat:
            return None
        error = max(distance(values, own * of) for own, (values, of) in zip(codes, (first, after), strict=True))
        made = self._arranged(codes[0], steps.unit, steps.limit, codes[1], multiples, error)
        return replace(made, fine=fine)

    def _arranged(
        self,
        first: NDArray[Any],
        unit: NDArray[Any],
        limit: NDArray[Any],
        after: NDArray[Any],
        multiples: Multiples,
        error: float,
    ) -> Levels:
        """Limits that some units lack are never reached."""
        order = np.lexsort((limit, unit))
        unit, limit, after = unit[order], limit[order], after[order]
        rank = _ranks(unit)
        m = int(rank.max(initial=-1)) + 1
        last = first.copy()
        last[unit] = after  # of several, the last one stays
        limits = np.full((m, self.count), NEVER)
        codes = np.broadcast_to(last, (m + 1, self.count)).copy()
        codes[0] = first
        limits[rank, unit], codes[rank + 1, unit] = limit, after
        return Levels(limits, codes, *multiples, error + self.rounding)

    def _seen_levels(self, x: NDArray[Any], values: NDArray[Any]) -> Levels | None:
        """Levels of any functions: of all integers, or of samples between which each change is searched."""
        sizes = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
        moved = np.abs(np.diff(values, axis=0)) > rounding(sizes, np.abs(values).max(axis=0))
        if int(moved.sum(axis=0).max()) > 8 * MOST_LEVELS:
            return None
        place, unit = np.nonzero(moved)
        steps = Steps(values[0], unit, x[place + 1, unit], values[place + 1, unit])
        multiples = multiples_of(steps, flat=bool((_FLAT * moved.sum(axis=0) <= len(x)).all()))
        found = None if multiples is None else self._multiples(x, values, multiples)
        if found is not None and len(np.unique(found.codes)) <= MOST_LEVELS:
            return found
        found = self._multiples(x, values, finest_of(steps)) if self._jumps(unit, x[place, unit]) else None
        return None if found is None else replace(found, fine=True)

    def _multiples(self, x: NDArray[Any], values: NDArray[Any], multiples: Multiples) -> Levels | None:
        """Levels that are multiples of these numbers; None if some are not, or there are too many."""
        units, offsets = multiples
        codes = codes_of(values - offsets, units)
        if codes is None:
            return None
        place, unit = np.nonzero(codes[1:] != codes[:-1])
        limit, after = x[place + 1, unit], codes[place + 1, unit]
        if not self.every:
            searched = self._searched(unit, x[place, unit], limit, codes[place, unit], after, multiples)
            if searched is None:
                return None
            unit, limit, after = searched
        return self._arranged(codes[0], unit, limit, after, multiples, distance(values, codes * units + offsets))

    def _jumps(self, unit: NDArray[Any], before: NDArray[Any]) -> bool:
        """Whether functions are flat behind these samples, in front of their changes, to the bit, as floats are.

        Where curves bend, no value is that of the next integer.
        """
        if self.every or not len(unit) or np.bincount(unit).max() > _MOST_FLOATS or len(unit) > 8 * MOST_FLAT:
            return False
        same = self.at(unit, before) == self.at(unit, before + self.leaf.source.step)
        return bool(_FLAT * np.count_nonzero(~same) <= len(unit))

    def _searched(
        self, unit: Any, low: Any, high: Any, before: Any, after: Any, multiples: Multiples
    ) -> tuple[Any, Any, Any] | None:
        """Every change between two samples, to the integer: of each unit `unit`, from code `before` at low.

        None if there are more than levels have, or values between these codes, as powers of two have near 0.
        """
        found: list[tuple[Any, Any, Any]] = []
        per_unit, offset = (np.broadcast_to(part, (self.count,)) for part in multiples)

        largest = float((np.maximum(np.abs(before), np.abs(after)) * per_unit[unit]).max(initial=0.0))
        apart = np.maximum(_BETWEEN * per_unit, EPS * largest)

        def codes_at(x: NDArray[Any]) -> tuple[NDArray[Any], bool]:
            values = self.at(unit, x) - offset[unit]
            codes = np.rint(values / per_unit[unit])
            return codes.astype(np.int64), bool((np.abs(values - codes * per_unit[unit]) <= apart[unit]).all())

        most = np.zeros(self.count, np.int64)  # changes of each unit that are known
        while len(unit):
            most += np.bincount(unit, minlength=self.count)
            if most.max() > 8 * MOST_LEVELS:
                return None
            left, right = low.copy(), high.copy()
            while (right - left > 1).any():
                middle = left + (right - left) // 2
                code, whole = codes_at(middle)
                if not whole:
                    return None
                same = code == before
                inside = right - left > 1
                left, right = np.where(inside & same, middle, left), np.where(inside & ~same, middle, right)
            code, _ = codes_at(right)
            found.append((unit, right, code))
            more = code != after
            unit, low, high, before, after = unit[more], right[more], high[more], code[more], after[more]
        if not found:
            return unit, high, after
        joined = [np.concatenate(column) for column in zip(*found, strict=True)]
        return joined[0], joined[1], joined[2]

    # Lines and curves.

    def _pieces(self, x: NDArray[Any], values: NDArray[Any]) -> Pieces:
        size = self._size(values)
        runs = [list(_runs(x[:, i], values[:, i], 64 * EPS * size[i])) for i in range(self.count)]
        if self.every and float(values.min()) >= 0:
            runs = [_not_below_zero(x[:, i], values[:, i], own) for i, own in enumerate(runs)]
        if max(map(len, runs)) <= _MOST_PIECES:
            pieces = self._lines(x, values, runs, size)
            if pieces.error <= 2**12 * EPS * float(size.max()):
                return pieces
        return self._curve(x, values)

    def _lines(self, x: Any, values: Any, runs: list[list[tuple[int, int]]], size: NDArray[Any]) -> Pieces:
        """Each run of samples on one line is a piece; it begins where the one before ends to hold."""
        most, units = max(map(len, runs)), len(runs)
        start = np.full((most, units), NEVER)
        slope, intercept = np.zeros((most, units)), np.zeros((most, units))
        tasks: list[tuple[int, int, int, int]] = []
        for unit, own in enumerate(runs):
            for piece, (first, last) in enumerate(own):
                span = float(x[last, unit] - x[first, unit])
                slope[piece, unit] = (values[last, unit] - values[first, unit]) / span if span else 0.0
                start[piece, unit], intercept[piece, unit] = x[first, unit], values[first, unit]
                if piece and not self.every:
                    tasks.append((unit, piece, own[piece - 1][1], first))
            slope[len(own) :, unit], intercept[len(own) :, unit] = (
                slope[len(own) - 1, unit],
                intercept[len(own) - 1, unit],
            )
        if tasks:
            unit, piece, low, high = np.array(tasks).T
            left, right = x[low, unit], x[high, unit]
            base, line, rise = x[low, unit], values[low, unit], slope[piece - 1, unit]
            while (right - left > 1).any():
                middle = left + (right - left) // 2
                held = (
                    np.abs(line + rise * (middle - base).astype(np.float64) - self.at(unit, middle))
                    <= 128 * EPS * size[unit]
                )
                inside = right - left > 1
                left, right = np.where(inside & held, middle, left), np.where(inside & ~held, middle, right)
            # A bend is where the lines meet: float64's rounding hides it from the search.
            past, rise_after = x[high, unit], slope[piece, unit]
            step = values[high, unit] - (line + rise * (past - base).astype(np.float64))
            with np.errstate(divide="ignore", invalid="ignore"):
                bend = past - np.rint(step / (rise_after - rise))
            step -= rise_after * (past - right).astype(np.float64) - rise * (past - right).astype(np.float64)
            bent = (np.abs(step) <= 256 * EPS * size[unit]) & (bend >= x[low, unit]) & (bend < right)
            right = np.where(bent, bend, right).astype(np.int64)
            moved = (right - start[piece, unit]).astype(np.float64)
            intercept[piece, unit] += slope[piece, unit] * moved
            start[piece, unit] = right
        return self._measured(Pieces(start, slope, intercept, 0.0))

    def _curve(self, x: NDArray[Any], values: NDArray[Any]) -> Pieces:
        """Every value, or lines between many samples."""
        if self.every:
            return self._measured(Pieces(x.astype(np.int64), np.zeros(values.shape), values.copy(), 0.0))
        if self.count > 1:
            share = np.linspace(0, 1, max(65, _KNOTS // self.count))[:, None]
            knots = self.low + np.rint(share * (self.high - self.low).astype(np.float64)).astype(np.int64)
        else:
            knots = self._knots(x[:, 0])[:, None]
        at = self(knots)
        slope = np.zeros(at.shape)
        slope[:-1] = (at[1:] - at[:-1]) / np.maximum(knots[1:] - knots[:-1], 1).astype(np.float64)
        return self._measured(Pieces(knots, slope, at, 0.0), 4.0)

    def _knots(self, x: NDArray[Any]) -> NDArray[Any]:
        """Integers between which lines follow the function closely: intervals are halved where they do not."""

        def at(x: NDArray[Any]) -> NDArray[Any]:
            return self(x[:, None])[:, 0]

        knots: NDArray[Any] = np.unique(x)
        while len(knots) < _KNOTS:
            values, left, right = at(knots), knots[:-1], knots[1:]
            middle = left + (right - left) // 2
            share = (middle - left).astype(np.float64) / (right - left).astype(np.float64)
            line = values[:-1] + share * np.diff(values)
            bent = (np.abs(at(middle) - line) > _FOLLOWED * np.maximum(1.0, np.abs(line))) & (middle > left)
            if not bent.any():
                break
            knots = np.unique(np.concatenate([knots, middle[bent]]))
        return knots

    def _measured(self, pieces: Pieces, caution: float = 1.0) -> Pieces:
        """With the greatest difference to the function, at the samples and between them."""
        x = self.points()
        if not self.every:
            x = np.concatenate([x, x[:-1] + (x[1:] - x[:-1]) // 2, x[:-1] + (x[1:] - x[:-1]) // 3])
            if len(pieces.start) > _MOST_PIECES:
                ends = np.concatenate([pieces.start[1:], self.high[None]])
                x = np.concatenate([x, pieces.start + (ends - pieces.start) // 2])
        error = 0.0
        rows = max(1, _CHUNK // self.count)
        for begin in range(0, len(x), rows):
            part = x[begin : begin + rows]
            error = max(error, float(np.abs(self(part) - evaluate_pieces(pieces, part)).max()))
        return Pieces(pieces.start, pieces.slope, pieces.intercept, caution * error)


def _not_below_zero(x: Any, values: Any, runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """With a line to the next run where one would fall below 0 between two integers that a sum of signs may be.

    Nothing lies there; but a square whose bounds begin below 0 seems to have no root.
    """
    kept = runs[:1]
    for (first, last), after in pairwise(runs):
        span, beyond = float(x[last] - x[first]), float(x[after[0]] - x[last] - 1)
        if span and values[last] + (values[last] - values[first]) / span * beyond < 0:
            kept.append((last, after[0]))
        kept.append(after)
    return kept


def _runs(x: NDArray[Any], values: NDArray[Any], noise: float) -> Iterator[tuple[int, int]]:
    """First and last sample of each run on one line, as many as there are, up to one more than is allowed."""
    kept = np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))
    at, value = x[kept].astype(np.float64), values[kept]
    step, rise = np.diff(at), np.diff(value)
    if len(kept) < 3:
        yield int(kept[0]), int(kept[-1])
        return
    ratio = step[1:] / step[:-1]
    bent = np.abs(rise[1:] - rise[:-1] * ratio) > noise * (1 + ratio)
    first, count = 0, 0
    for bend in np.flatnonzero(bent) + 1:
        if bend <= first or count > _MOST_PIECES:
            continue
        # The line that led here holds at the bend; the next begins behind it, at the first sample off the line.
        yield int(kept[first]), int(kept[bend])
        first, count = int(bend) + 1, count + 1
    if first < len(kept):
        yield int(kept[first]), int(kept[-1])


def _ranks(ordered: NDArray[Any]) -> NDArray[Any]:
    """How many equal ones stand before each, in a sorted array."""
    if not len(ordered):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(starts, len(ordered)))
    ranks: NDArray[Any] = np.arange(len(ordered)) - np.repeat(starts, counts)
    return ranks


def evaluated(expr: Expr, leaf: Leaf, x: NDArray[Any]) -> NDArray[Any]:
    """Values, float64 of the shape of x, of integers (k, ...), some at a time."""
    rows = max(1, _CHUNK // max(1, math.prod(x.shape[1:])))
    parts = [evaluate(expr, leaf.values(x[start : start + rows])) for start in range(0, len(x), rows)]
    whole = parts[0] if len(parts) == 1 else torch.cat([part.expand(-1, *x.shape[1:]) for part in parts])
    values: NDArray[Any] = np.broadcast_to(whole.double().numpy(), x.shape)
    return values
