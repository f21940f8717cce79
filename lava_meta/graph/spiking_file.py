"""Files of spiking networks: one safetensors file with a JSON header and a checksum, as other networks have."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.graph.network_file import name_of, read_network
from lava_meta.graph.spiking import LIFLayer, SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.io.files import reading
from lava_meta.io.sealed import SPIKING, write_sealed

VERSION = 1
_ARRAYS = ("bits", "beta", "threshold")
_PLAIN = ("n_in", "gain", "reset", "reset_delay")


def save_spiking(
    path: str | os.PathLike[str], graph: SpikingGraph | SteppedGraph, notes: dict[str, Any] | None = None
) -> None:
    """Write the network to one file, whole or not at all; equal networks give equal bytes."""
    chain = isinstance(graph, SpikingGraph)
    header, tensors = _chain_parts(graph) if isinstance(graph, SpikingGraph) else graph.parts()
    header |= {"format": SPIKING, "version": VERSION, "form": "chain" if chain else "stepped"}
    write_sealed(path, header | ({"notes": notes} if notes else {}), tensors)


def load_spiking(path: str | os.PathLike[str]) -> tuple[SpikingGraph | SteppedGraph, dict[str, Any]]:
    """The network that a file holds, and its notes.

    Raises `FormatError` if it is not one, not as it was written, or describes no network; `TooLargeError` if it does
    not fit in memory.
    """
    header, tensors, notes = read_network(path, range(VERSION, VERSION + 1), spiking=True)
    with reading(name_of(path)):
        if header["form"] == "chain":
            return _chain_from(header, tensors), notes
        if header["form"] == "stepped":
            return SteppedGraph.from_parts(header, tensors), notes
        raise FormatError(f"its network has the form {header['form']!r}")


def _chain_parts(graph: SpikingGraph) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    layers = [{field: getattr(layer, field) for field in _PLAIN} for layer in graph.layers]
    tensors = {f"{i}.{field}": getattr(layer, field) for i, layer in enumerate(graph.layers) for field in _ARRAYS}
    shape = list(graph.input_shape)
    return {"layers": layers, "max_level": graph.max_level, "offset": graph.offset, "input_shape": shape}, tensors


def _chain_from(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> SpikingGraph:
    layers = []
    for i, plain in enumerate(header["layers"]):
        fields: dict[str, Any] = {field: tensors[f"{i}.{field}"] for field in _ARRAYS}
        layers.append(LIFLayer(**fields, **{field: plain[field] for field in _PLAIN}))
    return SpikingGraph(tuple(layers), header["max_level"], header["offset"], tuple(header["input_shape"]))
