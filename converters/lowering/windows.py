"""Pooling, means, sums and maxima over windows of an image, or over whole dimensions of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lava_meta.converters.chain.pooling import Average, pooling_window
from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Apply, Known, Leaf, Slack, mapped, name_of
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF
from lava_meta.converters.lowering.tables import TableLowering
from lava_meta.converters.lowering.values import (
    Cannot,
    Mixes,
    Total,
    Value,
    compressed,
    dyadic,
    even,
    own_leaf,
    unseen,
)
from lava_meta.converters.lowering.written_orders import norm_of_order, places_of_greatest
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    MOST,
    Curve,
    Pool,
    Shape,
)


class WindowLowering(TableLowering):
    """Windows, and dimensions as one window."""

    def _do_max_pool2d_with_indices(self, step: Step) -> list[Any]:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, step.args[1:], strict=False)) | step.kwargs
        value = self._maps(self._value(step.args[0]))
        window = pooling_window(
            given["kernel_size"],
            given.get("stride") or given["kernel_size"],
            given.get("padding", 0),
            given.get("dilation", 1),
            ceil_mode=bool(given.get("ceil_mode", False)),
            size=_extents(value.shape),
        )
        places = step.outputs[1]
        used = places is not None and places.number in self.needed
        chosen = self._places_of_greatest(step) if used else None
        return [self._pooled(step, value, lambda ref: self._greatest(value, window, ref)), chosen]

    def _places_of_greatest(self, step: Step) -> Value:
        """Where in its map the greatest of each window is; compared by the values that are there, as they may tie."""
        ref = step.outputs[1]
        assert ref is not None
        found: Value = self._written(replace(step, outputs=(ref,)), places_of_greatest)[0]
        maps, made = (Ref(-1, (*own.shape[:-2], math.prod(own.shape[-2:]))) for own in (step.args[0], ref))
        row = self._shaped(self._value(step.args[0]), maps)
        self._check_places(self._shaped(found, made), ref, row, len(row.shape))
        return found

    def _maps(self, value: Value) -> Value:
        """A value as channels of maps: of rows without any, one; of a series of maps, those of all side by side."""
        extents = value.shape[-2:]
        return self._reshaped(value, (math.prod(value.shape) // math.prod(extents), *extents))

    def _pooled(self, step: Step, value: Value, pool: Callable[[Ref], Value]) -> Value:
        """What a pooling of maps gives, in the shape that the model gives it."""
        ref = step.outputs[0]
        assert ref is not None
        if value.shape == self._value(step.args[0]).shape:
            return pool(ref)
        return self._shaped(pool(unseen(ref)), ref)

    def _do_adaptive_max_pool2d(self, step: Step) -> list[Any]:
        value = self._maps(self._value(step.args[0]))
        window = self._adaptive(step, value)
        return [self._pooled(step, value, lambda ref: self._greatest(value, window, ref)), None]

    def _adaptive(self, step: Step, value: Value) -> Window:
        rows, columns = _extents(value.shape)
        wanted = step.args[1]
        if rows % wanted[0] or columns % wanted[1]:
            raise Cannot(
                f"makes {tuple(wanted)} of {(rows, columns)}, so that its windows differ; use extents that divide"
            )
        kernel = rows // int(wanted[0]), columns // int(wanted[1])
        return Window(kernel, kernel)

    def _greatest(self, value: Value, window: Window, ref: Ref) -> Value:
        """Max pooling: of the integers, where the function behind them rises or falls; else of its values."""
        direction = self._direction(value)
        if direction is None:
            value = Value(self.exact(value), value.shape, value.ref)
            leaf = own_leaf(value)
            if (leaf.gain < 0).any() or not even(leaf):
                value = Value(self.streamed(value), value.shape, value.ref)
            direction = np.ones((1, 1, 1))
        leaf = own_leaf(value)
        source, turns = leaf.source, bool((direction < 0).any())
        if turns:  # the least integer gives the greatest value: turned round, it is the greatest
            zero = np.zeros_like(direction)
            turned = Curve((source.node,), zero[None].astype(np.int64), direction[None].copy(), zero[None])
            source = self._add(ref, turned, (), step=source.step)
        node = Pool((source.node,), window, "max")
        source = self._add(ref, node, (), step=source.step)
        pooled = (
            Leaf(source, leaf.gain * direction, leaf.constant, leaf.slack) if turns else replace(leaf, source=source)
        )
        return Value(mapped(value.expr, pooled, lambda part: part), source.shape, ref)

    def _direction(self, value: Value) -> NDArray[Any] | None:
        """Where a function of each channel rises (1) or falls (-1), (1 or channels, 1, 1); None if it does neither."""
        function = Function(value.expr)
        if value.move is not None or len(value.shape) != 3 or function.shared[1:] != (1, 1):
            return None
        return function.direction()

    def _do_avg_pool2d(self, step: Step) -> Value:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        given = dict(zip(names, step.args[1:], strict=False)) | step.kwargs
        value = self._maps(self._value(step.args[0]))
        extents = _extents(value.shape)
        window = pooling_window(
            given["kernel_size"],
            given.get("stride") or given["kernel_size"],
            given.get("padding", 0),
            1,
            ceil_mode=bool(given.get("ceil_mode", False)),
            size=extents,
        )
        average = Average.of(
            window,
            extents,
            count_include_pad=bool(given.get("count_include_pad", True)),
            divisor_override=given.get("divisor_override"),
        )
        divisor = np.asarray(average.divisor, np.float64)
        return self._pooled(step, value, lambda ref: self._summed_window(value, average.window, divisor, ref))

    def _do__adaptive_avg_pool2d(self, step: Step) -> Value:
        value = self._maps(self._value(step.args[0]))
        window = self._adaptive(step, value)
        divisor = np.asarray(float(math.prod(window.kernel)))
        return self._pooled(step, value, lambda ref: self._summed_window(value, window, divisor, ref))

    def _summed_window(self, value: Value, window: Window, divisor: NDArray[Any], ref: Ref) -> Value:
        leaf = self.exact(value)
        taps = math.prod(window.kernel)
        if not even(leaf) or leaf.source.largest * taps > MOST:
            leaf = self._shortened(self.streamed(value), MOST.bit_length() - 1 - taps.bit_length(), ref)
        node = Pool((leaf.source.node,), window, "sum")
        source = self._add(ref, node, ())
        inside = window.views(np.ones((1, 1, *leaf.source.shape[1:]))).sum(axis=(4, 5))[0]
        divisor = divisor.reshape((1, 1, 1)) if divisor.ndim == 0 else divisor
        gain = leaf.gain / divisor
        constant = (
            compressed(np.broadcast_to(leaf.constant * inside / divisor, source.shape))
            if leaf.constant.any()
            else np.zeros((1, 1, 1))
        )
        least = float(np.abs(divisor).min())
        steepest, most = float(np.abs(leaf.gain).max()), float(np.abs(leaf.constant).max())
        exact = (
            leaf.slack.proven == 0
            and not leaf.constant.any()
            and dyadic(leaf.gain.reshape(-1))
            and dyadic(1 / divisor.reshape(-1))
        )

        def slack(known: Known) -> float:
            rounding = (taps + 4) * UNIT_ROUNDOFF * (steepest * known.largest(leaf.source) + most)
            return 0.0 if exact else taps * (leaf.slack(known) + rounding) / least

        return Value(Leaf(source, gain, constant, Slack(slack)), source.shape, ref)

    def _do_mean(self, step: Step) -> Value:
        return self._reduced(step, self._value(step.args[0]), "mean")

    def _do_sum(self, step: Step) -> Value:
        return self._reduced(step, self._value(step.args[0]), "sum")

    def _do_amax(self, step: Step) -> Value:
        """Of a node's integers if they are used elsewhere too: so `x == x.max()` is decided by equal integers."""
        x = step.args[0]
        uses = sum(ref == x for other in self.steps for ref in {*other.refs})
        value = self._value(x)
        holds = uses > 1 and self._finite(value) is value
        return self._reduced(step, self._held(value) if holds else value, "max")

    def _do_amin(self, step: Step) -> Value:
        turned = self._reduced(step, self._function(torch.neg, self._value(step.args[0])), "max")
        return self._function(torch.neg, turned)

    def _do_max(self, step: Step) -> list[Any]:
        return self._with_place(step, self._do_amax, -1.0)

    def _do_min(self, step: Step) -> list[Any]:
        return self._with_place(step, self._do_amin, 1.0)

    def _with_place(self, step: Step, end: Callable[[Step], Value], sign: float) -> list[Any]:
        """A greatest or least value, and its place, those of the two that are needed."""
        if len(step.outputs) == 1:  # of all values
            if self.images > 1:
                raise Cannot(
                    "takes the greatest or least value of all images together; name the dimensions, without the first"
                )
            return [end(replace(step, args=(step.args[0], [*range(len(step.args[0].shape))])))]
        value, place = (ref is not None and ref.number in self.needed for ref in step.outputs)
        chosen = replace(step, outputs=step.outputs[1:])
        first = (self._do_argmax if sign < 0 else self._do_argmin)(chosen) if place else None
        return [end(step) if value else None, first]

    def _do_linalg_vector_norm(self, step: Step) -> Value:
        order = float(step.args[1]) if len(step.args) > 1 else 2.0
        if order not in (1.0, 2.0):
            found: Value = self._written(step, norm_of_order)[0]
            return found
        value = self._value(step.args[0])
        dims = step.args[2] if len(step.args) > 2 else step.kwargs.get("dim")
        keep = step.args[3] if len(step.args) > 3 else step.kwargs.get("keepdim", False)
        own = replace(step, args=(step.args[0], dims, keep), kwargs={})
        if order == 1:
            return self._reduced(own, self._function(torch.abs, value), "sum")
        squares = self._function(torch.square, value)
        return self._function(lambda x: torch.sqrt(x.clamp_min(0)), self._reduced(own, squares, "sum"))

    _do_norm = _do_linalg_vector_norm

    def _do_var(self, step: Step) -> Value:
        dims = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
        own = replace(step, args=(step.args[0], dims, True), kwargs={})
        value = self._value(step.args[0])
        centred = value if self._has_no_mean(step.args[0], dims) else self._centred(own, value)
        keep = bool(step.kwargs.get("keepdim", False))
        squares = self._function(torch.square, centred)
        variance = self._reduced(replace(own, args=(step.args[0], dims, keep)), squares, "mean")
        size = math.prod(value.shape) // math.prod(variance.shape)
        correction = step.kwargs.get("correction", 1)
        correction = 1 if correction is None else correction
        return self._function(torch.mul, variance, size / max(1e-300, size - float(correction)))

    def _do_std(self, step: Step) -> Value:
        return self._function(lambda x: torch.sqrt(x.clamp_min(0)), self._do_var(step))

    def _squared(self, value: Value) -> Value:
        """A function of integers where these are few; else a product of a stream with itself."""
        if not Function(value.expr).every:
            return self._product(value, value, unseen(value.ref))
        return self._function(torch.square, value)

    def _terms(self, value: Value) -> Value:
        """What is to be summed: squares as `_squared` has them."""
        expr = value.expr
        if not isinstance(expr, Apply) or not _squares(name_of(expr.op), expr.args):
            return value
        return self._squared(Value(expr.args[0], value.shape, unseen(value.ref), value.move))

    def _has_no_mean(self, ref: Ref, dims: Any) -> bool:
        """Whether a value of the run is another without its mean over these dimensions, as `x - x.mean(dims, True)`."""
        taken = self.made_by.get(ref.number)
        if taken is None or taken[0].name != "sub" or not all(isinstance(part, Ref) for part in taken[0].args[:2]):
            return False
        whole, mean = taken[0].args[:2]
        made = self.made_by.get(mean.number)
        if made is None or made[0].name != "mean" or made[0].args[0] != whole or taken[0].kwargs:
            return False
        given, rank = made[0].args[1:], len(ref.shape)

        def places(dims: Any) -> set[int]:
            return {int(dim) % rank for dim in ([dims] if isinstance(dims, int) else dims)}

        return bool(dims) and len(given) == 2 and bool(given[0]) and bool(given[1]) and places(given[0]) == places(dims)

    def _centred(self, step: Step, value: Value) -> Value:
        """A value without its mean over the dimensions of a step, which are kept."""
        mean = self._reduced(step, value, "mean")
        return self._sum([value, self._function(torch.neg, mean)], unseen(value.ref))

    def _reduced(self, step: Step, value: Value, how: str) -> Value:
        """Means, sums and maxima over any extents of an image: these are moved last, and taken as one window."""
        argument = step.args[0]
        dims = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
        dims = [dims] if isinstance(dims, int) else dims
        keep = bool(step.args[2] if len(step.args) > 2 else step.kwargs.get("keepdim", False))
        extents, rank = argument.shape, len(argument.shape)
        if not dims:
            raise Cannot("takes the mean or sum of all images together; name the dimensions, without the first")
        if extents[0] % self.images:
            raise Mixes("takes the mean or sum of images that do not lie along the first dimension")
        axes = sorted({int(dim) % rank for dim in dims})
        if axes[0] == 0 and self.images > 1:
            raise Cannot("takes the mean or sum over the images; name the dimensions, without the first")
        if extents[0] != self.images or axes[0] == 0:  # rows of an image, one image behind the other
            extents, rank = (self.images, extents[0] // self.images, *extents[1:]), rank + 1
            axes = [axis + 1 for axis in axes]
        kept = [axis for axis in range(1, rank) if axis not in axes]
        size = math.prod(extents[axis] for axis in axes)
        rows = math.prod(extents[axis] for axis in kept)
        flat = self._numbers(extents).permute(0, *kept, *axes).reshape(self.images, rows, 1, size)
        window = Window((1, size))
        places, terms = flat[0].long().numpy().reshape(rows, size) - 1, size if how == "mean" else 1
        taken = self._finite(value, places) if how == "max" else self._terms(value)
        moved = self._placed(taken, flat, unseen(value.ref))
        ref = step.outputs[0]
        assert ref is not None
        if how == "max":
            total = self._greatest(moved, window, ref)
        else:
            total = self._summed_window(moved, window, np.asarray(float(size if how == "mean" else 1)), ref)
        self._remember(total, value, places, terms)
        least = None if how == "max" else self._least_with_zero(value, places, self.exact(moved))
        if least is not None:
            total = self._function(torch.clamp_min, total, least / terms)
        shape = [1 if axis in axes else extents[axis] for axis in range(1, rank) if keep or axis not in axes]
        if tuple(shape) == ref.shape and shape[0] == 1:  # of one image, whose own axis is another than the first
            shape = shape[1:]
        own = (self.images, *shape)
        return self._placed(total, self._numbers(own), ref if ref.shape == own else Ref(-1, own))

    def _remember(self, total: Value, value: Value, rows: NDArray[np.int64], share: float) -> None:
        """Of what a sum or maximum was taken. rows: (sums, terms), the places of `value` that each of them takes."""
        places = rows if value.move is None else value.move.reshape(-1)[rows]
        sums = np.full(math.prod(own_leaf(value).source.shape), -1)
        sums[places[places >= 0]] = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)[places >= 0]
        expr = value.expr
        squared = isinstance(expr, Apply) and _squares(name_of(expr.op), expr.args)
        sizes = expr.args[0] if isinstance(expr, Apply) and (squared or name_of(expr.op) == "abs") else None
        self._totals[own_leaf(total).source.node] = Total(expr, sizes, sums, share, 0.5 if squared else 1.0)


def _squares(name: str, args: Sequence[Any]) -> bool:
    """Whether an operation squares what it takes."""
    if name == "mul":
        return args[0] is args[1]
    return name == "square" or (name == "pow" and isinstance(args[0], (Leaf, Apply)) and args[1] in (2, 2.0))


def _extents(shape: Shape) -> tuple[int, int]:
    if len(shape) != 3:
        raise Cannot(f"pools values of shape {shape}; (channels, rows, columns) is expected")
    return shape[1], shape[2]
