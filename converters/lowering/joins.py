"""Elementwise operations of one value and of several, movement and choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import (
    Apply,
    Leaf,
    evaluate,
    name_of,
)
from lava_meta.converters.functions.monotone import Cast, OfIntegers
from lava_meta.converters.lowering.orders import OrderLowering
from lava_meta.converters.lowering.relations import ordered
from lava_meta.converters.lowering.values import (
    NO_POWER,
    Cannot,
    Value,
    compressed,
    dyadic,
    gives_bits,
    only_signs,
    own_leaf,
    source_of,
    unit_of,
    unseen,
)
from lava_meta.converters.lowering.written_steps import JOINED, of_bits
from lava_meta.converters.recording.calling import is_wide
from lava_meta.converters.recording.operations import to_float64
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.graph.nodes import (
    Threshold,
)

_OF_INTEGERS = {
    *("bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__"),
    *("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__"),
}
_SOFTMAXES = {"_softmax", "_safe_softmax"}
_SHORT = 17  # binary digits behind the point, at most, of values on a grid
_MANY = 2**16  # integers of one unit, among which equal ones are rare
_COMPARED = {"eq", "ne", "gt", "ge", "lt", "le"}
_OF_BITS: dict[str, Callable[[Tensor], Tensor]] = {  # by how many of two are 1
    **dict.fromkeys(("logical_and", "bitwise_and"), lambda ones: ones == 2),
    **dict.fromkeys(("logical_or", "bitwise_or"), lambda ones: ones > 0),
    **dict.fromkeys(("logical_xor", "bitwise_xor"), lambda ones: ones == 1),
}


class JoinLowering(OrderLowering):
    """Elementwise operations, movement and choices."""

    def _elementwise(self, step: Step) -> Any:
        given = tree_map_only(Ref, self._given, (step.args, step.kwargs))
        values: list[Value] = []
        tree_map_only(Value, values.append, given)
        ref = step.outputs[0]
        assert ref is not None
        if not values:  # of constants like ones_like
            args, kwargs = tree_map_only(Tensor, lambda value: value, given)
            return step.op(*args, **kwargs)
        if len({id(value) for value in values}) > 1:
            if step.name == "sub" and self._give_powers_alone(step):
                finite = [self._finite(value) for value in values]
                if finite != values or any(part.number in self._infinite for part in step.refs):
                    values, given, ref = finite, (finite, {}), unseen(ref)  # to the model it is minus infinity
            values = self._common(values)
            if len({id(source_of(value)) for value in values}) > 1:
                given = tree_map_only(float, lambda number: self._finite_fill(step, number), given)
                given = tree_map_only(Tensor, lambda part: self._finite_fill(step, part), given)
                ref = unseen(ref) if ref.number in self._infinite else ref
                equation = JOINED.get(step.name) or self._bit_by_bit(step, values)
                if equation is not None:
                    found: Value = self._written(step, equation)[0]
                    return found
                joined = self._within(step, self._joined(step.op, given, ref))
                return self._function(torch.relu, joined) if self._is_spread(step) else joined
            common = iter(values)
            given = tree_map_only(Value, lambda _: next(common), given)
        if step.name in ("eq", "ne") and not (gives_bits(values[0].expr) or Function(values[0].expr).every):
            x, other = given[0]
            return self._compared_to(getattr(torch, step.name), x, other, ref)
        op = OfIntegers(step.op) if step.name in _OF_INTEGERS else step.op
        if step.name == "masked_fill" and isinstance(given[0][2], Tensor):  # which takes no tensor of several extents
            op = JOINED[step.name]
        return self._applied(op, given, values[0], ref)

    def _is_spread(self, step: Step) -> bool:
        """Whether a step takes the least of values from the greatest of the same, which is never negative."""
        refs = step.args[:2]
        if step.name != "sub" or step.kwargs or not all(isinstance(ref, Ref) for ref in refs):
            return False
        (most, i), (least, k) = (self.made_by.get(ref.number, (None, 0)) for ref in refs)
        if most is None or least is None:
            return False
        both = (most.name, i, least.name, k)
        alike = most.args == least.args and most.kwargs == least.kwargs
        return alike and both in {("amax", 0, "amin", 0), ("max", 0, "min", 0), ("aminmax", 1, "aminmax", 0)}

    def _finite(self, value: Value, rows: NDArray[np.int64] | None = None) -> Value:
        """Places that are minus infinity for all images, as masks make it, at a number whose power of e is 0 too.

        rows: (k, n), of which none may be masked throughout.
        """
        leaf = own_leaf(value)
        source = leaf.source
        ends = np.stack([np.broadcast_to(end, source.shape) for end in (source.low, source.high)])
        found = evaluate(value.expr, leaf.values(ends)).expand(ends.shape)
        masked = (found == -math.inf).all(dim=0)
        if not masked.any():
            return value
        at = masked.numpy().reshape(-1)
        at = at if value.move is None else at[value.move.reshape(-1)]
        if masked.all() or (rows is not None and at[rows].all(axis=1).any()):
            raise Cannot("masks all of a row, whose shares are NaN")
        least = float(found[:, ~masked].min()) + NO_POWER
        expr = Apply(lambda v, mask: torch.where(mask, least, v), (value.expr, masked[None]), {})
        return Value(expr, value.shape, unseen(value.ref), value.move)

    def _finite_fill(self, step: Step, number: Any) -> Any:
        """Minus infinity before a softmax, as masks make it, as a number far below all others; others as they are."""
        if step.name not in ("masked_fill", "where") or not bool((torch.as_tensor(number) == -math.inf).any()):
            return number
        made = step.outputs[0]
        assert made is not None
        users = [later for later in self.steps if made in later.refs]  # none, of what is written out: asked before
        if not all(later.name in _SOFTMAXES or self._give_powers_alone(later) for later in users):
            raise Cannot("puts minus infinity in the place of values, which only a softmax may follow: use a number")
        self._infinite.add(made.number)
        least = min(low for ref in step.refs if math.isfinite(low := self._lowest(ref)))
        filled = torch.as_tensor(number, dtype=torch.float64).clamp_min(least + NO_POWER)
        return filled if isinstance(number, Tensor) else float(filled)

    def _give_powers_alone(self, step: Step) -> bool:
        """Whether a step takes the greatest of rows, or what lies below it of which only powers follow."""
        if step.name != "sub":
            return step.name in ("amax", "max")
        users = {later.name for later in self.steps if step.outputs[0] in later.refs}
        return bool(users) and users <= {"exp", "exp2"} and ordered(step, self.made_by) is not None

    def _compared_to(self, op: Any, x: Any, other: Any, ref: Ref) -> Value | Tensor:
        """Whether values equal others: whether what lies between them is 0, where samples find it."""
        value, number = (x, other) if isinstance(x, Value) else (other, x)
        if not isinstance(number, Value) and not bool(torch.as_tensor(number).isfinite().any()):  # as `isclose` asks
            return torch.full((1, *ref.shape[1:]), op is torch.ne)
        apart = self._applied(torch.sub, ((x, other), {}), value, unseen(ref))
        held = self._made(self.streamed(apart), apart.shape, unseen(ref))
        return self._applied(op, ((held, 0.0), {}), held, ref)

    def _do_floor(self, step: Step) -> Any:
        return self._rounded_quotient(step, lambda x, apart: self._function(torch.add, x, apart))

    def _do_ceil(self, step: Step) -> Any:
        return self._rounded_quotient(step, lambda x, apart: self._function(torch.sub, x, apart))

    def _do_trunc(self, step: Step) -> Any:
        def away(x: Value, apart: float) -> Value:
            size = self._function(torch.mul, self._function(torch.sign, x), apart)
            return self._applied(torch.add, ((x, size), {}), x, unseen(x.ref))

        return self._rounded_quotient(step, away)

    def _rounded_quotient(self, step: Step, past: Callable[[Value, float], Value]) -> Any:
        """Quotients of integers are whole, or apart from it: rounded from past the least distance they are exact."""
        ref, x = step.outputs[0], step.args[0]
        made = self.made_by[x.number][0] if isinstance(x, Ref) and x.number in self.made_by else None
        if made is None or made.name != "div" or made.kwargs or ref is None:
            return self._elementwise(step)
        quotient, given = self._value(x), [self._given(part) for part in made.args[:2]]
        values = [part for part in given if isinstance(part, Value)]
        grids = [self._grid(value) for value in values]
        if len(values) < 2 or None in grids or source_of(quotient) in [source_of(value) for value in values]:
            return self._elementwise(step)
        (unit, _), (divisor, most) = (grid for grid in grids if grid is not None)
        apart, leaf = 0.5 / (most * max(1.0, divisor / unit)), self.streamed(quotient)
        if leaf.slack.proven >= apart:
            return self._elementwise(step)
        return self._function(step.op, past(self._made(leaf, quotient.shape, unseen(ref)), apart))

    def _grid(self, value: Value) -> tuple[float, int] | None:
        """A power of two of which all values are multiples, and the greatest multiple; None if none is known."""
        function = Function(value.expr)
        if function.every:
            values = function.all_values()
            fits = (2.0**-k for k in range(_SHORT) if bool((values * 2.0**k == np.rint(values * 2.0**k)).all()))
            unit = next(fits, None)
            return None if unit is None else (unit, max(1, int(np.abs(values).max() / unit)))
        leaf = self.exact(value)
        exact = leaf.slack.proven == 0 and leaf.gain.size == 1 and not leaf.constant.any() and dyadic(leaf.gain)
        return (unit_of(leaf), leaf.source.largest) if exact else None

    def _do_glu(self, step: Step) -> Value:
        x, *axis = step.args
        value, ref = self._value(x), step.outputs[0]
        assert ref is not None
        halves = self._numbers(x.shape).chunk(2, axis[0] if axis else -1)
        a, b = (self._placed(value, half, unseen(ref)) for half in halves)
        return self._product(a, self._function(torch.sigmoid, b), ref)

    def _do_log_sigmoid_forward(self, step: Step) -> list[Any]:
        value, ref = self._value(step.args[0]), step.outputs[0]
        assert ref is not None
        return [self._applied(torch.nn.functional.logsigmoid, ((value,), {}), value, ref), None]

    def _do__to_copy(self, step: Step) -> Any:
        """Another type: of floats, which are all float64 here, nothing; of bits and integers, what it does."""
        given = self._given(step.args[0])
        if step.number in self.rounded and isinstance(given, Value):
            return self._to_half(step, given)
        kind = to_float64(step.kwargs.get("dtype"))
        if kind is None or (is_wide(kind) and isinstance(given, Value) and isinstance(given.expr, Leaf)):
            return given
        if isinstance(given, Tensor):
            return to_float64(given.to(kind))
        if kind.is_floating_point and not is_wide(kind):
            raise Cannot("rounds to floating point of 8 bits: write its levels out, as a table or with torch.round")
        ref = step.outputs[0]
        assert ref is not None
        return self._applied(Cast(kind), ((given,), {}), given, ref)

    def _to_half(self, step: Step, given: Value) -> Value:
        """Rounded to float16 or bfloat16, if that changes any value."""
        rounds, ref, function = Cast(step.kwargs["dtype"]), step.outputs[0], Function(given.expr)
        assert ref is not None
        if function.every:
            values = torch.tensor(function.all_values())
            if torch.equal(values, rounds(values)):
                return given
        return self._applied(rounds, ((given,), {}), given, ref)

    def _moved(self, step: Step) -> Any:
        """Reshapes and the like, of one value: done on the numbers of its elements."""
        argument = step.args[0]
        if isinstance(argument, (list, tuple)):
            raise Cannot("joins tensors in a way that is not supported; use torch.cat")
        value = self._given(argument)
        if isinstance(value, Tensor):
            wide = value.expand(argument.shape) if value.ndim == len(argument.shape) else value
            found = step.op(wide, *step.args[1:], **step.kwargs)
            return list(found) if isinstance(found, (list, tuple)) else found
        fill = 0.0
        numbers = self._numbers(argument.shape)
        args = step.args[1:]
        if step.name == "constant_pad_nd" and len(args) > 1:
            fill, args = float(args[1]), (args[0], 0.0)
        if step.name == "expand_as":
            args = (torch.empty(args[0].shape),)
        found = step.op(numbers, *args, **step.kwargs)
        if fill:
            return self._filled(value, found, fill, step)
        several = isinstance(found, (list, tuple))
        outputs = [
            self._placed(value, part, ref)
            for part, ref in zip(found if several else [found], step.outputs, strict=True)
            if ref is not None
        ]
        return outputs if several else outputs[0]

    def _filled(self, value: Value, numbers: Tensor, fill: float, step: Step) -> Value:
        """A value at other places, as `_placed`, with `fill` around it; signs stay signs if it is one of them."""
        ref = step.outputs[0]
        assert ref is not None
        before = self.exact(value)
        placed = self._placed(Value(before, value.shape, value.ref), numbers, unseen(ref))
        if placed.move is None:
            return placed  # nothing is around it
        outside = placed.move < 0
        if only_signs(before.source) and bool((before.gain == abs(fill)).all()) and not before.constant.any():
            limits = compressed(np.where(outside & (fill > 0), 0, 1))
            codes = np.stack([-np.ones_like(limits), np.ones_like(limits)])
            node = Threshold((self.exact(placed).source.node,), limits[None], codes)
            source = self._add(ref, node, placed.shape, step=2)
            gain = np.full((1,) * len(placed.shape), abs(fill))
            return self._made(Leaf(source, gain, 0 * gain, before.slack), placed.shape, ref)
        constant = torch.from_numpy(np.where(outside, fill, 0.0))[None]
        return self._applied(torch.add, ((placed, constant), {}), placed, ref)

    def _joined(self, op: Any, given: Any, ref: Ref) -> Value:
        """An elementwise operation on values of several nodes."""
        args, kwargs = given
        name = name_of(op)
        a: Any = args[0]
        b: Any = args[1] if len(args) > 1 else None
        if name in {*_COMPARED, "maximum", "minimum"}:
            a, b = self._as_number(a), self._as_number(b)
        if name in ("add", "sub") and isinstance(a, Value) and isinstance(b, Value):
            factor = float(kwargs.get("alpha", 1)) * (1 if name == "add" else -1)
            return self._sum([a, b if factor == 1 else self._function(torch.mul, b, factor)], ref)
        if name == "mul":
            return self._product(a, b, ref)
        if name == "div" and not kwargs.get("rounding_mode"):
            return self._product(a, self._function(torch.reciprocal, b), ref)
        if name in ("maximum", "minimum"):  # of two: b + relu(a - b), a - relu(a - b)
            difference = self._sum([a, self._function(torch.neg, b)], unseen(ref))
            rest = self._function(torch.relu, difference)
            if name == "maximum":
                return self._sum([b, rest], ref)
            return self._sum([a, self._function(torch.neg, rest)], ref)
        if name == "where":
            return self._chosen(args, ref)
        if name in _COMPARED:  # with 0
            difference = self._sum([a, self._function(torch.neg, b)], unseen(ref))
            return self._applied(op, ((difference, torch.zeros((), dtype=torch.float64)), {}), difference, ref)
        if name in _OF_BITS:
            if not all(name.startswith("logical") or self._is_bit(part) for part in (a, b)):
                raise Cannot(
                    "joins the bits of integers of several layers that may be wider than 16 bits: clamp them before, "
                    "or take their bits apart, as (x >> k) & 1"
                )
            ones = self._sum([self._bit(part) for part in (a, b)], unseen(ref))
            return self._applied(_OF_BITS[name], ((ones,), {}), ones, ref)
        raise Cannot(
            "joins values of several layers; sums, products, maxima, choices, comparisons and logic of bits convert"
        )

    def _bit_by_bit(self, step: Step, values: Sequence[Value]) -> Callable[..., Tensor] | None:
        """The equation of `a & b` and the like of integers; None of bits, and of what may be wider than 16 bits."""
        if not step.name.startswith("bitwise") or step.name not in _OF_BITS or all(map(self._is_bit, values)):
            return None
        grids = [self._grid(value) for value in values]
        bounds = [Function(value.expr).bounds() for value in values]
        if any(grid is None or grid[0] < 1 or grid[0] * grid[1] >= _MANY for grid in grids) or None in bounds:
            return None
        ends = np.rint(np.array(bounds, dtype=np.float64))
        return partial(of_bits, join=_OF_BITS[step.name], least=float(ends.min()), most=float(ends.max()))

    def _as_number(self, value: Any) -> Any:
        """0 and 1 for false and true, of which there are no differences."""
        bits = isinstance(value, Value) and gives_bits(value.expr)
        return self._function(lambda x: x.double(), value) if bits else value

    def _bit(self, value: Value) -> Value:
        """0 and 1 for a condition, or for what is 0 and what is not, as a node holds it.

        The self-check compares that node with the model, which goes on with it where float64's rounding decides.
        """
        if not gives_bits(value.expr):
            return self._function(lambda x: (x != 0).double(), value)
        return self._made(self.exact(value), value.shape, unseen(value.ref))

    @staticmethod
    def _is_bit(value: Any) -> bool:
        """Whether a value is 0 or 1 throughout."""
        ends = Function(value.expr).bounds()
        return gives_bits(value.expr) or (ends is not None and ends[0] >= 0 and ends[1] <= 1)

    def _do_where(self, step: Step) -> Any:
        """A choice by a constant between values of two nodes is a move."""
        condition, *chosen = (self._given(part) for part in step.args)
        values = [part for part in chosen if isinstance(part, Value)]
        if isinstance(condition, Value) or len(values) < 2:
            return self._elementwise(step)
        if len({id(source_of(value)) for value in self._common(values)}) == 1:
            return self._elementwise(step)
        ref = step.outputs[0]
        assert ref is not None
        return self._together(step.args[1:], lambda numbers: torch.where(condition, numbers[0], numbers[1]), ref)

    def _chosen(self, args: Any, ref: Ref) -> Value:
        """`c * a + (1 - c) * b` for a condition c of 0 and 1."""
        condition, a, b = args
        bit, parts = self._bit(condition), []
        for chosen, bits in ((a, bit), (b, self._function(lambda x: (x == 0).double(), bit))):
            if isinstance(chosen, Value):
                parts.append(self._product(bits, chosen, unseen(ref)))
            else:
                given: Any = ((bits, chosen), {})
                parts.append(self._applied(torch.mul, given, bits, unseen(ref)))
        return self._sum(parts, ref)
