"""The network as it is deployed: packed binary weights, integer thresholds, an affine readout.

`BinaryGraph` is a chain of binary layers, `AcyclicGraph` any other acyclic network. Both are reference implementations
that every backend is held to; `packed` holds their compiled forms.
"""

from __future__ import annotations

import os
from typing import Any

from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import VERSION, AcyclicGraph
from lava_meta.graph.conv import ConvLayer, Pool
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.inputs import Binarize
from lava_meta.graph.network import BinaryGraph
from lava_meta.graph.network_file import name_of, read_network
from lava_meta.graph.norm import GroupNorm
from lava_meta.graph.spiking import LIFLayer, SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.io.files import reading

__all__ = [
    "AcyclicGraph",
    "Binarize",
    "BinaryGraph",
    "ConvLayer",
    "DenseLayer",
    "Graph",
    "GroupNorm",
    "LIFLayer",
    "Pool",
    "Readout",
    "SpikingGraph",
    "SteppedGraph",
    "load_graph",
    "require_chain",
]


Graph = BinaryGraph | AcyclicGraph


def require_chain(graph: Graph, what: str) -> BinaryGraph:
    """The graph, if it is a chain of binary layers. Raises `ConversionError`; `what` names what needs one."""
    if isinstance(graph, BinaryGraph):
        return graph
    name, node = next(
        ((name, node) for name, node in graph.nodes.items() if node.kind not in ("gather", "threshold")),
        next(iter(graph.nodes.items())),
    )
    raise ConversionError(
        f"{what} takes chains of binary layers with one threshold each; {name} ({node.kind}) is a node of another "
        "form. net.predict and lava_meta.run on 'cpu' and 'kernels' compute it"
    )


def load_graph(source: str | os.PathLike[str] | bytes) -> tuple[Graph, dict[str, Any]]:
    """The network of either form that a file or its content holds, and its notes. Raises as their `load`."""
    header, tensors, notes = read_network(source, range(1, VERSION + 1))
    with reading(name_of(source)):
        form = AcyclicGraph if header["version"] >= VERSION - 1 else BinaryGraph
        return form.from_parts(header, tensors), notes
