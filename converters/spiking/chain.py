"""Chains of binary layers and `Leaky` neurons among stepped graphs: these have forms of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import BinaryWeight, Gather, Linear
from lava_meta.graph.spiking import LIFLayer, SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.graph.spiking_neurons import Neurons


def chain_of(graph: SteppedGraph) -> SpikingGraph | None:
    """The same network as a `SpikingGraph`; None if it is none.

    Raises `ConversionError` if its sums are beyond float32's integers.
    """
    layers: list[LIFLayer] = []
    offset, source, weight = 0, "input", None
    for name, node in graph.nodes.items():
        if len(node.sources) != 1 or node.sources[0] != source:
            return None
        if isinstance(node, Gather) and node.index is None:
            pass
        elif isinstance(node, Linear) and isinstance(node.weight, BinaryWeight) and weight is None:
            weight = node.weight
        elif isinstance(node, Neurons) and weight is not None:
            gain = float(node.gain.reshape(-1)[0])
            if (
                node.model != "leaky"
                or (node.gain != gain).any()
                or gain <= 0
                or graph.min_level
                or graph.placed[name].high > 1
            ):
                return None
            rows = weight.values.sum(axis=1)
            taken = _offset(np.broadcast_to(node.constant.reshape(-1), rows.shape), gain, rows)
            if taken is None or (layers and taken):
                return None
            offset = offset if layers else taken
            constants = {
                key: np.broadcast_to(value.reshape(-1), rows.shape).copy() for key, value in node.constants.items()
            }
            layers.append(
                LIFLayer(
                    weight.bits,
                    weight.fan_in,
                    constants["beta"],
                    constants["threshold"],
                    gain,
                    node.reset,
                    node.reset_delay,
                )
            )
            weight = None
        else:
            return None
        source = name
    if weight is not None or source != graph.output:
        return None
    try:
        return SpikingGraph(tuple(layers), graph.max_level, offset, graph.input_shape)
    except ValueError as error:
        raise ConversionError(str(error)) from error


def _offset(constant: NDArray[Any], gain: float, rows: NDArray[Any]) -> int | None:
    """The whole number that, taken from every input, gives these constants; None if none does."""
    if not constant.any():
        return 0
    if not rows.any():
        return None
    place = int(np.argmax(np.abs(rows)))
    offset = round(-constant[place] / (gain * int(rows[place])))
    return offset if np.allclose(constant, -offset * gain * rows, rtol=1e-12, atol=0) else None
