"""Weights rounded so that neurons fit Lava's stock ones: thresholds of whole synapses, all sums within Loihi's ranges.

A neuron's real weights w, its bias and its threshold T may be scaled together. Here a layer gets a whole number K, and
each of its neurons the unit T / K: its threshold is K synapses, its weights are round(w K / T), and its bias keeps its
value. K is the greatest for which weights have the bits asked for and sums and potentials stay within Loihi's ranges
(`lava_meta.loihi.stock.limits`): the greater it is, the finer the weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.nodes import Conv, Gather, Linear, Node, Pool, weight_of
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import STEPS, Neurons, Recurrent
from lava_meta.loihi.stock.limits import ACTIVATION, STATE

_LARGEST_THRESHOLD = 2**17 - 1  # of a stock LIF neuron, in synapses


def fit(graph: SteppedGraph, bits: int) -> SteppedGraph:
    """The network with weights of `bits` bits that fit; layers of another form stay as they are."""
    nodes = dict(graph.nodes)
    users = [source for node in graph.nodes.values() for source in node.sources]
    for name, node in graph.neurons.items():
        at = _weights_of(graph, node)
        if at is None or users.count(at) > 1 or not node.spiking:
            continue
        made = _fitted(graph, node, at, bits)
        if made is not None:
            nodes[name], nodes[at] = made
    return replace(graph, nodes=nodes)


def _weights_of(graph: SteppedGraph, neurons: Neurons) -> str | None:
    """The one linear node before neurons, behind which values are only moved and pooled."""
    name = neurons.sources[0]
    while name != INPUT:
        node = graph.nodes[name]
        if isinstance(node, (Linear, Conv)):
            return name
        if not isinstance(node, Pool) and not (isinstance(node, Gather) and node.index is None):
            return None
        name = node.sources[0]
    return None


def _fitted(graph: SteppedGraph, node: Neurons, at: str, bits: int) -> tuple[Neurons, Node] | None:
    """Neurons and the linear node before them, rounded; None if their constants are not those of rows of weights."""
    shape, weighted = graph.placed[node.sources[0]].output_shape, graph.nodes[at]
    assert isinstance(weighted, (Linear, Conv))
    units = weighted.weight.units
    by_unit = (units, 1, 1) if len(shape) == 3 else (*(1,) * (len(shape) - 1), units)
    if len(shape) not in (1, 3) or graph.placed[at].output_shape[0 if len(shape) == 3 else -1] != units:
        return None
    try:
        gain, threshold, constant = (
            np.broadcast_to(part, by_unit).reshape(-1).astype(np.float64)
            for part in (node.gain, node.constants["threshold"], node.constant)
        )
    except ValueError:  # one for each place of a map
        return None
    if (threshold <= 0).any():
        return None
    rows = (gain / threshold)[:, None] * weighted.weight.values
    source = weighted.sources[0]
    ends = (graph.min_level, graph.max_level) if source == INPUT else _ends(graph, source)
    back = None
    if node.recurrent is not None:
        inner = node.recurrent.node
        own = np.ones((units, 1)) if inner is None else inner.weight.values
        back = np.broadcast_to(node.recurrent.gain, by_unit).reshape(-1, 1) / threshold[:, None] * own
        constant = constant + np.broadcast_to(node.recurrent.constant, by_unit).reshape(-1)
    taps = graph.placed[node.sources[0]].high / max(1, graph.placed[at].high)  # of sums over windows behind the weights
    whole = _whole(rows, back, ends, max(1.0, taps), constant / threshold, node, bits)
    if whole < 1:
        return None
    unit = threshold / whole
    rounded = weight_of(np.rint(whole * rows).astype(np.int64))
    shown = unit.reshape(by_unit)
    offset = node.constant
    if node.model == "synaptic":  # whose biases are whole synapses too
        offset = (np.rint(constant / unit) * unit).reshape(by_unit)
    recurrent = node.recurrent if back is None else _rounded(node.recurrent, np.rint(whole * back), shown)
    return replace(node, gain=shown, constant=offset, recurrent=recurrent), replace(weighted, weight=rounded)


def _ends(graph: SteppedGraph, name: str) -> tuple[int, int]:
    return graph.placed[name].low, graph.placed[name].high


def _rounded(recurrent: Recurrent | None, back: NDArray[Any], unit: NDArray[Any]) -> Recurrent:
    assert recurrent is not None
    if recurrent.node is None:
        return replace(recurrent, gain=back.reshape(unit.shape) * unit)
    weight = weight_of(back.astype(np.int64))
    return Recurrent(replace(recurrent.node, weight=weight), unit, recurrent.constant)


def _whole(
    rows: NDArray[Any],
    back: NDArray[Any] | None,
    ends: tuple[int, int],
    taps: float,
    constant: NDArray[Any],
    node: Neurons,
    bits: int,
) -> int:
    """K of a layer, whose weights `rows`, `back` and biases `constant` are in thresholds; 0 if none fits."""
    both = rows if back is None else np.concatenate([rows, back], axis=1)
    largest = max(float(np.abs(both).max()), 2.0**-60)
    low, high = (taps * np.where(rows > 0, rows * one, rows * other).sum(axis=1) for one, other in (ends, ends[::-1]))
    rounding = 0.5 * rows.shape[1] * max(map(abs, ends)) * taps
    if back is not None:
        low, high = low + np.minimum(back, 0).sum(axis=1), high + np.maximum(back, 0).sum(axis=1)
        rounding += 0.5 * back.shape[1]
        low = low - np.maximum(high + constant, 0)  # what silences them between two inputs
    most = {name: float(value.max()) for name, value in node.constants.items()}
    falls = 1 / max(1 - most["beta"], 2.0**-12) / max(1 - most.get("alpha", 0.0), 2.0**-12)
    rises = 1 / max(1 - most.get("alpha", 0.0), 2.0**-12)
    reach = float(np.maximum(np.abs(low), np.abs(high)).max())
    least, greatest = float(np.minimum(low + constant, 0).min()), float(np.maximum(high + constant, 0).max())
    limits = [
        (2 ** (bits - 1) - 1) / largest,
        _LARGEST_THRESHOLD,
        (ACTIVATION - rounding) / max(reach, 2.0**-60),
        (STATE / STEPS - rounding * falls) / max(-least * falls, 2.0**-60),
        (STATE / STEPS - rounding * rises) / (1 + greatest * rises),
    ]
    return int(max(0.0, np.floor(min(limits))))
