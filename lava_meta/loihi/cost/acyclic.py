"""What a network of any form will cost on a chip, node by node, and what of it does not fit there.

    report = net.report("loihi2", images)
    print(report)                     every node; cores and energy too, if the whole network has a stock form
    report.save("folder")             report.json, report.txt, report.png, report.pdf

Synapses, bits and operations are those of the network's integers. What a node needs beyond Loihi's ranges is named with
its reason (`lava_meta.loihi.stock.acyclic`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta import html
from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph
from lava_meta.graph.description import node_words
from lava_meta.graph.nodes import Conv, Linear
from lava_meta.graph.packed.compiled import compiled
from lava_meta.loihi.chips import Chip, find_chip
from lava_meta.loihi.cost.assumptions import OURS, Assumption
from lava_meta.loihi.cost.node_figure import draw_nodes
from lava_meta.loihi.cost.populations import populations
from lava_meta.loihi.cost.record import named
from lava_meta.loihi.cost.report import Placed, Report, check_labels
from lava_meta.loihi.cost.saving import save_report
from lava_meta.loihi.cost.tables import node_table
from lava_meta.loihi.cost.workload import measure
from lava_meta.loihi.stock.acyclic import map_acyclic

_BATCH = 64  # images at once
PER_SYNAPSE = Assumption("Convolutions of a network that is no chain are stored per synapse.", OURS)


@dataclass(frozen=True)
class NodeCost:
    """What one node takes, and does per image."""

    node: str
    kind: str
    units: int  # integers that it gives
    synapses: int  # stored weights; those of a convolution are used at every position
    weight_bits: int | None  # of each, with its sign; None if it has none
    state_bits: int  # of its integers, with their sign
    operations: int  # multiply-accumulates per image
    effective_operations: float  # those whose input and weight are not 0, a mean
    stock_form: str  # "yes", or why it has none


@dataclass(frozen=True, eq=False)
class GraphReport:
    """All figures, of which `placed` exists if every node has a stock form."""

    chip: Chip
    images: int  # on which was counted
    nodes: list[NodeCost]
    placed: Report | None = field(repr=False)
    neurobench: dict[str, Any] = field(repr=False)

    @property
    def refused(self) -> dict[str, str]:
        """By node that has no stock form, why."""
        return {row.node: row.stock_form for row in self.nodes if row.stock_form != "yes"}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        rows = [named(row) for row in self.nodes]
        found = {"chip": vars(self.chip), "images": self.images, "nodes": rows, "refused": self.refused}
        if self.placed is not None:
            return found | self.placed.to_dict()
        return found | {"neurobench": self.neurobench, "verified": False}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write report.json, report.txt, report.png and report.pdf, each whole or not at all."""
        save_report(self, draw_nodes(self.nodes), folder)

    def __str__(self) -> str:
        head = f"Nodes of the network, operations counted on {self.images:,} images"
        return "\n\n".join([head, node_table(self.nodes), self._verdict()])

    def __repr__(self) -> str:
        synapses = sum(row.synapses for row in self.nodes)
        fits = "all have a stock form" if not self.refused else f"{len(self.refused)} have no stock form"
        return f"GraphReport({self.chip.name}, {len(self.nodes)} nodes, {synapses:,} synapses; {fits})"

    def _repr_html_(self) -> str:
        rows = [named(row) for row in self.nodes]
        columns = [name.replace("_", " ") for name in NodeCost.__dataclass_fields__]
        return html.table(columns, [[row.get(column, "") for column in columns] for row in rows], repr(self))

    def _verdict(self) -> str:
        if self.placed is not None:
            return str(self.placed)
        reasons = "\n".join(f"- {name} {reason}" for name, reason in self.refused.items())
        return f"Does not fit {self.chip.name}:\n{reasons}"


def acyclic_report(
    graph: AcyclicGraph,
    images: Any,
    target: str = "loihi2",
    *,
    labels: Any = None,
    weight_bits: int = 8,
    share_kernels: bool = True,
    plastic: Mapping[str, int] | None = None,
) -> GraphReport:
    """As `lava_meta.loihi.cost.report`; synapses have 8 bits, each its own place, and none is plastic."""
    if plastic:
        raise ValueError("plastic names layers that learn; those are layers of chains of binary layers")
    if weight_bits != 8:
        raise ValueError(f"weight_bits is {weight_bits}; a network that is no chain is reported with 8")
    chip = find_chip(target)
    pixels = graph.check_images(images)
    known = check_labels(labels, len(pixels))
    mapped = map_acyclic(graph)
    effective, metrics = _counted(graph, pixels, known)
    nodes = [
        NodeCost(
            node=name,
            kind=node_words(layer.node),
            units=row["units"],
            synapses=row["synapses"],
            weight_bits=weight_bits_of(layer.node),
            state_bits=bits_between(layer.low, layer.high),
            operations=row["operations"],
            effective_operations=effective[name],
            stock_form=mapped.refused.get(name, "yes"),
        )
        for (name, layer), row in zip(graph.placed.items(), graph.summary(), strict=False)
    ]
    placed = None
    if not mapped.refused:
        groups = populations(mapped.layers)
        on_cores = Placed(mapped.layers, groups, chip, weight_bits, {}, share_kernels=share_kernels)
        if any(isinstance(node, Conv) for node in graph.nodes.values()):
            on_cores.assumptions.append(PER_SYNAPSE)
        placed = on_cores.report(measure(groups, pixels > 0 if graph.signs else pixels), metrics, {})
    return GraphReport(chip, len(pixels), nodes, placed, metrics)


def _counted(
    graph: AcyclicGraph, pixels: NDArray[Any], labels: NDArray[Any] | None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Effective operations per image by node, and NeuroBench's metrics (`lava_meta.loihi.cost.neurobench`)."""
    n = len(pixels)
    effective, macs = dict.fromkeys(graph.nodes, 0.0), 0.0
    silent = fired = 0
    classes = []
    for values in _values(graph, pixels):
        for name, node in graph.nodes.items():
            layer = graph.placed[name]
            if node.kind == "threshold":
                silent += int((values[name] <= 0).sum() if layer.low < 0 else (values[name] == 0).sum())
                fired += values[name].size
            if not isinstance(node, (Linear, Conv)):
                continue
            x = values[node.sources[0]].reshape(-1, *layer.input_shapes[0])
            signs = bool((np.abs(x) == 1).all())  # deployed as spikes of 0 and 1
            done = effective_operations(node, x > 0 if signs else x != 0) / n
            effective[name] += done
            macs += done if int(np.abs(x.astype(np.int64)).max()) > 1 else 0.0
        classes.append(graph.readout.classes(values[READOUT]))
    weights = [node.weight for node in graph.nodes.values() if isinstance(node, (Linear, Conv))]
    stored = sum(weight.values.size for weight in weights)
    metrics: dict[str, Any] = {
        "Footprint": sum(math.ceil(row["bits"] / 8) for row in graph.summary()),
        "Connection Sparsity": sum(int((weight.values == 0).sum()) for weight in weights) / max(1, stored),
        "Activation Sparsity": silent / fired if fired else 0.0,
        "Synaptic Operations": {
            "Dense": sum(row["operations"] for row in graph.summary()),
            "Effective_MACs": macs,
            "Effective_ACs": sum(effective.values()) - macs,
        },
    }
    if labels is not None:
        metrics["Classification Accuracy"] = float((np.concatenate(classes) == labels).mean())
    return effective, metrics


def effective_operations(node: Linear | Conv, on: NDArray[Any]) -> int:
    """Pairs of an input that is on, of booleans (n, ...), and a weight that is not 0, of all images."""
    used, seen = (node.weight.values != 0).astype(np.int64), on.astype(np.int64)
    return int((node.convolve(seen, used) if isinstance(node, Conv) else seen @ used.T).sum())


def _values(graph: AcyclicGraph, pixels: NDArray[Any]) -> Iterator[dict[str, NDArray[Any]]]:
    """The integers of the input and of every node, some images at a time."""
    network = compiled(graph)
    for start in range(0, len(pixels), _BATCH):
        part = pixels[start : start + _BATCH]
        yield network.activations(part) | {INPUT: part}


def weight_bits_of(node: Any) -> int | None:
    """Of one weight of a node, with its sign; None if it has none."""
    if not isinstance(node, (Linear, Conv)):
        return None
    values = node.weight.values
    return 1 if node.weight.bits_each == 1 else bits_between(int(values.min()), int(values.max()))


def bits_between(low: int, high: int) -> int:
    """Of an integer between the two, with its sign if it may be negative."""
    return max(high, -low - 1, 0).bit_length() + (low < 0)
