"""The deployable network: integers only, the same for every backend.

A `BinaryGraph` is what a trained binarized network becomes once its norms and its input scaling have been folded into
integer thresholds. Lava, NIR and the numpy reference implementation below all
compute from it, so each can be held to equal integers.

    layer 1        s = W p            p: integers min_level .. max_level (raw pixels, signed features), or their signs
    layer 2, ...   s = W a            a: the signs (+1, -1) of the layer before
    every layer    d = s                       or, if the layer is centred, d = n_out * s - sum_k s_k
                   a = +1 if polarity * d >= threshold, else -1; or what its `lava_meta.graph.norm` says
    readout        u = W a,  value = scale * u + offset,  class = argmax of the values, lowest index on ties

Layers are dense (`lava_meta.graph.dense`) or convolutions with pooling (`lava_meta.graph.conv`). `W` holds +1 and -1
and is kept as packed bits (`lava_meta.graph.bits`), so a network takes one bit per synapse in memory and on disk. The
file is a single safetensors file; its JSON header carries the structure and a checksum of the content.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.conv import LARGEST_MAP, ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout, reach
from lava_meta.graph.inputs import Binarize, Domain
from lava_meta.graph.network_file import name_of, read_network
from lava_meta.graph.norm import GroupNorm
from lava_meta.html import Summarised
from lava_meta.io.files import reading
from lava_meta.io.memory import require_memory
from lava_meta.io.sealed import GRAPH, sealed_bytes, write_sealed

VERSION = (
    3  # of files with other inputs than pixels, or norms; with convolutions 2, of dense layers 1, as they always were
)
_REFERENCE_BYTES = 32  # a value of one image, as integers, as float64, and as what is made of it
_REFERENCE_BATCH = {False: 256, True: 16}  # images at once, without and with convolutions


@dataclass(frozen=True, eq=False, repr=False)
class BinaryGraph(Domain, Summarised):
    """A whole network: hidden layers, the readout, and the input convention.

    Raises `ValueError` when layers do not fit each other or the input, or could sum to more than int64 holds.
    """

    layers: tuple[DenseLayer | ConvLayer, ...]
    readout: Readout
    max_level: int  # inputs are integers min_level .. max_level
    input_shape: tuple[int, ...]  # of one image, without the batch: (784,) or (1, 28, 28)
    min_level: int = 0  # negative for signed features
    signs: bool = False  # inputs are +1 and -1 (levels -1 .. 1 without 0)
    binarize: Binarize | None = None  # the first layer takes signs of the inputs

    def __post_init__(self) -> None:
        self.check_domain()
        if self.binarize is not None and (self.signs or self.binarize.threshold.size != self.n_in):
            raise ValueError(f"{self.binarize.threshold.size} thresholds for {self.n_in} inputs ({self.domain})")
        shape = self.input_shape
        for name, layer in self.named_layers():
            if isinstance(layer, ConvLayer) and layer.input_shape != shape:
                raise ValueError(f"{name} takes (channels, rows, columns) = {layer.input_shape}, but gets {shape}")
            width = math.prod(shape)
            if layer.n_in != width:
                raise ValueError(f"{name} takes {layer.n_in} inputs, but what comes before it has {width}")
            shape = layer.output_shape
        self.reach()

    @property
    def first_levels(self) -> tuple[int, int] | None:
        """The least and greatest input of the first layer; None if it takes signs."""
        return None if self.signs or self.binarize is not None else (self.min_level, self.max_level)

    @property
    def n_out(self) -> int:
        """Number of classes."""
        return self.readout.n_out

    @property
    def convolutional(self) -> bool:
        """Whether any layer is a convolution."""
        return any(isinstance(layer, ConvLayer) for layer in self.layers)

    def named_layers(self) -> list[tuple[str, Any]]:
        """`DenseLayer`, `ConvLayer` and last the `Readout`, named `hidden1`, `hidden2`, ..., `readout`, in order."""
        hidden: list[tuple[str, Any]] = [(f"hidden{i}", layer) for i, layer in enumerate(self.layers, 1)]
        return [*hidden, ("readout", self.readout)]

    def reach(self) -> dict[str, int]:
        """By layer name, a bound of the sums that meet its thresholds, or leave; see `lava_meta.graph.dense.reach`."""
        largest, found = max(map(abs, self.first_levels or (1,))), {}
        for name, layer in self.named_layers():
            found[name] = reach(name, layer, largest)
            largest = 1
        return found

    # The reference implementation: clear, exact, and slow.

    def activations(self, images: Any) -> dict[str, NDArray[Any]]:
        """Every layer's output: int8 signs (n, n_out) of each hidden layer, int64 sums (n, classes) of the readout."""
        pixels = self.check_images(images)
        values = max(self.n_in, *(_values(layer) for _, layer in self.named_layers()))
        batch = min(_REFERENCE_BATCH[self.convolutional], max(1, LARGEST_MAP // values))
        require_memory(_REFERENCE_BYTES * batch * values, "Computing in numpy", "use a machine with more")
        parts = [self._forward(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def sums(self, images: Any) -> NDArray[Any]:
        """The readout's integer sums, int64 (n, classes)."""
        return self.activations(images)["readout"]

    def predict(self, images: Any) -> NDArray[Any]:
        """The classes, int64 (n,)."""
        return self.readout.classes(self.sums(images))

    def _forward(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]] = {}
        x = pixels if self.binarize is None else np.where(self.binarize.fires(pixels), 1, -1)
        for name, layer in self.named_layers():
            sums = layer.sums(x)
            x = out[name] = sums if isinstance(layer, Readout) else np.where(layer.fires(sums), 1, -1).astype(np.int8)
        return out

    # Files.

    def save(self, path: str | os.PathLike[str], notes: dict[str, Any] | None = None) -> None:
        """Write the network to one safetensors file, whole or not at all; equal networks give equal bytes.

        `notes`, JSON-ready, are kept in the header: `load_with_notes` gives them back.
        """
        write_sealed(path, self._header() | ({"notes": notes} if notes else {}), self._tensors())

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        return sealed_bytes(self._header(), self._tensors())

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> BinaryGraph:
        """Read a file written by `save`, or its content.

        Raises `FormatError` if it is not one, not as it was written, or describes no network; `TooLargeError` if it
        does not fit in memory.
        """
        return cls.load_with_notes(source)[0]

    @classmethod
    def load_with_notes(cls, source: str | os.PathLike[str] | bytes) -> tuple[BinaryGraph, dict[str, Any]]:
        """The network as `load` reads it, and the notes it was saved with; none in files of earlier versions."""
        header, tensors, notes = read_network(source, range(1, VERSION + 1))
        with reading(name_of(source)):
            return cls.from_parts(header, tensors), notes

    def _header(self) -> dict[str, Any]:
        norms = {name: layer.norm.to_dict() for name, layer in self.named_layers()[:-1] if layer.norm is not None}
        uneven = any(layer.uneven for layer in self.layers if isinstance(layer, ConvLayer))
        modern = self.min_level or self.binarize or norms or uneven
        header: dict[str, Any] = {
            "format": GRAPH,
            "version": VERSION if modern else 2 if self.convolutional else 1,
            "max_level": self.max_level,
            "input_shape": list(self.input_shape),
            "n_in": [layer.n_in for _, layer in self.named_layers()],
            "centred": [isinstance(layer, DenseLayer) and layer.centred for layer in self.layers],
        }
        if self.convolutional:
            header["conv"] = {
                name: layer.to_dict() for name, layer in self.named_layers() if isinstance(layer, ConvLayer)
            }
        if self.min_level:
            header |= {"min_level": self.min_level, "signs": self.signs}
        if norms:
            header["norms"] = norms
        return header

    @classmethod
    def from_parts(cls, header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> BinaryGraph:
        """The network that a file's header and tensors describe. Raises what making its layers raises."""
        hidden: list[DenseLayer | ConvLayer] = []
        for i, centred in enumerate(header["centred"], 1):
            name, n_in = f"hidden{i}", header["n_in"][i - 1]
            bits, threshold, polarity = (tensors[f"{name}.{field}"] for field in ("bits", "threshold", "polarity"))
            norm = None
            if name in header.get("norms", {}):
                arrays = (tensors[f"{name}.norm.{field}"] for field in ("gain", "bias", "row"))
                norm = GroupNorm.from_dict(header["norms"][name], *arrays)
            if name in header.get("conv", {}):
                hidden.append(ConvLayer.from_dict(header["conv"][name], bits, threshold, polarity, norm))
            else:
                hidden.append(DenseLayer(bits, n_in, threshold, polarity, centred, norm))
        readout = Readout(
            tensors["readout.bits"], header["n_in"][-1], tensors["readout.scale"], tensors["readout.offset"]
        )
        binarize = None
        if "inputs.threshold" in tensors:
            binarize = Binarize(tensors["inputs.threshold"], tensors["inputs.polarity"])
        return cls(
            tuple(hidden),
            readout,
            header["max_level"],
            tuple(header["input_shape"]),
            header.get("min_level", 0),
            header.get("signs", False),
            binarize,
        )

    def _tensors(self) -> dict[str, NDArray[Any]]:
        fields = {"bits", "threshold", "polarity", "scale", "offset", "gain", "bias", "row"}
        parts = self.named_layers() + ([] if self.binarize is None else [("inputs", self.binarize)])
        parts += [(f"{name}.norm", layer.norm) for name, layer in parts if getattr(layer, "norm", None) is not None]
        return {
            f"{name}.{field}": np.ascontiguousarray(value)
            for name, layer in parts
            for field, value in vars(layer).items()
            if field in fields
        }

    # Summary.

    @property
    def sizes(self) -> str:
        """Inputs and units per layer, such as "784-512-10"."""
        return "-".join(map(str, (self.n_in, *(layer.n_out for _, layer in self.named_layers()))))

    def summary(self) -> list[dict[str, Any]]:
        """One row per layer: name, inputs, units, synapses, bits kept, and operations per image.

        `bits` counts one per synapse plus the thresholds (or the affine map) as stored. `operations` counts one
        multiply-accumulate of +1 or -1 per synapse; a packed backend does 64 of them with one XNOR and one popcount.
        The synapses of a convolution are the stored weights, each of which it uses at every position; its `units` are
        what it hands on, after pooling.
        """
        rows = []
        for name, layer in self.named_layers():
            fan_in = layer.fan_in if isinstance(layer, ConvLayer) else layer.n_in
            synapses = operations = fan_in * len(layer.bits)
            extra = (128 if isinstance(layer, Readout) else 72) * layer.n_out
            if isinstance(layer, ConvLayer):
                operations = fan_in * math.prod(layer.conv_shape)
                extra = 64 * layer.threshold.size + 8 * layer.channels
            rows.append(
                {
                    "layer": name,
                    "inputs": layer.n_in,
                    "units": layer.n_out,
                    "synapses": synapses,
                    "bits": synapses + extra,
                    "operations": operations,
                }
            )
        return rows


def _values(layer: DenseLayer | ConvLayer | Readout) -> int:
    """The most values of one image that the reference implementation of the layer holds at once."""
    return layer.values_an_image if isinstance(layer, ConvLayer) else max(layer.n_in, layer.n_out)
