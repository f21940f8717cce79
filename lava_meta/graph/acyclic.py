"""A network of any acyclic form, its reference implementation: nodes of `lava_meta.graph.nodes`, input and readout.

Where layers follow one another alone, `lava_meta.graph.BinaryGraph` says the same in less. Here residual additions,
concatenations, several inputs of a node, wide weights and real streams have their place; everything is integers.

    value = scale * u + offset     u: the integers of the node `output`, int64 (classes,)
    class = argmax of the values, lowest index on ties

The values of an image may be a map (classes, rows, columns), as of segmentation: then it has a class at each place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import FormatError
from lava_meta.graph.conv import Window
from lava_meta.graph.dense import check_array
from lava_meta.graph.inputs import Domain
from lava_meta.graph.network_file import name_of, read_network
from lava_meta.graph.nodes import KINDS, BinaryWeight, Bounds, Conv, Linear, Node, Shape, Weight, WideWeight
from lava_meta.html import Summarised
from lava_meta.io.files import reading
from lava_meta.io.memory import require_memory
from lava_meta.io.sealed import GRAPH, sealed_bytes, write_sealed

VERSION = 5  # of files; of networks without maps 4, and those of `BinaryGraph` have 1 to 3
INPUT = "input"
READOUT = "readout"
Entry = tuple[dict[str, Any], dict[str, NDArray[Any]]]  # what a file holds: JSON, and arrays by name
_BATCH_BYTES = 2**28  # of the integers of one batch of images


@dataclass(frozen=True, eq=False)
class Scores:
    """The values of the classes: `scale * sums + offset`."""

    scale: NDArray[Any]  # float64 (classes,), or as many as `shape` has
    offset: NDArray[Any]  # float64, likewise
    shape: Shape = ()  # of the values of one image: (classes,), which it need not say, or (classes, rows, columns)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.shape or (self.scale.size,))
        if math.prod(self.shape) != self.scale.size:
            raise ValueError(f"the readout gives {self.scale.size} values for a map of {self.shape}")
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            check_array(name, value, np.float64, (self.scale.size,))
            if not np.isfinite(value).all():
                raise ValueError(f"the readout's {name} holds a value that is not finite")

    def values(self, sums: NDArray[Any]) -> NDArray[Any]:
        """float64 (n, classes), or of maps (n, classes, rows, columns)."""
        values: NDArray[Any] = self.scale * sums + self.offset
        return values.reshape(-1, *self.shape)

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,), of maps (n, rows, columns): argmax of the values, lowest index on ties."""
        classes: NDArray[Any] = np.argmax(self.values(sums), axis=1).astype(np.int64)
        return classes


@dataclass(frozen=True)
class Placed:
    """A node at its place in a network."""

    node: Node
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    low: int  # the least integer that it gives
    high: int  # the greatest

    @property
    def sizes(self) -> tuple[int, ...]:
        """Integers that it takes of one image from each source."""
        return tuple(math.prod(shape) for shape in self.input_shapes)

    @property
    def n_in(self) -> int:
        """Integers that it takes of one image."""
        return sum(self.sizes)

    @property
    def n_out(self) -> int:
        """Integers that it gives of one image."""
        return math.prod(self.output_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What its integers are given out as: int8 for signs and few-bit levels, else int64."""
        return np.dtype(np.int8 if self.low >= -128 and self.high < 128 else np.int64)


def place(
    nodes: Mapping[str, Node],
    input_shape: Shape,
    input_bounds: Bounds,
    later: Mapping[str, tuple[Shape, Bounds]] | None = None,
) -> dict[str, Placed]:
    """Every node with its shapes and bounds, by name, in order.

    `later` has those of nodes that may be named before they stand, by connections across time steps.

    Raises `ValueError` for nodes that do not fit each other, or name one that does not stand before them.
    """
    known: dict[str, tuple[Shape, Bounds]] = {INPUT: (input_shape, input_bounds), **(later or {})}
    found = {}
    for name, node in nodes.items():
        missing = [source for source in node.sources if source not in known]
        if missing or not node.sources:
            raise ValueError(f"{name} takes {missing or 'nothing'}, which does not stand before it")
        shapes, bounds = zip(*(known[source] for source in node.sources), strict=True)
        try:
            shape = node.shape(shapes)
            low, high = node.bounds(bounds, shapes)
        except ValueError as error:
            raise ValueError(f"{name} ({node.kind}) {error}") from error
        known[name] = shape, (low, high)
        found[name] = Placed(node, shapes, shape, int(low.min()), int(high.max()))
    return found


class NodeGraph(Domain, Summarised):
    """What networks of nodes have in common, with time steps or without: `nodes`, each at its place, and `output`."""

    nodes: Mapping[str, Node]
    output: str

    def check_nodes(self) -> None:
        """Raises `ValueError` for names and an input that no network has; keeps the nodes apart from the caller's."""
        self.check_domain()
        object.__setattr__(self, "nodes", dict(self.nodes))
        if {INPUT, READOUT} & {*self.nodes}:
            raise ValueError("'input' and 'readout' are no names of nodes")

    @cached_property
    def placed(self) -> dict[str, Placed]:
        """Every node with its shapes and bounds, by name, in order."""
        return place(self.nodes, self.input_shape, self.input_bounds)

    @property
    def input_bounds(self) -> Bounds:
        """The least and greatest level, of one element each."""
        ones = (1,) * len(self.input_shape)
        return np.full(ones, self.min_level, np.int64), np.full(ones, self.max_level, np.int64)

    def described(self, entry_of: Callable[[str, Node], Entry]) -> Entry:
        """Nodes, output and domain as JSON, and the arrays; `entry_of` takes one node apart."""
        entries = []
        tensors: dict[str, NDArray[Any]] = {}
        for name, node in self.nodes.items():
            entry, arrays = entry_of(name, node)
            entries.append(entry)
            tensors |= {f"{name}.{field}": value for field, value in arrays.items()}
        header = {
            "nodes": entries,
            "output": self.output,
            "max_level": self.max_level,
            "min_level": self.min_level,
            "signs": self.signs,
            "input_shape": list(self.input_shape),
        }
        return header, tensors


def nodes_from(header: dict[str, Any], node_of: Callable[[dict[str, Any]], Node]) -> dict[str, Node]:
    """The nodes of a file, by name; `node_of` makes one of its entry. Raises `FormatError` for two of one name."""
    nodes = {str(entry["name"]): node_of(entry) for entry in header["nodes"]}
    if len(nodes) != len(header["nodes"]):
        raise FormatError("two nodes have one name")
    return nodes


@dataclass(frozen=True, eq=False, repr=False)
class AcyclicGraph(NodeGraph):
    """A whole network.

    Raises `ValueError` when nodes do not fit each other, name one that does not stand before them, or could pass 62
    bits.
    """

    nodes: Mapping[str, Node]  # in an order in which each comes behind its sources
    output: str  # the node whose integers are read
    readout: Scores
    max_level: int  # inputs are integers min_level .. max_level
    input_shape: tuple[int, ...]
    min_level: int = 0
    signs: bool = False  # inputs are +1 and -1

    def __post_init__(self) -> None:
        self.check_nodes()
        if not self.nodes:
            raise ValueError("a network needs at least one node")
        shape = self.placed[self.output].output_shape if self.output in self.nodes else None
        if shape != (self.readout.scale.size,):
            raise ValueError(f"reads {self.readout.scale.size} classes from {self.output!r}, which gives {shape}")

    @property
    def n_out(self) -> int:
        """Number of classes; of maps, of all their values."""
        return self.readout.scale.size

    def named_layers(self) -> list[tuple[str, Placed]]:
        """Every node by its name, in order; the output once more, last, as `readout`."""
        return [*self.placed.items(), (READOUT, self.placed[self.output])]

    def reach(self) -> dict[str, int]:
        """By node, a bound of the size of its integers."""
        return {name: max(abs(layer.low), abs(layer.high)) for name, layer in self.named_layers()}

    # The reference implementation: clear, exact, and slow.

    def activations(self, images: Any) -> dict[str, NDArray[Any]]:
        """Every node's integers (n, n_out), int8 or int64, and those of the readout."""
        parts = list(self._batches(self.check_images(images), keep=True))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def sums(self, images: Any) -> NDArray[Any]:
        """The readout's integers, int64 (n, n_out)."""
        parts = self._batches(self.check_images(images), keep=False)
        return np.concatenate([part[READOUT] for part in parts])

    def predict(self, images: Any) -> NDArray[Any]:
        """The classes, int64 (n,), of maps (n, rows, columns)."""
        return self.readout.classes(self.sums(images))

    def _batches(self, pixels: NDArray[Any], *, keep: bool) -> Iterator[dict[str, NDArray[Any]]]:
        an_image = 64 * max(max(layer.n_in, layer.n_out) * self._taps(layer.node) for layer in self.placed.values())
        batch = max(1, min(256, _BATCH_BYTES // an_image))
        require_memory(batch * an_image, "Computing in numpy", "use a machine with more")
        for start in range(0, len(pixels), batch):
            yield self._forward(pixels[start : start + batch], keep=keep)

    @staticmethod
    def _taps(node: Node) -> int:
        return math.prod(node.window.kernel) if isinstance(node, Conv) else 1

    def _forward(self, pixels: NDArray[Any], *, keep: bool) -> dict[str, NDArray[Any]]:
        last = {source: name for name, node in self.nodes.items() for source in node.sources}
        values = {INPUT: pixels.reshape(-1, *self.input_shape).astype(np.int64)}
        out = {}
        for name, node in self.nodes.items():
            values[name] = node([values[source] for source in node.sources])
            if keep:
                out[name] = values[name].reshape(len(pixels), -1).astype(self.placed[name].dtype)
            for source in {*node.sources}:
                if last[source] == name and source != self.output:
                    del values[source]
        return out | {READOUT: values[self.output]}

    # Files.

    def save(self, path: str | os.PathLike[str], notes: dict[str, Any] | None = None) -> None:
        """Write the network to one safetensors file, whole or not at all; equal networks give equal bytes.

        `notes`, JSON-ready, are kept in the header: `load_with_notes` gives them back.
        """
        header, tensors = self.parts()
        write_sealed(path, header | ({"notes": notes} if notes else {}), tensors)

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        return sealed_bytes(*self.parts())

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> AcyclicGraph:
        """Read a file written by `save`, or its content.

        Raises `FormatError` if it is not one, not as it was written, or describes no network; `TooLargeError` if it
        does not fit in memory.
        """
        return cls.load_with_notes(source)[0]

    @classmethod
    def load_with_notes(cls, source: str | os.PathLike[str] | bytes) -> tuple[AcyclicGraph, dict[str, Any]]:
        """The network as `load` reads it, and the notes it was saved with."""
        header, tensors, notes = read_network(source, range(VERSION - 1, VERSION + 1))
        with reading(name_of(source)):
            return cls.from_parts(header, tensors), notes

    @classmethod
    def from_parts(cls, header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> AcyclicGraph:
        """The network that a file's header and tensors describe. Raises what making its nodes raises."""
        return cls(
            nodes_from(header, lambda entry: node_from(entry, tensors)),
            header["output"],
            Scores(tensors["readout.scale"], tensors["readout.offset"], tuple(header.get("output_shape", ()))),
            header["max_level"],
            tuple(header["input_shape"]),
            header["min_level"],
            header["signs"],
        )

    def parts(self) -> Entry:
        """What a file holds: its header, and its tensors; `from_parts` takes both."""
        header, tensors = self.described(node_entry)
        scores = {"readout.scale": self.readout.scale, "readout.offset": self.readout.offset}
        shape = self.readout.shape
        plain = len(shape) == 1
        kind = {"version": VERSION - 1} if plain else {"version": VERSION, "output_shape": list(shape)}
        return {"format": GRAPH} | kind | header, scores | tensors

    # Summary.

    @property
    def sizes(self) -> str:
        """Inputs, nodes and classes: "3x32x32, 45 nodes, 10 classes", or "4x32x32 values" of maps."""
        shape = self.readout.shape
        values = f"{shape[0]} classes" if len(shape) == 1 else f"{'x'.join(map(str, shape))} values"
        return f"{'x'.join(map(str, self.input_shape))}, {len(self.nodes)} nodes, {values}"

    def summary(self) -> list[dict[str, Any]]:
        """One row per node, and the readout: name, kind, inputs, units, synapses, bits, and operations per image."""
        rows: list[dict[str, Any]] = []
        for name, layer in self.named_layers():
            if name == READOUT:
                empty = {"inputs": layer.n_out, "units": layer.n_out, "synapses": 0, "operations": 0}
                rows.append({"layer": name, "kind": "readout", **empty, "bits": 128 * layer.n_out})
                continue
            synapses = operations = bits = 0
            weight = getattr(layer.node, "weight", None)
            if weight is not None:
                synapses = weight.fan_in * len(weight.values)
                bits = synapses * weight.bits_each
                operations = weight.fan_in * layer.n_out
            bits += sum(8 * value.nbytes for value in vars(layer.node).values() if isinstance(value, np.ndarray))
            rows.append(
                {
                    "layer": name,
                    "kind": layer.node.kind,
                    "inputs": layer.n_in,
                    "units": layer.n_out,
                    "synapses": synapses,
                    "bits": bits,
                    "operations": operations,
                }
            )
        return rows


_PLAIN = ("groups", "how", "shift")  # fields that are numbers or words


def node_entry(name: str, node: Node) -> Entry:
    """A node as JSON, and its arrays by field."""
    entry: dict[str, Any] = {"name": name, "kind": node.kind, "sources": list(node.sources)}
    arrays = {}
    for field, value in vars(node).items():
        if isinstance(value, BinaryWeight):
            entry["fan_in"], arrays["bits"] = value.fan_in, value.bits
        elif isinstance(value, WideWeight):
            arrays["weight"] = value.values
        elif isinstance(value, Window):
            entry["window"] = {key: list(extents) for key, extents in vars(value).items()}
        elif isinstance(value, np.ndarray):
            arrays[field] = value
        elif field in _PLAIN:
            entry[field] = value
        elif field == "out":
            entry["out"] = list(value)
    return entry, arrays


def node_from(entry: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Node:
    """What `node_entry` took apart. Raises `ValueError`, `KeyError` or `TypeError` for an entry of another form."""
    name, kind = entry["name"], KINDS[entry["kind"]]
    options: dict[str, Any] = {field: entry[field] for field in _PLAIN if field in entry}
    for field, value in options.items():
        if type(value) is not (str if field == "how" else int):
            raise ValueError(f"{field} of {name} is {value!r}")
    if kind in (Linear, Conv):
        weight: Weight
        if f"{name}.bits" in tensors:
            weight = BinaryWeight(tensors[f"{name}.bits"], entry["fan_in"])
        else:
            weight = WideWeight(tensors[f"{name}.weight"])
        options["weight"] = weight
    if "window" in entry:
        window = {key: (extents[0], extents[1]) for key, extents in entry["window"].items() if len(extents) == 2}
        options["window"] = Window(**window)
    if "out" in entry:
        options["out"] = tuple(int(extent) for extent in entry["out"])
        if min(options["out"], default=1) < 1:
            raise ValueError(f"{name} has the shape {options['out']}")
    for field in ("limits", "codes", "start", "slope", "intercept", "index"):
        if f"{name}.{field}" in tensors:
            options[field] = tensors[f"{name}.{field}"]
    return kind(tuple(str(source) for source in entry["sources"]), **options)
