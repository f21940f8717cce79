"""A whole `BinaryGraph` on packed bits: the fast form of its oracle, integer for integer.

Signs travel as bits, 64 to a word. With weight bits `w`, input bits `x` (1 for +1) and `n` inputs,

    hidden layers   s = 2 * popcount(~w ^ x) - n
    first layer     s = 2 * sum_b 2**b * popcount(w & x_b) - sum_i p_i        x_b: bit b of every pixel p_i

so both are `2 * count - offset`. The polarity of a unit is folded into its weights (W to -W turns s into -s), which
leaves one comparison, `s >= threshold`, or for a centred layer `n_out * s - polarity * sum_k s_k >= threshold`.

Units are taken in blocks of 64, whose weights lie as (blocks, words, 64): one vector instruction works on the same
word of eight units, no sum ever crosses a vector, and the 64 signs of a block are one word of the next layer's input.
A block stays in the first-level cache while all lanes pass over it. Everything is serial: it runs inside a Lava actor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from lava_meta.bits import unpack, words
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.kernels.vectors import BLOCK, count_and, count_xor, split_planes

LANES = 256  # images taken at once; more gain nothing, and leave the second-level cache
_NEVER = np.iinfo(np.int64).max  # the threshold of the units that fill the last block


@njit(cache=True)
def _split(pixels, x, offset):  # type: ignore[no-untyped-def]
    """Bit planes and sum of each lane's pixels; returns the OR of all pixels."""
    lanes, n = pixels.shape
    row = np.zeros(x.shape[2] * 64, pixels.dtype)
    seen = np.int64(0)
    for lane in range(lanes):
        total = np.int64(0)
        for i in range(n):
            level = pixels[lane, i]
            row[i] = level
            total += level
            seen |= level
        offset[lane] = total
        split_planes(row, x, lane)
    return seen


@njit(cache=True)
def _count(weight, block, x, lane, first, counts):  # type: ignore[no-untyped-def]
    if first:
        count_and(weight, block, x, lane, counts)
    else:
        count_xor(weight, block, x, lane, counts)


@njit(cache=True)
def _fire(weight, threshold, x, first, offset, out):  # type: ignore[no-untyped-def]
    """Signs of a plain layer: `2 * count - offset >= threshold`, packed into out (lanes, 1, blocks)."""
    counts = np.empty(BLOCK, np.int64)
    for block in range(weight.shape[0]):
        limit = threshold[block * BLOCK : (block + 1) * BLOCK]
        for lane in range(x.shape[0]):
            _count(weight, block, x, lane, first, counts)
            word = np.uint64(0)
            for u in range(BLOCK):
                word |= np.uint64(2 * counts[u] - offset[lane] >= limit[u]) << np.uint64(u)
            out[lane, 0, block] = word


@njit(cache=True)
def _fire_centred(weight, threshold, polarity, columns, n_out, x, first, offset, out):  # type: ignore[no-untyped-def]
    """Signs of a centred layer: `n_out * (2 * count - offset) - polarity * total >= threshold`."""
    counts = np.empty(BLOCK, np.int64)
    totals = np.empty(x.shape[0], np.int64)
    for lane in range(x.shape[0]):
        totals[lane] = _total(columns, x, lane, first)
    for block in range(weight.shape[0]):
        start = block * BLOCK
        for lane in range(x.shape[0]):
            _count(weight, block, x, lane, first, counts)
            word = np.uint64(0)
            for u in range(BLOCK):
                d = n_out * (2 * counts[u] - offset[lane]) - polarity[start + u] * totals[lane]
                word |= np.uint64(d >= threshold[start + u]) << np.uint64(u)
            out[lane, 0, block] = word


@njit(cache=True)
def _total(columns, x, lane, first):  # type: ignore[no-untyped-def]
    """`sum_k s_k = sum_i columns_i x_i`, where columns_i is the sum of W's column i."""
    total = np.int64(0)
    for plane in range(x.shape[1] - 1, -1, -1):
        total *= 2
        for k in range(x.shape[2]):
            word = x[lane, plane, k]
            for i in range(64):
                total += columns[64 * k + i] * np.int64((word >> np.uint64(i)) & np.uint64(1))
    return total if first else 2 * total - columns.sum()


@njit(cache=True)
def _sums(weight, x, first, offset, out):  # type: ignore[no-untyped-def]
    """Integer sums of the readout: `2 * count - offset` into out (lanes, n_out)."""
    counts = np.empty(BLOCK, np.int64)
    n_out = out.shape[1]
    for block in range(weight.shape[0]):
        for lane in range(x.shape[0]):
            _count(weight, block, x, lane, first, counts)
            for u in range(min(BLOCK, n_out - block * BLOCK)):
                out[lane, block * BLOCK + u] = 2 * counts[u] - offset[lane]


@njit(cache=True)
def _column_sums(bits, columns):  # type: ignore[no-untyped-def]
    """Sum of each column of a matrix of signs, from its bits (n_out, words); spare columns must be reset after."""
    n_out, n_words = bits.shape
    columns[:] = -n_out
    for j in range(n_out):
        for k in range(n_words):
            for i in range(64):
                columns[64 * k + i] += 2 * np.int64((bits[j, k] >> np.uint64(i)) & np.uint64(1))


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's arrays, in the order in which the kernels read them."""

    weight: np.ndarray  # uint64 (blocks, words, 64): w for the first layer, ~w for the others, polarity folded in
    n_in: int
    n_out: int
    first: bool
    threshold: np.ndarray  # int64 (64 * blocks,)
    polarity: np.ndarray | None = None  # int64 (64 * blocks,), for a centred layer
    columns: np.ndarray | None = None  # int64 (64 * words,), for a centred layer

    @classmethod
    def of(cls, layer: DenseLayer | Readout, first: bool) -> _Layer:
        n_words, blocks = words(layer.n_in), words(layer.n_out)
        valid = np.full(n_words, ~np.uint64(0))
        if layer.n_in % 64:
            valid[-1] = np.uint64((1 << layer.n_in % 64) - 1)
        threshold = np.full(blocks * BLOCK, _NEVER)
        flip = np.zeros(layer.n_out, bool)
        if isinstance(layer, DenseLayer):
            threshold[: layer.n_out] = layer.threshold
            flip = layer.polarity < 0
        weight = np.zeros((blocks, n_words, BLOCK), np.uint64)
        for block in range(blocks):
            rows = slice(block * BLOCK, min((block + 1) * BLOCK, layer.n_out))
            inverted = flip[rows] ^ (not first)
            weight[block, :, : len(inverted)] = (layer.bits[rows] ^ (inverted[:, None] * valid)).T
        if not (isinstance(layer, DenseLayer) and layer.centred):
            return cls(weight, layer.n_in, layer.n_out, first, threshold)
        polarity = np.zeros(blocks * BLOCK, np.int64)
        polarity[: layer.n_out] = layer.polarity
        columns = np.empty(n_words * 64, np.int64)
        _column_sums(layer.bits, columns)
        columns[layer.n_in :] = 0
        return cls(weight, layer.n_in, layer.n_out, first, threshold, polarity, columns)

    def fire(self, x: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Packed signs uint64 (lanes, 1, blocks)."""
        out = np.empty((len(x), 1, len(self.weight)), np.uint64)
        if self.columns is None:
            _fire(self.weight, self.threshold, x, self.first, offset, out)
        else:
            _fire_centred(
                self.weight, self.threshold, self.polarity, self.columns, self.n_out, x, self.first, offset, out
            )
        return out

    def sums(self, x: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Integer sums int64 (lanes, n_out)."""
        out = np.empty((len(x), self.n_out), np.int64)
        _sums(self.weight, x, self.first, offset, out)
        return out


class PackedNetwork:
    """A `BinaryGraph` ready to run: `sums`, `predict` and `activations` equal the graph's own, bit for bit.

    Takes pixels that `BinaryGraph.check_images` returned: unsigned, C order, (n, n_in), uint8 up to a max_level of
    255 and uint16 above. Compiles its kernels when made (or reads them from numba's cache), so that a process forked
    afterwards runs them at once. Its arrays are read only after that: any number of processes may share them.
    """

    def __init__(self, graph: BinaryGraph) -> None:
        self.n_in = graph.n_in
        self.n_out = graph.n_out
        self.max_level = graph.max_level
        self.dtype = np.dtype(np.uint8 if graph.max_level < 256 else np.uint16)
        self.planes = graph.max_level.bit_length()
        self.layers = tuple(_Layer.of(layer, i == 0) for i, (_, layer) in enumerate(graph.named_layers()))
        self.names = tuple(name for name, _ in graph.named_layers())
        self._readout = graph.readout.scale, graph.readout.offset
        self.sums(np.zeros((1, self.n_in), self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [a for layer in self.layers for a in vars(layer).values() if isinstance(a, np.ndarray)]
        return sum(a.nbytes for a in arrays)

    def sums(self, pixels: np.ndarray) -> np.ndarray:
        """The readout's integer sums, int64 (n, classes)."""
        out = np.empty((len(pixels), self.n_out), np.int64)
        for start in range(0, len(pixels), LANES):
            out[start : start + LANES] = self._forward(pixels[start : start + LANES])[-1]
        return out

    def classes(self, sums: np.ndarray) -> np.ndarray:
        """int64 (n,): argmax of `scale * sums + offset`, lowest index on ties."""
        scale, offset = self._readout
        return np.argmax(scale * sums + offset, axis=1).astype(np.int64)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Every layer's output: int8 signs (n, n_out) of hidden layers, int64 sums of the readout."""
        parts: list[list[np.ndarray]] = [[] for _ in self.layers]
        for start in range(0, len(pixels), LANES):
            *hidden, sums = self._forward(pixels[start : start + LANES])
            for part, layer, bits in zip(parts, self.layers, hidden, strict=False):
                part.append(np.where(unpack(bits[:, 0], layer.n_out), 1, -1).astype(np.int8))
            parts[-1].append(sums)
        return {name: np.concatenate(part) for name, part in zip(self.names, parts, strict=True)}

    def _forward(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Packed signs of every hidden layer, and the sums, for at most a few hundred lanes."""
        if pixels.dtype != self.dtype or pixels.ndim != 2 or pixels.shape[1] != self.n_in:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; expected {self.dtype} (n, {self.n_in})")
        x = np.empty((len(pixels), self.planes, words(self.n_in)), np.uint64)
        offset = np.empty(len(pixels), np.int64)
        seen = _split(np.require(pixels, requirements=["C", "A", "W"]), x, offset)
        if seen >> self.planes:
            raise ValueError(f"a pixel is larger than max_level, {self.max_level}")
        out = []
        for layer in self.layers[:-1]:
            x = layer.fire(x, offset)
            out.append(x)
            offset = np.full(len(x), layer.n_out, np.int64)
        out.append(self.layers[-1].sums(x, offset))
        return out
