"""A spiking network of any acyclic form, step by step: its reference implementation.

Every time step, each node of `lava_meta.graph.nodes` makes integers of the integers of its sources, and each `Neurons`
node (`lava_meta.graph.spiking_neurons`) makes spikes of them and of what it remembers; `Delayed` nodes
(`lava_meta.graph.spiking_delays`) connect time steps. Chains of binary layers have a form of their own,
`lava_meta.graph.spiking`.

Nodes that depend on the input alone are computed once for an image that is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT, Entry, NodeGraph, Placed, node_entry, node_from, nodes_from, place
from lava_meta.graph.nodes import Conv, Linear, Node, WideWeight
from lava_meta.graph.spiking_delays import Delayed, Past
from lava_meta.graph.spiking_inputs import frames_of
from lava_meta.graph.spiking_neurons import DYNAMICS, MODELS, Neurons, Recurrent, State, state_of

_BATCH = 2**26  # integers of one batch of inputs


@dataclass(frozen=True, eq=False, repr=False)
class SteppedGraph(NodeGraph):
    """A whole network.

    Raises `ValueError` when nodes do not fit each other, name one that does not stand before them, or could pass 62
    bits.
    """

    nodes: Mapping[str, Node]  # in an order in which each comes behind its sources
    output: str  # the neurons whose spikes, or potentials, are read
    max_level: int  # inputs are integers min_level .. max_level; 0 and 1 for spikes
    input_shape: tuple[int, ...]
    min_level: int = 0
    signs: bool = False

    def __post_init__(self) -> None:
        self.check_nodes()
        if not isinstance(self.nodes.get(self.output), Neurons):
            raise ValueError(f"reads {self.output!r}, which are no neurons")
        self._check_delays()

    @cached_property
    def placed(self) -> dict[str, Placed]:
        """Every node with its shapes and bounds, by name, in order."""
        later = {
            node.sources[0]: (node.out, node.bounds((), ()))
            for node in self.nodes.values()
            if isinstance(node, Delayed) and node.sources[0] != INPUT
        }
        return place(self.nodes, self.input_shape, self.input_bounds, later)

    def _check_delays(self) -> None:
        """Raises `ValueError` for delays of what is no spikes or input, and nodes that take what stands behind them."""
        seen = {INPUT}
        for name, placed in self.placed.items():
            node, source = placed.node, placed.node.sources[0]
            if isinstance(node, Delayed):
                shape = (
                    self.input_shape
                    if source == INPUT
                    else self.placed[source].output_shape
                    if source in self.neurons
                    else None
                )
                low, high = (self.min_level, self.max_level) if source == INPUT else (0, 1)
                if node.out != shape or node.levels[0] > low or node.levels[1] < high:
                    raise ValueError(f"{name} delays {source}, {node.out} from {node.levels}, which gives {shape}")
            elif not {*node.sources} <= seen:
                raise ValueError(f"{name} takes {sorted({*node.sources} - seen)}, which does not stand before it")
            seen.add(name)

    @property
    def n_out(self) -> int:
        """Output neurons."""
        return self.placed[self.output].n_out

    @property
    def neurons(self) -> dict[str, Neurons]:
        """The layers of neurons by name, in order."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, Neurons)}

    def named_layers(self) -> list[tuple[str, Placed]]:
        """The layers of neurons with their places, in order."""
        return [(name, self.placed[name]) for name in self.neurons]

    @cached_property
    def timeless(self) -> frozenset[str]:
        """The nodes that depend on the input alone."""
        found = {INPUT}
        for name, node in self.nodes.items():
            if not isinstance(node, (Neurons, Delayed)) and {*node.sources} <= found:
                found.add(name)
        return frozenset(found - {INPUT})

    def frames(self, images: Any, steps: int | None, *, time_first: bool = True) -> NDArray[Any]:
        """What enters step by step, (steps, n, n_in); see `lava_meta.graph.spiking_inputs`."""
        return frames_of(images, steps, self.input_shape, (self.min_level, self.max_level), time_first=time_first)

    def run(self, form: str = "floating_pt") -> Run:
        """The network at rest, to be given one frame after the other."""
        return Run(self, form)

    def spikes(self, images: Any, steps: int | None = None, form: str = "floating_pt") -> dict[str, NDArray[Any]]:
        """The reference: spikes of every layer by name, uint8 (steps, n, units). Images and steps as for `frames`."""
        return self.traces(images, steps, form)[0]

    def traces(
        self,
        images: Any,
        steps: int | None = None,
        form: str = "floating_pt",
        layers: Iterable[str] | None = None,
        potentials: Iterable[str] = (),
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """The spikes of `layers` (default: all), and `potentials`, (steps, n, units), by name."""
        frames = self.frames(images, steps)
        names = [*self.neurons] if layers is None else [*layers]
        wanted = [*potentials]
        widest = max(layer.n_in + layer.n_out for layer in self.placed.values())
        batch = max(1, _BATCH // widest)
        parts = []
        for start in range(0, frames.shape[1], batch):
            run = self.run(form)
            rows: tuple[list[Any], list[Any]] = ([], [])
            for frame in frames[:, start : start + batch]:
                spikes = run.step(frame, held=steps is not None)
                rows[0].append([spikes[name].astype(np.uint8) for name in names])
                rows[1].append([run.potential(name) for name in wanted])
            parts.append(rows)

        def joined(place: int, keys: list[str]) -> dict[str, NDArray[Any]]:
            return {
                key: np.concatenate([np.stack([row[i] for row in rows[place]]) for rows in parts], axis=1)
                for i, key in enumerate(keys)
            }

        return joined(0, names), joined(1, wanted)

    # Files (`lava_meta.graph.spiking_file`).

    @classmethod
    def from_parts(cls, header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> SteppedGraph:
        """The network that a file's header and tensors describe. Raises what making its nodes raises."""
        return cls(
            nodes_from(header, lambda entry: _from_entry(entry, tensors)),
            header["output"],
            header["max_level"],
            tuple(header["input_shape"]),
            header["min_level"],
            header["signs"],
        )

    def parts(self) -> Entry:
        """What `from_parts` takes."""
        return self.described(_entry)

    # Summary.

    @property
    def sizes(self) -> str:
        """Inputs, layers of neurons and outputs: "1x28x28, lif1 1000, lif2 10"."""
        layers = (f"{name} {'x'.join(map(str, layer.output_shape))}" for name, layer in self.named_layers())
        return ", ".join(["x".join(map(str, self.input_shape)), *layers])

    def summary(self) -> list[dict[str, Any]]:
        """One row per node: name, kind, inputs, units, synapses, bits kept, and operations in a time step."""
        rows = []
        for name, layer in self.placed.items():
            node = layer.node
            kind = node.model if isinstance(node, Neurons) else node.kind
            row = {"layer": name, "kind": kind, "inputs": layer.n_in, "units": layer.n_out}
            weights = [part.weight for part in weighted(node)]
            synapses = [weight.fan_in * weight.units for weight in weights]
            row["synapses"] = sum(synapses)
            row["bits"] = sum(n * weight.bits_each for n, weight in zip(synapses, weights, strict=True))
            row["operations"] = sum(weight.fan_in * layer.n_out for weight in weights)
            rows.append(row)
        return rows


def weighted(node: Node) -> list[Linear | Conv]:
    """The node itself if it has weights, or the recurrent synapses of neurons if these have some."""
    if isinstance(node, Neurons) and node.recurrent is not None and node.recurrent.node is not None:
        return [node.recurrent.node]
    return [node] if isinstance(node, (Linear, Conv)) else []


class Run:
    """A network with what its neurons remember: `step` takes a frame (n, n_in) and gives the spikes of every layer.

    The first frame, and every one behind `restart`, says how many inputs there are; they begin at rest.
    """

    def __init__(self, graph: SteppedGraph, form: str = "floating_pt") -> None:
        if form not in DYNAMICS:
            raise ValueError(f"form is {form!r}; it is one of {', '.join(DYNAMICS)}")
        if form == "fixed_pt":
            check_fixed(graph)
        self.graph = graph
        self._states: dict[str, State] = {
            name: state_of(node, graph.placed[name].output_shape, form) for name, node in graph.neurons.items()
        }
        self._past = Past(graph.nodes)
        self._timeless: dict[str, NDArray[Any]] = {}
        self._lanes = 0

    def restart(self) -> None:
        """All neurons at rest."""
        self._lanes, self._timeless = 0, {}

    def step(
        self, frame: NDArray[Any], *, held: bool = False, forced: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """One time step: booleans (n, units) by layer.

        `held` says that all frames are this one. Spikes `forced` by layer go on to other layers in place of its own.
        """
        if not self._lanes:
            self._lanes = len(frame)
            self._past.restart()
            for state in self._states.values():
                state.restart(self._lanes)
        if len(frame) != self._lanes:
            raise ValueError(f"a frame of {len(frame)} inputs behind frames of {self._lanes}")
        values: dict[str, NDArray[Any]] = {INPUT: frame.reshape(-1, *self.graph.input_shape)}
        values |= self._timeless
        values |= self._past.given(self._lanes)
        out = {}
        for name, node in self.graph.nodes.items():
            if name in values:
                continue
            sources = [values[source] for source in node.sources]
            if isinstance(node, Neurons):
                spikes = self._fired(name, sources[0])
                out[name] = spikes.reshape(self._lanes, -1)
                sent = spikes if forced is None else forced.get(name, spikes)
                values[name] = sent.reshape(spikes.shape)
            else:
                values[name] = self._computed(name, sources)
        self._past.keep(values)
        if held and not self._timeless:
            self._timeless = {name: values[name] for name in self.graph.timeless}
        return out

    def _fired(self, name: str, sums: NDArray[Any]) -> NDArray[Any]:
        """Spikes (n, *shape) of a layer in this step."""
        return self._states[name].step(sums.astype(np.int64, copy=False))

    def _computed(self, name: str, sources: list[NDArray[Any]]) -> NDArray[Any]:
        """The integers of a node, from those or the spikes of its sources."""
        return self.graph.nodes[name]([source.astype(np.int64, copy=False) for source in sources])

    def potential(self, name: str) -> NDArray[Any]:
        """The potentials of a layer after the last step, (n, units): float32, or integers in fixed point."""
        return self._states[name].states["mem"].reshape(self._lanes, -1)

    def state(self, name: str) -> State:
        """The neurons of a layer."""
        return self._states[name]


def check_fixed(graph: SteppedGraph) -> None:
    """Raises `ConversionError` for a network whose weights are no integers of up to 8 bits."""
    for name, node in graph.nodes.items():
        for weight in (part.weight for part in weighted(node)):
            if isinstance(weight, WideWeight) and weight.values.dtype != np.int8:
                raise ConversionError(
                    f"{name} has weights of {weight.bits_each} bits; fixed point takes up to 8: pass bits=8 to "
                    "from_snntorch, which rounds them and measures what that changes"
                )


def _entry(name: str, node: Node) -> Entry:
    if isinstance(node, Delayed):
        fields = {"delay": node.delay, "out": list(node.out), "levels": list(node.levels)}
        return {"name": name, "kind": node.kind, "sources": list(node.sources)} | fields, {}
    if not isinstance(node, Neurons):
        return node_entry(name, node)
    entry: dict[str, Any] = {"name": name, "kind": node.kind, "sources": list(node.sources), "model": node.model}
    entry |= {"reset": node.reset, "reset_delay": node.reset_delay}
    arrays = {"gain": node.gain, "constant": node.constant} | {f"c.{key}": v for key, v in node.constants.items()}
    if node.recurrent is not None:
        arrays |= {"back.gain": node.recurrent.gain, "back.constant": node.recurrent.constant}
        if node.recurrent.node is not None:
            entry["back"], inner = node_entry(f"{name}.back", node.recurrent.node)
            arrays |= {f"back.{key}": value for key, value in inner.items()}
    return entry, arrays


def _from_entry(entry: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Node:
    if entry["kind"] == Delayed.kind:
        sources, out = ([*entry[key]] for key in ("sources", "out"))
        low, high = (int(level) for level in entry["levels"])
        return Delayed(tuple(map(str, sources)), entry["delay"], tuple(int(n) for n in out), (low, high))
    if entry["kind"] != Neurons.kind:
        return node_from(entry, tensors)
    name, model = entry["name"], str(entry["model"])
    if type(entry["reset_delay"]) is not bool or model not in MODELS:
        raise ValueError(f"{name} has a model or a delay of another kind")
    recurrent = None
    if f"{name}.back.gain" in tensors:
        inner = node_from(entry["back"], tensors) if "back" in entry else None
        if inner is not None and not isinstance(inner, (Linear, Conv)):
            raise ValueError(f"{name} has recurrent synapses of the kind {inner.kind}")
        recurrent = Recurrent(inner, tensors[f"{name}.back.gain"], tensors[f"{name}.back.constant"])
    return Neurons(
        tuple(str(source) for source in entry["sources"]),
        model,
        tensors[f"{name}.gain"],
        tensors[f"{name}.constant"],
        {key: tensors[f"{name}.c.{key}"] for key in MODELS[model][0]},
        str(entry["reset"]),
        entry["reset_delay"],
        recurrent,
    )
