"""What a model does to each integer of a node, by the model's own operations.

Behind a node of integers x, elementwise operations (norms, activations, products with and sums of constants) make one
real number of each: `f(gain * x + constant)`, with an f for each channel or element. f is not looked up in a table of
activations. It is computed, by the operations that the model called, in float64, on the integers that x can be: of
functions that are proven to rise or fall (`lava_meta.converters.functions.monotone`) between ends and changes alone, of
others on all integers where these are few, else on samples between which each change is searched. Units whose numbers
are equal are computed once. What comes out says what f is:

    Affine    a x + b                                               part of what follows
    Levels    few values, whole multiples of one number, from 0     a `Threshold`
              or from an offset
    Pieces    lines, or so many pieces that they follow a curve     a `Curve`, a real stream in fixed point
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lava_meta.converters.functions.expressions import Expr, Source, evaluate, leaf_of, mapped
from lava_meta.converters.functions.forms import Affine, Form, Levels, Pieces
from lava_meta.converters.functions.units import Units, evaluated
from lava_meta.graph.nodes import Shape

_FEW = 2**14  # values of a function whose slopes at all of them are looked at


class Function:
    """One elementwise function of a source's integers for each unit, evaluated on demand."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        self.leaf, constants = leaf_of(expr)
        source = self.leaf.source
        arrays = [value.shape[1:] for value in constants] + [value.shape for value in self.leaf.numbers]
        # Extents in which no constant differs are shared: one function serves all of them.
        self.shared: Shape = tuple(
            extent if any(shape[i] != 1 for shape in arrays) else 1 for i, extent in enumerate(source.shape)
        )
        axes = tuple(i for i, extent in enumerate(self.shared) if extent == 1)
        low, high = source.low.min(axis=axes, keepdims=True), source.high.max(axis=axes, keepdims=True)
        rows = [low, high, *self.leaf.numbers, *(value.numpy()[0] for value in constants)]
        self._first, self._unit = _distinct(rows, self.shared)
        self.low, self.high = self._chosen(low), self._chosen(high)  # int64 (distinct units,)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Values, float64, of integers (k, *shared)."""
        return evaluated(self.expr, self.leaf, x)

    def form(self, *, levels: bool = True) -> Form:
        """What the function is; without `levels` it is a line even if its values are few.

        Raises `ValueError` if it gives NaN or infinity.
        """
        leaf = self.leaf
        if self.expr is leaf:
            return Affine(leaf.gain, leaf.constant)
        form = self._units.form(levels=levels)
        if isinstance(form, Affine):
            return Affine(self._spread(form.slope), self._spread(form.offset), form.error)
        if isinstance(form, Levels):
            one = (1,) * len(self.shared)
            unit, offset = (
                self._spread(part) if part.size > 1 else part.reshape(one) for part in (form.unit, form.offset)
            )
            return replace(
                form, limits=self._spread(form.limits), codes=self._spread(form.codes), unit=unit, offset=offset
            )
        start, slope, intercept = (self._spread(part) for part in (form.start, form.slope, form.intercept))
        return Pieces(start, slope, intercept, form.error)

    def direction(self) -> NDArray[Any] | None:
        """Where it rises (1) or falls (-1), of the shape `shared`; None if it does neither, or that is not known."""
        found = self._units.direction()
        return None if found is None else self._spread(found)

    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value of all units, where that is known."""
        return self._units.bounds()

    def all_values(self) -> NDArray[Any]:
        """Its values for all integers; for samples of them, if they are too many."""
        return self._units(self._units.points())

    @property
    def every(self) -> bool:
        """Whether its integers are few enough to compute all."""
        return self._units.every

    @property
    def few(self) -> bool:
        """Whether its integers are so few that it may be steep at each of them, though its values are few."""
        return len(self._first) * (int(self.high.max()) - int(self.low.min()) + 1) <= _FEW

    def moved(self, by: float, most: float) -> float:
        """How much values may move where what it takes does, by so much, leaving out what moves by more than `most`."""
        units = self._units
        x = units.points()
        values = units.leaf.values(x)
        ends = [evaluate(units.expr, values + own).double() for own in (-by, by)]
        moved = np.abs(np.stack([end.expand(x.shape).numpy() for end in ends]) - units(x))
        return float(moved[moved <= most].max(initial=0.0))

    @cached_property
    def _units(self) -> Units:
        """The distinct functions, as those of a source of one axis."""
        leaf, low, high = self.leaf, self.low, self.high
        source = Source(leaf.source.node, low.shape, low, high, leaf.source.step)
        own = leaf.of(source, lambda numbers, _: self._chosen(numbers))

        def constant(value: Tensor) -> Tensor:
            if value.numel() == 1:
                return value.reshape(1, 1)
            return value.expand(1, *self.shared).reshape(-1)[self._first].reshape(1, -1)

        return Units(own, mapped(self.expr, own, constant))

    def _chosen(self, array: NDArray[Any]) -> NDArray[Any]:
        """Of the distinct units."""
        chosen: NDArray[Any] = np.broadcast_to(array, self.shared).reshape(-1)[self._first]
        return chosen

    def _spread(self, array: NDArray[Any]) -> NDArray[Any]:
        """(..., distinct units) as (..., *shared)."""
        if len(self._first) == len(self._unit) == array.shape[-1]:
            return array.reshape(*array.shape[:-1], *self.shared)
        return array[..., self._unit].reshape(*array.shape[:-1], *self.shared)


def _distinct(rows: list[NDArray[Any]], shared: Shape) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of units that differ in any of the rows: the first of each kind, and for every unit its kind."""
    count = math.prod(shared)
    wide = [np.broadcast_to(row, shared).reshape(-1) for row in rows if row.size > 1]
    wide = [(row if row.itemsize == 8 else row.astype(np.float64)).view(np.int64) for row in wide]  # masks are bool
    if not wide:
        return np.zeros(1, np.int64), np.zeros(count, np.int64)
    keys = np.random.default_rng(0).integers(0, 2**63, len(wide), dtype=np.uint64) | np.uint64(1)
    mixed = sum((row.view(np.uint64) * key for row, key in zip(wide, keys, strict=True)), np.zeros(count, np.uint64))
    _, first, unit = np.unique(mixed, return_index=True, return_inverse=True)
    if len(first) == count or any((row[first][unit] != row).any() for row in wide):
        return np.arange(count), np.arange(count)
    return first, unit.reshape(-1)
