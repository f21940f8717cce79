"""The report of a spiking network of any form, node by node, and what of it does not fit on a chip.

Operations are sums over the time steps of an image, counted from the spikes that the network sends: in integers, or in
floating point if its weights are too wide for these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.description import node_words
from lava_meta.graph.nodes import Conv, Linear
from lava_meta.graph.spiking import classes_at_last, classes_by_rate
from lava_meta.graph.spiking_graph import Run, SteppedGraph, check_fixed, weighted
from lava_meta.loihi.chips import find_chip
from lava_meta.loihi.cost.acyclic import (
    PER_SYNAPSE,
    GraphReport,
    NodeCost,
    bits_between,
    effective_operations,
    weight_bits_of,
)
from lava_meta.loihi.cost.populations import Population, populations
from lava_meta.loihi.cost.report import Placed, check_labels
from lava_meta.loihi.cost.workload import count
from lava_meta.loihi.stock.acyclic import Mapped
from lava_meta.loihi.stock.stepped import map_stepped

_BATCH = 64  # images at once


def stepped_report(
    graph: SteppedGraph,
    images: Any,
    target: str = "loihi2",
    *,
    steps: int | None = None,
    labels: Any = None,
    weight_bits: int = 8,
    share_kernels: bool = True,
) -> GraphReport:
    """As `lava_meta.loihi.cost.acyclic_report`, of images (n, ...) that are held for `steps`, or (steps, n, ...)."""
    if weight_bits != 8:
        raise ValueError(f"weight_bits is {weight_bits}; a network that is no chain is reported with 8")
    chip = find_chip(target)
    frames = graph.frames(images, steps)
    length, n, _ = frames.shape
    known = check_labels(labels, n)
    mapped = map_stepped(graph, length)
    done = _Counted(graph, frames)
    nodes = [
        NodeCost(
            node=name,
            kind=node_words(layer.node),
            units=layer.n_out,
            synapses=row["synapses"],
            weight_bits=max((weight_bits_of(part) or 0 for part in weighted(layer.node)), default=None),
            state_bits=bits_between(layer.low, layer.high),
            operations=length * row["operations"],
            effective_operations=done.effective[name] / n,
            stock_form=mapped.refused.get(name, "yes"),
        )
        for (name, layer), row in zip(graph.placed.items(), graph.summary(), strict=True)
    ]
    metrics = _metrics(graph, nodes, done, known)
    placed = None
    if not mapped.refused:
        groups = populations(mapped.layers)
        on_cores = Placed(mapped.layers, groups, chip, weight_bits, {}, share_kernels=share_kernels, steps=length)
        if any(isinstance(node, Conv) for node in graph.nodes.values()):
            on_cores.assumptions.append(PER_SYNAPSE)
        placed = on_cores.report(count(groups, _sent(groups, mapped, frames, done.spikes), n), metrics, {})
    return GraphReport(chip, n, nodes, placed, metrics)


class _Counted:
    """What a network does on frames: its spikes (steps, n, units), and operations by node, summed over all."""

    def __init__(self, graph: SteppedGraph, frames: NDArray[Any]) -> None:
        self.graph, self.form = graph, "fixed_pt"
        try:
            check_fixed(graph)
        except ConversionError:
            self.form = "floating_pt"
        self.effective = dict.fromkeys(graph.nodes, 0)
        self.macs = 0
        parts: list[dict[str, NDArray[Any]]] = []
        potentials: list[NDArray[Any]] = []
        for start in range(0, frames.shape[1], _BATCH):
            run = _CountingRun(self)
            rows = [run.step(frame) for frame in frames[:, start : start + _BATCH]]
            parts.append({name: np.stack([row[name] for row in rows]).astype(np.uint8) for name in graph.neurons})
            potentials.append(run.potential(graph.output))
        self.spikes = {name: np.concatenate([part[name] for part in parts], axis=1) for name in graph.neurons}
        self.last = np.concatenate(potentials)  # potentials of the output at the end, (n, units)

    def add(self, name: str, node: Linear | Conv, x: NDArray[Any]) -> None:
        """Count the sums of a node of x (n, ...)."""
        done = effective_operations(node, x != 0)
        self.effective[name] += done
        self.macs += done if int(np.abs(x.astype(np.int64)).max()) > 1 else 0


class _CountingRun(Run):
    def __init__(self, counted: _Counted) -> None:
        super().__init__(counted.graph, counted.form)
        self._counted = counted

    def _computed(self, name: str, sources: list[NDArray[Any]]) -> NDArray[Any]:
        node = self.graph.nodes[name]
        if isinstance(node, (Linear, Conv)):
            self._counted.add(name, node, sources[0])
        return super()._computed(name, sources)

    def _fired(self, name: str, sums: NDArray[Any]) -> NDArray[Any]:
        for part in weighted(self.graph.nodes[name]):
            self._counted.add(name, part, self._states[name].spikes)  # of the step before
        return super()._fired(name, sums)


def _metrics(graph: SteppedGraph, nodes: list[NodeCost], done: _Counted, labels: NDArray[Any] | None) -> dict[str, Any]:
    """NeuroBench's metrics (`lava_meta.loihi.cost.neurobench`), of all time steps of an image together."""
    n = len(done.last)
    weights = [part.weight for node in graph.nodes.values() for part in weighted(node)]
    constants = [
        part for node in graph.neurons.values() for part in (node.gain, node.constant, *node.constants.values())
    ]
    fired = sum(int(spikes.sum(dtype=np.int64)) for spikes in done.spikes.values())
    effective = sum(done.effective.values())
    found: dict[str, Any] = {
        "Footprint": sum(-(-weight.values.size * weight.bits_each // 8) for weight in weights)
        + sum(part.nbytes for part in constants),
        "Connection Sparsity": sum(int((weight.values == 0).sum()) for weight in weights)
        / max(1, sum(weight.values.size for weight in weights)),
        "Activation Sparsity": 1 - fired / sum(spikes.size for spikes in done.spikes.values()),
        "Synaptic Operations": {
            "Dense": sum(row.operations for row in nodes),
            "Effective_MACs": done.macs / n,
            "Effective_ACs": (effective - done.macs) / n,
        },
    }
    if labels is not None:
        fires = graph.neurons[graph.output].spiking
        classes = classes_by_rate(done.spikes[graph.output]) if fires else classes_at_last(done.last[None])
        found["Classification Accuracy"] = float((classes == labels).mean())
    return found


def _sent(
    groups: list[Population], mapped: Mapped, frames: NDArray[Any], spikes: dict[str, NDArray[Any]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """What every population sends in each time step; delays, which change no count, are left out."""
    neurons = {f"{layer.name}.{layer.output}": spikes[layer.name] for layer in mapped.layers if layer.name in spikes}
    for t, frame in enumerate(frames):
        values = {INPUT: frame.astype(np.int64)} | {name: fired[t].astype(np.int64) for name, fired in neurons.items()}
        for population in groups:
            if population.name in neurons:
                continue
            if population.part.kind == "LIFReset":  # what silences recurrent layers, once for an image
                values[population.name] = np.full((len(frame), population.units), int(t == len(frames) - 1))
            else:
                values[population.name] = population.send(values)
        yield values
