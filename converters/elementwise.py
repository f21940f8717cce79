"""What a model does to each integer of a node, by the model's own operations.

Behind a node of integers x, elementwise operations (norms, activations, products with and sums of constants) make one
real number of each: `f(gain * x + constant)`, with an f for each channel or element. f is not looked up in a table of
activations. It is computed, by the operations that the model called, in float64, on the integers that x can be; on
all of them where they are few, else on samples between which each change is searched. What comes out says what f is:

    Affine    a x + b                                               part of what follows
    Levels    few values, whole multiples of one number             a `Threshold`
    Pieces    lines, or so many pieces that they follow a curve     a `Curve`, a real stream in fixed point
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from lava_meta.converters.recording import Float64
from lava_meta.graph.nodes import Shape

EPS = 2.0**-52  # the distance of 1 to the next float64
_EVERY = 2**23  # values of a function that are all computed; of more, samples are
_CHUNK = 2**21  # values computed at a time
_SAMPLES = 1025  # of an interval, evenly; and as many again, ever closer to 0
_MOST_LEVELS = 256
_MOST_PIECES = 48  # of lines; a function with more is followed as a curve
_KNOTS = 2**16  # of a curve over samples
_FOLLOWED = 2.0**-30  # how closely its lines follow it


@dataclass(frozen=True, eq=False)
class Source:
    """A node's integers."""

    node: str
    shape: Shape
    low: NDArray[Any]  # int64 of the rank of the shape, extents 1 where shared
    high: NDArray[Any]
    error: float = 0.0  # by how much they may differ from what exact arithmetic gives, in their units
    step: int = 1  # 2 where all that can be reached have one parity

    @property
    def largest(self) -> int:
        """The greatest size of an integer."""
        return max(abs(int(self.low.min())), abs(int(self.high.max())))


@dataclass(frozen=True, eq=False)
class Leaf:
    """`gain * x + constant`: what the integers of a source are to the model."""

    source: Source
    gain: NDArray[Any]  # float64 of the rank of the shape, extents 1 where shared
    constant: NDArray[Any]
    slack: float = 0.0  # by how much the model's own value may differ, in its units: float64's rounding, and `error`


@dataclass(frozen=True, eq=False)
class Apply:
    """An operation on such values and constants, float64 or bool; these have a first extent of 1 before the shape."""

    op: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Expr = Leaf | Apply


@dataclass(frozen=True)
class Affine:
    """`slope * x + offset`."""

    slope: NDArray[Any]
    offset: NDArray[Any]
    error: float = 0.0  # the greatest difference to the model's function


@dataclass(frozen=True)
class Levels:
    """`unit * codes[k]`, k the number of limits that x reaches."""

    limits: NDArray[Any]  # int64 (m, *shared)
    codes: NDArray[Any]  # int64 (m + 1, *shared)
    unit: NDArray[Any]  # float64, of the rank of the shape


@dataclass(frozen=True)
class Pieces:
    """`slope * (x - start) + intercept` of the last piece that begins at or below x."""

    start: NDArray[Any]  # int64 (pieces, *shared)
    slope: NDArray[Any]
    intercept: NDArray[Any]
    error: float  # the greatest difference to the model's function that was seen

    @property
    def steepest(self) -> float:
        """The greatest size of a slope."""
        return float(np.abs(self.slope).max())


Form = Affine | Levels | Pieces


class Function:
    """One elementwise function of a source's integers, evaluated on demand."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        self.leaf, constants = _leaf_of(expr)
        source = self.leaf.source
        arrays = [value.shape[1:] for value in constants] + [self.leaf.gain.shape, self.leaf.constant.shape]
        # Extents in which no constant differs are shared: one function serves all of them.
        self.shared: Shape = tuple(
            extent if any(shape[i] != 1 for shape in arrays) else 1 for i, extent in enumerate(source.shape)
        )
        axes = tuple(i for i, extent in enumerate(self.shared) if extent == 1)
        self.low = np.broadcast_to(source.low.min(axis=axes, keepdims=True), self.shared)
        self.high = np.broadcast_to(source.high.max(axis=axes, keepdims=True), self.shared)

    def __call__(self, x: NDArray[Any], moved: float = 0.0) -> NDArray[Any]:
        """Values, float64, of integers (k, *shared); with `moved` added to what the model has for them."""
        units = max(1, int(np.prod(self.shared)))
        rows = max(1, _CHUNK // units)
        parts = [self._values(x[start : start + rows], moved) for start in range(0, len(x), rows)]
        return np.concatenate(parts)

    def _values(self, x: NDArray[Any], moved: float) -> NDArray[Any]:
        leaf = self.leaf
        values = torch.from_numpy(np.ascontiguousarray(leaf.gain * x.astype(np.float64) + leaf.constant + moved))
        with torch.no_grad(), Float64():
            found = _compute(self.expr, values, {})
        result: NDArray[Any] = np.broadcast_to(found.double().numpy(), x.shape)
        return result

    @property
    def every(self) -> bool:
        """Whether its integers are few enough to compute all."""
        count = (int(self.high.max()) - int(self.low.min())) // self.leaf.source.step + 1
        return count * max(1, int(np.prod(self.shared))) <= _EVERY

    def points(self) -> NDArray[Any]:
        """Integers (k, *shared), rising: all that can be reached, or samples with both ends."""
        low, high = self.low, self.high
        if self.every:
            step = self.leaf.source.step
            line = np.arange(int(low.min()), int(high.max()) + 1, step).reshape(-1, *(1 for _ in self.shared))
            return np.clip(np.broadcast_to(line, (len(line), *self.shared)), low, high)
        units = max(1, int(np.prod(self.shared)))
        count = max(33, min(_SAMPLES, _EVERY // units // 2))
        share = np.linspace(0, 1, count).reshape(-1, *(1 for _ in self.shared))
        even = low + np.rint(share * (high - low).astype(np.float64)).astype(np.int64)
        sizes = np.unique(np.rint(2.0 ** np.linspace(0, 62, 187)).astype(np.int64))
        # Where the model's value is 0: there signs change and rectifiers bend.
        leaf = self.leaf
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.where(leaf.gain != 0, -leaf.constant / leaf.gain, 0.0)
        root = np.broadcast_to(np.clip(np.rint(root), -(2.0**61), 2.0**61).astype(np.int64), self.shared)
        # Nearer to it than this, float64's rounding hides what the function does.
        with np.errstate(divide="ignore"):
            blurred = np.where(leaf.gain != 0, 2**12 * EPS * self._before() / np.abs(leaf.gain), 0.0)
        far = np.maximum(sizes.reshape(-1, *(1 for _ in self.shared)), np.broadcast_to(blurred, self.shared))
        near = np.concatenate([-far[::-1], 0 * far[:1], far])
        around = np.clip(root + near, -(2.0**62), 2.0**62).astype(np.int64)
        every = np.concatenate([even, around, low[None], high[None]])
        ordered: NDArray[Any] = np.sort(np.clip(every, low, high), axis=0)
        return ordered

    def form(self, levels: bool = True) -> Form:
        """What the function is. Raises `ValueError` if it gives NaN or infinity."""
        leaf = self.leaf
        if self.expr is leaf:
            return Affine(leaf.gain, leaf.constant)
        x = self.points()
        values = self(x)
        if not np.isfinite(values).all():
            raise ValueError("gives NaN or infinity")
        if levels and _is_few(values):
            found = self._levels(x, values)
            if found is not None:
                return found
        return self._affine(x, values) or self._pieces(x, values)

    def _affine(self, x: NDArray[Any], values: NDArray[Any]) -> Affine | None:
        span = np.maximum(x[-1] - x[0], 1).astype(np.float64)
        slope = (values[-1] - values[0]) / span
        line = slope * (x - x[0]).astype(np.float64) + values[0]
        difference = np.abs(values - line)
        if (difference > 32 * EPS * self._size(values)).any():
            return None
        return Affine(slope, values[0] - slope * x[0].astype(np.float64), float(difference.max()))

    def _size(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the function's values reach, before and behind what may cancel: it decides how the model rounds."""
        before = self._before()
        size: NDArray[Any] = np.abs(values).max(axis=0) + before * np.minimum(
            1.0, np.ptp(values, axis=0) / (before + 1e-300)
        )
        return size

    def _before(self) -> NDArray[Any]:
        """The greatest size of what the function takes."""
        ends = [self.leaf.gain * end.astype(np.float64) + self.leaf.constant for end in (self.low, self.high)]
        greatest: NDArray[Any] = np.maximum(np.abs(ends[0]), np.abs(ends[1]))
        return greatest

    # Few levels.

    def _levels(self, x: NDArray[Any], values: NDArray[Any]) -> Levels | None:
        unit = _lattice(values.reshape(-1))
        units = np.full((1,) * len(self.shared), unit) if unit else None
        if units is None and self.shared and int(np.prod(self.shared)) <= 2**16:
            flat = values.reshape(len(values), -1)
            each = [_lattice(flat[:, i]) for i in range(flat.shape[1])]
            if all(each):
                units = np.array(each, np.float64).reshape(self.shared)
        if units is None:
            return None
        codes = _codes(values, units)
        if codes is None or len(np.unique(codes)) > _MOST_LEVELS:
            return None
        limits, after = self._limits(x, codes, units)
        first = codes[0].reshape(1, -1)
        shape = (-1, *self.shared)
        return Levels(limits.reshape(shape), np.concatenate([first, after]).reshape(shape), units)

    def _limits(self, x: NDArray[Any], codes: NDArray[Any], units: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where the codes change, int64 (m, units), and to what; those that some units lack are never reached."""
        flat_x, flat = x.reshape(len(x), -1), codes.reshape(len(codes), -1)
        place, unit = np.nonzero((flat[1:] != flat[:-1]).T)[::-1]
        limit, code = flat_x[place + 1, unit], flat[place + 1, unit]
        if not self.every:
            unit, limit, code = self._searched(unit, flat_x[place, unit], limit, flat[place, unit], code, units)
        order = np.lexsort((limit, unit))
        unit, limit, code = unit[order], limit[order], code[order]
        rank = _ranks(unit)
        m = int(rank.max()) + 1 if len(rank) else 0
        limits = np.full((m, flat.shape[1]), np.iinfo(np.int64).max)
        after = np.broadcast_to(flat[-1], (m, flat.shape[1])).copy()
        limits[rank, unit], after[rank, unit] = limit, code
        return limits, after

    def _searched(self, unit: Any, low: Any, high: Any, before: Any, after: Any, units: Any) -> tuple[Any, Any, Any]:
        """Every change between two samples, to the integer: of each unit `unit`, from code `before` at low."""
        found: list[tuple[Any, Any, Any]] = []
        per_unit = np.broadcast_to(units, self.shared).reshape(-1)
        while len(unit):
            left, right = low.copy(), high.copy()
            while (right - left > 1).any():
                middle = left + (right - left) // 2
                same = np.rint(self._at(unit, middle) / per_unit[unit]).astype(np.int64) == before
                inside = right - left > 1
                left, right = np.where(inside & same, middle, left), np.where(inside & ~same, middle, right)
            code = np.rint(self._at(unit, right) / per_unit[unit]).astype(np.int64)
            found.append((unit, right, code))
            more = code != after
            unit, low, high, before, after = unit[more], right[more], high[more], code[more], after[more]
        if not found:
            return unit, high, after
        joined = [np.concatenate(column) for column in zip(*found, strict=True)]
        return joined[0], joined[1], joined[2]

    def _at(self, unit: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """The function of one integer each, of the units `unit` (flat, in any order)."""
        order = np.argsort(unit, kind="stable")
        rank = np.empty(len(unit), np.int64)
        rank[order] = _ranks(unit[order])
        grid = np.broadcast_to(self.low.reshape(1, -1), (int(rank.max()) + 1, self.low.size)).copy()
        grid[rank, unit] = x
        values: NDArray[Any] = self(grid.reshape(-1, *self.shared)).reshape(grid.shape)[rank, unit]
        return values

    # Lines and curves.

    def _pieces(self, x: NDArray[Any], values: NDArray[Any]) -> Pieces:
        flat_x, flat = x.reshape(len(x), -1), values.reshape(len(values), -1)
        size = np.broadcast_to(self._size(values), self.shared).reshape(-1)
        runs = [list(_runs(flat_x[:, i], flat[:, i], 64 * EPS * size[i])) for i in range(flat.shape[1])]
        if max(map(len, runs)) <= _MOST_PIECES:
            pieces = self._lines(flat_x, flat, runs, size)
            if pieces.error <= 2**12 * EPS * float(size.max()):
                return pieces
        return self._curve(x, values)

    def _lines(self, x: Any, values: Any, runs: list[list[tuple[int, int]]], size: NDArray[Any]) -> Pieces:
        """Each run of samples on one line is a piece; it begins where the one before ends to hold."""
        most, units = max(map(len, runs)), len(runs)
        start = np.full((most, units), np.iinfo(np.int64).max)
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
                    np.abs(line + rise * (middle - base).astype(np.float64) - self._at(unit, middle))
                    <= 128 * EPS * size[unit]
                )
                inside = right - left > 1
                left, right = np.where(inside & held, middle, left), np.where(inside & ~held, middle, right)
            moved = (right - start[piece, unit]).astype(np.float64)
            intercept[piece, unit] += slope[piece, unit] * moved
            start[piece, unit] = right
        shape = (most, *self.shared)
        pieces = Pieces(start.reshape(shape), slope.reshape(shape), intercept.reshape(shape), 0.0)
        return self._measured(pieces)

    def _curve(self, x: NDArray[Any], values: NDArray[Any]) -> Pieces:
        """Every value, or lines between many samples."""
        if self.every:
            return self._measured(Pieces(x.astype(np.int64), np.zeros(values.shape), values.copy(), 0.0))
        if self.low.size > 1:
            share = np.linspace(0, 1, max(65, _KNOTS // self.low.size)).reshape(-1, *(1 for _ in self.shared))
            knots = self.low + np.rint(share * (self.high - self.low).astype(np.float64)).astype(np.int64)
        else:
            knots = self._knots(x.reshape(-1)).reshape(-1, *self.shared)
        at = self(knots)
        slope = np.zeros(at.shape)
        slope[:-1] = (at[1:] - at[:-1]) / np.maximum(knots[1:] - knots[:-1], 1).astype(np.float64)
        return self._measured(Pieces(knots, slope, at, 0.0), 4.0)

    def _knots(self, x: NDArray[Any]) -> NDArray[Any]:
        """Integers between which lines follow the function closely: intervals are halved where they do not."""

        def at(x: NDArray[Any]) -> NDArray[Any]:
            return self(x.reshape(-1, *self.shared)).reshape(-1)

        knots: NDArray[Any] = np.unique(x)
        while len(knots) < _KNOTS:
            values, left, right = at(knots), knots[:-1], knots[1:]
            middle = left + (right - left) // 2
            share = (middle - left).astype(np.float64) / (right - left).astype(np.float64)
            line = values[:-1] + share * np.diff(values)
            bent = (np.abs(at(middle) - line) > _FOLLOWED * max(1.0, float(np.abs(values).max()))) & (middle > left)
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
        rows = max(1, _CHUNK // max(1, int(np.prod(self.shared))))
        for begin in range(0, len(x), rows):
            part = x[begin : begin + rows]
            error = max(error, float(np.abs(self(part) - evaluate_pieces(pieces, part)).max()))
        return Pieces(pieces.start, pieces.slope, pieces.intercept, caution * error)


def evaluate_pieces(pieces: Pieces, x: NDArray[Any]) -> NDArray[Any]:
    """float64 of integers (k, *shared)."""
    flat = x.reshape(len(x), -1)
    start, slope, intercept = (part.reshape(len(part), -1) for part in (pieces.start, pieces.slope, pieces.intercept))
    found = np.empty(flat.shape)
    for i in range(flat.shape[1]):
        place = np.maximum(np.searchsorted(start[:, i], flat[:, i], side="right") - 1, 0)
        found[:, i] = slope[place, i] * (flat[:, i] - start[place, i]).astype(np.float64) + intercept[place, i]
    return found.reshape(x.shape)


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


def _is_few(values: NDArray[Any]) -> bool:
    scale = float(np.abs(values).max()) or 1.0
    return len(np.unique(np.round(values / scale, 10))) <= 8 * _MOST_LEVELS


def _lattice(values: NDArray[Any]) -> float | None:
    """The number of which all values are whole multiples, where these multiples are small."""
    scale = float(np.abs(values).max())
    if scale == 0:
        return 1.0
    sizes = np.unique(np.round(np.abs(values) / scale, 10))
    if len(sizes) > _MOST_LEVELS:
        return None
    least = float(sizes[sizes > 1e-9].min()) * scale
    near = values[np.abs(np.abs(values) - least) <= 1e-9 * scale]
    least = float(np.abs(near).max())
    for parts in (1, 2, 3, 4, 5, 6, 8):
        unit = least / parts
        if scale / unit > 2**15:
            return None
        whole = np.rint(values / unit)
        if (np.abs(values - whole * unit) <= 1e-11 * scale).all():
            return _tidy(unit)
    return None


def _tidy(unit: float) -> float:
    """A number that differs from a short one by rounding alone, as it was meant."""
    for factor in (1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 127.0, 255.0):
        whole = round(unit * factor)
        if whole and abs(unit * factor - whole) < 1e-13 * whole:
            return whole / factor
    return unit


def _codes(values: NDArray[Any], units: NDArray[Any]) -> NDArray[Any] | None:
    codes = np.rint(values / units)
    scale = float(np.abs(values).max())
    if (np.abs(values - codes * units) > 1e-10 * max(scale, 1e-300)).any():
        return None
    whole: NDArray[Any] = codes.astype(np.int64)
    return whole


def _ranks(ordered: NDArray[Any]) -> NDArray[Any]:
    """How many equal ones stand before each, in a sorted array."""
    if not len(ordered):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(starts, len(ordered)))
    ranks: NDArray[Any] = np.arange(len(ordered)) - np.repeat(starts, counts)
    return ranks


def _leaf_of(expr: Expr) -> tuple[Leaf, list[Tensor]]:
    leaves: list[Leaf] = []
    constants: list[Tensor] = []
    seen: set[int] = set()

    def visit(node: Any) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, Leaf):
            leaves.append(node)
        elif isinstance(node, Apply):
            for part in _parts(node):
                visit(part)
        elif isinstance(node, Tensor):
            constants.append(node)

    visit(expr)
    return leaves[0], constants


def _parts(node: Apply) -> list[Any]:
    return tree_flatten((node.args, node.kwargs), is_leaf=lambda part: isinstance(part, (Leaf, Apply)))[0]


def _compute(expr: Expr, values: Tensor, done: dict[int, Tensor]) -> Tensor:
    if isinstance(expr, Leaf):
        return values
    if id(expr) not in done:
        args, kwargs = tree_map_only((Leaf, Apply), lambda part: _compute(part, values, done), (expr.args, expr.kwargs))
        done[id(expr)] = expr.op(*args, **kwargs)
    return done[id(expr)]


def mapped(expr: Expr, leaf: Leaf, constant: Callable[[Tensor], Tensor]) -> Expr:
    """The expression with another leaf, and its constants changed."""
    done: dict[int, Any] = {}

    def change(part: Any) -> Any:
        if isinstance(part, Leaf):
            return leaf
        if isinstance(part, Tensor):
            return constant(part)
        if id(part) not in done:
            args, kwargs = tree_map_only((Leaf, Apply, Tensor), change, (part.args, part.kwargs))
            done[id(part)] = Apply(part.op, args, kwargs)
        return done[id(part)]

    changed: Expr = change(expr)
    return changed


def replaced(expr: Expr, inner: Expr, leaf: Leaf) -> Expr:
    """The expression with a leaf for a part of it."""
    done: dict[int, Any] = {id(inner): leaf}

    def change(part: Any) -> Any:
        if id(part) not in done:
            args, kwargs = tree_map_only((Leaf, Apply), change, (part.args, part.kwargs))
            done[id(part)] = Apply(part.op, args, kwargs)
        return done[id(part)]

    changed: Expr = change(expr)
    return changed


def split(expr: Expr) -> Expr | None:
    """A part of an expression behind which only single numbers are used; None if there is no such part.

    What stands behind it is one function for all units, which can be followed more closely.
    """
    found: dict[int, Apply] = {}

    def visit(node: Any) -> None:
        if isinstance(node, Apply) and id(node) not in found:
            for part in _parts(node):
                visit(part)
            found[id(node)] = node

    def stops(node: Any, at: Apply) -> bool:
        """Whether all ways from a node to the leaf pass `at`, over single numbers alone."""
        if node is at:
            return True
        if isinstance(node, Tensor):
            return node.numel() == 1
        return isinstance(node, Apply) and all(
            stops(part, at) for part in _parts(node) if isinstance(part, (Leaf, Apply, Tensor))
        )

    visit(expr)
    inner = [node for node in found.values() if node is not expr and stops(expr, node)]
    return inner[0] if inner else None
