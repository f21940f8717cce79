"""From a recorded run (`lava_meta.converters.recording.operations`) to an `AcyclicGraph`.

Each step is one of a few kinds, whatever module or function called it:

    elementwise     kept as an expression over a node's integers, and evaluated when its result is needed
    movement        reshapes, permutations, slices, padding: done once, on the places of the elements
    sums            linear layers and convolutions with constant weights; pooling and means
    joins           sums and products of two streams, concatenations
    ends            softmax and log-softmax over the classes, which keep their order

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
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Expr, Known, Leaf, Slack
from lava_meta.converters.functions.monotone import NARROW, UNIT_ROUNDOFF, Cast
from lava_meta.converters.lowering.decisions import check_decisions
from lava_meta.converters.lowering.maps import LINEAR, MapLowering
from lava_meta.converters.lowering.values import (
    Cannot,
    Check,
    Mixes,
    Value,
)
from lava_meta.converters.lowering.written_steps import equation_of
from lava_meta.converters.recording.operations import Recording, write
from lava_meta.converters.recording.steps import MOVES, SAME, Ref, Step, makers
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT, AcyclicGraph, Scores
from lava_meta.graph.nodes import (
    Node,
)

FRACTIONS = (40, 32, 24, 16)  # binary digits behind the point of real streams: the first with which all sums fit


@dataclass(frozen=True)
class Lowered:
    """The network, and where its values are in a run of the model."""

    graph: AcyclicGraph
    checks: list[Check]
    slack: Slack  # by how much the model's values of the classes may differ
    end: int  # the operation that gives them; -1 where the model writes them part by part
    fraction: int
    rounded: frozenset[int] = frozenset()  # the operations of a run that round to half precision
    rounded_at: frozenset[tuple[str, int]] = frozenset()  # their files and lines


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
            found = Lowering(recording, first, domain, fraction).run(output)
            return replace(found, rounded=recording.rounded, rounded_at=recording.rounded_at)
        except TooFine as error:
            last = error
    raise ConversionError(f"{last}: with {FRACTIONS[-1]} binary digits too; scale the values down")


class MixesImages(ConversionError):
    """An operation that takes images from elsewhere than the first axis, or mixes them."""


class TooFine(Exception):
    """Sums pass 62 bits with so many binary digits behind the point."""


class Lowering(MapLowering):
    """One step after the other."""

    def run(self, output: Ref) -> Lowered:
        needed = self._needed([output])
        tested = self._needed([decision.value for decision in self.decisions])
        self.needed = needed | tested
        for step in self.steps:
            numbers = {ref.number for ref in step.outputs if ref is not None}
            self.place = step.place
            if numbers & needed:
                self._try(step)
            elif numbers & tested:  # for a test alone, which may mix images: then its bounds are taken
                with contextlib.suppress(Cannot, ValueError, KeyError, RuntimeError, TypeError, IndexError):
                    self._step(step)
        check_decisions(self.decisions, self.made_by, self._lowered, self.is_idle)
        return self._read(output)

    def _try(self, step: Step) -> None:
        try:
            self._step(step)
        except (Cannot, ValueError) as error:
            if "past 62 bits" in str(error) or "of up to 62 bits fit" in str(error):
                raise TooFine(f"{self._named(step)} {error}") from error
            kind = MixesImages if isinstance(error, Mixes) else ConversionError
            raise kind(f"{self._named(step)} {error}") from error
        except (RuntimeError, TypeError, IndexError, AttributeError) as error:  # in a form that was not thought of
            raise ConversionError(f"{self._named(step)} is not supported as it is used here: {error}") from error

    def _lowered(self, ref: Ref) -> Expr | Tensor | None:
        """What a value is, if it was lowered."""
        value = self.values.get(ref.number)
        return value.expr if isinstance(value, Value) else value

    def _named(self, step: Step) -> str:
        return f"{step.place} ({step.name})"

    def _needed(self, values: Sequence[Ref], steps: Sequence[Step] | None = None) -> set[int]:
        """What these values are made of."""
        needed = {ref.number for ref in values}
        for step in reversed(self.steps if steps is None else steps):
            if any(ref is not None and ref.number in needed for ref in step.outputs):
                needed |= {ref.number for ref in step.refs}
        return needed

    def _step(self, step: Step) -> None:
        name = step.name
        special: Callable[[Step], Any] | None = getattr(self, f"_do_{name}", None)
        equation = equation_of(step)
        if name in _LIKE and len(step.refs) == 1:
            found: Any = self._like(step)
        elif self._constant_alone(step):
            found = self._computed(step)
        elif special is not None:
            found = special(step)
        elif equation is not None:
            found = self._written(step, equation)
        elif name in MOVES:
            found = self._moved(step)
        elif name in LINEAR:
            found = self._resized(step)
        elif name in SAME:
            found = self._given(step.args[0])
        elif name not in _REFUSED and (step.pointwise or name in _ELEMENTWISE):
            found = self._elementwise(step)
        else:
            raise Cannot(_REFUSED.get(name, "is not supported between the layers of a network of integers"))
        outputs = found if isinstance(found, list) else [found]
        types = step.types or (None,) * len(outputs)
        for ref, value, kind in zip(step.outputs, outputs, types, strict=False):
            if ref is not None and value is not None:
                typed: Value | Tensor = self._of_type(value, kind, step) if kind in _WRAPPED else value
                if isinstance(typed, Value) and typed.ref.number < 0:  # made by a function of our own
                    typed = replace(typed, ref=ref)
                self.values[ref.number] = typed

    def _of_type(self, value: Value | Tensor, kind: torch.dtype | None, step: Step) -> Value | Tensor:
        """A result as its type holds it: a sum of bits is a bit; integers that pass the ends of theirs start again."""
        if kind is None or not isinstance(value, Value) or step.name in {*MOVES, *SAME}:
            return value
        if kind == torch.bool:
            fits = step.name not in _MAKE_NO_BITS
        else:
            ends, (low, high) = torch.iinfo(kind), self._reach(value)
            fits = ends.min <= low and high <= ends.max
        if fits:
            return value
        self.checks = [check for check in self.checks if check.step != step.number]  # the model has what follows
        return self._function(Cast(kind), value)

    @staticmethod
    def _reach(value: Value) -> tuple[float, float]:
        """The least and the greatest of a value, or of samples of it."""
        function = Function(value.expr)
        bounds = function.bounds()
        if bounds is not None:
            return bounds
        values = function.all_values()
        return float(values.min()), float(values.max())

    def _constant_alone(self, step: Step) -> bool:
        """Whether all that a step takes was found to be the same for all images, as what `ones_like` makes."""
        given = [self._given(ref) for ref in step.refs]
        return bool(given) and all(isinstance(value, Tensor) for value in given)

    def _computed(self, step: Step) -> Any:
        """What it makes of constants, each in the shape that it has in the run."""

        def whole(ref: Ref) -> Tensor:
            value: Tensor = self._given(ref)
            return value if tuple(value.shape) == ref.shape else value.expand(ref.shape)

        args, kwargs = tree_map_only(Ref, whole, (step.args, step.kwargs))
        found = step.op(*args, **kwargs)
        return list(found) if isinstance(found, (list, tuple)) else found

    def _written(self, step: Step, equation: Callable[..., Any]) -> list[Any]:
        """What an operation gives that is several simpler ones, each of which is lowered."""
        written = write(equation, step, self.unseen_from)
        self.unseen_from = written.end
        for own, ref in written.given:
            self.values[own.number] = self._given(ref)
        wanted = [
            found if ref is not None and (ref.number in self.needed or ref.number < 0) else None
            for found, ref in zip(written.outputs, step.outputs, strict=False)
        ]
        needed = self._needed([found for found in wanted if isinstance(found, Ref)], written.steps)
        self.needed |= needed
        self.made_by |= makers(written.steps)
        for own_step in written.steps:
            numbers = {ref.number for ref in own_step.outputs if ref is not None}
            if numbers & needed:
                self._step(own_step)
        return [self._given(found) for found in wanted]

    def _like(self, step: Step) -> Tensor:
        """Ones, zeros or one number of the shape of a value."""
        made = step.op(torch.zeros(step.args[0].shape, dtype=torch.float64), *step.args[1:], **step.kwargs)
        ones: Tensor = made[:1] if made.ndim else made
        return torch.zeros_like(ones) if "empty" in step.name else ones  # what lies in new memory means nothing

    def _do__softmax(self, step: Step) -> Value:
        return self._value(step.args[0]) if self._ends(step) else self._softmax(step)

    _do__safe_softmax = _do__softmax

    def _do__log_softmax(self, step: Step) -> Value:
        if self._ends(step):
            return self._value(step.args[0])
        ref = step.outputs[0]
        assert ref is not None
        below, _, total = self._powers(step)
        return self._sum([below, self._function(lambda v: -torch.log(v), total)], ref)

    def _ends(self, step: Step) -> bool:
        """Whether a softmax over the classes is the last thing, which keeps their order."""
        made = step.outputs[0]
        assert made is not None
        used = any(ref.number == made.number for later in self.steps for ref in later.refs if later.name not in SAME)
        rank = len(step.args[0].shape)
        return not used and made.number >= 0 and rank >= 2 and step.args[1] % rank == 1

    def _read(self, output: Ref) -> Lowered:
        value = self._given(output)
        if not isinstance(value, Value):
            raise ConversionError("the model's output does not depend on its input")
        step, _ = self.made_by.get(output.number, (None, 0))
        while step is not None and step.name in {*SAME, *MOVES, "_to_copy"}:
            step, _ = self.made_by.get(step.refs[0].number, (None, 0))
        if step is not None and step.name == "argmax":
            raise ConversionError(
                f"{self._named(step)} gives the number of a class: let the model give the classes' values"
            )
        size, shape = math.prod(value.shape), value.shape or (1,)
        if len(value.shape) != 1:
            value = self._shaped(value, Ref(output.number, (self.images, size)))
        try:
            leaf = self.exact(value)
        except (Cannot, ValueError) as error:
            raise ConversionError(f"the output {error}") from error
        scale, offset = (np.broadcast_to(part, (size,)).astype(np.float64) for part in (leaf.gain, leaf.constant))
        if leaf.source.node == INPUT or value.ref.number not in self.made_by:
            raise ConversionError("the model has no layer with weights: there is nothing to convert")
        scores = Scores(scale.copy(), offset.copy(), shape)
        try:
            graph = AcyclicGraph(self._used(leaf.source.node), leaf.source.node, scores, **self.domain)
        except ValueError as error:
            raise ConversionError(str(error)) from error
        steepest, most = float(np.abs(scale).max()), float(np.abs(offset).max())

        def slack(known: Known) -> float:
            return leaf.slack(known) + 16 * UNIT_ROUNDOFF * (steepest * known.largest(leaf.source) + most)

        step, _ = self.made_by[value.ref.number]
        checks = [check for check in self.checks if check.leaf.source.node in graph.nodes]
        return Lowered(graph, checks, Slack(slack), step.number, self.fraction)

    def _used(self, output: str) -> dict[str, Node]:
        """The nodes that lead to the output."""
        used = {output}
        for name in reversed(self.nodes):
            if name in used:
                used |= {*self.nodes[name].sources}
        return {name: node for name, node in self.nodes.items() if name in used}


_WRAPPED = {torch.bool, *NARROW}
# Operations on bits that are lowered as those on numbers.
_MAKE_NO_BITS = {"add", "sum", "maximum", "minimum", "amax", "amin", "prod", "index_add", "scatter_add"}


_LIKE = {
    *("ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full", "empty_like", "new_empty"),
    *("fill", "zero"),  # all of a value is written
}


_ELEMENTWISE = {"hardswish", "_prelu_kernel", "masked_fill", "fake_quantize_per_tensor_affine", "rsub"}


_REFUSED = {
    "frexp": "gives two values of each: compute the exponent as torch.floor(torch.log2(x.abs().clamp_min(1e-6))) + 1, "
    "and the mantissa as x / 2**exponent",
    "put": "writes at places of all images together: use torch.scatter, torch.where or torch.cat",
    "affine_grid_generator": "makes a grid that depends on the image: a fixed one is supported",
    "torchvision::deform_conv2d": "convolves at places that depend on the image: fixed kernels are supported",
}
