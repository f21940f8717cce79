"""Networks of any acyclic form to nodes of NIR, and back to the bit.

Every node of an `AcyclicGraph` ends in one node of NIR with its name, whose output is the node's integers, as numbers;
several edges into a node add up, as NIR has it:

    linear       Linear                        conv      Conv2d without bias
    add          Scale(1), of all its sources  sum pool  SumPool2d
    threshold    Threshold(limit_k - 1/2) and Scale(codes_k - codes_(k-1)) per limit, added up; what codes_0 adds comes
                 from a Threshold that always fires
    curve        Scale(slope), and what it adds likewise; one line of whole numbers
    max pool     of two levels: SumPool2d and a Threshold
    concat       Linear or Conv2d of 1x1 of zeros and ones per source, added up
    gather       Flatten; a move of whole channels, or to a flat value, is a Conv2d of 1x1, or a Linear, of 0 and 1
    readout      Affine(diag(scale), offset)

What NIR has no node for is refused by the node's name: real streams, which round; products; reshapes of maps.

The metadata hold the structure as a network's file has it (`AcyclicGraph.save`), and all numbers are in the nodes.
Reading makes the network of both and writes it again: a graph that has other nodes than its metadata say is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.nir.reading import cropped, grouped
from lava_meta.converters.nir.writing import EXACT, convolution, pooling, stored
from lava_meta.errors import ConversionError
from lava_meta.graph.acyclic import INPUT, AcyclicGraph
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    Add,
    BinaryWeight,
    Concat,
    Conv,
    Curve,
    Gather,
    Linear,
    Node,
    Pool,
    Shape,
    Threshold,
    weight_of,
)

STRUCTURE = "structure"  # in the metadata
_LARGEST_MATRIX = 2**24
_EVER, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # limits of constant units


def acyclic_to_nir(graph: AcyclicGraph) -> nir.NIRGraph:
    """The network as an NIR graph. Raises `ConversionError` naming the node that NIR cannot express."""
    writer = _Writer(graph)
    metadata: dict[str, Any] = {"max_level": graph.max_level, "input_shape": np.array(graph.input_shape)}
    if graph.min_level:
        metadata |= {"min_level": graph.min_level, "signs": int(graph.signs)}
    return nir.NIRGraph(writer.nodes, writer.edges, metadata=metadata | {STRUCTURE: json.dumps(_structure(graph))})


def acyclic_from_nir(graph: nir.NIRGraph) -> AcyclicGraph:
    """The network of a graph that `acyclic_to_nir` wrote. Raises `ConversionError`."""
    text = graph.metadata[STRUCTURE]
    try:
        header = json.loads(text if isinstance(text, str) else text.decode())
        tensors = {
            f"{entry['name']}.{field}": value
            for entry in header["nodes"]
            for field, value in _tensors(entry, graph.nodes).items()
        }
        last = graph.nodes[f"{header['output']}:values"]
        tensors |= {"readout.scale": np.diag(last.weight).copy(), "readout.offset": np.asarray(last.bias, np.float64)}
        found = AcyclicGraph.from_parts(header, tensors)
        written = acyclic_to_nir(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConversionError(f"the graph's nodes are not those that its metadata name: {error}") from error
    for name, node in written.nodes.items():
        if name not in graph.nodes or not _same(node, graph.nodes[name]):
            raise ConversionError(f"{name} is not as the graph's metadata say")
    if {*written.edges} != {(str(a), str(b)) for a, b in graph.edges} or {*written.nodes} != {*graph.nodes}:
        raise ConversionError("the graph has other nodes or edges than its metadata say")
    return found


class _Writer:
    def __init__(self, graph: AcyclicGraph) -> None:
        self.graph = graph
        self.nodes: dict[str, nir.NIRNode] = {INPUT: nir.Input(np.array(graph.input_shape))}
        self.edges: list[tuple[str, str]] = []
        self.views = _views(graph)
        self.shapes = {INPUT: graph.input_shape} | {n: layer.output_shape for n, layer in graph.placed.items()}
        for name, largest in graph.reach().items():
            if largest >= EXACT:
                raise ConversionError(f"{name} has numbers of up to {largest:,}; NIR's readers hold up to {EXACT:,}")
        for name, node in graph.nodes.items():
            if name in self.views:
                continue
            sources = [self.views.get(source, source) for source in node.sources]
            try:
                self._write(name, node, sources)
            except ConversionError as refusal:
                raise ConversionError(f"{name} {refusal}") from refusal
        readout, last = graph.readout, f"{graph.output}:values"
        if graph.n_out**2 > _LARGEST_MATRIX:
            raise ConversionError(f"the readout gives {graph.n_out:,} values, too many for NIR's matrix of them")
        self._add(last, nir.Affine(np.diag(readout.scale), readout.offset.copy()), graph.output)
        output = "output" if "output" not in self.nodes else "output:"
        self._add(output, nir.Output(np.array([graph.n_out])), last)

    def _add(self, name: str, node: nir.NIRNode, *sources: str) -> str:
        self.nodes[name] = node
        for source in dict.fromkeys(sources):
            times, taken = sources.count(source), source
            if times > 1:  # NIR has an edge once
                taken = self._add(f"{name}:{source}", nir.Scale(np.full(self.shapes[source], float(times))), source)
            self.edges.append((taken, name))
        return name

    def _write(self, name: str, node: Node, sources: list[str]) -> None:
        source = sources[0]
        shape, out = self.shapes[source], self.shapes[name]
        if isinstance(node, Linear):
            if len(shape) != 1:
                raise ConversionError(f"sums over the last of the axes {shape}; NIR's Linear takes flat inputs")
            self._add(name, nir.Linear(stored(node.weight.values)), source)
        elif isinstance(node, Conv):
            kernels = node.weight.values.reshape(len(node.weight.values), -1, *node.window.kernel)
            self._add(name, _conv(name, kernels, shape, node.window, node.groups), source)
        elif isinstance(node, Threshold):
            self._threshold(name, node, source, out)
        elif isinstance(node, Curve):
            self._line(name, node, source, out)
        elif isinstance(node, Add):
            if any(self.shapes[other] != out for other in sources):
                raise ConversionError("adds values of several shapes; NIR's edges add equal ones")
            self._add(name, nir.Scale(np.ones(out)), *sources)
        elif isinstance(node, Concat):
            self._concat(name, sources, out)
        elif isinstance(node, Gather):
            self._gather(name, node, source)
        elif isinstance(node, Pool):
            self._pool(name, node, source)
        else:
            raise ConversionError(f"is a {node.kind}, which no node of NIR computes")

    def _sum(self, name: str, shape: Shape, terms: list[str]) -> None:
        self._add(name, nir.Scale(np.ones(shape)), *terms)

    def _constant(self, name: str, value: NDArray[Any], source: str) -> list[str]:
        """A node that gives `value` whatever `source` gives; none if it is 0."""
        if not value.any():
            return []
        ones = self._add(f"{name}:one", nir.Threshold(np.full(self.shapes[source], -np.inf)), source)
        return [self._add(f"{name}:constant", nir.Scale(value.astype(np.float64)), ones)]

    def _threshold(self, name: str, node: Threshold, source: str, shape: Shape) -> None:
        limits = _numbers(np.broadcast_to(node.limits, (len(node.limits), *shape)))
        codes = np.broadcast_to(node.codes, (len(node.codes), *shape)).astype(np.float64)
        terms = self._constant(name, codes[0], source)
        for number, (limit, step) in enumerate(zip(limits, np.diff(codes, axis=0), strict=True), 1):
            fires = self._add(f"{name}:fires{number}", nir.Threshold(limit - 0.5), source)
            terms.append(self._add(f"{name}:step{number}", nir.Scale(step), fires))
        if not terms:
            raise ConversionError("gives 0 alone")
        self._sum(name, shape, terms)

    def _line(self, name: str, node: Curve, source: str, shape: Shape) -> None:
        if len(node.start) > 1 or (node.slope % 1).any() or (node.intercept % 1).any():
            raise ConversionError("is a real stream, which rounds; NIR has no node that does")
        slope = np.broadcast_to(node.slope[0], shape)
        constant = np.broadcast_to(node.intercept[0] - node.slope[0] * node.start[0], shape)
        scaled = self._add(f"{name}:slope", nir.Scale(slope.copy()), source)
        self._sum(name, shape, [scaled, *self._constant(name, constant, source)])

    def _concat(self, name: str, sources: list[str], shape: Shape) -> None:
        first, terms = 0, []
        for number, source in enumerate(sources, 1):
            size = self.shapes[source][0]
            places = np.zeros((shape[0], size))
            places[first + np.arange(size), np.arange(size)] = 1
            terms.append(self._add(f"{name}:{number}", self._moving(name, places, self.shapes[source]), source))
            first += size
        self._sum(name, shape, terms)

    def _moving(self, name: str, places: NDArray[Any], shape: Shape) -> nir.NIRNode:
        """What puts the elements along the first axis at other places of it."""
        if places.size > _LARGEST_MATRIX:
            raise ConversionError(f"moves {places.shape[1]:,} values to {places.shape[0]:,} places one by one")
        if len(shape) == 1:
            return nir.Linear(stored(places))
        if len(shape) == 3:
            return _conv(name, places[:, :, None, None], shape, Window((1, 1)), 1)
        raise ConversionError(f"moves values of the axes {shape}; NIR moves flat ones and channels of maps")

    def _gather(self, name: str, node: Gather, source: str) -> None:
        shape, size = self.shapes[source], math.prod(self.shapes[source])
        index = np.arange(size).reshape(node.out) if node.index is None else node.index
        whole = np.array_equal(index.reshape(-1), np.arange(size))
        if whole and len(node.out) == 1 and len(shape) > 1:
            self._add(name, nir.Flatten({"input": np.array(shape)}, start_dim=0), source)
            return
        if len(node.out) == 1:
            if len(shape) > 1:
                source = self._add(f"{name}:flat", nir.Flatten({"input": np.array(shape)}, start_dim=0), source)
            self._add(name, self._moving(name, _places(index, size), (size,)), source)
            return
        channels = _channels(index, shape)
        if channels is None:
            raise ConversionError(f"makes {node.out} of {shape}; NIR flattens, and moves whole channels")
        self._add(name, self._moving(name, _places(channels, shape[0]), shape), source)

    def _pool(self, name: str, node: Pool, source: str) -> None:
        shape, window = self.shapes[source], node.window
        if node.how == "sum":
            if source in self.views.values() and window.kernel == (1, math.prod(shape[1:])):
                window = Window((shape[1], shape[2]))
            self._add(name, _sums(name, window), source)
            return
        before = self.graph.nodes.get(source)
        if not isinstance(before, Threshold) or len({*before.codes.reshape(-1).tolist()}) != 2:
            raise ConversionError("takes the greatest of more than two levels; NIR has sums over windows alone")
        low, high = sorted({*before.codes.reshape(-1).tolist()})
        inside = window.views(np.ones((1, 1, *shape[1:]))).sum(axis=(4, 5))[0]
        limit = np.broadcast_to(low * inside + (high - low) / 2, self.shapes[name])
        sums = self._add(f"{name}:sums", _sums(name, window), source)
        self.shapes[sums] = self.shapes[name]
        fires = self._add(f"{name}:fires", nir.Threshold(limit.copy()), sums)
        step = self._add(f"{name}:step", nir.Scale(np.full(self.shapes[name], float(high - low))), fires)
        constant = self._constant(name, np.full(self.shapes[name], float(low)), sums)
        self._sum(name, self.shapes[name], [step, *constant])


def _conv(name: str, kernels: NDArray[Any], shape: Shape, window: Window, groups: int) -> nir.Conv2d:
    metadata = {"groups": groups} if groups > 1 else {}
    return convolution(name, kernels, shape, window, groups, np.zeros(len(kernels)), metadata)


def _sums(name: str, window: Window) -> nir.NIRNode:
    if window.dilation != (1, 1):
        raise ConversionError("pools with dilation, which NIR's pooling does not have")
    return pooling(name, window, means=False)


def _views(graph: AcyclicGraph) -> dict[str, str]:
    """Maps (c, rows, columns) seen as (c, 1, places) by sums over all places alone: NIR sums the maps themselves."""
    found = {}
    for name, node in graph.nodes.items():
        takers = [other for other in graph.nodes.values() if name in other.sources]
        shape = graph.placed[name].input_shapes[0]
        plain = isinstance(node, Gather) and (
            node.index is None or np.array_equal(node.index.reshape(-1), np.arange(math.prod(shape)))
        )
        whole = plain and len(shape) == 3 and graph.placed[name].output_shape == (shape[0], 1, math.prod(shape[1:]))
        sums = all(
            isinstance(taker, Pool) and taker.how == "sum" and taker.window == Window((1, math.prod(shape[1:])))
            for taker in takers
        )
        if whole and sums and takers and name != graph.output:
            found[name] = node.sources[0]
    return found


def _places(index: NDArray[Any], size: int) -> NDArray[Any]:
    """Zeros and ones (places, values) that put `values[index]` at the places; nothing where it is -1."""
    places = np.zeros((index.size, size))
    rows = np.flatnonzero(index >= 0)
    places[rows, index.reshape(-1)[rows]] = 1
    return places


def _channels(index: NDArray[Any], shape: Shape) -> NDArray[Any] | None:
    """Which channel each channel of a move comes from, -1 for none; None if it moves anything else."""
    if index.ndim != 3 or len(shape) != 3 or index.shape[1:] != shape[1:]:
        return None
    size = math.prod(shape[1:])
    flat = index.reshape(len(index), -1)
    channels = np.where(flat[:, 0] < 0, -1, flat[:, 0] // size)
    expected = np.where(channels[:, None] < 0, -1, channels[:, None] * size + np.arange(size))
    return channels if np.array_equal(flat, expected) else None


def _structure(graph: AcyclicGraph) -> dict[str, Any]:
    """What the nodes of NIR do not say: the network's nodes, and which of their numbers are shared."""
    header, _ = graph.parts()
    for entry, node in zip(header["nodes"], graph.nodes.values(), strict=True):
        if isinstance(node, Threshold):
            entry |= {"count": len(node.limits), "shared": node.limits.shape[1:]}
        elif isinstance(node, Curve):
            entry |= {"start": node.start[0].tolist(), "shared": node.start.shape[1:]}
        elif isinstance(node, Gather):
            entry["indexed"] = node.index is not None
    return header


def _tensors(entry: dict[str, Any], nodes: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of a node as a network's file names them."""
    name, kind = entry["name"], entry["kind"]
    if kind in ("linear", "conv"):
        return _weight(entry, nodes[name])
    if kind == "gather" and entry["indexed"]:
        return {"index": _index(tuple(entry["out"]), nodes[name])}
    if kind not in ("threshold", "curve"):
        return {}
    shared = tuple(slice(0, int(extent)) for extent in entry["shared"])
    constant = nodes[f"{name}:constant"].scale if f"{name}:constant" in nodes else np.zeros_like(nodes[name].scale)
    if kind == "threshold":
        numbers = range(1, entry["count"] + 1)
        limits = [_limits(nodes[f"{name}:fires{k}"].threshold) for k in numbers]
        codes = np.cumsum([constant, *(nodes[f"{name}:step{k}"].scale for k in numbers)], axis=0)
        every = (slice(None), *shared)
        return {"limits": _int64(np.reshape(limits, (-1, *constant.shape))[every]), "codes": _int64(codes[every])}
    start = np.array(entry["start"], np.int64)
    slope = np.asarray(nodes[f"{name}:slope"].scale)[shared]
    found = {"start": start, "slope": slope, "intercept": constant[shared] + slope * start}
    return {field: np.ascontiguousarray(value[None]) for field, value in found.items()}


def _weight(entry: dict[str, Any], node: Any) -> dict[str, NDArray[Any]]:
    values = np.asarray(node.weight)
    if entry["kind"] == "conv":
        whole, _ = grouped(entry["name"], node)
        values, _ = cropped(entry["name"], node, whole)
    weight = weight_of(_int64(values.reshape(len(values), -1)))
    return {"bits": weight.bits} if isinstance(weight, BinaryWeight) else {"weight": weight.values}


def _index(out: Shape, node: Any) -> NDArray[Any]:
    """The places that a gather of this shape takes its values from."""
    if isinstance(node, nir.Flatten):
        return np.arange(math.prod(out)).reshape(out)
    places = np.asarray(node.weight).reshape(len(node.weight), -1)
    found = np.where(places.any(axis=1), places.argmax(axis=1), -1)
    if isinstance(node, nir.Linear):
        return found
    size = math.prod(out[1:])
    return np.where(found[:, None] < 0, -1, found[:, None] * size + np.arange(size)).reshape(out)


def _numbers(limits: NDArray[Any]) -> NDArray[Any]:
    """Limits as float64; those that everything reaches, or nothing, are infinite."""
    found: NDArray[Any] = np.clip(limits, -EXACT + 1, EXACT).astype(np.float64)
    found[limits == _NEVER] = np.inf
    found[limits == _EVER] = -np.inf
    return found


def _limits(threshold: NDArray[Any]) -> NDArray[Any]:
    """`_numbers` back, half a number above the threshold."""
    finite = np.isfinite(threshold)
    limits = np.where(threshold > 0, _NEVER, _EVER)
    limits[finite] = (threshold[finite] + 0.5).astype(np.int64)
    return limits


def _int64(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).astype(np.int64)


def _same(ours: nir.NIRNode, theirs: nir.NIRNode) -> bool:
    """Whether two nodes are of one kind and hold equal numbers."""
    if type(ours) is not type(theirs):
        return False
    fields = [
        each.name for each in dataclasses.fields(ours) if each.name not in ("metadata", "input_type", "output_type")
    ]
    return all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in fields)
