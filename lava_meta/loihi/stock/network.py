"""Whole networks as stock Processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.graph.acyclic import INPUT
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.loihi.stock.acyclic import plan_acyclic
from lava_meta.loihi.stock.conv import conv_layer
from lava_meta.loihi.stock.dense import Levels, binarized_inputs, dense_layer, readout
from lava_meta.loihi.stock.parts import StockLayer

_PLANS: dict[type, Callable[[str, Any, Levels], StockLayer]] = {
    DenseLayer: dense_layer,
    ConvLayer: conv_layer,
    Readout: readout,
}


def plan(graph: Graph) -> list[StockLayer]:
    """Every layer of `graph` in order, checked against Loihi's ranges; before them `inputs`, if it binarizes them.

    Of an `AcyclicGraph`, the nodes that need neurons, and the readout. Raises `ConversionError` naming the layer or
    node, the value, the range, and what to do.
    """
    if isinstance(graph, AcyclicGraph):
        return plan_acyclic(graph)
    mapped = []
    levels = graph.first_levels
    if graph.binarize is not None:
        mapped.append(binarized_inputs("inputs", graph.binarize, (graph.min_level, graph.max_level)))
    for name, layer in graph.named_layers():
        mapped.append(plan_layer(name, layer, levels))
        levels = None
    return mapped


def plan_layer(name: str, layer: Any, levels: Levels) -> StockLayer:
    """One layer; its input is graded spikes of these levels, or spikes if they are None. See `plan`."""
    if type(layer) not in _PLANS:
        raise ConversionError(f"{name} is a {type(layer).__name__}, which has no stock form")
    if getattr(layer, "norm", None) is not None:
        raise ConversionError(
            f"{name} has a norm with biases, whose thresholds depend on each image's spread; those of stock neurons "
            "are constant. Train with lava_meta.nn.SampleNorm (layer norm without affine), FixedNorm, or batch norm"
        )
    return _PLANS[type(layer)](name, layer, levels)


def latencies(layers: list[StockLayer]) -> dict[str, int]:
    """By the layer's name: how many time steps after its image an answer comes."""
    steps, before = {INPUT: 0}, INPUT
    for layer in layers:
        senders = [layer.senders.get(part, before) for part in layer.inputs]
        steps[layer.name] = max((steps[sender] for sender in senders), default=0) + layer.latency
        before = layer.name
    del steps[INPUT]
    return steps
