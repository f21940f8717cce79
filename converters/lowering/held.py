"""Nodes that hold the values of a recorded run: as they are, as levels, or in fixed point."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import (
    Apply,
    Expr,
    Known,
    Leaf,
    Slack,
    Source,
    cancelled,
    is_shared,
    leaf_of,
    mapped,
    name_of,
    parts_of,
    replaced,
)
from lava_meta.converters.functions.forms import Affine, Form, Levels, Pieces
from lava_meta.converters.functions.halves import halves
from lava_meta.converters.functions.lattices import MOST_LEVELS
from lava_meta.converters.functions.monotone import UNIT_ROUNDOFF, Cast
from lava_meta.converters.lowering.relations import Rows
from lava_meta.converters.lowering.slacks import level_slack, stream_slack
from lava_meta.converters.lowering.values import (
    Cannot,
    Check,
    Mixes,
    Total,
    Value,
    compressed,
    dyadic,
    gives_bits,
    own_leaf,
    source_of,
    unit_of,
    unseen,
)
from lava_meta.converters.recording.calling import COARSE
from lava_meta.converters.recording.operations import Float64, Recording
from lava_meta.converters.recording.steps import Place, Ref, Step
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.nodes import (
    MOST,
    Add,
    Concat,
    Curve,
    Gather,
    MatMul,
    Multiply,
    Node,
    Pool,
    Shape,
    Threshold,
)

_UNSEEN = -(10**9)  # the first number of values that the run does not have
_FEW_PIECES = 48  # of a curve that are lines of the function itself
_COMPARED = (Threshold, Curve, Add, Multiply, MatMul, Concat, Gather, Pool)


class ValueLowering:
    """A network in the making: its nodes, and what the values of the run are."""

    def __init__(self, recording: Recording, first: Leaf, domain: dict[str, Any], fraction: int) -> None:
        self.steps, self.decisions, self.images = recording.steps, recording.decisions, recording.images
        self.is_idle, self.rounded = recording.is_idle, recording.rounded
        self.fraction = fraction
        self.needed: set[int] = set()  # the numbers of values that the output is made of
        self.domain = domain
        self.nodes: dict[str, Node] = {}
        self._made_before: dict[Any, str] = {}  # nodes without weights
        self.checks: list[Check] = []
        self._totals: dict[str, Total] = {}  # by node
        self._zero_in: dict[str, Rows] = {}  # by node: of differences to the ends of rows
        self._infinite: set[int] = set()  # values to the model, with numbers in the place of minus infinity
        self.values: dict[int, Value | Tensor] = {
            recording.input.number: Value(first, tuple(domain["input_shape"]), recording.input)
        }
        self.made_by = dict(recording.made_by)  # and what is written out
        self.place = Place("?", 0, "", "model")
        self.unseen_from = _UNSEEN

    def _given(self, ref: Any) -> Any:
        """What an argument is: a `Value`, or a constant."""
        if not isinstance(ref, Ref):
            return ref
        if ref.number not in self.values:
            raise Cannot("takes the places of values that an operation chooses, which are not supported of that one")
        return self.values[ref.number]

    def _value(self, argument: Any) -> Value:
        value = self._given(argument)
        if not isinstance(value, Value):
            raise Cannot("takes a constant where a value of the images is expected")
        return value

    def _settled(self, value: Value) -> Value:
        """The same value without a move: its node is moved; or that of its integers, as for `1 / S`, infinite at 0."""
        if value.move is None:
            return value
        try:
            return self._held(value)
        except ValueError:
            constants = leaf_of(value.expr)[1]
            if (value.move < 0).any() or any(part.numel() > 1 for part in constants):
                raise
            leaf = self._at_places(value, own_leaf(value))
            one = (1,) * (1 + len(value.shape))
            return Value(mapped(value.expr, leaf, lambda part: part.reshape(one)), value.shape, value.ref)

    def _held(self, value: Value) -> Value:
        """The same value as integers of a node; bits stay bits."""
        leaf = self.exact(value)
        expr = Apply(Cast(torch.bool), (leaf,), {}) if gives_bits(value.expr) else leaf
        return Value(expr, value.shape, value.ref, exact=leaf)

    def _common(self, values: list[Value]) -> list[Value]:
        """Values with one shape and one way of moving, if they can have it."""
        moves = [value.move for value in values]
        first = moves[0]
        if first is None:
            alike = all(move is None for move in moves)
        else:
            alike = all(move is not None and np.array_equal(move, first) for move in moves)
        if alike and len({value.shape for value in values}) == 1:
            return values
        return [self._settled(value) for value in values]

    def _applied(self, op: Any, given: Any, value: Value, ref: Ref) -> Value:
        """An operation on values of one source and constants."""
        shape = _image_shape(ref.shape, value.shape, self.images)
        if shape is not None and shape != value.shape:
            return self._applied_to(lambda part: self._broadcast(part, shape), op, given, ref)
        constants: list[Tensor] = []

        def constant(part: Tensor) -> Tensor:
            made = _per_image(part, ref.shape, value.shape, self.images)
            constants.append(made)
            return made

        args, kwargs = tree_map_only(Tensor, constant, given)
        if value.move is not None and any(part.numel() > 1 for part in constants):
            return self._applied_to(self._settled, op, given, ref)
        if value.move is not None:  # of numbers alone: the function comes before the move
            rank = len(source_of(value).shape)
            args, kwargs = tree_map_only(Tensor, lambda part: part.reshape((1,) * (rank + 1)), (args, kwargs))
        inner_args, inner_kwargs = tree_map_only(Value, lambda part: part.expr, (args, kwargs))
        expr = Apply(op, tuple(inner_args), inner_kwargs)
        if value.move is not None and (value.move < 0).any() and _at_zero(op, args, kwargs) != 0:
            return self._applied_to(self._settled, op, given, ref)
        return Value(expr, value.shape, ref, value.move)

    def _applied_to(self, change: Callable[[Value], Value], op: Any, given: Any, ref: Ref) -> Value:
        """An operation on changed values, which may have nodes of their own then."""
        changed = tree_map_only(Value, change, given)
        values: list[Value] = []
        tree_map_only(Value, values.append, changed)
        if len({id(source_of(value)) for value in values}) > 1:
            return self._joined(op, changed, ref)
        return self._applied(op, changed, values[0], ref)

    def _joined(self, op: Any, given: Any, ref: Ref) -> Value:
        raise NotImplementedError

    def _written(self, step: Step, equation: Callable[..., Any]) -> list[Any]:
        raise NotImplementedError

    def _broadcast(self, value: Value, shape: Shape) -> Value:
        """A value, settled, as it broadcasts to a larger shape."""
        ones = (1,) * (len(shape) - len(value.shape))
        wide = self._numbers((self.images, *ones, *value.shape)).expand(self.images, *shape)
        return self._placed(self._held(value), wide, unseen(value.ref))

    def _placed(self, value: Value, numbers: Tensor, ref: Ref) -> Value:
        """`value` at other places, from the numbers (from 1; 0 for padding) of the elements of all images."""
        size = math.prod(value.shape)
        if numbers.numel() % self.images:
            raise Mixes("makes tensors whose shape does not grow with the number of images")
        rows = numbers.reshape(self.images, -1).to(torch.int64).numpy() - 1
        index = np.where(rows[0] >= size, -2, rows[0])
        starts = size * np.arange(self.images)[:, None]
        if (index < -1).any() or not np.array_equal(np.where(index < 0, -1, index + starts), rows):
            raise Mixes(
                "mixes the images of a batch, or makes what one gives depend on the others: each must be computed alone"
            )
        shape = tuple(numbers.shape[1:]) if numbers.shape[0] == self.images else ()
        if not shape and numbers.ndim and numbers.shape[0] % self.images == 0:
            shape = (numbers.shape[0] // self.images, *numbers.shape[1:])
        if numbers.ndim > 1 and numbers.shape[0] == 1 and numbers.shape[1] % self.images == 0:
            shape = (numbers.shape[1] // self.images, *numbers.shape[2:])
        if math.prod(shape) != index.size:
            shape = (index.size,)
        before = np.arange(size).reshape(value.shape) if value.move is None else value.move
        flat = np.append(before.reshape(-1), -1)
        moved = Value(value.expr, shape, ref, flat[index].reshape(shape))
        if ref.number < 0:
            moved.origin = value.origin if value.ref.number < 0 else value
        if _is_in_place(moved):
            moved.move = None
            if value.move is None:
                moved.exact, moved.stream, moved.form = value.exact, value.stream, value.form
        return moved

    def _numbers(self, shape: Shape) -> Tensor:
        """The numbers of the elements of a tensor of all images, from 1."""
        return torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(shape)

    def _shaped(self, value: Value, ref: Ref) -> Value:
        """The same elements, in the shape of `ref`."""
        return self._placed(value, self._numbers(ref.shape), ref)

    def form(self, value: Value) -> Form:
        """What the function of a value is."""
        if value.form is None:
            value.form = Function(value.expr).form()
            behind = self._behind_a_part(value, value.form)
            if behind is not None:
                value.expr, value.form = behind, None
                return self.form(value)
        return value.form

    def _behind_a_part(self, value: Value, form: Form) -> Expr | None:
        """What a function does behind a node that holds a part of it, if it is a curve that is followed closer so."""
        if not isinstance(form, Pieces) or len(form.start) <= _FEW_PIECES or _is_rounding(value.expr):
            return None
        whole, shape, ref = cancelled(value.expr)[0], source_of(value).shape, unseen(value.ref)
        part = _rounded_part(whole)
        if part is not None:
            return replaced(whole, part, self.exact(Value(part, shape, ref)))
        part = _followed(value.expr) if form.start[0].size > 1 else None
        return None if part is None else replaced(value.expr, part, self.streamed(Value(part, shape, ref)))

    def exact(self, value: Value) -> Leaf:
        """A node whose integers are the value but for a gain and a constant: its own source, levels, or a stream."""
        if value.exact is not None:
            return value.exact
        form = self.form(value)
        leaf = own_leaf(value)
        if isinstance(form, Pieces) or (isinstance(form, Levels) and form.fine):
            return self.streamed(value)
        if isinstance(form, Affine):
            found = _rescaled(leaf, form)
        else:
            node = _levels(leaf.source.node, form.limits, form.codes)
            signs = bool((form.codes % 2 == 1).all())  # -1 and +1: those with a 0 between are no signs
            source = self._add(value.ref, node, leaf.source.shape, step=2 if signs else 1)
            found = Leaf(source, form.unit, form.offset, level_slack(form, value.expr, leaf))
            found = self._compared(value, found, levels=True)
        value.exact = self._at_places(value, found)
        return value.exact

    def streamed(self, value: Value) -> Leaf:
        """A node that holds the value in fixed point, with `fraction` binary digits behind the point."""
        if value.stream is not None:
            return value.stream
        form, leaf = self.form(value), own_leaf(value)
        if isinstance(form, Pieces) and form.error and _is_rounding(value.expr):
            value.stream = self._at_places(value, self._in_half(value))
            return value.stream
        if value.expr is leaf and self._is_stream(leaf):
            value.stream = self._at_places(value, leaf)
            return value.stream
        for fraction in range(self.fraction, 0, -4):  # as many as its bounds leave room for
            try:
                found = self._stream(value, form, leaf, 2.0**fraction)
                break
            except ValueError as error:
                if fraction <= 4 or "past 62 bits" not in str(error):
                    raise
        value.stream = self._at_places(value, found)
        return value.stream

    def _finest(self, size: float) -> float:
        """The unit with which values up to `size` fit."""
        return max(2.0**-self.fraction, 2.0 ** math.frexp(size / MOST)[1] if size else 0.0)

    def _is_stream(self, leaf: Leaf) -> bool:
        """Whether integers are in fixed point already, as fine as their bounds allow."""
        gain = float(leaf.gain.reshape(-1)[0])
        finest = self._finest(abs(gain) * leaf.source.largest)
        alike = bool((leaf.gain == gain).all()) and dyadic(leaf.gain)
        return alike and not leaf.constant.any() and 2.0**-self.fraction <= gain <= finest

    def _in_half(self, value: Value) -> Leaf:
        """A stream rounded to float16 or bfloat16: its numbers are counted, from 0, and what each is is looked up."""
        assert isinstance(value.expr, Apply)
        assert isinstance(value.expr.op, Cast)
        shape, ref = source_of(value).shape, unseen(value.ref)
        before = self.streamed(Value(value.expr.args[0], shape, ref))
        unit = unit_of(before)
        count, number = halves(value.expr.op.dtype, unit, before.source.largest, len(before.source.shape))
        counted = self._add(ref, Curve((before.source.node,), *count), shape)
        source = self._add(value.ref, Curve((counted.node,), *number), shape)
        slack = Slack(lambda known: before.slack(known) + 0.5 * unit)  # where its numbers lie closer than the unit
        found, run = Leaf(source, before.gain, before.constant, slack), value.origin or value
        function = Apply(value.expr.op, (before,), {})
        return self._compared(Value(function, run.shape, run.ref, run.move), found, levels=True)

    def _stream(self, value: Value, form: Form, leaf: Leaf, scale: float) -> Leaf:
        """A node that holds a value's function in fixed point. Raises `ValueError` if it does not fit."""
        unit = np.full((1,) * len(leaf.source.shape), 1 / scale)
        if isinstance(form, Levels):
            codes = np.rint(form.values * scale)
            if float(np.abs(codes).max()) > MOST:
                raise ValueError("has values past 62 bits")
            exact = bool((codes == form.values * scale).all())
            node: Node = _levels(leaf.source.node, form.limits, codes.astype(np.int64))
            slack = level_slack(form, value.expr, leaf, 0.0 if exact else 0.5 / scale)
        else:
            pieces = _as_pieces(form, leaf)
            slack = stream_slack(pieces, value.expr, leaf, scale)
            node = Curve((leaf.source.node,), pieces.start, pieces.slope * scale, pieces.intercept * scale)
        source = self._add(value.ref, node, leaf.source.shape)
        return self._compared(value, Leaf(source, unit, 0 * unit, slack), levels=isinstance(form, Levels))

    def _at_places(self, value: Value, leaf: Leaf) -> Leaf:
        """The leaf where the value has been moved to."""
        if value.move is None:
            if leaf.source.shape == value.shape:
                return leaf
            index = np.arange(math.prod(value.shape)).reshape(value.shape)
        else:
            index = value.move
        plain = np.array_equal(index.reshape(-1), np.arange(math.prod(leaf.source.shape)))
        node = Gather((leaf.source.node,), value.shape, None if plain else index.astype(np.int64))
        padded = bool((index < 0).any())
        step = 1 if padded else leaf.source.step
        source = self._add(value.ref, node, leaf.source.shape, step=step)

        def moved(array: NDArray[Any], zero: float) -> NDArray[Any]:
            if array.size == 1 and not (padded and zero == 0 and array.any()):
                return array.reshape((1,) * len(value.shape))
            flat = np.broadcast_to(array, leaf.source.shape).reshape(-1)
            # Any gain does where there is nothing; one unlike the others would leave these no digits in weights.
            return compressed(np.where(index < 0, flat[0] if zero else 0.0, flat[index]))

        return leaf.of(source, moved)

    def _add(self, ref: Ref, node: Node, shape: Shape, step: int = 1) -> Source:
        """A new node, with its bounds, or one that computes the same."""
        key = _same(node)
        if key in self._made_before:
            return self._sources[self._made_before[key]]
        name = self._name(node)
        sources = [self._sources[source] for source in node.sources]
        shapes = [source.shape for source in sources]
        own = node.shape(shapes)
        low, high = node.bounds([(source.low, source.high) for source in sources], shapes)
        low, high = (compressed(np.broadcast_to(end, own)) for end in (low, high))
        source = Source(name, own, low, high, step)
        self.nodes[name] = node
        self._sources[name] = source
        if key is not None:
            self._made_before[key] = name
        return source

    @property
    def _sources(self) -> dict[str, Source]:
        if not hasattr(self, "_known"):
            first = next(iter(self.values.values()))
            assert isinstance(first, Value)
            self._known: dict[str, Source] = {INPUT: source_of(first)}
        return self._known

    def _name(self, node: Node) -> str:
        """The module's name and the node's kind, numbered where there are several."""
        base = f"{self.place.module}.{node.kind}" if self.place.module else node.kind
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}{count}"
        return name

    def _compared(self, value: Value, leaf: Leaf, *, levels: bool) -> Leaf:
        """A leaf that the self-check compares, if the model has its value, as it is to what follows."""
        value = value.origin or value
        step, output = self.made_by.get(value.ref.number, (None, 0))
        if step is None or step.number < 0:
            return leaf
        self.checks.append(Check(step.number, output, leaf, value.shape, levels, value.expr, value.move))
        if levels or leaf.slack.proven == 0:
            return leaf
        return replace(leaf, slack=Slack(lambda known: known.difference(leaf.source.node, leaf.slack)))

    def _function(self, op: Any, value: Value, *arguments: Any) -> Value:
        """A function of our own behind a value."""
        return self._applied(op, ((value, *arguments), {}), value, unseen(value.ref))

    def _rounded(self, leaf: Leaf, factor: float, ref: Ref) -> Leaf:
        """With a unit that is `factor` as large."""
        if factor == 1:
            return leaf
        ones = (1,) * len(leaf.source.shape)
        node = Curve(
            (leaf.source.node,), np.zeros((1, *ones), np.int64), np.full((1, *ones), 1 / factor), np.zeros((1, *ones))
        )
        source = self._add(ref, node, ())
        rounding = 0.5 * abs(factor) * float(np.abs(leaf.gain).max())
        slack = Slack(lambda known: leaf.slack(known) + rounding)
        return Leaf(source, leaf.gain * factor, leaf.constant, slack)

    def _shortened(self, leaf: Leaf, bits: int, ref: Ref) -> Leaf:
        """With integers of at most so many bits."""
        return self._rounded(leaf, 2.0 ** max(0, leaf.source.largest.bit_length() - bits), ref)

    def _aligned(self, leaves: Sequence[Leaf], ref: Ref, *, summed: bool = False) -> list[Leaf]:
        """Streams with the unit of the coarsest, or with one in which their sum fits."""
        units = [unit_of(leaf) for leaf in leaves]
        total = sum(unit * leaf.source.largest for unit, leaf in zip(units, leaves, strict=True)) if summed else 0.0
        unit = max(*units, self._finest(total))
        return [self._rounded(leaf, unit / own, ref) for own, leaf in zip(units, leaves, strict=True)]

    def _made(self, leaf: Leaf, shape: Shape, ref: Ref) -> Value:
        """The value that a node holds."""
        if ref.number < 0:
            ref = Ref(-1, (self.images, *shape))
        value = Value(leaf, shape, ref)
        if leaf.source.shape != shape:
            value.move = np.arange(math.prod(shape)).reshape(shape)
        return value

    def _flat(self, leaf: Leaf, ref: Ref) -> Source:
        if len(leaf.source.shape) == 1:
            return leaf.source
        size = math.prod(leaf.source.shape)
        return self._add(ref, Gather((leaf.source.node,), (size,)), (), leaf.source.step)


def _same(node: Node) -> Any:
    """What two nodes have in common that compute the same; None of nodes with weights or with a state."""
    if type(node) not in _COMPARED:
        return None
    fields = [
        (value.dtype.str, value.shape, hashlib.blake2b(np.ascontiguousarray(value).tobytes()).digest())
        if isinstance(value, np.ndarray)
        else value
        for value in vars(node).values()
    ]
    return node.kind, *fields


def _image_shape(actual: tuple[int, ...], shape: Shape, images: int) -> Shape | None:
    """The shape of one image of a larger value, as `shape` broadcasts to it; else None.

    Images are the first axis, or lie one behind the other along it.
    """
    if not actual or actual[0] % images:
        return None
    own = tuple(actual[1:]) if actual[0] == images else (actual[0] // images, *actual[1:])
    if math.prod(own) <= math.prod(shape):
        return None
    if actual[0] == images:
        return own
    ones = (1,) * (len(own) - len(shape))
    fits = len(shape) <= len(own) and all(a in (1, b) for a, b in zip((*ones, *shape), own, strict=True))
    return own if fits else None


def _levels(source: str, limits: NDArray[Any], codes: NDArray[Any]) -> Node:
    """A node of levels; many are looked up, as the pieces of a curve are."""
    if len(limits) <= MOST_LEVELS:
        return Threshold((source,), limits, codes)
    start = np.concatenate([np.minimum(limits[:1], 0), limits])
    return Curve((source,), start, np.zeros(codes.shape), codes.astype(np.float64))


def _rounded_part(expr: Expr) -> Expr | None:
    """The part of a function, levels of which all are known, whose jumps the rest would be followed across."""
    for part in parts_of(expr)[::-1]:
        if _is_rounding(part):
            return part
        if isinstance(part, Apply) and name_of(part.op) in ("round", "floor", "ceil", "trunc"):
            form = Function(part).form()
            if isinstance(form, Levels) and not form.fine:
                return part
    return None


def _is_rounding(expr: Expr) -> bool:
    """Whether a function ends with a cast to half precision."""
    return isinstance(expr, Apply) and isinstance(expr.op, Cast) and expr.op.dtype in COARSE


def _followed(expr: Expr) -> Expr | None:
    """The part of a function, a curve for each unit, that is made a stream, so that the rest need not follow it.

    It is a curve that all units share, which can be followed more closely, or a line or levels before one.
    """
    parts = parts_of(expr)[::-1]
    shared = [part for part in parts if is_shared(part)]
    if shared and isinstance(shared[0], Apply):
        return shared[0]
    own = (part for part in parts if not is_shared(part))
    return next((part for part in own if isinstance(Function(part).form(), Affine | Levels)), None)


def _at_zero(op: Any, args: Any, kwargs: Any) -> float:
    """What an operation with numbers makes of the 0 of padded places."""
    given = tree_map_only(Tensor, lambda part: part.reshape(1), (args, kwargs))
    zero = torch.zeros(1, dtype=torch.float64)
    try:
        with torch.no_grad(), Float64():
            args, kwargs = tree_map_only(Value, lambda part: zero != 0 if gives_bits(part.expr) else zero, given)
            return float(op(*args, **kwargs))
    except (RuntimeError, ValueError):
        return math.nan


def _per_image(constant: Tensor, actual: tuple[int, ...], shape: Shape, images: int) -> Tensor:
    """A constant as it broadcasts to the values of one image; extents are 1 where it is one number."""
    made = constant.reshape((1,) * (len(actual) - constant.ndim) + tuple(constant.shape))
    if len(made) > 1:
        rows = made.reshape(images, -1) if len(made) % images == 0 else None
        if rows is None or not bool((rows == rows[0]).all()):
            raise Mixes("takes another number for each image of the batch")
        made = made[: len(made) // images]
    rank = len(shape)
    made = made.reshape(
        tuple(made.shape)[-rank:]
        if made.ndim >= rank and math.prod(made.shape[:-rank]) == 1 and rank
        else (1,) * (rank - made.ndim) + tuple(made.shape)
        if made.ndim < rank
        else tuple(made.shape)
    )
    for axis in range(made.ndim):
        first = made.narrow(axis, 0, 1)
        if made.shape[axis] > 1 and bool((made == first).all()):
            made = first
    # One in front, for the integers at which the function is evaluated.
    return made.unsqueeze(0)


def _is_in_place(value: Value) -> bool:
    """Whether a move leaves every element where it is."""
    source = source_of(value)
    return (
        value.move is not None
        and value.shape == source.shape
        and np.array_equal(value.move.reshape(-1), np.arange(value.move.size))
    )


def _rescaled(leaf: Leaf, form: Affine) -> Leaf:
    """`slope * x + offset` of the same source."""
    gain = np.abs(leaf.gain)
    ratio = float(np.max(np.where(gain > 0, np.abs(form.slope) / np.where(gain > 0, gain, 1), 0.0)))
    if form.slope is leaf.gain and form.offset is leaf.constant:
        return leaf
    fixed = 64 * UNIT_ROUNDOFF * float(np.abs(form.offset).max())
    relative = 64 * UNIT_ROUNDOFF * float(np.abs(form.slope).max()) + form.error / max(1, leaf.source.largest)

    def slack(known: Known) -> float:
        return leaf.slack(known) * ratio + fixed + relative * known.largest(leaf.source)

    return Leaf(leaf.source, form.slope, form.offset, Slack(slack))


def _as_pieces(form: Form, leaf: Leaf) -> Pieces:
    if isinstance(form, Pieces):
        return form
    assert isinstance(form, Affine)
    slope, offset = np.broadcast_arrays(form.slope, form.offset)
    return Pieces(np.zeros((1, *slope.shape), np.int64), slope[None].copy(), offset[None].copy(), form.error)
