"""A graph of either form, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph import AcyclicGraph, Graph
from lava_meta.graph.packed.acyclic import PackedAcyclic
from lava_meta.graph.packed.network import PackedNetwork


def compiled(graph: Graph) -> PackedNetwork | PackedAcyclic:
    """The compiled form of a graph: equal integers, at the speed of the machine."""
    return PackedAcyclic(graph) if isinstance(graph, AcyclicGraph) else PackedNetwork(graph)


def classify(graph: Graph, images: Any, batch: int = 256) -> NDArray[Any]:
    """Classes int64 (n,) of images (n, ...) of the graph's domain, by the compiled kernels, without Lava."""
    network, x = compiled(graph), graph.check_images(images)
    parts = [network.predict(x[start : start + batch]) for start in range(0, len(x), batch)]
    return np.concatenate(parts)


def output_types(graph: Graph) -> dict[str, np.dtype[Any]]:
    """The type in which `activations` gives the integers of each layer."""
    layers = graph.named_layers()
    if isinstance(graph, AcyclicGraph):
        return {name: layer.dtype for name, layer in layers[:-1]} | {layers[-1][0]: np.dtype(np.int64)}
    return {name: np.dtype(np.int8) for name, _ in layers[:-1]} | {layers[-1][0]: np.dtype(np.int64)}
