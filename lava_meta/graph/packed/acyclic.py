"""An `AcyclicGraph`, compiled: the same integers, on packed signs if these meet binary weights.

The nodes become steps (`lava_meta.graph.packed.steps`) whose kernels are chosen by the bounds of their integers, some
nodes together (`lava_meta.graph.packed.plan`).

As maps become smaller, more images fit in the cache and share one reading of the weights, which become more: the steps
form stages, each of which takes the results of several passes of the stage before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph
from lava_meta.graph.nodes import Concat, Conv, Curve, Gather, Linear, Pool, Threshold
from lava_meta.graph.packed import steps
from lava_meta.graph.packed.held import Held, flat, joined, narrowest, stored_of, to_stored
from lava_meta.graph.packed.passes import Fired, Line, Pass
from lava_meta.graph.packed.plan import Plan, Planned, bounds

_LANES = 32  # images at once, at most
_CACHE = 2**21  # bytes of the widest value of all lanes: of fewer lanes, calls cost more than the cache saves


@dataclass(frozen=True)
class Task:
    """A step of a program: what it takes, what it gives, and what nobody wants behind it."""

    name: str
    sources: tuple[str, ...]
    step: steps.Step
    done: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """Steps that so many images pass at once."""

    lanes: int
    tasks: list[Task]


class PackedAcyclic:
    """`sums`, `predict` and `activations` equal the graph's own, integer for integer.

    Takes inputs that `AcyclicGraph.check_images` returned, (n, n_in) of type `graph.dtype`; compiles when made.
    `cache`: bytes that the widest values of the images that pass a step at once may take.
    """

    def __init__(self, graph: AcyclicGraph, *, cache: int = _CACHE) -> None:
        self.n_in, self.n_out = graph.n_in, graph.n_out
        self.dtype, self.domain = graph.dtype, graph.domain
        self.names = tuple(name for name, _ in graph.named_layers())
        self._graph, self._cache = graph, cache
        self._kind = np.dtype(np.uint8) if self.dtype == np.uint8 else narrowest(graph.min_level, graph.max_level)
        self._programs: dict[frozenset[str], list[Stage]] = {}
        self.sums(np.full((1, self.n_in), graph.max_level, self.dtype))

    def sums(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The readout's integers, int64 (n, classes)."""
        return self.activations(pixels, (READOUT,))[READOUT]

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,): argmax of the values, lowest index on ties."""
        return self._graph.readout.classes(sums)

    def predict(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(
        self, pixels: NDArray[Any], names: Iterable[str] | None = None, lanes: int = _LANES
    ) -> dict[str, NDArray[Any]]:
        """The integers of the nodes `names` (default: of all), `lanes` images at a time, or fewer."""
        names = self.names if names is None else tuple(names)
        if pixels.dtype != self.dtype or pixels.ndim != 2 or pixels.shape[1] != self.n_in:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; expected {self.dtype} (n, {self.n_in})")
        kept = frozenset(self._graph.output if name == READOUT else name for name in names)
        if kept not in self._programs:
            self._programs[kept] = _Program(self._graph, kept, self._cache).stages
        stages = self._programs[kept]
        lanes = max(1, min(lanes, _LANES))
        parts = []
        for start in range(0, max(1, len(pixels)), lanes):
            values = self._run(stages, pixels[start : start + lanes])
            parts.append({name: self._given(name, values) for name in names})
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _run(self, stages: Sequence[Stage], pixels: NDArray[Any]) -> dict[str, Held]:
        """What is wanted behind the last of these stages."""
        if not stages:
            first = to_stored(pixels.reshape(-1, *self._graph.input_shape)).astype(self._kind, order="C")
            return {INPUT: Held(stored_of(self._graph.input_shape), integers=first)}
        *before, stage = stages
        if len(pixels) > stage.lanes:
            starts = range(0, len(pixels), stage.lanes)
            parts = [self._run(stages, pixels[start : start + stage.lanes]) for start in starts]
            return {name: joined([part[name] for part in parts]) for name in parts[0]}
        values = self._run(before, pixels)
        for task in stage.tasks:
            values[task.name] = task.step([values[source] for source in task.sources])
            for name in task.done:
                del values[name]
        return values

    def _given(self, name: str, values: dict[str, Held]) -> NDArray[Any]:
        """The integers of a node, (n, n_out)."""
        node = self._graph.output if name == READOUT else name
        layer = self._graph.placed[node]
        return flat(values[node], layer.output_shape).astype(np.int64 if name == READOUT else layer.dtype)


class _Program:
    """The stages of a graph, of which the nodes `kept` are to be given out."""

    def __init__(self, graph: AcyclicGraph, kept: frozenset[str], cache: int) -> None:
        self.graph, self.kept = graph, kept
        self.signs = self._sign_nodes()
        self.summed = {name: self._sums(name) for name, node in graph.nodes.items() if isinstance(node, (Linear, Conv))}
        firing = {name for name, summed in self.summed.items() if summed is not None and summed.fires()}
        planned = Plan(graph, kept, firing).steps()
        last = {source: name for name, step in planned.items() for source in step.sources}
        self.stages: list[Stage] = []
        lanes = self._lanes([*planned], cache)
        for name, step in planned.items():
            done = tuple(source for source in {*step.sources} if last[source] == name and source not in kept)
            if not self.stages or self.stages[-1].lanes != lanes[name]:
                self.stages.append(Stage(lanes[name], []))
            self.stages[-1].tasks.append(Task(name, step.sources, self._step(name, step), done))

    def _lanes(self, names: list[str], cache: int) -> dict[str, int]:
        """By step, as many images as leave what it and all later steps take in the cache; powers of two that rise."""
        found, most = {}, _LANES
        for name in reversed(names):
            layer = self.graph.placed[name]
            fit = max(1, cache // (8 * max(layer.n_in, layer.n_out)))
            most = min(most, 1 << (fit.bit_length() - 1))
            found[name] = most
        return found

    def _step(self, name: str, planned: Planned) -> steps.Step:
        node, layer = self.graph.nodes[name], self.graph.placed[name]
        if planned.parts:
            return self._pass(planned)
        if planned.fired:
            return steps.fired_before(layer)
        if isinstance(node, (Linear, Conv)):
            summed = self.summed[name]
            return steps.depthwise(layer) if summed is None else summed.step(layer)
        if isinstance(node, Threshold):
            if planned.sources != node.sources:
                summed = self.summed[node.sources[0]]
                assert summed is not None
                return steps.fired(layer, summed)
            return steps.threshold(layer)
        if isinstance(node, Curve):
            return lambda values: values[0]
        if isinstance(node, Concat):
            return steps.concat(layer)
        if isinstance(node, Gather):
            moved = steps.moved_to(layer)
            if self._order(name) is not None or np.array_equal(moved, np.arange(math.prod(layer.input_shapes[0]))):
                return steps.reshaped(layer)
            return steps.gather(layer)
        if isinstance(node, Pool):
            return steps.pooled(layer, signs=node.sources[0] in self.signs)
        return steps.by_reference(layer)

    def _pass(self, planned: Planned) -> steps.Step:
        """Parts side by side, each with the curves, and with its share of what is behind all of them."""
        parts, first = [], 0
        limits = None if planned.fires is None else steps.two_codes(self.graph.placed[planned.fires])
        for part in planned.parts:
            channels = slice(first, first + part.channels)
            lines = [self._line(curve) for curve in part.curves]
            fired = None if limits is None else Fired(*limits, channels)
            ends = [curve or term for curve, term in zip(part.curves, part.terms, strict=True)]
            most = sum(max(map(abs, bounds(self.graph, end))) for end in ends)
            parts.append((Pass(lines, most, self._line(planned.after, channels), fired), part.channels))
            first += part.channels
        layer = self.graph.placed[planned.name]
        return steps.passed(layer, parts, stores=planned.stores, fires=planned.fires is not None, over=planned.over)

    def _line(self, name: str | None, channels: slice = slice(None)) -> Line | None:
        if name is None:
            return None
        layer = self.graph.placed[name]
        return Line(layer, bounds(self.graph, layer.node.sources[0]), channels)

    def _sums(self, name: str) -> steps.Summed | None:
        source = self.graph.nodes[name].sources[0]
        return steps.sums_of(
            self.graph.placed[name], bounds(self.graph, source), signs=source in self.signs, order=self._order(source)
        )

    def _order(self, name: str) -> NDArray[Any] | None:
        """The order in which a flattened image may stay, as only linear layers take it: their weights move instead."""
        node = self.graph.nodes.get(name)
        if not isinstance(node, Gather) or name in self.kept or len(node.out) != 1:
            return None
        takers = [other for other in self.graph.nodes.values() if name in other.sources]
        moved = steps.moved_to(self.graph.placed[name])
        if not all(isinstance(other, Linear) for other in takers) or moved.size != math.prod(
            self.graph.placed[name].input_shapes[0]
        ):
            return None
        order = np.argsort(moved, kind="stable")
        return order if np.array_equal(moved[order], np.arange(moved.size)) else None

    def _sign_nodes(self) -> set[str]:
        """The nodes that give +1 and -1 alone."""
        found = {INPUT} if self.graph.signs else set()
        for name, node in self.graph.nodes.items():
            if isinstance(node, Threshold):
                signs = bool((np.abs(node.codes) == 1).all())
            elif isinstance(node, Gather):
                signs = node.sources[0] in found and (node.index is None or node.index.min() >= 0)
            else:
                signs = {*node.sources} <= found and (
                    isinstance(node, Concat) or (isinstance(node, Pool) and node.how == "max")
                )
            found |= {name} if signs else set()
        return found
