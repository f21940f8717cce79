"""Networks to and from NIR, the exchange format of neuromorphic frameworks.

In a `BinaryGraph` signals are +1 and -1 and a unit fires if it *reaches* its integer threshold. In NIR signals are 0
and 1 and a unit fires if it *exceeds* its threshold. With `a = 2 z - 1` and `R_j`, the sum of unit j's weights,

    u_j = sum_k W_jk a_k = 2 sum_k W_jk z_k - R_j              hidden inputs; on raw pixels u_j = sum_k W_jk p_k
    polarity_j * u_j >= T_j    becomes    polarity_j * u_j + 1/2 - T_j > 0

The left side of the last line is an `nir.Affine`, and its comparison with 0 an `nir.Threshold`. Sums are integers, so
they stay half a unit away from the threshold: whether a reader compares with > or >= does not matter. Layer by layer:

    plain hidden layer     Affine(P 2W, 1/2 - T - P R), Threshold(0)      first layer: Affine(P W, 1/2 - T)
    centred hidden layer   Affine(2W, -R), Affine(P (n I - 1), 1/2 - T), Threshold(0)
    readout                Affine(2W, -R); Affine(diag(scale), offset) unless all scales are 1 and all offsets 0
    convolution            Conv2d(P 2W, -q), Threshold(0); first layer: Conv2d(P W, -q)    q = T - 1/2 + P R
                           Conv2d(P 2W, 0), Threshold(q)         if q differs from position to position
    sums over a window     Conv2d(P 2W, 0), SumPool2d, Threshold(q)
    max pooling of signs   SumPool2d, Threshold(1/2): one spike of the window is enough
                           SumPool2d, Threshold(n - 1/2)         in channels whose norm falls: all n must be there
    binarized inputs       Scale(P), Threshold(T - 1/2); the first layer is then written like the others

P holds the polarities on its diagonal, and 1 is the matrix of ones. In convolutions R is the sum of the weights that
lie on the image: padding has none, so a padded convolution's q differs at the border (on pixels R is 0). Pooling with
dilation is a convolution of ones, each channel by itself; groups of channels have zeros between them. Every number in
these nodes is exact, and so is every sum that a reader computes in float64. A reader in float32 is exact too while its
partial sums and biases stay below 2**23: for 8-bit pixels up to 32 thousand inputs, for hidden layers up to millions;
for centred layers, where `n_out` times the sums must stay below, that is hundreds of units on pixels and thousands on
signs. The readout's scale and offset are float64, and a float32 reader rounds them.

The metadata hold what NIR has no place for: the graph's `max_level` and `input_shape`, a node's `polarity`, and which
of two equal descriptions a layer had, so that it comes back as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import nir
import numpy as np

from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.nir.acyclic import STRUCTURE, acyclic_from_nir, acyclic_to_nir
from lava_meta.converters.nir.chain import ChainReader, chain_of
from lava_meta.converters.nir.file import read_nir
from lava_meta.converters.nir.spiking import spiking_nodes
from lava_meta.converters.nir.stepped import WITH_MEMORY, read_stepped, write_stepped
from lava_meta.converters.nir.writing import EXACT, binarize_nodes, conv_nodes, dense_nodes, readout_nodes
from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph, BinaryGraph, DenseLayer, Graph, Readout
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.spiking import SpikingGraph
from lava_meta.graph.spiking_graph import SteppedGraph
from lava_meta.io.files import reading


def to_nir(
    network: Graph | LavaNetwork | SpikingGraph | SteppedGraph | SpikingNetwork, *, time_step: float | None = None
) -> nir.NIRGraph:
    """The network as an NIR graph of the nodes above, from raw pixels to the readout's values (classes,).

    Pixels are flat (n_in,), or (channels, rows, columns) if the network has convolutions.

    Write it with `nir.write(path, graph)`; the class is the argmax of the output, lowest index on ties.

    Args:
        network: what `lava_meta.convert` returns, or its graph.
        time_step: for readers that know no `nir.Threshold`. With it, in seconds, units are `nir.LIF` neurons that keep
            nothing from one step to the next when simulated with exactly this step (`tau = time_step`, `r = 1`): the
            same comparison. snnTorch's importer takes 1e-4. Spiking networks need it
            (`lava_meta.converters.nir.spiking`). Pooling is `nir.AvgPool2d` then, with thresholds to match.

    Raises `ConversionError` naming a layer that NIR cannot express (a kernel like 3x2, windows that reach further to
    one side, a norm of one image, sums too large for float64), `ValueError` for a time step that is not
    positive, `TypeError` for another kind of network.
    """
    if time_step is not None and not (np.isfinite(time_step) and time_step > 0):
        raise ValueError(f"time_step is {time_step}; it is a positive number of seconds")
    graph = network.graph if isinstance(network, (LavaNetwork, SpikingNetwork)) else network
    if isinstance(graph, SpikingGraph):
        if time_step is None:
            raise ValueError("a spiking network needs time_step=, seconds of a simulation's step (snnTorch: 1e-4)")
        spiking = spiking_nodes(graph, time_step)
        return nir.NIRGraph(spiking, list(pairwise(spiking)), metadata={"time_step": time_step})
    if isinstance(graph, SteppedGraph):
        if time_step is None:
            raise ValueError("a spiking network needs time_step=, seconds of a simulation's step (snnTorch: 1e-4)")
        return write_stepped(graph, time_step)
    if isinstance(graph, AcyclicGraph):
        if time_step is not None:
            raise ValueError("time_step is for chains of binary layers; other networks have nir.Threshold nodes")
        return acyclic_to_nir(graph)
    if not isinstance(graph, BinaryGraph):
        raise TypeError(f"to_nir takes a converted network or its graph; got {type(network).__name__}")
    nodes = _nodes(graph, time_step)
    return nir.NIRGraph(nodes, list(pairwise(nodes)), metadata=_metadata(graph, time_step))


def _nodes(graph: BinaryGraph, time_step: float | None) -> dict[str, nir.NIRNode]:
    """The nodes by name, each connected to the next."""
    for name, largest in graph.reach().items():
        if largest >= EXACT:
            raise ConversionError(
                f"{name} compares numbers of up to {largest:,}, and NIR's readers hold up to {EXACT:,} in float64: use "
                "fewer units or inputs"
            )
    enters = graph.input_shape if graph.convolutional else (graph.n_in,)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(enters))}
    if graph.binarize is not None:
        nodes.update(binarize_nodes(graph.binarize, enters, time_step))
    before: tuple[int, ...] = graph.input_shape
    for number, (name, layer) in enumerate(graph.named_layers()):
        pixels = number == 0 and graph.binarize is None
        if not isinstance(layer, ConvLayer) and number > 0 and len(before) == 3:
            nodes["flatten"] = nir.Flatten({"input": np.array(before)}, start_dim=0)
        nodes.update(_layer_nodes(name, layer, time_step, pixels=pixels))
        before = layer.output_shape
    return nodes | {"output": nir.Output(np.array([graph.n_out]))}


def _layer_nodes(
    name: str, layer: DenseLayer | ConvLayer | Readout, time_step: float | None, *, pixels: bool
) -> Iterator[tuple[str, nir.NIRNode]]:
    if isinstance(layer, Readout):
        return readout_nodes(name, layer, pixels=pixels)
    if layer.norm is not None:
        raise ConversionError(f"{name} has a norm whose threshold depends on the image: NIR has no node for that")
    if isinstance(layer, ConvLayer):
        return conv_nodes(name, layer, time_step, pixels=pixels)
    return dense_nodes(name, layer, time_step, pixels=pixels)


def _metadata(graph: BinaryGraph, time_step: float | None) -> dict[str, Any]:
    """What NIR has no place for."""
    details: dict[str, Any] = {"max_level": graph.max_level, "input_shape": np.array(graph.input_shape)}
    if graph.min_level:
        details |= {"min_level": graph.min_level, "signs": int(graph.signs)}
    return details if time_step is None else details | {"time_step": time_step}


def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    *,
    max_level: int | None = None,
    min_level: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    time_step: float | None = None,
) -> LavaNetwork | SpikingNetwork:
    """Read the network of an NIR graph, exactly.

    Its `graph` saves to the same bytes as that of the `network` written (thresholds that no sum reaches may come back
    nearer, at 2**51). NIR has no place for a network's self-check and for
    what it has learned.

    Other programs' graphs are taken if they are one chain from raw pixels, of these nodes:

    - `Affine` or `Linear` whose weights are +c and -c, each unit with a positive c of its own; behind a `Threshold` its
      inputs are 0 and 1.
    - directly behind it, `Scale` or an `Affine` with a diagonal matrix: a factor for each unit.
    - `Conv2d` whose weights are +c and -c, a c for each channel; directly behind it `SumPool2d` or `AvgPool2d`.
    - `Threshold`: z = 1 if its input exceeds its threshold.
    - behind a convolution's `Threshold`, `SumPool2d` or `AvgPool2d` and a `Threshold` that asks for one spike of each
      window, or for all.
    - `Flatten` of all dimensions, in front or behind a threshold.
    - in front of the first weights a `Threshold`, or a `Scale` and a `Threshold`: inputs that are binarized.

    Thresholds are computed in rationals: the result is what the stored numbers say, whatever a program that simulates
    the graph in float32 rounds. `nir.LIF` is taken in graphs written by `to_nir(time_step=...)` only.

    Args:
        graph: the path of a file, which is read so that a damaged or hostile one harms nothing
            (`lava_meta.converters.nir.file`); or a graph, as `nir.read(path)` gives it.
        max_level: of the pixels, 0 .. max_level (1 for spikes); needed if the graph's metadata do not have it.
        min_level: negative for signed features, min_level .. max_level; by default the metadata's, or 0.
        input_shape: of one image; by default the metadata's, or that of the input node.
        time_step: in seconds, for graphs whose neurons remember (`lava_meta.converters.nir.stepped`); by default the
            metadata's. They become a `SpikingNetwork`.

    Raises:
        ConversionError: a node cannot be converted exactly; it is named, with the reason.
        FormatError: the file is damaged, or no NIR.
        TooLargeError: the file declares more than fits in memory.
    """
    if isinstance(graph, (str, os.PathLike)):
        with reading(graph):
            return _network(read_nir(graph), max_level, min_level, input_shape, time_step)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir takes a path, or an NIRGraph; got {type(graph).__name__}")
    return _network(graph, max_level, min_level, input_shape, time_step)


def _network(
    graph: nir.NIRGraph,
    max_level: int | None,
    min_level: int | None,
    input_shape: tuple[int, ...] | None,
    time_step: float | None,
) -> LavaNetwork | SpikingNetwork:
    if STRUCTURE in graph.metadata:
        return LavaNetwork(acyclic_from_nir(graph))
    if any(_remembers(node, graph.metadata.get("time_step")) for node in graph.nodes.values()):
        stepped = read_stepped(graph, time_step, max_level, min_level, input_shape)
        return SpikingNetwork(stepped, readout="rate" if _fires(graph, stepped.output) else "last")
    level = max_level if max_level is not None else graph.metadata.get("max_level")
    low = int(graph.metadata.get("min_level", 0) if min_level is None else min_level)
    if level is None:
        raise ConversionError("the graph does not say which pixels it takes: pass max_level= (1 for spikes, or 255)")
    signs = bool(graph.metadata.get("signs", False)) and (low, level) == (-1, 1)
    if _branches(graph):
        return _any_form(graph, max_level=int(level), min_level=low, signs=signs)
    chain = chain_of(graph)
    enters = tuple(int(extent) for extent in chain[0][1].output_type["output"])
    reader = ChainReader(enters, graph.metadata.get("time_step"))
    for name, node in chain[1:-1]:
        reader.take(node, f"{name} ({type(node).__name__})")
    readout = reader.readout(chain[-2][0])
    shape = tuple(int(extent) for extent in input_shape or graph.metadata.get("input_shape", enters))
    return LavaNetwork(BinaryGraph(tuple(reader.layers), readout, int(level), shape, low, signs, reader.binarize))


def _branches(graph: nir.NIRGraph) -> bool:
    """Whether a node takes from several, or gives to several."""
    return any(len({*ends}) < len(ends) for ends in zip(*graph.edges, strict=True))


def _any_form(graph: nir.NIRGraph, **domain: Any) -> LavaNetwork:
    """A network with branches, read by evaluating its nodes as `lava_meta.convert` evaluates a module's operations."""
    from lava_meta.converters.lowering.acyclic import to_acyclic
    from lava_meta.converters.nir.module import GraphModule
    from lava_meta.converters.parity.acyclic import check_acyclic

    module = GraphModule(graph).eval()
    shape = next(node.input_type["input"] for node in graph.nodes.values() if isinstance(node, nir.Input))
    read = to_acyclic(module, raw=not domain["signs"], input_shape=tuple(int(extent) for extent in shape), **domain)
    parity = check_acyclic(module, read)
    if not parity.exact:
        raise ConversionError(f"the network differs from the graph: {parity}")
    return LavaNetwork(read.lowered.graph, parity=parity)


def _remembers(node: nir.NIRNode, time_step: float | None) -> bool:
    """Whether neurons keep something from step to step; `to_nir(time_step=)` also writes LIF that do not."""
    if isinstance(node, nir.LIF):
        return time_step is None or bool((node.tau != time_step).any())
    return isinstance(node, WITH_MEMORY)


def _fires(graph: nir.NIRGraph, name: str) -> bool:
    return isinstance(graph.nodes[name], (nir.LIF, nir.CubaLIF))
