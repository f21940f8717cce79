"""The network as its layers, or as its nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.graph import BinaryGraph
from lava_meta.graph.acyclic import INPUT, NodeGraph, Placed
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.nodes import BinaryWeight, Linear
from lava_meta.graph.spiking_delays import Delayed
from lava_meta.graph.spiking_neurons import Neurons
from lava_meta.processes.binary_conv.process import BinaryConv
from lava_meta.processes.binary_dense.process import BinaryDense, BinaryReadout
from lava_meta.processes.binary_input.process import BinaryInput
from lava_meta.processes.graph_node.process import GraphDelay, GraphJoin, GraphNeurons, GraphNode
from lava_meta.processes.layered_network.process import LayeredNetwork

_PROCESSES = {DenseLayer: BinaryDense, ConvLayer: BinaryConv, Readout: BinaryReadout}


@implements(proc=LayeredNetwork, protocol=LoihiProtocol)
class LayeredNetworkModel(AbstractSubProcessModel):
    """The inputs, or their signs, enter the first layer; a layer's signs go to the next and to the port of its name."""

    def __init__(self, proc: AbstractProcess) -> None:
        graph, lanes = proc.proc_params["graph"], proc.proc_params["lanes"]
        if isinstance(graph, NodeGraph):
            self._nodes(proc, graph, lanes)
        else:
            self._chain(proc, graph, lanes)

    def _chain(self, proc: AbstractProcess, graph: BinaryGraph, lanes: int) -> None:
        port = proc.s_in
        if graph.binarize is not None:
            levels = {"max_level": graph.max_level, "min_level": graph.min_level}
            self.inputs = BinaryInput(binarize=graph.binarize, lanes=lanes, name=f"{proc.name}.inputs", **levels)
            port.connect(self.inputs.s_in)
            port = self.inputs.s_out
        low, high = graph.first_levels or (0, None)
        for name, layer in graph.named_layers():
            label = f"{proc.name}.{name}"
            part = _PROCESSES[type(layer)](layer=layer, lanes=lanes, min_level=low, max_level=high, name=label)
            setattr(self, name, part)
            port.connect(part.s_in)
            part.s_out.connect(proc.port(name))
            port, low, high = part.s_out, 0, None

    def _nodes(self, proc: AbstractProcess, graph: NodeGraph, lanes: int) -> None:
        ports = {INPUT: proc.s_in}
        ranges = {INPUT: (graph.min_level, graph.max_level)}
        delays: list[tuple[str, Any]] = []
        for name, placed in graph.placed.items():
            label = f"{proc.name}.{name}"
            if isinstance(placed.node, Delayed):  # of what stands behind it, too: connected at the end
                part = GraphDelay(placed=placed, lanes=lanes, steps=proc.proc_params["steps"], name=label)
                setattr(self, f"node {name}", part)
                part.s_out.connect(proc.port(name))
                ports[name], ranges[name] = part.s_out, (placed.low, placed.high)
                delays.append((placed.node.sources[0], part.s_in))
                continue
            first, *others = (ports[source] for source in placed.node.sources)
            levels = ranges[placed.node.sources[0]]
            if _is_readout(placed, levels):
                part = _readout(placed, lanes, levels, label)
                first.connect(part.s_in)
            elif isinstance(placed.node, Neurons):
                part = GraphNeurons(placed=placed, lanes=lanes, steps=proc.proc_params["steps"], name=label)
                first.connect(part.s_in)
            elif not others:
                part = GraphNode(placed=placed, lanes=lanes, name=label)
                first.connect(part.s_in)
            for number, (other, pair) in enumerate(zip(others, _pairs(placed), strict=False), 1):
                part = GraphJoin(placed=pair, lanes=lanes, name=label if number == len(others) else f"{label}.{number}")
                setattr(self, f"node {name} {number}", part)
                first.connect(part.s_in1)
                other.connect(part.s_in2)
                first = part.s_out
            setattr(self, f"node {name}", part)
            part.s_out.connect(proc.port(name))
            ports[name], ranges[name] = part.s_out, (placed.low, placed.high)
        for source, port in delays:
            ports[source].connect(port)
        ports[graph.output].connect(proc.out)


def _pairs(placed: Placed) -> list[Placed]:
    """A node of several sources as joins of two: the first two, what they give and the next, and so on."""
    node, (shape, *others) = placed.node, placed.input_shapes
    joins = []
    for other in others:
        joined = node.shape((shape, other))
        joins.append(replace(placed, input_shapes=(shape, other), output_shape=joined))
        shape = joined
    return joins


def _is_readout(placed: Placed, levels: tuple[int, int]) -> bool:
    """Whether a node is what `BinaryReadout` computes: binary sums of flat inputs, within its types."""
    node = placed.node
    binary = isinstance(node, Linear) and isinstance(node.weight, BinaryWeight) and len(placed.input_shapes[0]) == 1
    return binary and placed.n_in * max(map(abs, levels)) < 2**31


def _readout(placed: Placed, lanes: int, levels: tuple[int, int], name: str) -> BinaryReadout:
    node: Any = placed.node
    ones = np.ones(placed.n_out)
    layer = Readout(node.weight.bits, node.weight.fan_in, ones, np.zeros_like(ones))
    return BinaryReadout(layer=layer, lanes=lanes, min_level=levels[0], max_level=levels[1], name=name)
