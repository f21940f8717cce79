"""Whole networks as stock Processes."""

from __future__ import annotations

from typing import Any

from lava_meta.conv import ConvLayer
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph
from lava_meta.layers import DenseLayer, Readout
from lava_meta.stock.convolutions import conv_layer
from lava_meta.stock.layers import dense_layer, readout
from lava_meta.stock.parts import StockLayer

_PLANS = {DenseLayer: dense_layer, ConvLayer: conv_layer, Readout: readout}


def plan(graph: BinaryGraph) -> list[StockLayer]:
    """Every layer of `graph` in order, checked against Loihi's ranges.

    Raises `ConversionError` naming the layer, the value, the range, and what to do.
    """
    levels = [graph.max_level, *[None] * len(graph.layers)]
    return [plan_layer(name, layer, level) for (name, layer), level in zip(graph.named_layers(), levels, strict=True)]


def plan_layer(name: str, layer: Any, max_level: int | None) -> StockLayer:
    """One layer; with `max_level` its input is pixels 0 .. max_level, else spikes. Raises `ConversionError`."""
    if type(layer) not in _PLANS:
        raise ConversionError(f"{name} is a {type(layer).__name__}, which has no stock form")
    return _PLANS[type(layer)](name, layer, max_level)  # type: ignore[operator]


def latencies(layers: list[StockLayer]) -> dict[str, int]:
    """By the layer's name: how many time steps after its image an answer comes."""
    steps, total = {}, 0
    for layer in layers:
        total += layer.latency
        steps[layer.name] = total
    return steps
