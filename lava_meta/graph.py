"""The deployable network: integers only, the same for every backend.

A `BinaryGraph` is what a trained binarized network becomes once its norms and its input scaling have been folded into
integer thresholds. Lava, NIR and the numpy oracle below all compute from it, so each can be held to equal integers.

    layer 1        s = W p            p: raw unsigned pixels, 0 .. max_level
    layer 2, ...   s = W a            a: the signs (+1, -1) of the layer before
    every layer    d = s                       or, where the layer is centred, d = n_out * s - sum_k s_k
                   a = +1 where polarity * d >= threshold, else -1
    readout        u = W a,  value = scale * u + offset,  class = argmax of the values, lowest index on ties

`W` holds +1 and -1 and is kept as packed bits (`lava_meta.bits`), so a network takes one bit a synapse in memory and
on disk. The file is a single safetensors file; its JSON header carries the structure and a checksum of the content.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lava_meta.bits import pack, unpack, words
from lava_meta.errors import FormatError
from lava_meta.files import write_atomically

FORMAT = "lava_meta.graph"
VERSION = 1
_ORACLE_BATCH = 256


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """Binary synapses and their threshold neurons: `a_j = +1` where `polarity_j * d_j >= threshold_j`.

    `d = W x`, or `n_out * (W x)_j - sum_k (W x)_k` where `centred` (a layer norm's mean, kept in integers).

    Raises `ValueError` when a field's shape, type or range does not fit the others.
    """

    bits: np.ndarray  # uint64 (n_out, words(n_in)): 1 is a weight of +1
    n_in: int  # inputs
    threshold: np.ndarray  # int64 (n_out,), in units of d
    polarity: np.ndarray  # int8 (n_out,), +1 or -1: -1 where the norm's gain is negative
    centred: bool = False

    def __post_init__(self) -> None:
        _check_bits(self.bits, self.n_in)
        _check("threshold", self.threshold, np.int64, (self.n_out,))
        _check("polarity", self.polarity, np.int8, (self.n_out,))
        if not np.isin(self.polarity, (-1, 1)).all():
            raise ValueError("polarity holds a value that is neither +1 nor -1")

    @classmethod
    def from_weights(
        cls,
        weight: np.ndarray,
        threshold: np.ndarray,
        polarity: np.ndarray | None = None,
        centred: bool = False,
    ) -> DenseLayer:
        """From weights (n_out, n_in), +1 where `weight >= 0` (booleans: where True); polarity defaults to +1."""
        positive = _positive(weight)
        n_out, n_in = positive.shape
        return cls(
            bits=pack(positive),
            n_in=n_in,
            threshold=np.asarray(threshold, dtype=np.int64),
            polarity=np.ones(n_out, np.int8) if polarity is None else np.asarray(polarity, dtype=np.int8),
            centred=centred,
        )

    @property
    def n_out(self) -> int:
        """Number of units."""
        return self.bits.shape[0]

    @property
    def weight(self) -> np.ndarray:
        """The weights unpacked: bool (n_out, n_in), True for +1."""
        return unpack(self.bits, self.n_in)

    def fires(self, sums: np.ndarray) -> np.ndarray:
        """Booleans (n, n_out), True for +1, from the integer sums `W x` (n, n_out)."""
        d = sums.astype(np.int64, copy=False)
        if self.centred:
            d = self.n_out * d - d.sum(axis=1, keepdims=True)
        return self.polarity * d >= self.threshold


@dataclass(frozen=True, eq=False)
class Readout:
    """The last layer: integer sums `u = W a` and the affine map `scale * u + offset` whose argmax is the class."""

    bits: np.ndarray  # uint64 (classes, words(n_in))
    n_in: int  # inputs
    scale: np.ndarray  # float64 (classes,)
    offset: np.ndarray  # float64 (classes,)

    def __post_init__(self) -> None:
        _check_bits(self.bits, self.n_in)
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            _check(name, value, np.float64, (self.n_out,))
            if not np.isfinite(value).all():
                raise ValueError(f"the readout's {name} holds a value that is not finite")

    @classmethod
    def from_weights(
        cls, weight: np.ndarray, scale: np.ndarray | None = None, offset: np.ndarray | None = None
    ) -> Readout:
        """From weights (classes, n_in), +1 where `weight >= 0` (booleans: where True)."""
        positive = _positive(weight)
        n_out, n_in = positive.shape
        return cls(
            bits=pack(positive),
            n_in=n_in,
            scale=np.ones(n_out) if scale is None else np.asarray(scale, dtype=np.float64),
            offset=np.zeros(n_out) if offset is None else np.asarray(offset, dtype=np.float64),
        )

    @property
    def n_out(self) -> int:
        """Number of classes."""
        return self.bits.shape[0]

    @property
    def weight(self) -> np.ndarray:
        """The weights unpacked: bool (classes, n_in), True for +1."""
        return unpack(self.bits, self.n_in)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """`scale * sums + offset`, float64 (n, classes)."""
        return self.scale * sums + self.offset

    def classes(self, sums: np.ndarray) -> np.ndarray:
        """int64 (n,): argmax of the values, lowest index on ties."""
        return np.argmax(self.values(sums), axis=1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class BinaryGraph:
    """A whole network: hidden layers, the readout, and the input convention.

    Raises `ValueError` when layers do not fit each other or the input.
    """

    layers: tuple[DenseLayer, ...]
    readout: Readout
    max_level: int  # pixels are integers 0 .. max_level
    input_shape: tuple[int, ...]  # of one image, without the batch: (784,) or (1, 28, 28)

    def __post_init__(self) -> None:
        if not 1 <= self.max_level < 2**16:
            raise ValueError(f"max_level is {self.max_level}; pixels have 1 to 16 bits")
        if not self.input_shape or min(self.input_shape) < 1:
            raise ValueError(f"input_shape is {self.input_shape}; every extent must be positive")
        width = self.n_in
        for name, layer in self.named_layers():
            if layer.n_in != width:
                raise ValueError(f"{name} takes {layer.n_in} inputs, but what comes before it has {width}")
            width = layer.n_out

    @property
    def n_in(self) -> int:
        """Pixels an image."""
        return int(np.prod(self.input_shape))

    @property
    def n_out(self) -> int:
        """Number of classes."""
        return self.readout.n_out

    def named_layers(self) -> list[tuple[str, DenseLayer | Readout]]:
        """The layers with their names, `hidden1`, `hidden2`, ..., `readout`, in order."""
        hidden: list[tuple[str, DenseLayer | Readout]] = [
            (f"hidden{i}", layer) for i, layer in enumerate(self.layers, 1)
        ]
        return [*hidden, ("readout", self.readout)]

    # The oracle: clear, exact, and slow.

    def check_images(self, images: Any) -> np.ndarray:
        """Images (n, ...) of `n_in` pixels, as an unsigned array (n, n_in) within 0 .. max_level.

        Takes numpy arrays and torch tensors of any integer type. Raises `TypeError` for floats and booleans and
        `ValueError` for a wrong shape, no images, or pixels out of range.
        """
        array = np.asarray(images)
        if array.dtype.kind not in "ui":
            raise TypeError(
                f"images are {array.dtype}; this network takes unsigned integers 0 to {self.max_level} "
                "(raw pixels: its own thresholds hold the normalisation)"
            )
        # Dense networks read pixels in C order whatever the shape; others need theirs.
        dense = len(self.input_shape) == 1 and array.ndim >= 2 and int(np.prod(array.shape[1:])) == self.n_in
        if not dense and array.shape[1:] not in (self.input_shape, (self.n_in,)):
            raise ValueError(
                f"images have shape {array.shape}; expected (n, {', '.join(map(str, self.input_shape))}): "
                f"{self.n_in} pixels an image"
            )
        if len(array) == 0:
            raise ValueError("no images were given")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > self.max_level:
            raise ValueError(f"pixels run from {low} to {high}; this network takes 0 to {self.max_level}")
        dtype = np.uint8 if self.max_level < 256 else np.uint16
        return np.ascontiguousarray(array.reshape(len(array), -1).astype(dtype, copy=False))

    def activations(self, images: Any) -> dict[str, np.ndarray]:
        """Every layer's output: int8 signs (n, n_out) of each hidden layer, int64 sums (n, classes) of the readout."""
        pixels = self.check_images(images)
        parts = [self._forward(pixels[start : start + _ORACLE_BATCH]) for start in range(0, len(pixels), _ORACLE_BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def sums(self, images: Any) -> np.ndarray:
        """The readout's integer sums, int64 (n, classes)."""
        return self.activations(images)["readout"]

    def predict(self, images: Any) -> np.ndarray:
        """The classes, int64 (n,)."""
        return self.readout.classes(self.sums(images))

    def _forward(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        # float64 products of integers below 2**53 are exact in any order of summation.
        out: dict[str, np.ndarray] = {}
        x = pixels.astype(np.float64)
        for name, layer in self.named_layers():
            sums = (x @ np.where(layer.weight, 1.0, -1.0).T).astype(np.int64)
            if isinstance(layer, Readout):
                out[name] = sums
            else:
                out[name] = np.where(layer.fires(sums), 1, -1).astype(np.int8)
                x = out[name].astype(np.float64)
        return out

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one safetensors file, whole or not at all; equal networks give equal bytes."""
        tensors = self._tensors()
        header = {
            "format": FORMAT,
            "version": VERSION,
            "max_level": self.max_level,
            "input_shape": list(self.input_shape),
            "n_in": [layer.n_in for _, layer in self.named_layers()],
            "centred": [layer.centred for layer in self.layers],
        }
        text = json.dumps(header, sort_keys=True)
        metadata = {"lava_meta": text, "sha256": _digest(text, tensors)}
        content = _canonical(save(tensors, metadata=metadata))
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BinaryGraph:
        """Read a file written by `save`. Raises `FormatError` if it is not one, or not as it was written."""
        try:
            with safe_open(os.fspath(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError, TypeError) as error:
            raise FormatError(f"{path} is not a whole safetensors file: {error}") from error
        text = metadata.get("lava_meta", "")
        if metadata.get("sha256") != _digest(text, tensors):
            raise FormatError(f"{path} is not a lava_meta network, or was altered after it was written")
        header = json.loads(text)
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise FormatError(
                f"{path} holds {header.get('format')} version {header.get('version')}; "
                f"this release reads {FORMAT} version {VERSION}"
            )
        hidden = tuple(
            DenseLayer(
                bits=tensors[f"hidden{i}.bits"],
                n_in=header["n_in"][i - 1],
                threshold=tensors[f"hidden{i}.threshold"],
                polarity=tensors[f"hidden{i}.polarity"],
                centred=centred,
            )
            for i, centred in enumerate(header["centred"], 1)
        )
        readout = Readout(
            tensors["readout.bits"], header["n_in"][-1], tensors["readout.scale"], tensors["readout.offset"]
        )
        return cls(hidden, readout, header["max_level"], tuple(header["input_shape"]))

    def _tensors(self) -> dict[str, np.ndarray]:
        fields = {"bits", "threshold", "polarity", "scale", "offset"}
        return {
            f"{name}.{field}": np.ascontiguousarray(value)
            for name, layer in self.named_layers()
            for field, value in vars(layer).items()
            if field in fields
        }

    # Summary.

    def summary(self) -> list[dict[str, Any]]:
        """One row a layer: name, inputs, units, synapses, bits kept, and operations an image.

        `bits` counts one a synapse plus the thresholds (or the affine map) as stored. `operations` counts one
        multiply-accumulate of +1 or -1 a synapse; a packed backend does 64 of them with one XNOR and one popcount.
        """
        rows = []
        for name, layer in self.named_layers():
            synapses = layer.n_in * layer.n_out
            extra = 72 if isinstance(layer, DenseLayer) else 128
            rows.append(
                {
                    "layer": name,
                    "inputs": layer.n_in,
                    "units": layer.n_out,
                    "synapses": synapses,
                    "bits": synapses + extra * layer.n_out,
                    "operations": synapses,
                }
            )
        return rows


def _positive(weight: np.ndarray) -> np.ndarray:
    array = np.asarray(weight)
    if array.ndim != 2:
        raise ValueError(f"weights have shape {array.shape}; expected (outputs, inputs)")
    if array.dtype == bool:
        return array
    if not np.isfinite(array).all():
        raise ValueError("weights hold a value that is not finite")
    return array >= 0


def _check(name: str, value: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if value.dtype != dtype or value.shape != shape:
        raise ValueError(f"{name} is {value.dtype} {value.shape}; expected {np.dtype(dtype)} {shape}")


def _check_bits(bits: np.ndarray, n_in: int) -> None:
    if n_in < 1 or bits.ndim != 2 or len(bits) < 1:
        raise ValueError(f"a layer needs at least one input and one unit; got {n_in} inputs, bits {bits.shape}")
    _check("bits", bits, np.uint64, (len(bits), words(n_in)))
    spare = words(n_in) * 64 - n_in
    if spare and (bits[:, -1] >> np.uint64(64 - spare)).any():
        raise ValueError(f"bits are set past input {n_in}")


def _digest(header: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _canonical(content: bytes) -> bytes:
    """The same safetensors file with sorted keys in its header, so that equal networks give equal bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    return content[:8] + header.ljust(length) + content[8 + length :]
