"""One time step of a recorded run, lowered to integers: a `SteppedGraph`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from lava_meta.converters.chain.folding import check_statistics
from lava_meta.converters.functions.elementwise import Function
from lava_meta.converters.functions.expressions import Leaf, Source
from lava_meta.converters.functions.forms import Affine, Form
from lava_meta.converters.lowering.acyclic import first_leaf
from lava_meta.converters.lowering.decisions import check_decisions
from lava_meta.converters.lowering.graph import FRACTIONS, Lowering, TooFine
from lava_meta.converters.lowering.values import Cannot, Value
from lava_meta.converters.recording.operations import Decision
from lava_meta.converters.recording.steps import Place, Ref, Step
from lava_meta.converters.spiking.answer import Answer, Returned
from lava_meta.converters.spiking.modules import Cell, constants_of, factor_of, recurrent_of
from lava_meta.converters.spiking.run import NEURONS, NotThisTime, Seen
from lava_meta.converters.weights import Decomposed, decompose
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.nodes import MOST, Node, weight_of
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons


def lowered(seen: Seen, bits: int | None) -> tuple[SteppedGraph, str | None]:
    """The network of one step, and how its classes are read; None if that is not known."""
    ends = seen.ends()
    answer = Returned(seen.recording, seen.sent, ends, seen.last()).answer()
    if answer.readout == "rate" and not _counts_alike(seen.cells[answer.layer]):
        answer = replace(answer, readout=None)
    clone = dict(seen.model.named_modules())
    for name in {step.place.module for step in seen.recording.steps}:
        check_statistics(f"{name} ({type(clone[name]).__name__})", clone[name])
    error: Exception | None = None
    for fraction in FRACTIONS:
        try:
            return _Steps(seen, ends[seen.lag : seen.lag + 1], fraction, bits, answer).run(), answer.readout
        except TooFine as fine:
            error = fine
    raise ConversionError(f"{error}: with {FRACTIONS[-1]} binary digits too; scale the values down")


def _counts_alike(cell: Cell) -> bool:
    """Whether spikes of all neurons count the same, and the more the better."""
    factor = cell.module.graded_spikes_factor
    return bool((factor == factor.reshape(-1)[0]).all() and (factor > 0).all())


class _Steps(Lowering):
    """Lowers the first time step of a run."""

    def __init__(self, seen: Seen, ends: list[Ref], fraction: int, bits: int | None, answer: Answer) -> None:
        domain = {
            "max_level": seen.feed.max_level,
            "min_level": seen.feed.min_level,
            "signs": False,
            "input_shape": seen.shape,
        }
        first = first_leaf(seen.feed, seen.shape, signs=False)
        recording = replace(seen.recording, steps=[_single(step) for step in seen.recording.steps])
        super().__init__(recording, first, domain, fraction)
        self._seen, self._ends_at, self._answer, self._bits = seen, ends, answer, bits
        self._first = self.values[recording.input.number]

    def run(self) -> SteppedGraph:  # type: ignore[override]  # a network with time
        seen = self._seen
        wanted = [found[seen.lag] for found in seen.arguments.values()] + self._ends_at
        needed = set[int]().union(*(self._needed_in_step(ref) for ref in wanted if isinstance(ref, Ref)))
        tests = self._tests()
        tested = set[int]().union(*(self._needed_in_step(test.value) for test in tests)) - needed
        for number, own in seen.frames_taken.items():
            ref = Ref(number, tuple(own.shape))
            if number in needed | tested and own.shape[0] == self.images:
                self.values[number] = self._placed(self._frame(seen.lag - max(seen.at(ref))), own, ref)
        delayed = self._delay(needed | tested)
        for step in self.steps:
            outputs = {ref.number for ref in step.outputs if ref is not None}
            call = step.name == NEURONS and step.number in seen.lowered_calls
            if step.name == NEURONS and not call:
                continue
            if not call and not outputs & (needed | tested):
                continue
            if outputs & {*seen.frames_taken}:
                continue
            if not call and not outputs & needed:  # for a test alone, as in networks without time steps
                with contextlib.suppress(Cannot, ValueError, KeyError):
                    self._step(step)
                continue
            self.place = step.place
            try:
                for number in outputs & needed & {*seen.taken}:
                    self._take(number)
                    outputs -= {number}
                if call:
                    self._call(step)
                elif outputs & (needed | tested):
                    self._step(step)
            except (Cannot, ValueError) as error:
                if "past 62 bits" in str(error) or "of up to 62 bits fit" in str(error):
                    raise TooFine(f"{self._named(step)} {error}") from error
                failed = NotThisTime if "mixes the images" in str(error) else ConversionError
                raise failed(f"{self._named(step)} {error}") from error
        check_decisions(tests, self.made_by, self._lowered, self.is_idle)
        for name, cell in delayed.items():
            self.nodes[name] = replace(self.nodes[name], sources=(seen.names[cell.name],))
        if self._ends_at:
            output = self._integrator(self._value(self._ends_at[0]))
        else:
            output = seen.names[seen.cells[self._answer.layer].name]
        try:
            return SteppedGraph(self.nodes, output, **self.domain)
        except ValueError as error:
            raise ConversionError(str(error)) from error

    def _take(self, number: int) -> None:
        """A value that was taken of a stack."""
        part, places = self._seen.taken[number]
        value = self.values[part.number]
        if places is not None and isinstance(value, Value):
            value = self._placed(value, places, Ref(number, tuple(places.shape)))
        self.values[number] = value

    def _frame(self, lag: int) -> Value:
        """A frame so many steps before this one's."""
        assert isinstance(self._first, Value)
        leaf = self._first.exact or self.exact(self._first)
        if not lag:
            return self._first
        if np.any(leaf.constant):
            raise ConversionError(
                "the forward takes frames of earlier steps, and levels of 0 are no 0 to it: pass mean=0"
            )
        source = self._delayed(
            INPUT, lag, leaf.source.shape, (min(0, self._seen.feed.min_level), self._seen.feed.max_level)
        )
        made = replace(leaf, source=source)
        return Value(made, source.shape, self._first.ref, exact=made)

    def _delay(self, needed: set[int]) -> dict[str, Cell]:
        """The spikes of earlier steps that are needed: nodes, and the cells that they delay."""
        seen, found = self._seen, dict[str, Cell]()
        for i, steps in seen.sent.items():
            cell = seen.cells[i]
            for k, refs in enumerate(steps[: seen.lag]):
                ref = refs[0]
                if ref is None or ref.number not in needed:
                    continue
                shape = ref.shape[1:]
                source = self._delayed(cell.name, seen.lag - k, shape, (0, 1))
                leaf = Leaf(source, factor_of(cell, shape), np.zeros((1,) * len(shape)))
                self.values[ref.number] = Value(leaf, shape, ref, exact=leaf)
                found[source.node] = cell
        return found

    def _delayed(self, what: str, lag: int, shape: tuple[int, ...], levels: tuple[int, int]) -> Source:
        name = f"{what}.{lag} step{'s' * (lag > 1)} before"
        self.nodes[name] = node = Delayed((what,), lag, shape, levels)
        low, high = node.bounds((), ())
        self._sources[name] = Source(name, shape, low, high)
        return self._sources[name]

    def _tests(self) -> list[Decision]:
        """The tests of values in the forward, each in the first time step that makes it."""
        first: dict[Any, Decision] = {}
        for test in self.decisions:
            other = first.setdefault(self._seen.key(test.value), test)
            if other.outcome != test.outcome:
                raise ConversionError(f"{test.place} asks for values of the images, which differ from step to step")
        return [*first.values()]

    def _needed_in_step(self, ref: Ref) -> set[int]:
        """The values that lead to one of this step, back to neurons and frames."""
        found, todo = set[int](), [ref]
        while todo:
            ref = todo.pop()
            if ref.number in found:
                continue
            found.add(ref.number)
            if ref.number in self._seen.taken:
                todo.append(self._seen.taken[ref.number][0])
                continue
            step, _ = self.made_by.get(ref.number, (None, 0))
            if step is not None and step.name != NEURONS and ref.number not in self._seen.frames_taken:
                todo += step.refs
        return found

    def _given(self, ref: Any) -> Any:
        if isinstance(ref, Ref) and ref.number in self._seen.potentials:
            raise Cannot("computes with a potential; only spikes go on to other layers")
        return super()._given(ref)

    def _call(self, step: Step) -> None:
        current, _, index, _ = step.args
        cell = self._seen.cells[index]
        leaf = self.exact(self._value(current))
        shape = leaf.source.shape
        ones = (1,) * len(shape)

        def weighted(matrix: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
            made = self._decomposed(matrix, 1)
            return weight_of(made.integers), made.unit

        node = Neurons(
            (leaf.source.node,),
            cell.model,
            np.asarray(leaf.gain, np.float64).reshape(_ranked(leaf.gain, shape)),
            np.asarray(leaf.constant, np.float64).reshape(_ranked(leaf.constant, shape)),
            constants_of(cell, shape),
            cell.module.reset_mechanism,
            bool(getattr(cell.module, "reset_delay", True)),
            recurrent_of(cell, shape, weighted),
        )
        ref = step.outputs[0]
        assert ref is not None
        source = self._add(ref, node, shape)
        self._seen.names[cell.name] = source.node
        made = Leaf(source, factor_of(cell, shape), np.zeros(ones))
        self.values[ref.number] = Value(made, shape, ref, exact=made)

    def _integrator(self, value: Value) -> str:
        leaf = self.exact(value)
        self.place = Place("?", 0, "output", "model")
        shape = leaf.source.shape
        gain, constant = (part.reshape(_ranked(part, shape)) for part in (leaf.gain, leaf.constant))
        return self._add(value.ref, Neurons((leaf.source.node,), "integrator", gain, constant, {}), shape).node

    def form(self, value: Value) -> Form:
        """Lines before levels: currents are real numbers, and their scale is a factor."""
        if value.form is None:
            found = Function(value.expr).form(levels=False)
            if isinstance(found, Affine):
                value.form = found
        return super().form(value)

    def _name(self, node: Node) -> str:
        if not isinstance(node, Neurons):
            return super()._name(node)
        base = self.place.module or "neurons"
        return base if base not in self.nodes and base not in ("input", "readout") else super()._name(node)

    def _decomposed(self, weights: NDArray[Any], largest: int, most: int = MOST // 4) -> Decomposed:
        made = decompose(weights, largest, most)
        greatest = 127 if self._bits is None else 2 ** (self._bits - 1) - 1
        if self._bits is None or np.abs(made.integers).max() <= max(1, greatest):
            return made
        size = np.abs(weights).max(axis=1, keepdims=True)
        unit = np.where(size > 0, size, 1.0) / greatest
        return Decomposed(np.rint(weights / unit).astype(np.int64), unit, 0.5, close=False)


def _ranked(array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * len(shape) if array.size == 1 else array.shape


def _single(step: Step) -> Step:
    """A step with its single numbers as a float32 model has them."""
    if step.name not in ("mul", "div", "add", "sub"):
        return step

    def rounded(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.numel() == 1 and leaf.is_floating_point():
            return leaf.to(torch.float32).to(leaf.dtype)
        return float(np.float32(leaf)) if isinstance(leaf, float) else leaf

    return replace(step, args=tree_map(rounded, step.args))
