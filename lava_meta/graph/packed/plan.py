"""Which nodes of an `AcyclicGraph` are one step, as nothing else wants what lies between them.

- A threshold of two codes is one step with the sums before it.
- Curves are one with the addition behind them, both with the join behind them, and all with the curve and the threshold
  of the result (`lava_meta.graph.packed.passes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from lava_meta.graph.acyclic import INPUT, AcyclicGraph
from lava_meta.graph.nodes import Add, Concat, Curve, Node, Threshold
from lava_meta.graph.packed import steps
from lava_meta.graph.packed.held import stored_of
from lava_meta.graph.packed.passes import EIGHT


@dataclass(frozen=True)
class Part:
    """A sum of sources, of which some pass a curve, in so many channels."""

    terms: tuple[str, ...]
    curves: tuple[str | None, ...]
    channels: int


@dataclass(frozen=True)
class Planned:
    """What a step takes, and if it is a pass, what that is.

    of: the node that the parts are, side by side, before the curve `after` and the threshold `fires`. stores: whether
    more than the threshold is wanted. fired: it is a threshold that its source has computed. over: the source whose
    place in memory the value takes, as nothing wants it afterwards.
    """

    sources: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    of: str = ""
    after: str | None = None
    fires: str | None = None
    stores: bool = True
    fired: bool = False
    over: int | None = None

    @property
    def name(self) -> str:
        """The node whose value a pass gives."""
        return self.after or (self.of if self.stores else self.fires or self.of)


def bounds(graph: AcyclicGraph, name: str) -> steps.Range:
    """The least and the greatest integer of a node, or of the input."""
    if name == INPUT:
        return graph.min_level, graph.max_level
    return graph.placed[name].low, graph.placed[name].high


class Plan:
    """The steps of a graph, of which the nodes `kept` are to be given out; `firing`: sums that can fire."""

    def __init__(self, graph: AcyclicGraph, kept: Set[str], firing: Set[str]) -> None:
        self._graph, self._nodes, self._kept, self._firing = graph, graph.nodes, kept, firing
        self._takers: dict[str, list[str]] = {}
        for name, node in graph.nodes.items():
            for source in dict.fromkeys(node.sources):
                self._takers.setdefault(source, []).append(name)

    def steps(self) -> dict[str, Planned]:
        """By the name of the node that they give, each behind what it takes."""
        found: dict[str, Planned] = {}
        givers: dict[str, str] = {}  # of thresholds and curves that are part of a pass before them
        for name, node in self._nodes.items():
            if name in givers:
                if givers[name] != name:
                    found[name] = Planned((givers[name],), fired=True)
            elif self._joins(name) or self._fires(name):
                continue
            elif isinstance(node, Threshold) and self._fires(node.sources[0]):
                found[name] = Planned(self._nodes[node.sources[0]].sources)
            elif self._is_pass(name):
                step = self._pass(name)
                found[step.name] = step
                givers |= {part: step.name for part in (step.after, step.fires) if part is not None}
            else:
                found[name] = Planned(node.sources)
        return {name: self._in_place(step, found) for name, step in found.items()}

    def _pass(self, name: str) -> Planned:
        node = self._nodes[name]
        parts = tuple(map(self._part, node.sources)) if isinstance(node, Concat) else (self._sum(name),)
        whole = len(parts) == 1 or all(part.channels % EIGHT == 0 for part in parts)
        takers = self._takers.get(name, [])
        thresholds = [taker for taker in takers if whole and self._has_two_codes(taker)]
        fires = thresholds[0] if len(thresholds) == 1 else None
        others = [taker for taker in takers if taker != fires]
        after = others[0] if len(others) == 1 and self._bends(others[0]) and name not in self._kept else None
        sources = tuple(term for part in parts for term in part.terms)
        stores = bool(others) or name in self._kept or fires is None
        return Planned(sources, parts, name, after, fires, stores=stores)

    def _in_place(self, step: Planned, found: Mapping[str, Planned]) -> Planned:
        """A sum where one of its terms lies, of the same shape, that is another pass' and of no use to others."""
        if len(step.parts) != 1 or not step.stores:
            return step
        for i, term in enumerate(step.sources):
            takers = [other for other in found.values() if term in other.sources and not other.fired]
            passed = term in found and found[term].parts and found[term].stores
            if passed and takers == [step] and step.sources.count(term) == 1 and term not in self._kept:
                return replace(step, over=i)
        return step

    def _part(self, name: str) -> Part:
        return self._sum(name) if self._joins(name) else Part((name,), (None,), self._channels(name))

    def _sum(self, name: str) -> Part:
        """A curve or an addition, with the curves that belong to it."""
        node = self._nodes[name]
        terms, curves = [], []
        for term in node.sources if isinstance(node, Add) else [name]:
            joined = isinstance(node, Curve) or self._joins(term)
            terms.append(self._nodes[term].sources[0] if joined else term)
            curves.append(term if joined and not self._is_identity(term) else None)
        return Part(tuple(terms), tuple(curves), self._channels(name))

    def _channels(self, name: str) -> int:
        shape = self._graph.input_shape if name == INPUT else self._graph.placed[name].output_shape
        return stored_of(shape)[2]

    def _is_pass(self, name: str) -> bool:
        node = self._nodes[name]
        if isinstance(node, Concat):
            return self._is_map(name) and any(map(self._joins, node.sources))
        return self._is_sum(name) or self._bends(name)

    def _joins(self, name: str) -> bool:
        """Whether a curve is part of the addition behind it, or either of the join behind it."""
        takers = self._takers.get(name, [])
        if len(takers) != 1 or name in self._kept:
            return False
        node, taker = self._nodes.get(name), self._nodes[takers[0]]
        if isinstance(taker, Concat) and self._is_map(takers[0]):
            return isinstance(node, Curve) or (self._is_sum(name) and node is not None and len(node.sources) == 2)
        return isinstance(node, Curve) and self._is_sum(takers[0])

    def _bends(self, name: str) -> bool:
        """Whether a node is a curve that is no part of what is behind it."""
        return isinstance(self._nodes[name], Curve) and not self._is_identity(name) and not self._joins(name)

    def _fires(self, name: str) -> bool:
        """Whether sums are one step with the threshold behind them."""
        takers = self._takers.get(name, [])
        alone = len(takers) == 1 and name not in self._kept and name in self._firing
        return alone and self._has_two_codes(takers[0])

    def _is_sum(self, name: str) -> bool:
        """Whether a node adds sources of its own shape."""
        layer = self._graph.placed.get(name)
        return layer is not None and isinstance(layer.node, Add) and {*layer.input_shapes} == {layer.output_shape}

    def _is_map(self, name: str) -> bool:
        """Whether the sources of a join are vectors, or maps."""
        return {len(shape) for shape in self._graph.placed[name].input_shapes} <= {1, 3}

    def _is_identity(self, name: str) -> bool:
        layer = self._graph.placed[name]
        return steps.is_identity(layer, bounds(self._graph, layer.node.sources[0]))

    def _has_two_codes(self, name: str) -> bool:
        node: Node = self._nodes[name]
        return isinstance(node, Threshold) and steps.has_two_codes(node)
