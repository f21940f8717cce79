"""Values side by side, in order, and at places that other values are put to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lava_meta.converters.functions.expressions import (
    Leaf,
    Slack,
)
from lava_meta.converters.functions.forms import Affine, Form, Levels, one_unit
from lava_meta.converters.lowering.products import ProductLowering
from lava_meta.converters.lowering.values import (
    Cannot,
    Check,
    Order,
    Value,
    gives_bits,
    source_of,
)
from lava_meta.converters.lowering.written_orders import greatest, nth, ordered, put_at, scattered
from lava_meta.converters.recording.steps import Ref, Step, put_part
from lava_meta.graph.nodes import (
    Concat,
)

_MANY = 2**16  # integers of one unit, among which equal ones are rare


class OrderLowering(ProductLowering):
    """Joins that choose places, not numbers."""

    def _do_cat(self, step: Step) -> Value:
        axis = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim", 0)
        ref = step.outputs[0]
        assert ref is not None
        return self._together(step.args[0], lambda numbers: torch.cat(numbers, axis), ref)

    def _together(self, parts: Sequence[Any], arranged: Callable[[list[Tensor]], Tensor], ref: Ref) -> Value:
        """Several values as one: as `arranged` arranges the numbers of their elements."""
        tensors = [self._given(part) for part in parts]
        tensors = [
            self._constant(part, made) if isinstance(made, Tensor) and _counts(made) else made
            for part, made in zip(parts, tensors, strict=True)
        ]
        values = [part for part in tensors if isinstance(part, Value)]
        starts = np.cumsum([0] + [math.prod(value.shape) for value in values])
        total = int(starts[-1])
        numbers, seen = [], 0
        for part, tensor in zip(parts, tensors, strict=True):
            if isinstance(tensor, Value):
                each = self._numbers((math.prod(tensor.shape),)) + int(starts[seen])
                numbers.append(torch.stack([each + i * total for i in range(self.images)]).reshape(part.shape))
                seen += 1
            else:
                numbers.append(torch.zeros(tuple(part.shape), dtype=torch.float64))
        forms = [self.form(value) for value in values]
        units = [one_unit(form) for form in forms]
        leveled = all(unit is not None and unit == units[0] for unit in units)
        leaves = [self.exact(value) if leveled else self.streamed(value) for value in values]
        leaves = leaves if leveled else self._aligned(leaves, ref)
        # Maps of one size stay maps: one behind the other they have the order of their flat elements.
        alike = len({leaf.source.shape[1:] for leaf in leaves}) == 1
        joined = [leaf.source if alike else self._flat(leaf, ref) for leaf in leaves]
        source = joined[0]
        if len(joined) > 1:
            node = Concat(tuple(part.node for part in joined))
            step = 2 if all(part.step == 2 for part in joined) else 1
            source = self._add(ref, node, (), step=step)
        ones = (1,) * len(source.shape)
        gain = np.full(ones, float(leaves[0].gain.reshape(-1)[0]))
        leaf = Leaf(source, gain, np.zeros(ones), Slack(lambda known: max(leaf.slack(known) for leaf in leaves)))
        return self._placed(Value(leaf, source.shape, ref), arranged(numbers), ref)

    def _constant(self, part: Any, constant: Tensor) -> Value:
        """A constant as a value, which does not depend on the first pixel."""
        first = next(iter(self.values.values()))
        assert isinstance(first, Value)
        made = constant.nan_to_num(0.0, 0.0, 0.0).to(torch.float64)
        made = made.reshape(part.shape) if made.numel() == math.prod(part.shape) else made.expand(part.shape)
        rows = made.reshape(self.images, -1) if made.numel() % self.images == 0 else None
        if rows is None or not bool((rows == rows[0]).all()):
            raise Cannot("joins a value with another constant for each image of the batch")
        size = math.prod(first.shape)
        numbers = torch.arange(self.images).reshape(self.images, *(1,) * (made.ndim - 1)) * size + 1
        ref = Ref(-1, tuple(made.shape))
        if made.shape[0] != self.images:
            numbers, made = numbers.reshape(self.images, 1), made.reshape(self.images, -1)
            ref = Ref(-1, tuple(made.shape))
        pixel = self._settled(self._placed(first, numbers.expand(made.shape).to(torch.float64), ref))
        return self._applied(lambda x, c: 0 * x + c, ((pixel, made[0]), {}), pixel, ref)

    def _do_topk(self, step: Step) -> list[Any]:
        if len(step.args) > 4 and not step.args[4] and step.args[1] > 1:
            raise Cannot("takes the greatest values in an order that sorted=False leaves open: use sorted=True")
        self._check_order(step)
        return self._in_order(step, greatest, step.args[2] if len(step.args) > 2 else -1)

    def _do_kthvalue(self, step: Step) -> list[Any]:
        self._check_order(step)
        return self._written(step, nth)

    def _do_sort(self, step: Step) -> list[Any]:
        if not step.kwargs.get("stable"):
            self._check_order(step)
        dim = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim", -1)
        return self._in_order(step, ordered, dim)

    def _in_order(self, step: Step, equation: Callable[..., Any], dim: int) -> list[Any]:
        """Values and their places, which the self-check compares beside what was put in order."""
        found, ref = self._written(step, equation), step.outputs[1]
        if found[1] is not None and ref is not None:
            self._check_places(found[1], ref, self._value(step.args[0]), dim % len(step.args[0].shape))
        return found

    def _check_places(self, places: Value, ref: Ref, row: Value, dim: int) -> None:
        """Let the self-check compare places, an output of the run, by the values that are there."""
        step, output = self.made_by.get(ref.number, (None, 0))
        if step is not None and step.number >= 0 and isinstance(places.expr, Leaf):
            place: dict[str, Any] = {"move": places.move, "order": Order(row, dim)}
            function = places.expr
            self.checks.append(
                Check(step.number, output, function, places.shape, levels=True, function=function, **place)
            )

    def _check_order(self, step: Step) -> None:
        """Places of values that are often equal are those of which PyTorch promises no order."""
        places, value = step.outputs[1], self._value(step.args[0])
        few = source_of(value).largest < _MANY and _are_alike(self.form(value))
        if few and places is not None and places.number in self.needed:
            raise Cannot(
                "takes the places of values that may be equal, in an order that PyTorch leaves open: use "
                "sort(stable=True), or compare with a value, as in x >= x.topk(k).values[..., -1:]"
            )

    def _do_scatter(self, step: Step) -> Any:
        x, dim, index, source = step.args[:4]
        if step.kwargs.get("reduce") is not None:
            raise Cannot("scatters with a reduction: use torch.scatter_add, or scatter_reduce")
        if isinstance(index, Ref):
            return self._written(step, scattered)[0]
        if not isinstance(source, (Ref, Tensor)):
            source = torch.full(tuple(index.shape), float(source), dtype=torch.float64)
        return self._put(step, x, source, lambda own, new: own.scatter(dim, index, new))

    def _do_index_copy(self, step: Step) -> Any:
        x, dim, index, source = step.args
        return self._put(step, x, source, lambda own, new: own.index_copy(dim, index, new))

    def _do_index_put(self, step: Step) -> Any:
        x, places, source = step.args[:3]
        chosen = [place for place in places if isinstance(place, Ref)]
        if len(step.args) > 3 and step.args[3]:
            raise Cannot("adds at places: use torch.scatter_add")
        if any(gives_bits(self._value(place).expr) for place in chosen):
            raise Cannot("writes into a part of a tensor: use torch.where, or torch.cat")
        if len(chosen) > 1 or (chosen and places[-1] is not chosen[0]):
            raise Cannot("writes at places that depend on the image in several dimensions: use torch.scatter")
        if chosen:
            self._check_from_zero(chosen[0])
            return self._written(step, put_at)[0]
        own = [place if place is None or place.dtype == torch.bool else place.long() for place in places]
        return self._put(step, x, source, lambda numbers, new: torch.ops.aten.index_put(numbers, own, new))

    def _check_from_zero(self, place: Ref) -> None:
        value = self._value(place)
        if gives_bits(value.expr):
            raise Cannot("takes the values that a mask chooses, of which there are more or less: use torch.where")
        leaf = self.exact(value)
        if float((leaf.gain * leaf.source.low + leaf.constant).min()) < 0:
            raise Cannot("takes or writes parts at places that depend on the image and may be below 0")

    def _put(self, step: Step, x: Any, source: Any, arranged: Callable[[Tensor, Tensor], Tensor]) -> Value:
        """A value or a constant of which parts are written."""
        ref = step.outputs[0]
        assert ref is not None
        return self._together([x, source], lambda numbers: arranged(*numbers), ref)

    def _do_put_part(self, step: Step) -> Value:
        """A memory of which a part was written: what was there, and the part, each at its places."""
        ref = step.outputs[0]
        assert ref is not None
        return self._together(step.args, lambda numbers: put_part(*numbers, **step.kwargs), ref)

    def _do_stack(self, step: Step) -> Value:
        axis = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim", 0)
        parts: list[Any] = []
        for part in step.args[0]:
            axis %= len(part.shape) + 1
            if isinstance(part, Tensor):
                parts.append(part.unsqueeze(axis))
                continue
            ref = Ref(part.number, (*part.shape[:axis], 1, *part.shape[axis:]))
            value = self._value(part)
            self.values[-1 - part.number] = self._shaped(value, ref)
            parts.append(Ref(-1 - part.number, ref.shape))
        joined = Step(step.number, step.op, (parts, axis), {}, step.outputs, step.place)
        return self._do_cat(joined)


def _are_alike(form: Form) -> bool:
    """Whether equal integers are equal values, wherever they stand."""
    numbers = (form.unit, form.unit) if isinstance(form, Levels) else ()
    numbers = (form.slope, form.offset) if isinstance(form, Affine) else numbers
    return bool(numbers) and all(len(np.unique(part)) == 1 for part in numbers)


def _counts(constant: Tensor) -> bool:
    """Whether a constant is more than zeros, or than what lay in new memory."""
    return bool((constant.double().abs() > 1e-30).any())
