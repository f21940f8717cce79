"""Values by their number: tables, embeddings, the interval or the nearest level in which a value lies."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Expr, Leaf, evaluate, leaf_of, mapped
from lava_meta.converters.functions.monotone import Bucketize, Lookup
from lava_meta.converters.lowering.sums import SumLowering
from lava_meta.converters.lowering.values import Cannot, Mixes, Value, compressed, unit_of, unseen
from lava_meta.converters.lowering.written_orders import added, added_at, gathered, indexed, reduced_at
from lava_meta.converters.recording.steps import Ref, Step


@dataclass(frozen=True, eq=False)
class Least:
    """An operation: which of several functions of one value gives the least; the first of equal ones."""

    functions: list[Expr]
    sign: float  # -1 for the greatest

    def __call__(self, values: Tensor) -> Tensor:
        best = self.sign * evaluate(self.functions[0], values)
        place = torch.zeros(values.shape, dtype=torch.int64)
        for number, function in enumerate(self.functions[1:], 1):
            found = self.sign * evaluate(function, values)
            less = found < best
            best, place = torch.where(less, found, best), torch.where(less, number, place)
        return place


class TableLowering(SumLowering):
    """Choices among constants by a value."""

    def _do_bucketize(self, step: Step) -> Value:
        x, bounds = step.args[:2]
        return self._numbered(step, x, bounds, right=bool(step.kwargs.get("right", False)))

    def _do_searchsorted(self, step: Step) -> Value:
        bounds, x = step.args[:2]
        return self._numbered(step, x, bounds, right=bool(step.kwargs.get("right", False)))

    def _numbered(self, step: Step, x: Any, bounds: Any, *, right: bool) -> Value:
        value, ref = self._value(x), step.outputs[0]
        if not isinstance(bounds, Tensor) or bounds.ndim != 1 or ref is None:
            raise Cannot("looks values up in bounds that depend on the images, or on the place; one row is supported")
        return self._applied(Bucketize(bounds, right), ((value,), {}), value, ref)

    def _do_index(self, step: Step) -> Any:
        """A table at numbers that are values; else a move."""
        table, places = self._given(step.args[0]), step.args[1]
        if not any(isinstance(place, Ref) for place in places):
            return self._moved(step)
        if isinstance(table, Value):
            return self._taken(step, places)
        ref = step.outputs[0]
        assert ref is not None
        if places[0] is None:
            return self._rows_beside(step, table, places, ref)
        value = self._value(places[0]) if len(places) == 1 else self._number(table, places)
        table = table.flatten(0, len(places) - 1)
        if table.ndim > 1:
            return self._rows(step, table, value)
        value = self._whole(value)
        return self._applied(Lookup(table), ((value,), {}), value, ref)

    def _rows_beside(self, step: Step, table: Tensor, places: Sequence[Any], ref: Ref) -> Value:
        """Of a table's later dimension, whose first ones are all taken."""
        before = next(axis for axis, place in enumerate(places) if place is not None)
        moved = table.permute(*range(before, table.ndim), *range(before))
        inner = Ref(-1, (*ref.shape[before:], *ref.shape[:before]))
        found = self._do_index(replace(step, args=(moved, [*places[before:]]), outputs=(inner,)))
        count = len(inner.shape)
        axes = [*range(count - before, count), *range(count - before)]
        return self._placed(found, self._numbers(inner.shape).permute(axes), ref)

    def _do_index_select(self, step: Step) -> Any:
        x, dim, index = step.args
        if not isinstance(index, Ref):
            return self._moved(step)
        return self._do_index(replace(step, args=(x, [*(None,) * (dim % len(x.shape)), index])))

    def _do_take(self, step: Step) -> Any:
        x, index = step.args
        if not isinstance(index, Ref):
            return self._moved(step)
        if not isinstance(self._given(x), Tensor):
            raise Cannot("takes values by their number among those of all images: use torch.gather")
        return self._do_index(replace(step, args=(x.reshape(-1), [index])))

    def _taken(self, step: Step, places: Sequence[Any]) -> Value:
        """Values of an image at places that are values: of all images on one axis, which are read one by one."""
        own = list(places)
        extents = step.args[0].shape
        for axis, place in enumerate(places):
            if isinstance(place, Ref):
                self._check_from_zero(place)
            elif place is not None:
                own[axis] = place.nonzero().squeeze(-1) if place.dtype == torch.bool else place % extents[axis]
        of_image = isinstance(own[0], Tensor) and own[0].shape[:1] == (self.images,)
        if of_image:
            numbers = torch.arange(self.images).reshape(-1, *(1,) * (own[0].ndim - 1))
            of_image = bool((own[0] == numbers).all())
        if not of_image and self.images > 1:
            raise Mixes("takes values from among those of all images of a batch: each must be computed alone")
        equation = functools.partial(indexed, by_image=of_image)
        found: Value = self._written(replace(step, args=(step.args[0], own)), equation)[0]
        return found

    def _do_scatter_add(self, step: Step) -> Any:
        return self._written(step, added if isinstance(step.args[2], Ref) else added_at)[0]

    def _do_scatter_reduce(self, step: Step) -> Any:
        if isinstance(step.args[2], Ref):
            raise Cannot("reduces values at places that depend on the image")
        return self._written(step, reduced_at)[0]

    _do_index_reduce = _do_scatter_reduce

    def _do_gather(self, step: Step) -> Any:
        """Values at fixed places, which is a move; or at places that are values."""
        return self._written(step, gathered)[0] if isinstance(step.args[2], Ref) else self._moved(step)

    def _equal(self, value: Value, numbers: Tensor) -> Value:
        if Function(value.expr).every:
            return self._applied(torch.eq, ((value, numbers), {}), value, unseen(value.ref))
        found = self._compared_to(torch.eq, value, numbers, unseen(value.ref))
        assert isinstance(found, Value)  # since numbers are finite
        return found

    def _whole(self, value: Value) -> Value:
        """Numbers of rows as a node's own integers."""
        if Function(value.expr).every:
            return value
        leaf = self.streamed(value)
        return self._made(self._rounded(leaf, 1 / unit_of(leaf), unseen(value.ref)), value.shape, unseen(value.ref))

    def _do_embedding(self, step: Step) -> Value:
        """A row for each number: bits of 0 and 1 by row, times the table."""
        table, value = self._given(step.args[0]), self._given(step.args[1])
        if not isinstance(table, Tensor) or not isinstance(value, Value):
            raise Cannot("takes rows of a table that depends on the images")
        return self._rows(step, table, value)

    def _number(self, table: Tensor, places: Sequence[Any]) -> Value:
        """Of an element, or a row, in a table of several extents, by its number in each of the first of them."""
        if any(place is None or (isinstance(place, Tensor) and place.dtype == torch.bool) for place in places):
            raise Cannot("takes parts of a constant at places that depend on the image, beside whole extents")
        shape = torch.broadcast_shapes(*(place.shape for place in places))
        strides = [math.prod(table.shape[axis + 1 : len(places)]) for axis in range(len(places))]
        fixed, found = torch.zeros((), dtype=torch.float64), []
        for place, stride, extent in zip(places, strides, table.shape, strict=False):
            if isinstance(place, Tensor):
                fixed = fixed + (place % extent).double() * stride
                continue
            self._check_from_zero(place)
            found.append(self._function(torch.mul, self._value(place), float(stride)))
        total = found[0] if len(found) == 1 else self._sum(found, Ref(-1, tuple(shape)))
        return self._applied(torch.add, ((total, fixed), {}), total, Ref(-1, tuple(shape)))

    def _rows(self, step: Step, table: Tensor, value: Value) -> Value:
        ref = step.outputs[0]
        assert ref is not None
        rows = torch.arange(len(table), dtype=torch.float64)
        shape = (*value.shape, len(rows))
        wide = self._broadcast(self._reshaped(value, (*value.shape, 1)), shape)
        numbers = rows.reshape(*(1,) * len(value.shape), -1)
        bits = self._function(Tensor.double, self._equal(wide, numbers))
        rows_of = self._linear(replace(step, outputs=(ref,)), bits, table.to(torch.float64).flatten(1), None)
        return rows_of if rows_of.shape == tuple(ref.shape[1:]) else self._shaped(rows_of, ref)

    def _do_argmin(self, step: Step) -> Value:
        return self._least(step, 1.0, step.outputs[0])

    def _do_argmax(self, step: Step) -> Value:
        return self._least(step, -1.0, step.outputs[0])

    def _least(self, step: Step, sign: float, ref: Ref | None) -> Value:
        """Which of a row of constants is the least beside one value, as of levels the nearest."""
        argument = step.args[0]
        dim = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
        value, message = self._value(argument), "gives the number of a class: let the model give the classes' values"
        if dim is None or ref is None or value.move is not None:
            raise Cannot(message)
        axis = int(dim) % len(argument.shape) - (len(argument.shape) - len(value.shape))
        leaf, constants = leaf_of(value.expr)
        base, index = self._base(leaf)
        index = np.moveaxis(index, axis, -1)
        count = index.shape[-1]
        rows = [np.moveaxis(np.ones(constant.shape[1:]), axis, -1).shape[:-1] for constant in constants]
        if axis < 0 or (index != index[..., :1]).any() or any(set(shape) - {1} for shape in rows):
            raise Cannot(message)
        inner = Value(base, base.source.shape, unseen(value.ref), index[..., 0])

        def function(k: int) -> Expr:
            return mapped(value.expr, base, lambda part: part.reshape(-1)[k if part.numel() == count else 0])

        functions = [function(k) for k in range(count)]
        inner.shape = index.shape[:-1]
        return self._applied(Least(functions, sign), ((inner,), {}), inner, ref)

    def _base(self, leaf: Leaf) -> tuple[Leaf, Any]:
        """The leaf before it was moved, and its places among that."""
        name, index = self._graph.base(leaf.source.node)
        source = self._sources[name]

        def before(array: Any, default: float) -> Any:
            if array.size == 1:
                return array.reshape((1,) * len(source.shape))
            whole = np.full(source.shape, default)
            whole.reshape(-1)[index] = np.broadcast_to(array, index.shape)
            return compressed(whole)

        return leaf.of(source, before), index
