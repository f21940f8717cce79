"""Networks of any acyclic form as stock Processes.

Every value is an affine function of spikes (`lava_meta.loihi.stock.affine`); neurons are needed for these alone:

    threshold       a unit per limit and element: x = codes[0] + sum_k (codes[k] - codes[k - 1]) s_k
    max pooling     of what a threshold gives: OR of a window's units, or AND if the codes fall. Before a threshold the
                    pooling moves behind it: the greatest sum reaches a limit if any does
    output          graded neurons that send the sums

Spikes of one image must meet: what comes from further back passes relays, one per time step. Real streams, products of
streams, and weights or sums beyond Loihi's ranges have no stock form; each is refused by its node's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix, diags, vstack

from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph, NodeGraph
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Conv, Curve, Linear, MatMul, Multiply, Node, Pool, Shape, Threshold
from lava_meta.loihi.stock.affine import Coded, Range, Value, is_whole, through, windows
from lava_meta.loihi.stock.dense import message_bits
from lava_meta.loihi.stock.limits import STATE
from lava_meta.loihi.stock.parts import StockLayer
from lava_meta.loihi.stock.units import add_units

LARGEST_WEIGHT = 127 * 128 + 63  # two synapses of 8 bits hold it


@dataclass(frozen=True, eq=False)
class Mapped:
    """A network's layers of stock Processes, and what its thresholds' neurons say."""

    layers: list[StockLayer]
    coded: dict[str, Coded]  # by the node whose values they are
    refused: dict[str, str]  # by node: why it has no stock form


def map_acyclic(graph: AcyclicGraph) -> Mapped:
    """Every node that has a stock form as one, and every other's reason."""
    return NodeMapping(graph).mapped()


def plan_acyclic(graph: AcyclicGraph) -> list[StockLayer]:
    """The layers in order. Raises `ConversionError` naming every node that has no stock form, and why."""
    return accepted(map_acyclic(graph))


def accepted(mapped: Mapped) -> list[StockLayer]:
    """The layers of a network that fits. Raises `ConversionError` naming every node that has no stock form, and why."""
    if mapped.refused:
        reasons = "; ".join(f"{name} {reason}" for name, reason in mapped.refused.items())
        raise ConversionError(f"this network has no stock form: {reasons}")
    return mapped.layers


class NodeMapping:
    """One node after the other; what is behind the last one, `finish` maps."""

    def __init__(self, graph: NodeGraph) -> None:
        self.graph = graph
        self.layers: list[StockLayer] = []
        self.coded: dict[str, Coded] = {}
        self.refused: dict[str, str] = {}
        self.depth = {INPUT: 0}  # time steps after its image in which a sender sends
        self.ranges: dict[str, Range] = {INPUT: (0, 1) if graph.signs else (graph.min_level, graph.max_level)}
        self.spikes = {INPUT: graph.signs}
        self.values: dict[str, Value | None] = {INPUT: self._entering()}

    def mapped(self) -> Mapped:
        """All nodes."""
        for name, node in self.graph.nodes.items():
            reason = self.never(name, node)
            sources = [self.values.get(source) for source in node.sources]
            values = [value for value in sources if value is not None]
            self.values[name] = None
            if reason is None and len(values) < len(sources):
                reason = self._too_wide(name)
            if reason is not None:
                self.refused[name] = reason
            if reason is not None or len(values) < len(sources):
                continue
            try:
                self.values[name] = self.value_of(name, node, values)
            except ConversionError as refusal:
                self.refused[name] = str(refusal).removeprefix(f"{name}: ")
        self.finish()
        return Mapped(self.layers, self.coded, self.refused)

    def finish(self) -> None:
        """The readout of the output."""
        output = self.values[self.graph.output]
        if output is not None:
            try:
                self._readout(output)
            except ConversionError as refusal:
                self.refused[self.graph.output] = str(refusal).removeprefix(f"{READOUT}: ")

    def never(self, name: str, node: Node) -> str | None:
        """Why a node has no stock form whatever it gets; None if it may have one."""
        return _never(node)

    def _too_wide(self, name: str) -> str | None:
        """Why the integers of a node, whose sources have no stock form, would not fit either."""
        placed = self.graph.placed[name]
        if placed.low >= -STATE and placed.high <= STATE:
            return None
        return f"has integers from {placed.low:,} to {placed.high:,}; Loihi holds {-STATE:,} to {STATE:,}"

    def _entering(self) -> Value:
        n = self.graph.n_in
        each = 2 if self.graph.signs else 1
        matrix = diags(np.full(n, each), format="csr", dtype=np.int64)
        constant = np.full(n, -1 if self.graph.signs else 0, np.int64)
        return Value({INPUT: matrix}, constant, self.graph.input_shape)

    def value_of(self, name: str, node: Any, values: list[Value]) -> Value:
        """What a node gives. Raises `ConversionError` for one without a stock form."""
        if isinstance(node, Threshold):
            return self._threshold(name, node, values[0])
        if isinstance(node, Pool) and node.how == "max":
            return self._pooled(name, node.window, values[0])
        return through(node, values, self.graph.placed[name].output_shape)

    # Neurons.

    def _threshold(self, name: str, node: Threshold, value: Value) -> Value:
        shape, out = value.shape, self.graph.placed[name].output_shape
        if value.pools and math.prod(node.limits.shape[2:]) > 1:
            raise ConversionError("has limits that differ from place to place, behind a max pooling")
        count = len(node.limits)
        codes = np.broadcast_to(node.codes, (count + 1, *out))
        if count == 0:
            return Value({}, codes[0].reshape(-1), out)
        limits = np.broadcast_to(node.limits, (count, *shape)).reshape(count, -1)
        layer = self._units(name, value, limits)
        for number, window in enumerate(value.pools, 1):
            synapses, units, shape = _pooling(window, count, shape)
            neurons = add_units(layer, *units, f"pool{number}")
            layer.add_sparse(f"pool{number}_synapses", synapses, 0, neurons, layer.output)
            layer.output, layer.latency = neurons, layer.latency + 1
        self.close(layer)
        self.coded[name] = Coded(name, codes[0], np.diff(codes, axis=0))
        return self.coded[name].value()

    def _pooled(self, name: str, window: Window, value: Value) -> Value:
        """The greatest of windows; of sums it waits for their threshold."""
        coded = value.coded
        if coded is None:
            return Value(value.parts, value.constant, value.shape, pools=(*value.pools, window))
        alike = all((part == part[..., :1, :1]).all() for part in (coded.base, coded.step))
        rising = (coded.step >= 0).all(axis=(0, 2, 3))
        if not alike or not (rising | (coded.step <= 0).all(axis=(0, 2, 3))).all():
            raise ConversionError("takes the greatest of levels that neither rise nor fall alike")
        layer = StockLayer(name)
        synapses, units, shape = _pooling(window, len(coded.step), value.shape, ~rising)
        layer.output = add_units(layer, *units)
        self.connect(layer, {coded.sender: synapses})
        self.close(layer)
        whole = np.zeros(shape[1:], np.int64)
        self.coded[name] = Coded(name, coded.base[..., :1, :1] + whole, coded.step[..., :1, :1] + whole)
        return self.coded[name].value()

    def _readout(self, value: Value) -> None:
        if value.pools:
            raise ConversionError("is the greatest of sums: stock neurons find it behind a threshold only")
        layer = StockLayer(READOUT)
        low, high = value.bounds(self.ranges)
        constant = value.constant
        layer.output = layer.add_graded(
            "neurons", (len(constant),), low + np.minimum(constant, 0), high + np.maximum(constant, 0)
        )
        self.connect(layer, value.parts)
        layer.add_constant(constant, layer.output)
        self.close(layer)

    def _units(self, name: str, value: Value, limits: NDArray[Any]) -> StockLayer:
        """Units that fire if `value` reaches `limits` (k, values), in the order of both."""
        count = len(limits)
        low, high = value.bounds(self.ranges)
        theta = np.clip(limits, low + value.constant, high + value.constant + 1) - value.constant
        divisor = _divisor(value)
        low, high, theta = low // divisor, high // divisor, -(-theta // divisor)
        parts = {
            sender: vstack([2 * _divided(matrix, divisor)] * count, format="csr")
            for sender, matrix in value.parts.items()
        }
        layer = StockLayer(name)
        layer.output = add_units(layer, theta.reshape(-1), np.tile(low, count), np.tile(high, count))
        self.connect(layer, parts)
        return layer

    def connect(self, layer: StockLayer, parts: Mapping[str, csr_matrix]) -> None:
        """Synapses from each sender to the layer's neurons; relays before them hold back what comes too early."""
        for matrix in parts.values():
            matrix.eliminate_zeros()
        heard = {sender: matrix for sender, matrix in parts.items() if matrix.nnz}
        last = max((self.depth[sender] for sender in heard), default=0)
        for number, (sender, matrix) in enumerate(heard.items(), 1):
            bits = 0 if self.spikes[sender] else message_bits(self.ranges[sender])
            source, n = None, matrix.shape[1]
            for step in range(1, last - self.depth[sender] + 1):
                relay = layer.add_graded(f"relay{number}_{step}", (n,), *self.ranges[sender])
                one = diags(np.ones(n, np.int64), format="csr", dtype=np.int64)
                layer.add_sparse(f"{relay}_synapses", one, bits, relay, source, sender)
                source = relay
            layer.add_sparse(f"synapses{number}", matrix, bits, layer.output, source, sender)

    def close(self, layer: StockLayer) -> None:
        """A layer is whole: others may hear it, as spikes."""
        self.layers.append(layer)
        before = (self.depth[sender] for sender in layer.senders.values())
        self.depth[layer.name] = max(before, default=0) + layer.latency
        self.ranges[layer.name], self.spikes[layer.name] = (0, 1), True


def _never(node: Node) -> str | None:
    """Why a node has no stock form whatever it gets; None if it may have one."""
    if isinstance(node, (Multiply, MatMul)):
        return "multiplies two streams, which no stock neuron does"
    if isinstance(node, Curve) and not is_whole(node):
        return "is a real stream (several pieces, or factors that are not whole), which stock neurons do not hold"
    if isinstance(node, (Linear, Conv)):
        largest = int(np.abs(node.weight.values).max())
        if largest > LARGEST_WEIGHT:
            return (
                f"has weights of {largest.bit_length() + 1} bits; a synapse of Loihi holds 8, and two of them 15: "
                "convert(..., bits=8) rounds them"
            )
    return None


def _pooling(
    window: Window, count: int, shape: Shape, every: NDArray[Any] | None = None
) -> tuple[csr_matrix, tuple[NDArray[Any], NDArray[Any], NDArray[Any]], Shape]:
    """OR of each window's spikes, of `count` units per element of `shape`; AND in the channels `every`.

    Returns the synapses, thresholds and bounds of the sums, and the shape that is left.
    """
    seen = windows(window, shape)
    inside = np.asarray(seen.sum(axis=1)).reshape(-1)
    theta = np.ones_like(inside).reshape(shape[0], -1)
    if every is not None:
        theta[every] = inside.reshape(shape[0], -1)[every]
    high = np.tile(inside, count)
    units = np.tile(theta.reshape(-1), count), np.zeros_like(high), high
    return block_diag([2 * seen] * count, format="csr"), units, (shape[0], *window.positions(*shape[1:]))


def _divisor(value: Value) -> NDArray[Any]:
    """By value, the greatest number that divides all its weights; 1 if it has none."""
    found = np.zeros(len(value.constant), np.int64)
    for matrix in value.parts.values():
        filled = np.diff(matrix.indptr) > 0
        found[filled] = np.gcd(found[filled], np.gcd.reduceat(matrix.data, matrix.indptr[:-1][filled]))
    return np.maximum(np.abs(found), 1)


def _divided(matrix: csr_matrix, divisor: NDArray[Any]) -> csr_matrix:
    data = matrix.data // np.repeat(divisor, np.diff(matrix.indptr))
    return csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape)
