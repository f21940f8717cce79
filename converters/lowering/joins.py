"""Elementwise operations, movement, and joins of several values."""

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
    Known,
    Leaf,
    Slack,
    Source,
    alike,
    constant,
    mapped,
    name_of,
)
from lava_meta.converters.functions.forms import Affine, Form, Levels
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF, Cast, OfIntegers
from lava_meta.converters.functions.root_mean_square import Graph, Normed, normed, share
from lava_meta.converters.lowering.values import (
    NO_POWER,
    Cannot,
    Check,
    Order,
    Total,
    Value,
    ValueLowering,
    compressed,
    dyadic,
    gives_bits,
    only_signs,
    own_leaf,
    source_of,
    unit_of,
    unseen,
)
from lava_meta.converters.lowering.written_orders import greatest, nth, ordered, scattered
from lava_meta.converters.lowering.written_steps import JOINED, of_bits
from lava_meta.converters.recording.calling import is_wide
from lava_meta.converters.recording.operations import to_float64
from lava_meta.converters.recording.steps import Ref, Step
from lava_meta.graph.nodes import (
    Add,
    Concat,
    Curve,
    Multiply,
    Threshold,
)

_OF_INTEGERS = {
    *("bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__"),
    *("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__"),
}
_SHORT = 17  # binary digits behind the point, at most, of values on a grid
_MANY = 2**16  # integers of one unit, among which equal ones are rare
_FAR = 2.0**24  # times the least value, up to which a function's values have digits enough in one fixed point
_COMPARED = {"eq", "ne", "gt", "ge", "lt", "le"}
_OF_BITS: dict[str, Callable[[Tensor], Tensor]] = {  # by how many of two are 1
    **dict.fromkeys(("logical_and", "bitwise_and"), lambda ones: ones == 2),
    **dict.fromkeys(("logical_or", "bitwise_or"), lambda ones: ones > 0),
    **dict.fromkeys(("logical_xor", "bitwise_xor"), lambda ones: ones == 1),
}


class JoinLowering(ValueLowering):
    """Sums, products, choices and concatenations."""

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
            values = self._common(values)
            if len({id(source_of(value)) for value in values}) > 1:
                given = tree_map_only(float, lambda number: self._finite_fill(step, number), given)
                given = tree_map_only(Tensor, lambda part: self._finite_fill(step, part), given)
                equation = JOINED.get(step.name) or self._bit_by_bit(step, values)
                if equation is not None:
                    found: Value = self._written(step, equation)[0]
                    return found
                joined = self._joined(step.op, given, ref)
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

    def _finite_fill(self, step: Step, number: Any) -> Any:
        """Minus infinity before a softmax, as masks make it, as a number far below all others; others as they are."""
        if step.name not in ("masked_fill", "where") or not bool((torch.as_tensor(number) == -math.inf).any()):
            return number
        made = step.outputs[0]
        users = {later.name for later in self.steps if made in later.refs}  # none, of what is written out: asked before
        if not users <= {"_softmax", "_safe_softmax"}:
            raise Cannot("puts minus infinity in the place of values, which only a softmax may follow: use a number")
        least = min(self._lowest(ref) for ref in step.refs)
        filled = torch.as_tensor(number, dtype=torch.float64).clamp_min(least + NO_POWER)
        return filled if isinstance(number, Tensor) else float(filled)

    def _lowest(self, ref: Ref) -> float:
        value = self._given(ref)
        if not isinstance(value, Value):
            return 0.0
        leaf = self.streamed(value)
        return float(leaf.source.low.min()) * unit_of(leaf)

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
            ones = self._sum([self._function(lambda x: (x != 0).double(), bit) for bit in (a, b)], unseen(ref))
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
        parts = []
        for chosen, other in ((a, 0.0), (b, 1.0)):
            bit = condition if not other else self._function(torch.logical_not, condition)
            if isinstance(chosen, Value):
                bits = self._function(lambda x: x.double(), bit)
                parts.append(self._product(bits, chosen, unseen(ref)))
            else:
                given: Any = ((bit, chosen, torch.zeros((), dtype=torch.float64)), {})
                parts.append(self._applied(torch.where, given, bit, unseen(ref)))
        return self._sum(parts, ref)

    def _sum(self, values: Sequence[Value], ref: Ref) -> Value:
        leaves = self._aligned([self.streamed(value) for value in values], ref, summed=True)
        node = Add(tuple(leaf.source.node for leaf in leaves))
        source = self._add(ref, node, ())
        unit = unit_of(leaves[0])
        rounding = UNIT_ROUNDOFF * unit if any(leaf.slack.proven for leaf in leaves) else 0.0

        def slack(known: Known) -> float:
            return sum(leaf.slack(known) for leaf in leaves) + rounding * known.largest(source)

        return self._fixed(source, unit, Slack(slack), ref)

    def _fixed(self, source: Source, unit: float, slack: Slack, ref: Ref) -> Value:
        """A value in fixed point."""
        gain = np.full((1,) * len(source.shape), unit)
        made = self._made(Leaf(source, gain, 0 * gain, slack), source.shape, ref)
        made.expr = self._compared(made, own_leaf(made), levels=False)
        return made

    def _product(self, a: Any, b: Any, ref: Ref) -> Value:
        """Of two streams, as fine as its bounds allow."""
        if not (isinstance(a, Value) and isinstance(b, Value)):
            raise Cannot("multiplies a value with what is no value")
        a, b = self._away_from_zero(a, b), self._away_from_zero(b, a)
        for c, root in ((a, b), (b, a)):
            total = self._total_with(root, c)  # known before c has a node of its own
            if total is not None:
                parts = self._near_and_far(root, total)
                refs = [ref] if len(parts) == 1 else [unseen(ref)] * len(parts)
                made = [self._product_of_two(c, part, own, total) for part, own in zip(parts, refs, strict=True)]
                return made[0] if len(made) == 1 else self._sum(made, ref)
        return self._product_of_two(a, b, ref)

    def _product_of_two(self, a: Value, b: Value, ref: Ref, total: Total | None = None) -> Value:
        """Of two streams. total: what b is a function of, if a is in it."""
        whole = self._of_levels(a, b)
        if whole is not None:
            unit = unit_of(whole[0]) * unit_of(whole[1])
            source = self._add(ref, Multiply(tuple(leaf.source.node for leaf in whole), 0), ())
            return self._fixed(source, unit, constant(0.0), ref)
        leaves = [self.streamed(a), self.streamed(b)]
        units = [unit_of(leaf) for leaf in leaves]
        sizes = [leaf.source.largest * unit for leaf, unit in zip(leaves, units, strict=True)]
        shift = max(0, round(math.log2(self._finest(sizes[0] * sizes[1]) / (units[0] * units[1]))))
        node, unit = Multiply(tuple(leaf.source.node for leaf in leaves), shift), units[0] * units[1] * 2.0**shift
        norm = self._as_norm(a, b, leaves, node) or self._as_norm(b, a, leaves[::-1], node)
        if norm is None and total is not None:
            norm = share(self._graph, leaves[0], b.expr, leaves[1], total.share, total.power)

        def slack(known: Known) -> float:
            own = [leaf.slack(known) for leaf in leaves]
            reach = [known.largest(leaf.source) * each for leaf, each in zip(leaves, units, strict=True)]
            moved = reach[0] * own[1] + reach[1] * own[0] + own[0] * own[1] + unit + reach[0] * reach[1] * 2**-52
            return moved if norm is None else min(moved, norm.slack(known))

        source = self._add(ref, node, ())
        made = self._fixed(source, unit, Slack(slack), ref)
        if norm is None or source.largest * unit <= norm.most:
            return made
        # Not a function to be looked at: among integers so wide its slope is too narrow to be seen.
        most = math.ceil(norm.most / unit)
        start = np.array([-2 * most, -most, most]).reshape(3, *(1,) * len(source.shape))
        slope = np.array([0.0, 1.0, 0.0]).reshape(start.shape)
        within = Curve((source.node,), start, slope, np.clip(start, -most, most).astype(np.float64))
        return self._fixed(self._add(ref, within, ()), unit, Slack(slack), unseen(ref))

    def _away_from_zero(self, root: Value, c: Value) -> Value:
        """A function of a sum of squares or sizes in which c's is, for sums from 1 on: with a sum of 0, c is 0 too.

        What `F.normalize` divides by then, 1e-12, would leave no digits for all other sums.
        """
        if self._total_with(root, c) is None:
            return root
        leaf = own_leaf(root)
        least = float((leaf.gain + leaf.constant).reshape(-1)[0])
        expr = mapped(root.expr, Apply(torch.clamp_min, (leaf, least), {}), lambda part: part)
        return Value(expr, root.shape, unseen(root.ref), root.move)

    def _near_and_far(self, root: Value, total: Total) -> list[Value]:
        """A function of a sum or maximum as the sum of two, if it reaches too far for its digits.

        `1 / max(S, s)` holds all digits of sums from some s on, and `1 / S - 1 / max(S, s)`, which is 0 for these,
        those of sums below.
        """
        if total.power < 1:
            return [root]
        function, leaf = Function(root.expr), own_leaf(root)
        low, high = max(1, int(leaf.source.low.min())), int(leaf.source.high.max())
        ends = [float(abs(function(np.full((1,) * (1 + len(function.shared)), at)).max())) for at in (low, high)]
        if ends[0] <= ends[1] * _FAR:
            return [root]
        middle = 1 << (high.bit_length() // 2)
        least = float((leaf.gain * middle + leaf.constant).reshape(-1)[0])
        far = mapped(root.expr, Apply(torch.clamp_min, (leaf, least), {}), lambda part: part)
        near = Apply(torch.sub, (root.expr, far), {})
        return [Value(part, root.shape, unseen(root.ref), root.move) for part in (far, near)]

    def _total_with(self, root: Value, c: Value) -> Total | None:
        """The sum or maximum that one value is a function of, if the other is 0 wherever it is, element by element."""
        if not isinstance(root.expr, Apply):
            return None
        node, place = self._graph.base(own_leaf(root).source.node)
        total = self._totals.get(node)
        if total is None or own_leaf(root).gain.size > 1 or not _is_in(c, total):
            return None
        places = place if root.move is None else _taken(place, root.move)
        own = _taken(total.sums, np.arange(math.prod(c.shape)).reshape(c.shape) if c.move is None else c.move)
        return None if min(places.min(), own.min()) < 0 or (own != places).any() else total

    @property
    def _graph(self) -> Graph:
        return Graph(self.nodes, self._sources)

    def _of_levels(self, *values: Value) -> list[Leaf] | None:
        """Two values as integers times powers of two, so few that float64 rounds no product; None of others."""
        forms = [self.form(value) for value in values]
        if not all(_one_unit(form) is not None for form in forms):
            return None
        leaves = [self.exact(value) for value in values]
        exact = all(leaf.slack.proven == 0 and dyadic(leaf.gain) for leaf in leaves)
        return leaves if exact and leaves[0].source.largest * leaves[1].source.largest < 2**53 else None

    def _as_norm(self, c: Value, root: Value, leaves: Sequence[Leaf], node: Multiply) -> Normed | None:
        """What is known of a product if one of the two is of the sum of squares in which the other is."""
        if not isinstance(root.expr, Apply):
            return None
        shape = node.shape([leaf.source.shape for leaf in leaves])
        return normed(self._graph, leaves[0], root.expr, leaves[1], shape)

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
        units = [_one_unit(form) for form in forms]
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
        if any(isinstance(place, Ref) for place in places) or (len(step.args) > 3 and step.args[3]):
            raise Cannot("writes at places that depend on the image, or adds there: use torch.where, or torch.scatter")
        own = [place if place is None or place.dtype == torch.bool else place.long() for place in places]
        return self._put(step, x, source, lambda numbers, new: torch.ops.aten.index_put(numbers, own, new))

    def _put(self, step: Step, x: Any, source: Any, arranged: Callable[[Tensor, Tensor], Tensor]) -> Value:
        """A value or a constant of which parts are written."""
        ref = step.outputs[0]
        assert ref is not None
        return self._together([x, source], lambda numbers: arranged(*numbers), ref)

    def _do_put(self, step: Step) -> Value:
        """A memory of which a part was written: what was there, and the part, each at its places."""
        value, whole, written, part = step.args
        ref = step.outputs[0]
        assert ref is not None

        def arranged(numbers: list[Tensor]) -> Tensor:
            flat = torch.zeros(ref.shape, dtype=torch.float64)
            flat[whole] = numbers[0].reshape(-1)
            flat[part] = numbers[1].reshape(-1)
            return flat

        return self._together([value, written], arranged, ref)

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


def _taken(numbers: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers at places, -1 where these are none."""
    found: NDArray[np.int64] = np.where(index < 0, -1, numbers.reshape(-1)[index])
    return found


def _is_in(c: Value, total: Total) -> bool:
    """Whether a value is 0 wherever the sum of such terms is, in which it is."""
    if total.sizes is not None and (alike(c.expr, total.sizes) or alike(c.expr, total.terms)):
        return True
    held = [c.expr, *(leaf for leaf in (c.exact, c.stream) if leaf is not None)]
    bounds = Function(c.expr).bounds() if any(alike(part, total.terms) for part in held) else None
    return bounds is not None and bounds[0] >= 0


def _are_alike(form: Form) -> bool:
    """Whether equal integers are equal values, wherever they stand."""
    numbers = (form.unit, form.unit) if isinstance(form, Levels) else ()
    numbers = (form.slope, form.offset) if isinstance(form, Affine) else numbers
    return bool(numbers) and all(len(np.unique(part)) == 1 for part in numbers)


def _one_unit(form: Form) -> float | None:
    """The one number of which all values are multiples, if there is one."""
    if isinstance(form, Levels) and form.unit.size == 1 and not form.offset.any() and not form.fine:
        return float(form.unit.reshape(-1)[0])
    if isinstance(form, Affine) and form.slope.size == 1 and not form.offset.any():
        return float(form.slope.reshape(-1)[0])
    return None


def _counts(constant: Tensor) -> bool:
    """Whether a constant is more than zeros, or than what lay in new memory."""
    return bool((constant.double().abs() > 1e-30).any())
