"""From a recorded run (`lava_meta.converters.recording`) to an `AcyclicGraph`.

Each step is one of a few kinds, whatever module or function called it:

    elementwise     kept as an expression over a node's integers, and evaluated when its result is needed
    movement        reshapes, permutations, slices, padding: done once, on the places of the elements
    sums            linear layers and convolutions with constant weights; pooling and means
    joins           sums and products of two streams, concatenations
    ends            softmax and log-softmax, which keep the order of the classes

Constants have been computed by the model itself. Everything else is refused, with its place.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lava_meta.converters.decisions import check_decisions
from lava_meta.converters.elementwise import Affine, Form, Function, Levels, Pieces
from lava_meta.converters.expressions import Apply, Expr, Leaf, Source, leaf_of, mapped, replaced, split
from lava_meta.converters.monotone import BatchNorm, Cast
from lava_meta.converters.pooling import Average, pooling_window
from lava_meta.converters.recording import IMAGES, Place, Recording, Ref, Step
from lava_meta.converters.weights import Decomposed, decompose
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT, AcyclicGraph, Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    MOST,
    Add,
    Concat,
    Conv,
    Curve,
    Gather,
    Linear,
    Multiply,
    Node,
    Pool,
    Shape,
    Threshold,
    weight_of,
)

UNIT_ROUNDOFF = 2.0**-53
FRACTIONS = (40, 32, 24, 16)  # binary digits behind the point of real streams: the first with which all sums fit
_FEW_PIECES = 48  # of a curve that are lines of the function itself
_STREAM_BITS = 28  # of a stream that is multiplied with wide weights


@dataclass(eq=False)
class Value:
    """What a step gave: a function of a node's integers, moved to other places."""

    expr: Expr
    shape: Shape  # of one image
    ref: Ref  # the first value of the run that is this one
    move: NDArray[Any] | None = None  # int64 of `shape`: places among the function's values, -1 for 0
    form: Form | None = None  # once it was asked for
    exact: Leaf | None = None  # the node that holds it, once it was made
    stream: Leaf | None = None  # the same in fixed point


@dataclass(frozen=True, eq=False)
class Check:
    """A value of the run that a node holds."""

    step: int  # among the operations of the run
    output: int  # of the step
    leaf: Leaf
    shape: Shape
    levels: bool  # it is decided by thresholds: equal, or tied; else bounded
    undecided: float  # by how much the model's value in front of it may differ, in units of the node's source


@dataclass(frozen=True)
class Lowered:
    """The network, and where its values are in a run of the model."""

    graph: AcyclicGraph
    checks: list[Check]
    slack: NDArray[Any] | float  # by how much the model's values of the classes may differ
    end: int  # the operation that gives them
    fraction: int


class Cannot(Exception):
    """A step cannot be lowered; the place is added where it is caught."""


def lower(recording: Recording, output: Ref, first: Leaf, domain: dict[str, Any]) -> Lowered:
    """The network of what leads to `output`.

    Args:
        recording: of the model, from images whose levels are `first`.
        output: the value whose classes are read.
        first: what the levels of the images are to the model.
        domain: `max_level`, `min_level`, `signs` and `input_shape` of the network.

    Raises:
        ConversionError: naming file, line and module of what cannot be converted.
    """
    for fraction in FRACTIONS:
        try:
            return Lowering(recording, first, domain, fraction).run(output)
        except TooFine as error:
            last = error
    raise ConversionError(f"{last}: with {FRACTIONS[-1]} binary digits too; scale the values down")


class TooFine(Exception):
    """Sums pass 62 bits with so many binary digits behind the point."""


class Lowering:
    """The steps of a run as nodes, one after the other."""

    def __init__(self, recording: Recording, first: Leaf, domain: dict[str, Any], fraction: int) -> None:
        self.steps, self.decisions = recording.steps, recording.decisions
        self.fraction = fraction
        self.domain = domain
        self.nodes: dict[str, Node] = {}
        self.checks: list[Check] = []
        self.values: dict[int, Value | Tensor] = {
            recording.input.number: Value(first, tuple(domain["input_shape"]), recording.input)
        }
        self.made_by = {
            ref.number: (step, i) for step in recording.steps for i, ref in enumerate(step.outputs) if ref is not None
        }
        self.place = Place("?", 0, "", "model")

    def run(self, output: Ref) -> Lowered:
        needed = self._needed([output])
        tested = self._needed([decision.value for decision in self.decisions])
        for step in self.steps:
            numbers = {ref.number for ref in step.outputs if ref is not None}
            self.place = step.place
            if numbers & needed:
                self._try(step)
            elif numbers & tested:  # for a test alone, which may mix images: then its bounds are taken
                with contextlib.suppress(Cannot, ValueError, KeyError):
                    self._step(step)
        check_decisions(self.decisions, self.made_by, self._lowered)
        return self._read(output)

    def _try(self, step: Step) -> None:
        try:
            self._step(step)
        except (Cannot, ValueError) as error:
            if "past 62 bits" in str(error) or "of up to 62 bits fit" in str(error):
                raise TooFine(f"{self._named(step)} {error}") from error
            raise ConversionError(f"{self._named(step)} {error}") from error

    def _lowered(self, ref: Ref) -> Expr | Tensor | None:
        """What a value is, if it was lowered."""
        value = self.values.get(ref.number)
        return value.expr if isinstance(value, Value) else value

    def _named(self, step: Step) -> str:
        return f"{step.place} ({step.name})"

    def _needed(self, values: Sequence[Ref]) -> set[int]:
        """What these values are made of."""
        needed = {ref.number for ref in values}
        for step in reversed(self.steps):
            if any(ref is not None and ref.number in needed for ref in step.outputs):
                needed |= {ref.number for ref in step.refs}
        return needed

    # One step.

    def _step(self, step: Step) -> None:
        name = step.name
        special: Callable[[Step], Any] | None = getattr(self, f"_do_{name}", None)
        if name in _LIKE:
            found: Any = self._like(step)
        elif special is not None:
            found = special(step)
        elif name in MOVES:
            found = self._moved(step)
        elif name in SAME:
            found = self._given(step.args[0])
        elif torch.Tag.pointwise in step.op.tags or name in _ELEMENTWISE:
            found = self._elementwise(step)
        else:
            raise Cannot(_REFUSED.get(name, "is not supported between the layers of a network of integers"))
        outputs = found if isinstance(found, list) else [found]
        for ref, value in zip(step.outputs, outputs, strict=False):
            if ref is not None and value is not None:
                self.values[ref.number] = value

    def _given(self, ref: Any) -> Any:
        """What an argument is: a `Value`, or a constant."""
        return self.values[ref.number] if isinstance(ref, Ref) else ref

    def _value(self, argument: Any) -> Value:
        value = self._given(argument)
        if not isinstance(value, Value):
            raise Cannot("takes a constant where a value of the images is expected")
        return value

    def _like(self, step: Step) -> Tensor:
        """Ones, zeros or one number of the shape of a value."""
        made = step.op(torch.zeros(step.args[0].shape, dtype=torch.float64), *step.args[1:], **step.kwargs)
        ones: Tensor = made[:1]
        return torch.zeros_like(ones) if "empty" in step.name else ones  # what lies in new memory means nothing

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
            if len({id(_source(value)) for value in values}) > 1:
                return self._joined(step, given, ref)
            replaced = iter(values)
            given = tree_map_only(Value, lambda _: next(replaced), given)
        return self._applied(step.op, given, values[0], ref)

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

    def _settled(self, value: Value) -> Value:
        """The same value without a move: its node is moved."""
        if value.move is None:
            return value
        leaf = self.exact(value)
        return Value(leaf, value.shape, value.ref, exact=leaf)

    def _applied(self, op: Any, given: Any, value: Value, ref: Ref) -> Value:
        """An operation on values of one source and constants."""
        shape = _image_shape(ref.shape, math.prod(value.shape))
        if shape is not None and shape != value.shape:
            wide = self._broadcast(value, shape)
            return self._applied(op, tree_map_only(Value, lambda _: wide, given), wide, ref)
        constants: list[Tensor] = []

        def constant(part: Tensor) -> Tensor:
            made = _per_image(part, ref.shape, value.shape)
            constants.append(made)
            return made

        args, kwargs = tree_map_only(Tensor, constant, given)
        if value.move is not None and any(part.numel() > 1 for part in constants):
            value = self._settled(value)
            return self._applied(op, tree_map_only(Value, lambda _: value, given), value, ref)
        if value.move is not None:  # of numbers alone: the function comes before the move
            rank = len(_source(value).shape)
            args, kwargs = tree_map_only(Tensor, lambda part: part.reshape((1,) * (rank + 1)), (args, kwargs))
        inner_args, inner_kwargs = tree_map_only(Value, lambda part: part.expr, (args, kwargs))
        expr = Apply(op, tuple(inner_args), inner_kwargs)
        if value.move is not None and (value.move < 0).any() and self._at_zero(expr) != 0:
            return self._applied(
                op, tree_map_only(Value, lambda part: self._settled(part), given), self._settled(value), ref
            )
        return Value(expr, value.shape, ref, value.move)

    def _broadcast(self, value: Value, shape: Shape) -> Value:
        """A value, settled, as it broadcasts to a larger shape."""
        leaf = self.exact(value)
        settled = Value(leaf, value.shape, value.ref)
        ones = (1,) * (len(shape) - len(value.shape))
        numbers = torch.arange(1, IMAGES * math.prod(value.shape) + 1, dtype=torch.float64)
        return self._placed(settled, numbers.reshape(IMAGES, *ones, *value.shape).expand(IMAGES, *shape), value.ref)

    def _at_zero(self, expr: Expr) -> float:
        """What an expression of numbers makes of 0: padded places hold a 0 that comes after it."""
        zero = Leaf(Source(INPUT, (), np.zeros((), np.int64), np.zeros((), np.int64)), np.ones(()), np.zeros(()))
        try:
            inner = mapped(expr, zero, lambda part: part.reshape(()))
            return float(Function(inner)(np.zeros((1,), np.int64))[0])
        except (RuntimeError, ValueError):
            return math.nan

    def _do__to_copy(self, step: Step) -> Any:
        """Another type: of floats, which are all float64 here, nothing; of bits and integers, what it does."""
        given = self._given(step.args[0])
        kind = step.kwargs.get("dtype")
        if kind is None or (kind.is_floating_point and isinstance(given, Value) and isinstance(given.expr, Leaf)):
            return given
        if isinstance(given, Tensor):
            return given.to(kind)
        ref = step.outputs[0]
        assert ref is not None
        return self._applied(Cast(kind), ((given,), {}), given, ref)

    # Movement.

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
        numbers = torch.arange(1, IMAGES * math.prod(value.shape) + 1, dtype=torch.float64).reshape(argument.shape)
        args = step.args[1:]
        if step.name == "constant_pad_nd" and len(args) > 1:
            fill, args = float(args[1]), (args[0], 0.0)
        if step.name == "expand_as":
            args = (torch.empty(args[0].shape),)
        if fill:
            raise Cannot("pads with another number than 0")
        found = step.op(numbers, *args, **step.kwargs)
        several = isinstance(found, (list, tuple))
        outputs = [
            self._placed(value, part, ref)
            for part, ref in zip(found if several else [found], step.outputs, strict=True)
            if ref is not None
        ]
        return outputs if several else outputs[0]

    def _placed(self, value: Value, numbers: Tensor, ref: Ref) -> Value:
        """`value` at other places, from the numbers (from 1; 0 for padding) of the elements of `IMAGES` images."""
        size = math.prod(value.shape)
        if numbers.numel() % IMAGES:
            raise Cannot("makes tensors whose shape does not grow with the number of images")
        rows = numbers.reshape(IMAGES, -1).to(torch.int64).numpy() - 1
        index = np.where(rows[0] >= size, -2, rows[0])
        if (index < -1).any() or not np.array_equal(np.where(index < 0, -1, index + size), rows[1]):
            raise Cannot(
                "mixes the images of a batch, or makes what one gives depend on the others: each must be computed alone"
            )
        shape = tuple(numbers.shape[1:]) if numbers.shape[0] == IMAGES else ()
        if not shape and numbers.ndim and numbers.shape[0] % IMAGES == 0:
            shape = (numbers.shape[0] // IMAGES, *numbers.shape[1:])
        if numbers.ndim > 1 and numbers.shape[0] == 1 and numbers.shape[1] % IMAGES == 0:
            shape = (numbers.shape[1] // IMAGES, *numbers.shape[2:])
        if math.prod(shape) != index.size:
            shape = (index.size,)
        before = np.arange(size).reshape(value.shape) if value.move is None else value.move
        flat = np.append(before.reshape(-1), -1)
        moved = Value(value.expr, shape, ref, flat[index].reshape(shape))
        if _is_in_place(moved):
            moved.move = None
            if value.move is None:
                moved.exact, moved.stream, moved.form = value.exact, value.stream, value.form
        return moved

    # From expressions to nodes.

    def form(self, value: Value) -> Form:
        """What the function of a value is."""
        if value.form is None:
            form = value.form = Function(value.expr).form()
            curved = isinstance(form, Pieces) and len(form.start) > _FEW_PIECES and form.start[0].size > 1
            inner = split(value.expr) if curved else None
            if inner is not None:  # a curve for each unit: what comes before it is made a stream, and it follows that
                before = Value(inner, _source(value).shape, _unseen(value.ref))
                if isinstance(self.form(before), Affine | Levels):
                    leaf = self.streamed(before)
                    value.expr = replaced(value.expr, inner, leaf)
                    value.form = Function(value.expr).form()
        return value.form

    def exact(self, value: Value) -> Leaf:
        """A node whose integers are the value but for a gain and a constant: its own source, levels, or a stream."""
        if value.exact is not None:
            return value.exact
        form = self.form(value)
        leaf = _leaf(value)
        if isinstance(form, Pieces):
            return self.streamed(value)
        if isinstance(form, Affine):
            found = _rescaled(leaf, form)
        else:
            node = Threshold((leaf.source.node,), form.limits, form.codes)
            source = self._add(value.ref, node, leaf.source.shape)
            found = Leaf(source, form.unit, np.zeros_like(form.unit), self._level_slack(form))
            self._check(value, found, levels=True, before=leaf)
        value.exact = self._at_places(value, found)
        return value.exact

    @staticmethod
    def _level_slack(form: Levels) -> float:
        """Levels that are no short binary numbers are rounded by the model."""
        units = form.unit.reshape(-1)
        return 0.0 if _dyadic(units) else 4 * UNIT_ROUNDOFF * float(np.abs(form.codes).max() * np.abs(units).max())

    def streamed(self, value: Value) -> Leaf:
        """A node that holds the value in fixed point, with `fraction` binary digits behind the point."""
        if value.stream is not None:
            return value.stream
        form, scale = self.form(value), 2.0**self.fraction
        leaf = _leaf(value)
        if value.expr is leaf and not leaf.constant.any() and (leaf.gain == 1 / scale).all():  # it is one already
            value.stream = self._at_places(value, leaf)
            return value.stream
        unit = np.full((1,) * len(leaf.source.shape), 1 / scale)
        if isinstance(form, Levels):
            codes = np.rint(form.codes * form.unit * scale)
            exact = bool((codes == form.codes * form.unit * scale).all())
            node: Node = Threshold((leaf.source.node,), form.limits, codes.astype(np.int64))
            source = self._add(value.ref, node, leaf.source.shape, error=0.0 if exact else 0.5)
            found = Leaf(source, unit, 0 * unit, self._level_slack(form) + source.error / scale)
            self._check(value, found, levels=True, before=leaf)
        else:
            pieces = _as_pieces(form, leaf)
            error, slack = self._stream_error(pieces, leaf)
            node = Curve((leaf.source.node,), pieces.start, pieces.slope * scale, pieces.intercept * scale)
            source = self._add(value.ref, node, leaf.source.shape, error=error * scale)
            found = Leaf(source, unit, 0 * unit, error + slack)
            self._check(value, found, levels=False, before=leaf)
        value.stream = self._at_places(value, found)
        return value.stream

    def _stream_error(self, pieces: Pieces, leaf: Leaf) -> tuple[float, float]:
        """By how much the stream differs from exact arithmetic, and the model's own value from that."""
        scale = 2.0**self.fraction
        every = np.concatenate([(pieces.slope * scale).reshape(-1), (pieces.intercept * scale).reshape(-1)])
        whole = pieces.error == 0 and bool((every == np.rint(every)).all()) and float(np.abs(every).max()) < 2.0**53
        gain = float(np.abs(leaf.gain).min())
        rise = pieces.steepest / gain if gain else 0.0
        size = float(np.abs(pieces.intercept).max()) + pieces.steepest * leaf.source.largest
        rounding = 0.0 if whole else 0.5 / scale + pieces.error + 4 * UNIT_ROUNDOFF * size
        return rounding + pieces.steepest * leaf.source.error, rise * leaf.slack

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
        source = self._add(value.ref, node, leaf.source.shape, error=leaf.source.error)

        def moved(array: NDArray[Any], zero: float) -> NDArray[Any]:
            if array.size == 1:
                return array.reshape((1,) * len(value.shape))
            flat = np.broadcast_to(array, leaf.source.shape).reshape(-1)
            return _compressed(np.where(index < 0, zero, flat[index]))

        constant = moved(leaf.constant, 0.0)
        if (index < 0).any() and leaf.constant.any():
            constant = np.where(index < 0, 0.0, np.broadcast_to(constant, value.shape))
        return Leaf(source, moved(leaf.gain, 1.0), constant, leaf.slack)

    def _add(self, ref: Ref, node: Node, shape: Shape, error: float = 0.0, step: int = 1) -> Source:
        """A new node, with its bounds."""
        name = self._name(node)
        sources = [self._sources[source] for source in node.sources]
        shapes = [source.shape for source in sources]
        own = node.shape(shapes)
        low, high = node.bounds([(source.low, source.high) for source in sources], shapes)
        low, high = (_compressed(np.broadcast_to(end, own)) for end in (low, high))
        source = Source(name, own, low, high, error, step)
        self.nodes[name] = node
        self._sources[name] = source
        return source

    @property
    def _sources(self) -> dict[str, Source]:
        if not hasattr(self, "_known"):
            first = next(iter(self.values.values()))
            assert isinstance(first, Value)
            self._known: dict[str, Source] = {INPUT: _source(first)}
        return self._known

    def _name(self, node: Node) -> str:
        """The module's name and the node's kind, numbered where there are several."""
        base = f"{self.place.module}.{node.kind}" if self.place.module else node.kind
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}{count}"
        return name

    def _check(self, value: Value, leaf: Leaf, levels: bool, before: Leaf) -> None:
        step, output = self.made_by.get(value.ref.number, (None, 0))
        if step is None or step.number < 0 or value.move is not None:
            return
        gain = float(np.abs(before.gain).min())
        undecided = before.slack / gain if gain else 0.0
        self.checks.append(Check(step.number, output, leaf, value.shape, levels, undecided))

    # Joins.

    def _joined(self, step: Step, given: Any, ref: Ref) -> Value:
        """An elementwise operation on values of several nodes."""
        args, kwargs = given
        name = step.name
        a: Any = args[0]
        b: Any = args[1] if len(args) > 1 else None
        if name in ("add", "sub") and isinstance(a, Value) and isinstance(b, Value):
            factor = float(kwargs.get("alpha", 1)) * (1 if name == "add" else -1)
            return self._sum([a, b if factor == 1 else self._function(torch.mul, b, factor)], ref)
        if name == "mul":
            return self._product(a, b, ref)
        if name == "div" and not kwargs.get("rounding_mode"):
            return self._product(a, self._function(torch.reciprocal, b), ref)
        if name in ("maximum", "minimum"):  # of two: b + relu(a - b), a - relu(a - b)
            difference = self._sum([a, self._function(torch.neg, b)], _unseen(ref))
            rest = self._function(torch.relu, difference)
            if name == "maximum":
                return self._sum([b, rest], ref)
            return self._sum([a, self._function(torch.neg, rest)], ref)
        if name == "where":
            return self._chosen(args, ref)
        raise Cannot("joins values of several layers; sums, products, maxima and choices of them are supported")

    def _chosen(self, args: Any, ref: Ref) -> Value:
        """`c * a + (1 - c) * b` for a condition c of 0 and 1."""
        condition, a, b = args
        parts = []
        for chosen, other in ((a, 0.0), (b, 1.0)):
            bit = condition if not other else self._function(torch.logical_not, condition)
            if isinstance(chosen, Value):
                bits = self._function(lambda x: x.double(), bit)
                parts.append(self._product(bits, chosen, _unseen(ref)))
            else:
                given: Any = ((bit, chosen, torch.zeros((), dtype=torch.float64)), {})
                parts.append(self._applied(torch.where, given, bit, _unseen(ref)))
        return self._sum(parts, ref)

    def _function(self, op: Any, value: Value, *arguments: Any) -> Value:
        """A function of our own behind a value."""
        return self._applied(op, ((value, *arguments), {}), value, _unseen(value.ref))

    def _sum(self, values: Sequence[Value], ref: Ref) -> Value:
        leaves = [self.streamed(value) for value in values]
        node = Add(tuple(leaf.source.node for leaf in leaves))
        error = sum(leaf.source.error for leaf in leaves)
        source = self._add(ref, node, (), error=error)
        size = source.largest * 2.0**-self.fraction
        exact = all(leaf.slack == 0 for leaf in leaves)
        slack = 0.0 if exact else sum(leaf.slack for leaf in leaves) + UNIT_ROUNDOFF * size
        return self._made(Leaf(source, *self._unit(source.shape), slack), source.shape, ref)

    def _product(self, a: Any, b: Any, ref: Ref) -> Value:
        if not (isinstance(a, Value) and isinstance(b, Value)):
            raise Cannot("multiplies a value with what is no value")
        leaves = [self.streamed(a), self.streamed(b)]
        node = Multiply(tuple(leaf.source.node for leaf in leaves), self.fraction)
        unit = 2.0**-self.fraction
        sizes = [leaf.source.largest * unit for leaf in leaves]
        error = (
            sizes[0] * leaves[1].source.error
            + sizes[1] * leaves[0].source.error
            + 1
            + sizes[0] * sizes[1] / unit * 2**-52
        )
        source = self._add(ref, node, (), error=error)
        slack = sizes[0] * leaves[1].slack + sizes[1] * leaves[0].slack + error * unit
        return self._made(Leaf(source, *self._unit(source.shape), slack), source.shape, ref)

    def _unit(self, shape: Shape) -> tuple[NDArray[Any], NDArray[Any]]:
        ones = (1,) * len(shape)
        return np.full(ones, 2.0**-self.fraction), np.zeros(ones)

    def _made(self, leaf: Leaf, shape: Shape, ref: Ref) -> Value:
        """The value that a node holds."""
        if ref.number < 0:
            ref = Ref(-1, (IMAGES, *shape))
        value = Value(leaf, shape, ref)
        if leaf.source.shape != shape:
            value.move = np.arange(math.prod(shape)).reshape(shape)
        return value

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
                each = torch.arange(1, math.prod(tensor.shape) + 1, dtype=torch.float64) + int(starts[seen])
                numbers.append(torch.stack([each + i * total for i in range(IMAGES)]).reshape(part.shape))
                seen += 1
            else:
                numbers.append(torch.zeros(tuple(part.shape), dtype=torch.float64))
        forms = [self.form(value) for value in values]
        units = [_one_unit(form) for form in forms]
        leveled = all(unit is not None and unit == units[0] for unit in units)
        leaves = [self.exact(value) if leveled else self.streamed(value) for value in values]
        flat = [self._flat(leaf, ref) for leaf in leaves]
        source = flat[0]
        if len(flat) > 1:
            node = Concat(tuple(part.node for part in flat))
            source = self._add(ref, node, (), error=max(part.error for part in flat))
        gain = np.full((1,), float(leaves[0].gain.reshape(-1)[0]))
        leaf = Leaf(source, gain, np.zeros((1,)), max(leaf.slack for leaf in leaves))
        return self._placed(Value(leaf, (total,), ref), arranged(numbers), ref)

    def _constant(self, part: Any, constant: Tensor) -> Value:
        """A constant as a value, which does not depend on the first pixel."""
        first = next(iter(self.values.values()))
        assert isinstance(first, Value)
        made = constant.nan_to_num(0.0, 0.0, 0.0).to(torch.float64)
        made = made.reshape(part.shape) if made.numel() == math.prod(part.shape) else made.expand(part.shape)
        if made.numel() % IMAGES or not torch.equal(*made.reshape(IMAGES, -1)):
            raise Cannot("joins a value with another constant for each image of the batch")
        size = math.prod(first.shape)
        numbers = torch.arange(IMAGES).reshape(IMAGES, *(1,) * (made.ndim - 1)) * size + 1
        ref = Ref(-1, tuple(made.shape))
        if made.shape[0] != IMAGES:
            numbers, made = numbers.reshape(IMAGES, 1), made.reshape(IMAGES, -1)
            ref = Ref(-1, tuple(made.shape))
        pixel = self._settled(self._placed(first, numbers.expand(made.shape).to(torch.float64), ref))
        return self._applied(lambda x, c: 0 * x + c, ((pixel, made[0]), {}), pixel, ref)

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
        parts = []
        for part in step.args[0]:
            ref = Ref(part.number, (*part.shape[:axis], 1, *part.shape[axis:]) if axis >= 0 else (*part.shape, 1))
            if axis not in (-1,) and axis < 0:
                raise Cannot("stacks along a negative axis; count from the front")
            value = self._value(part)
            numbers = torch.arange(1, IMAGES * math.prod(value.shape) + 1, dtype=torch.float64).reshape(ref.shape)
            self.values[-1 - part.number] = self._placed(value, numbers, ref)
            parts.append(Ref(-1 - part.number, ref.shape))
        joined = Step(step.number, step.op, (parts, axis), {}, step.outputs, step.place)
        return self._do_cat(joined)

    def _flat(self, leaf: Leaf, ref: Ref) -> Source:
        if len(leaf.source.shape) == 1:
            return leaf.source
        size = math.prod(leaf.source.shape)
        return self._add(ref, Gather((leaf.source.node,), (size,)), (), error=leaf.source.error)

    # Sums.

    def _do_addmm(self, step: Step) -> Value:
        if any(float(step.kwargs.get(name, 1)) != 1 for name in ("alpha", "beta")):
            raise Cannot("scales its sums by alpha or beta")
        return self._linear(step, step.args[1], step.args[2], step.args[0])

    def _do_mm(self, step: Step) -> Value:
        return self._linear(step, step.args[0], step.args[1], None)

    def _do_bmm(self, step: Step) -> Value:
        """A matrix product for each image, with the same constant matrix."""
        a, b = (self._given(part) for part in step.args)
        value, matrix = (a, b) if isinstance(a, Value) else (b, a)
        if not isinstance(matrix, Tensor) or not isinstance(value, Value) or not bool((matrix == matrix[:1]).all()):
            raise Cannot("multiplies values with values, as attention does; it is supported element by element")
        if value is a:
            return self._linear(step, value, matrix[0], None)
        turned = self._linear(step, self._turned(value), matrix[0].T, None)
        return self._turned(turned)

    def _turned(self, value: Value) -> Value:
        """The last two extents exchanged."""
        size = math.prod(value.shape)
        numbers = torch.arange(1, IMAGES * size + 1, dtype=torch.float64).reshape(IMAGES, *value.shape)
        return self._placed(value, numbers.transpose(-1, -2), value.ref)

    def _linear(self, step: Step, x: Any, weight: Any, bias: Any) -> Value:
        x, weight, bias = self._given(x), self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
            raise Cannot("multiplies values with values, or weights that depend on the images")
        value = x
        matrix = weight.detach().double().numpy().T
        leaf = self.exact(value)
        gain = np.broadcast_to(leaf.gain, leaf.source.shape)
        if (gain != gain.reshape(-1, gain.shape[-1])[:1]).any():
            leaf = self.streamed(value)
            gain = np.broadcast_to(leaf.gain, leaf.source.shape)
        each = gain.reshape(-1, gain.shape[-1])[0]

        def sums(node_weight: Any, source: str) -> Node:
            return Linear((source,), node_weight)

        def product(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
            made: NDArray[Any] = x @ w.T
            return made

        return self._summed(step, leaf, matrix, each, bias, sums, product)

    def _do_convolution(self, step: Step) -> Value:
        x, weight, bias, stride, padding, dilation, transposed, after, groups = step.args
        weight, bias = self._given(weight), self._given(bias)
        if isinstance(weight, Value) or isinstance(bias, Value):
            raise Cannot("convolves with weights that depend on the images")
        if transposed or any(after):
            raise Cannot("is a transposed convolution; only plain ones are supported")
        value = self._value(x)
        flat = weight.ndim == 3
        if weight.ndim not in (3, 4):
            raise Cannot("is a convolution of three dimensions; one and two are supported")
        ones = (1,) if flat else ()
        kernel = (*ones, *(int(extent) for extent in weight.shape[2:]))
        window = Window(
            (kernel[0], kernel[1]),
            _pair((*ones, *stride)),
            _pair((*((0,) if flat else ()), *padding)),
            _pair((*ones, *dilation)),
        )
        if flat:  # (channels, length) as one row
            shape = (value.shape[0], 1, value.shape[1])
            numbers = torch.arange(1, IMAGES * math.prod(shape) + 1, dtype=torch.float64).reshape(IMAGES, *shape)
            value = self._placed(value, numbers, value.ref)
        leaf = self.exact(value)
        channels = leaf.source.shape[0]
        gain = np.broadcast_to(leaf.gain, leaf.source.shape).reshape(channels, -1)
        if (gain != gain[:, :1]).any():
            leaf = self.streamed(value)
            gain = np.broadcast_to(leaf.gain, leaf.source.shape).reshape(channels, -1)
        matrix = weight.detach().double().numpy().reshape(len(weight), -1)
        taps = math.prod(kernel)
        by_group = np.repeat(gain[:, 0].reshape(groups, -1), taps, axis=1)  # (groups, fan_in)
        each = np.repeat(by_group, len(weight) // groups, axis=0)

        def sums(node_weight: Any, source: str) -> Node:
            return Conv((source,), node_weight, window, groups)

        def product(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
            stacked = torch.from_numpy(np.ascontiguousarray(w.reshape(len(w), -1, *kernel)))
            found = torch.nn.functional.conv2d(
                torch.from_numpy(np.ascontiguousarray(x))[None],
                stacked,
                None,
                window.stride,
                window.padding,
                window.dilation,
                groups,
            )[0]
            result: NDArray[Any] = found.numpy()
            return result

        made = self._summed(step, leaf, matrix, each, bias, sums, product)
        if not flat:
            return made
        shape2 = (made.shape[0], made.shape[2])
        numbers = torch.arange(1, IMAGES * math.prod(shape2) + 1, dtype=torch.float64).reshape(IMAGES, *shape2)
        return self._placed(made, numbers, made.ref)

    def _summed(
        self,
        step: Step,
        leaf: Leaf,
        matrix: NDArray[Any],
        each: NDArray[Any],
        bias: Tensor | None,
        node_of: Callable[[Any, str], Node],
        product: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
    ) -> Value:
        """Sums of the weights `matrix` (units, fan_in) times a leaf; `each`: its gains, by input or by weight."""
        if not np.isfinite(matrix).all():
            raise Cannot("has weights that are not finite: training diverged, or the file is damaged")
        one = float(each.reshape(-1)[0])
        alike = bool((each == one).all())
        effective = matrix if alike else matrix * each
        leaf, scale = self._narrowed(leaf, effective, step)
        if scale != 1.0:
            one *= scale
            effective = matrix if alike else effective * scale
        largest = leaf.source.largest
        made = self._decomposed(effective, largest)
        gain = made.unit * (one if alike else 1.0)
        node = node_of(weight_of(made.integers), leaf.source.node)
        ref = step.outputs[0]
        assert ref is not None
        units = len(matrix)
        binary = bool((np.abs(made.integers) == 1).all())
        steps = 2 if binary and _only_signs(leaf.source) else 1
        fan_in = matrix.shape[1]
        weights = float(np.abs(made.integers).astype(np.float64).sum(axis=1).max())
        error = weights * leaf.source.error + made.error * fan_in * largest
        source = self._add(ref, node, (), error=error)
        if steps == 2 and (source.low == -source.high).all() and len(np.unique(source.low % 2)) == 1:
            source = replace(source, step=2)
            self._sources[source.node] = source
        rank = len(source.shape)
        by_unit = (units, *(1,) * (rank - 1)) if isinstance(node, Conv) else (*(1,) * (rank - 1), units)
        real = np.broadcast_to(leaf.constant, leaf.source.shape)
        constant = np.zeros((1,) * rank)
        if leaf.constant.any():
            constant = _compressed(np.asarray(product(np.ascontiguousarray(real), matrix)).reshape(source.shape))
        if bias is not None:
            constant = constant + bias.detach().double().numpy().reshape(by_unit)
        if not np.isfinite(constant).all():
            raise Cannot("has a bias that is not finite: training diverged, or the file is damaged")
        values = np.abs(leaf.gain).max() * largest + np.abs(leaf.constant).max()
        heaviest = float(np.abs(matrix).sum(axis=1).max())
        exact = (
            leaf.slack == 0
            and made.error == 0
            and _dyadic(gain.reshape(-1))
            and not leaf.constant.any()
            and _dyadic(leaf.gain.reshape(-1))
            and made.close
        )
        slack = 0.0
        if not exact:
            slack = float(heaviest * leaf.slack + (2 * fan_in + 8) * UNIT_ROUNDOFF * heaviest * values)
            slack += float(made.error * fan_in * largest * np.abs(gain).max())
        made_leaf = Leaf(source, gain.reshape(by_unit), constant, slack)
        return self._made(made_leaf, source.shape, ref)

    def _decomposed(self, weights: NDArray[Any], largest: int) -> Decomposed:
        """Weights (units, fan_in) as integers."""
        return decompose(weights, largest, MOST // 4)

    def _narrowed(self, leaf: Leaf, weights: NDArray[Any], step: Step) -> tuple[Leaf, float]:
        """A stream with so few bits that sums of it times wide weights fit, and what its unit has grown by."""
        largest = leaf.source.largest
        small = decompose(weights, largest, MOST // 4)
        if largest < 2**_STREAM_BITS or (small.error == 0 and small.close):
            return leaf, 1.0
        factor = 2.0 ** (largest.bit_length() - _STREAM_BITS)
        ones = (1,) * len(leaf.source.shape)
        node = Curve(
            (leaf.source.node,), np.zeros((1, *ones), np.int64), np.full((1, *ones), 1 / factor), np.zeros((1, *ones))
        )
        source = self._add(step.outputs[0], node, (), error=leaf.source.error / factor + 0.5)  # type: ignore[arg-type]
        slack = leaf.slack + 0.5 * factor * float(np.abs(leaf.gain).max())
        return Leaf(source, leaf.gain * factor, leaf.constant, slack), factor

    # Pooling.

    def _do_max_pool2d_with_indices(self, step: Step) -> list[Any]:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, step.args[1:], strict=False)) | step.kwargs
        window = pooling_window(
            given["kernel_size"],
            given.get("stride") or given["kernel_size"],
            given.get("padding", 0),
            given.get("dilation", 1),
            bool(given.get("ceil_mode", False)),
            _extents(self._value(step.args[0]).shape),
        )
        ref = step.outputs[0]
        assert ref is not None
        return [self._greatest(self._value(step.args[0]), window, ref), None]

    def _do_adaptive_max_pool2d(self, step: Step) -> list[Any]:
        ref = step.outputs[0]
        assert ref is not None
        return [self._greatest(self._value(step.args[0]), self._adaptive(step), ref), None]

    def _adaptive(self, step: Step) -> Window:
        rows, columns = _extents(self._value(step.args[0]).shape)
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
            leaf = _leaf(value)
            if (leaf.gain < 0).any() or not _even(leaf):
                value = Value(self.streamed(value), value.shape, value.ref)
            direction = np.ones((1, 1, 1))
        leaf = _leaf(value)
        source = leaf.source
        if (direction < 0).any():  # the least integer gives the greatest value: turned round, it is the greatest
            zero = np.zeros_like(direction)
            turned = Curve((source.node,), zero[None].astype(np.int64), direction[None].copy(), zero[None])
            source = self._add(ref, turned, (), error=source.error, step=source.step)
        node = Pool((source.node,), window, "max")
        source = self._add(ref, node, (), error=source.error, step=source.step)
        pooled = Leaf(source, leaf.gain * direction, leaf.constant, leaf.slack)
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
        extents = _extents(self._value(step.args[0]).shape)
        window = pooling_window(
            given["kernel_size"],
            given.get("stride") or given["kernel_size"],
            given.get("padding", 0),
            1,
            bool(given.get("ceil_mode", False)),
            extents,
        )
        average = Average.of(window, extents, bool(given.get("count_include_pad", True)), given.get("divisor_override"))
        return self._mean(step, average.window, np.asarray(average.divisor, np.float64))

    def _do__adaptive_avg_pool2d(self, step: Step) -> Value:
        window = self._adaptive(step)
        return self._mean(step, window, np.asarray(float(math.prod(window.kernel))))

    def _mean(self, step: Step, window: Window, divisor: NDArray[Any]) -> Value:
        ref = step.outputs[0]
        assert ref is not None
        return self._summed_window(self._value(step.args[0]), window, divisor, ref)

    def _summed_window(self, value: Value, window: Window, divisor: NDArray[Any], ref: Ref) -> Value:
        leaf = self.exact(value)
        taps = math.prod(window.kernel)
        if not _even(leaf) or leaf.source.largest * taps > MOST:
            leaf = self.streamed(value)
        node = Pool((leaf.source.node,), window, "sum")
        source = self._add(ref, node, (), error=leaf.source.error * taps)
        inside = window.views(np.ones((1, 1, *leaf.source.shape[1:]))).sum(axis=(4, 5))[0]
        divisor = divisor.reshape((1, 1, 1)) if divisor.ndim == 0 else divisor
        gain = leaf.gain / divisor
        constant = (
            _compressed(np.broadcast_to(leaf.constant * inside / divisor, source.shape))
            if leaf.constant.any()
            else np.zeros((1, 1, 1))
        )
        least = float(np.abs(divisor).min())
        values = float(np.abs(leaf.gain).max()) * leaf.source.largest
        exact = (
            leaf.slack == 0
            and not leaf.constant.any()
            and _dyadic(leaf.gain.reshape(-1))
            and _dyadic(1 / divisor.reshape(-1))
        )
        slack = (
            0.0
            if exact
            else taps
            * (leaf.slack + (taps + 4) * UNIT_ROUNDOFF * (values + float(np.abs(leaf.constant).max())))
            / least
        )
        return Value(Leaf(source, gain, constant, slack), source.shape, ref)

    def _do_mean(self, step: Step) -> Value:
        return self._reduced(step, self._value(step.args[0]), "mean")

    def _do_sum(self, step: Step) -> Value:
        return self._reduced(step, self._value(step.args[0]), "sum")

    def _do_amax(self, step: Step) -> Value:
        return self._reduced(step, self._value(step.args[0]), "max")

    def _do_amin(self, step: Step) -> Value:
        turned = self._reduced(step, self._function(torch.neg, self._value(step.args[0])), "max")
        return self._function(torch.neg, turned)

    def _do_max(self, step: Step) -> list[Any]:
        return [self._do_amax(step), None]

    def _do_min(self, step: Step) -> list[Any]:
        return [self._do_amin(step), None]

    def _do_linalg_vector_norm(self, step: Step) -> Value:
        order = float(step.args[1]) if len(step.args) > 1 else 2.0
        if order not in (1.0, 2.0):
            raise Cannot(f"takes the norm of order {order:g}; 1 and 2 are supported")
        value = self._value(step.args[0])
        dims = step.args[2] if len(step.args) > 2 else step.kwargs.get("dim")
        keep = step.args[3] if len(step.args) > 3 else step.kwargs.get("keepdim", False)
        own = replace(step, args=(step.args[0], dims, keep), kwargs={})
        if order == 1:
            return self._reduced(own, self._function(torch.abs, value), "sum")
        return self._function(torch.sqrt, self._reduced(own, self._squared(value), "sum"))

    def _do_var(self, step: Step) -> Value:
        dims = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
        own = replace(step, args=(step.args[0], dims, True), kwargs={})
        value = self._value(step.args[0])
        centred = self._centred(own, value)
        keep = bool(step.kwargs.get("keepdim", False))
        variance = self._reduced(replace(own, args=(step.args[0], dims, keep)), self._squared(centred), "mean")
        size = math.prod(value.shape) // math.prod(variance.shape)
        correction = step.kwargs.get("correction", 1)
        correction = 1 if correction is None else correction
        return self._function(torch.mul, variance, size / max(1e-300, size - float(correction)))

    def _do_std(self, step: Step) -> Value:
        return self._function(lambda x: torch.sqrt(x.clamp_min(0)), self._do_var(step))

    def _squared(self, value: Value) -> Value:
        """A function of integers where these are few; else a product of two streams."""
        if isinstance(value.expr, Leaf) and not Function(value.expr).every:
            return self._product(value, value, _unseen(value.ref))
        return self._function(torch.square, value)

    def _centred(self, step: Step, value: Value) -> Value:
        """A value without its mean over the dimensions of a step, which are kept."""
        mean = self._reduced(step, value, "mean")
        return self._sum([value, self._function(torch.neg, mean)], _unseen(value.ref))

    def _do_native_layer_norm(self, step: Step) -> list[Any]:
        x, shape, weight, bias, eps = step.args
        dims = list(range(len(x.shape) - len(shape), len(x.shape)))
        ref = step.outputs[0]
        assert ref is not None
        normed = self._normed(step, self._value(x), x, dims, float(eps))
        return [self._scaled(normed, weight, bias, ref), None, None]

    def _do_native_group_norm(self, step: Step) -> list[Any]:
        x, weight, bias, _, channels, _, groups, eps = step.args
        value, ref = self._value(x), step.outputs[0]
        assert ref is not None
        size = math.prod(value.shape) // groups
        numbers = torch.arange(1, IMAGES * groups * size + 1, dtype=torch.float64)
        flat = self._placed(value, numbers.reshape(IMAGES, groups, size), value.ref)
        normed = self._normed(step, flat, Ref(-1, (IMAGES, groups, size)), [2], float(eps))
        back = self._placed(normed, numbers.reshape(x.shape), _unseen(ref))
        ones = (1,) * (len(value.shape) - 1)
        gain, shift = (None if part is None else part.reshape(channels, *ones) for part in (weight, bias))
        return [self._scaled(back, gain, shift, ref), None, None]

    def _normed(self, step: Step, value: Value, x: Ref, dims: list[int], eps: float) -> Value:
        """`(x - mean) / sqrt(variance + eps)` over dimensions of each image."""
        own = replace(step, args=(x, dims, True), kwargs={})
        centred = self._centred(own, value)
        variance = self._reduced(own, self._squared(centred), "mean")
        spread = self._function(lambda v: torch.rsqrt(v.clamp_min(0) + eps), variance)
        # No value of n lies further than sqrt(n) deviations from their mean, which their bounds do not know.
        most = math.sqrt(math.prod(value.shape) / max(1, math.prod(variance.shape)))
        return self._function(lambda v: v.clamp(-most, most), self._product(centred, spread, _unseen(x)))

    def _scaled(self, value: Value, weight: Tensor | None, bias: Tensor | None, ref: Ref) -> Value:
        """`weight * x + bias`."""
        for op, constant in ((torch.mul, weight), (torch.add, bias)):
            if constant is not None:
                value = self._applied(op, ((value, constant), {}), value, ref)
        return replace(value, ref=ref)

    def _reduced(self, step: Step, value: Value, how: str) -> Value:
        """Means, sums and maxima over any extents of an image: these are moved last, and taken as one window."""
        argument = step.args[0]
        dims = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim")
        dims = [dims] if isinstance(dims, int) else dims
        keep = bool(step.args[2] if len(step.args) > 2 else step.kwargs.get("keepdim", False))
        rank = len(argument.shape)
        if not dims or argument.shape[0] != IMAGES:
            raise Cannot("takes the mean or sum of all images together; name the dimensions, without the first")
        axes = sorted({int(dim) % rank for dim in dims})
        if axes[0] == 0:
            raise Cannot("takes the mean or sum over the images; name the dimensions, without the first")
        kept = [axis for axis in range(1, rank) if axis not in axes]
        size = math.prod(argument.shape[axis] for axis in axes)
        numbers = torch.arange(1, IMAGES * math.prod(value.shape) + 1, dtype=torch.float64).reshape(argument.shape)
        rows = math.prod(argument.shape[axis] for axis in kept)
        flat = numbers.permute(0, *kept, *axes).reshape(IMAGES, rows, 1, size)
        window = Window((1, size))
        moved = self._placed(value, flat, value.ref)
        ref = step.outputs[0]
        assert ref is not None
        if how == "max":
            total = self._greatest(moved, window, ref)
        else:
            total = self._summed_window(moved, window, np.asarray(float(size if how == "mean" else 1)), ref)
        shape = [1 if axis in axes else argument.shape[axis] for axis in range(1, rank) if keep or axis not in axes]
        back = torch.arange(1, IMAGES * rows + 1, dtype=torch.float64).reshape(IMAGES, *shape)
        own = (IMAGES, *shape)
        return self._placed(total, back, ref if ref.shape == own else Ref(-1, own))

    # Norms.

    def _do_native_batch_norm(self, step: Step) -> list[Any]:
        x, weight, bias, mean, var, training, _, eps = step.args
        return self._batch_norm(step, x, weight, bias, mean, var, bool(training), float(eps))

    def _do__native_batch_norm_legit_no_training(self, step: Step) -> list[Any]:
        x, weight, bias, mean, var, _, eps = step.args
        return self._batch_norm(step, x, weight, bias, mean, var, False, float(eps))

    def _do_cudnn_batch_norm(self, step: Step) -> list[Any]:
        return self._do_native_batch_norm(step)

    def _batch_norm(
        self, step: Step, x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, eps: float
    ) -> list[Any]:
        value, ref = self._value(x), step.outputs[0]
        assert ref is not None
        if x.shape[0] == 1 and mean is None and x.shape[1] % IMAGES == 0:  # instance norm: images side by side
            channels = x.shape[1] // IMAGES
            as_rows = replace(step, args=(Ref(-1, (IMAGES, *value.shape)),), kwargs={})
            dims = list(range(2, len(value.shape) + 1))
            normed = self._normed(as_rows, value, as_rows.args[0], dims, eps)
            ones = (1,) * (len(value.shape) - 1)
            gain, shift = (None if p is None else p[:channels].reshape(channels, *ones) for p in (weight, bias))
            whole = Ref(ref.number, (IMAGES, *value.shape))
            return [self._scaled(normed, gain, shift, whole), None, None]
        if training or mean is None or var is None:
            raise Cannot(
                "norms by the statistics of each batch, which mixes images: call model.eval(), and make it with "
                "track_running_stats=True"
            )
        for label, tensor in (("weight", weight), ("bias", bias), ("running mean", mean), ("running variance", var)):
            if tensor is not None and not torch.isfinite(tensor).all():
                raise Cannot(f"has a {label} that is not finite: training diverged, or the file is damaged")
        if not bool((var + eps > 0).all()):
            raise Cannot("gives NaN: its variance plus eps must be positive")
        channels = (1, -1, *(1,) * (len(value.shape) - 1))

        def shaped(tensor: Any, default: float) -> Tensor:
            made = torch.full_like(mean, default) if tensor is None else tensor
            return made.reshape(channels)

        parts = (shaped(mean, 0.0), shaped(var, 1.0), shaped(weight, 1.0), shaped(bias, 0.0))
        return [self._applied(BatchNorm(eps), ((value, *parts), {}), value, ref), None, None]

    def _do__softmax(self, step: Step) -> Value:
        return self._end(step)

    def _do__log_softmax(self, step: Step) -> Value:
        return self._end(step)

    def _end(self, step: Step) -> Value:
        """Softmax keeps the order of the classes; what it gives may not go on to other layers."""
        if step.args[1] not in (1, -1) or len(step.args[0].shape) != 2:
            raise Cannot("is a softmax within the network, or over the images; one over the classes may end it")
        made = step.outputs[0]
        assert made is not None
        if any(ref.number == made.number for later in self.steps for ref in later.refs if later.name not in SAME):
            raise Cannot("is a softmax within the network; one over the classes may end it")
        return self._value(step.args[0])

    # The end.

    def _read(self, output: Ref) -> Lowered:
        value = self._given(output)
        if not isinstance(value, Value):
            raise ConversionError("the model's output does not depend on its input")
        if len(value.shape) != 1:
            raise ConversionError(
                f"the model gives {('n', *value.shape)}; it must give (images, classes). Convert one of several heads "
                'with output="its name"'
            )
        try:
            leaf = self.exact(value)
        except (Cannot, ValueError) as error:
            raise ConversionError(f"the output {error}") from error
        classes = value.shape[0]
        scale, offset = (np.broadcast_to(part, (classes,)).astype(np.float64) for part in (leaf.gain, leaf.constant))
        if leaf.source.node == INPUT:
            raise ConversionError("the model has no layer with weights: there is nothing to convert")
        try:
            graph = AcyclicGraph(
                self._used(leaf.source.node), leaf.source.node, Scores(scale.copy(), offset.copy()), **self.domain
            )
        except ValueError as error:
            raise ConversionError(str(error)) from error
        size = np.abs(scale).max() * leaf.source.largest
        slack = leaf.slack + float(16 * UNIT_ROUNDOFF * (size + np.abs(offset).max()))
        step, _ = self.made_by[value.ref.number]
        checks = [check for check in self.checks if check.leaf.source.node in graph.nodes]
        return Lowered(graph, checks, slack, step.number, self.fraction)

    def _used(self, output: str) -> dict[str, Node]:
        """The nodes that lead to the output."""
        used = {output}
        for name in reversed(self.nodes):
            if name in used:
                used |= {*self.nodes[name].sources}
        return {name: node for name, node in self.nodes.items() if name in used}


SAME = {"detach", "clone", "alias", "lift_fresh", "contiguous", "native_dropout", "dropout"}
_LIKE = {"ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full", "empty_like", "new_empty"}
_ELEMENTWISE = {"hardswish", "_prelu_kernel", "masked_fill", "fake_quantize_per_tensor_affine", "rsub"}
MOVES = {
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "expand_as"),
    *("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "flip", "roll", "repeat"),
    *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "take"),
    *("index_select", "index", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
    *("upsample_nearest1d", "upsample_nearest2d", "im2col", "unfold", "diagonal", "movedim", "as_strided"),
}
_REFUSED = {
    "argmax": "gives the number of a class: let the model give the values of the classes",
    "topk": "sorts values, which is not supported",
    "sort": "sorts values, which is not supported",
    "cumsum": "sums values one after the other, which is not supported",
}


def _counts(constant: Tensor) -> bool:
    """Whether a constant is more than zeros, or than what lay in new memory."""
    return bool((constant.abs() > 1e-30).any())


def _image_shape(actual: tuple[int, ...], size: int) -> Shape | None:
    """The shape of one image of a larger value, of a tensor whose images lie one behind the other; else None."""
    if not actual or actual[0] != IMAGES or math.prod(actual[1:]) <= size:
        return None
    return tuple(actual[1:])


def _unseen(ref: Ref) -> Ref:
    """A value of this shape that the model does not have."""
    return Ref(-1, ref.shape)


def _source(value: Value) -> Source:
    return _leaf(value).source


def _leaf(value: Value) -> Leaf:
    return value.expr if isinstance(value.expr, Leaf) else leaf_of(value.expr)[0]


def _only_signs(source: Source) -> bool:
    """Whether a node's integers are odd: signs, which have no 0."""
    return bool((source.low == -1).all() and (source.high == 1).all())


def _per_image(constant: Tensor, actual: tuple[int, ...], shape: Shape) -> Tensor:
    """A constant as it broadcasts to the values of one image; extents are 1 where it is one number."""
    made = constant.reshape((1,) * (len(actual) - constant.ndim) + tuple(constant.shape))
    if len(made) > 1:
        rows = made.reshape(IMAGES, -1) if len(made) % IMAGES == 0 else None
        if rows is None or not torch.equal(rows[0], rows[1]):
            raise Cannot("takes another number for each image of the batch")
        made = made[: len(made) // IMAGES]
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


def _compressed(array: NDArray[Any]) -> NDArray[Any]:
    """With extents 1 where all along them is equal."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if array.shape[axis] > 1 and (array == first).all():
            array = first
    return np.ascontiguousarray(array)


def _is_in_place(value: Value) -> bool:
    """Whether a move leaves every element where it is."""
    source = _source(value)
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
    size = float(np.abs(form.slope).max()) * leaf.source.largest
    rounding = 64 * UNIT_ROUNDOFF * (size + float(np.abs(form.offset).max()))
    slack = leaf.slack * ratio + rounding + form.error
    return Leaf(leaf.source, form.slope, form.offset, slack)


def _as_pieces(form: Form, leaf: Leaf) -> Pieces:
    if isinstance(form, Pieces):
        return form
    assert isinstance(form, Affine)
    slope, offset = np.broadcast_arrays(form.slope, form.offset)
    return Pieces(np.zeros((1, *slope.shape), np.int64), slope[None].copy(), offset[None].copy(), form.error)


def _one_unit(form: Form) -> float | None:
    """The one number of which all values are multiples, if there is one."""
    if isinstance(form, Levels) and form.unit.size == 1:
        return float(form.unit.reshape(-1)[0])
    if isinstance(form, Affine) and form.slope.size == 1 and not form.offset.any():
        return float(form.slope.reshape(-1)[0])
    return None


def _even(leaf: Leaf) -> bool:
    """Whether all places of a channel have one gain, and one constant."""
    return leaf.gain.ndim == 3 and leaf.gain.shape[1:] == (1, 1) and leaf.constant.shape[1:] == (1, 1)


def _dyadic(numbers: NDArray[Any]) -> bool:
    """Whether all are powers of two (or 0), with which float64 multiplies without rounding."""
    mantissa = np.abs(np.frexp(numbers)[0])
    return bool(np.isin(mantissa, (0.0, 0.5)).all())


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    both = [int(number) for number in numbers]
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])


def _extents(shape: Shape) -> tuple[int, int]:
    if len(shape) != 3:
        raise Cannot(f"pools values of shape {shape}; (channels, rows, columns) is expected")
    return shape[1], shape[2]
