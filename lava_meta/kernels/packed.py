"""A whole `BinaryGraph` on packed bits: the fast form of its oracle, integer for integer.

Signs travel as bits, 64 to a word. With weight bits `w`, input bits `x` (1 for +1) and `n` inputs,

    hidden layers   s = 2 * popcount(~w ^ x) - n
    first layer     s = 2 * sum_b 2**b * popcount(w & x_b) - sum_i p_i        x_b: bit b of every pixel p_i

so both are `2 * count - offset`. The polarity of a unit is folded into its weights (W to -W turns s into -s), which
leaves one comparison, `s >= threshold`, or for a centred layer `n_out * s - polarity * sum_k s_k >= threshold`.

Units are taken in blocks of 64, whose weights lie as (blocks, words, 64): one vector instruction works on the same
word of eight units, no sum ever crosses a vector, and the 64 signs of a block are one word of the next layer's input.
A block stays in the first-level cache while all lanes pass over it. Everything is serial: it runs inside a Lava actor.

The first layer has a second form for wide batches of 8-bit pixels: a block's bits are spread to bytes of 0 and 1 once,
and `sum_i p_i w_i` is taken by products of bytes. That costs as much as four lanes of bit counting and makes each lane
three times cheaper, so it is used from `PRODUCTS_FROM` lanes on where the processor multiplies bytes (AVX-512 VNNI).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lava_meta.bits import unpack, words
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.kernels.loops import BLOCK, PLAIN, column_sums, forward, has_byte_products

LANES = 256  # images taken at once: more gain nothing, and leave the second-level cache
PRODUCTS_FROM = 8 if has_byte_products() else LANES + 1  # lanes; measured, see docs/performance.md


class PackedNetwork:
    """A `BinaryGraph` ready to run: `sums`, `predict` and `activations` equal the graph's own, bit for bit.

    Takes pixels that `BinaryGraph.check_images` returned: unsigned, (n, n_in), uint8 up to a max_level of 255 and
    uint16 above. Compiles its code when made (or reads it from numba's cache), so that a process forked afterwards
    runs it at once. Its arrays are only read: any number of processes may share them.
    """

    def __init__(self, graph: BinaryGraph) -> None:
        named = graph.named_layers()
        self.n_in = graph.n_in
        self.n_out = graph.n_out
        self.max_level = graph.max_level
        self.dtype = np.dtype(np.uint8 if graph.max_level < 256 else np.uint16)
        self.names = tuple(name for name, _ in named)
        self.scale, self.offset = graph.readout.scale, graph.readout.offset
        self._planes = graph.max_level.bit_length()

        # Everything lies in flat arrays, layer after layer, so that one compiled call runs any network.
        blocks = [words(layer.n_out) for _, layer in named]
        sizes = [n * words(layer.n_in) * BLOCK for n, (_, layer) in zip(blocks, named, strict=True)]
        columns: list[np.ndarray] = []
        self._weights = np.zeros(sum(sizes), np.uint64)
        self._threshold = np.full(sum(blocks) * BLOCK, np.iinfo(np.int64).max)  # units that fill up never fire
        self._polarity = np.zeros(sum(blocks) * BLOCK, np.int64)
        self._table = np.empty((len(named), 5), np.int64)
        start = units = 0
        for i, (_, layer) in enumerate(named):
            centre = PLAIN
            _lay(layer, i == 0, self._weights[start : start + sizes[i]].reshape(blocks[i], -1, BLOCK))
            if isinstance(layer, DenseLayer):
                self._threshold[units : units + layer.n_out] = layer.threshold
                self._polarity[units : units + layer.n_out] = layer.polarity
                if layer.centred:
                    centre = sum(map(len, columns))
                    columns.append(_columns(layer))
            self._table[i] = layer.n_in, layer.n_out, start, units, centre
            start += sizes[i]
            units += blocks[i] * BLOCK
        self._columns = np.concatenate([*columns, np.zeros(1, np.int64)])
        self._forward(np.zeros((1, self.n_in), self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def sums(self, pixels: np.ndarray) -> np.ndarray:
        """The readout's integer sums, int64 (n, classes)."""
        if len(pixels) <= LANES:
            return self._forward(pixels)[1]
        parts = [self._forward(pixels[start : start + LANES])[1] for start in range(0, len(pixels), LANES)]
        return np.concatenate(parts)

    def classes(self, sums: np.ndarray) -> np.ndarray:
        """int64 (n,): argmax of `scale * sums + offset`, lowest index on ties."""
        return np.argmax(self.scale * sums + self.offset, axis=1).astype(np.int64)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(self, pixels: np.ndarray, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The outputs of the layers `names` (default: of all): int8 signs (n, n_out), int64 sums of the readout."""
        names = self.names if names is None else tuple(names)
        if len(pixels) <= LANES:
            return self._activations(pixels, names)
        parts = [self._activations(pixels[start : start + LANES], names) for start in range(0, len(pixels), LANES)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _activations(self, pixels: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        signs, sums = self._forward(pixels)
        out = {}
        start = 0
        for name, n_out in zip(self.names[:-1], self._table[:-1, 1], strict=True):
            end = start + len(pixels) * words(n_out)
            if name in names:
                bits = unpack(signs[start:end].reshape(len(pixels), -1), n_out)
                out[name] = 2 * bits.view(np.int8) - 1
            start = end
        if self.names[-1] in names:
            out[self.names[-1]] = sums
        return out

    def _forward(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Packed signs of the hidden layers, layer after layer, and the sums, for at most `LANES` images."""
        if pixels.dtype != self.dtype or pixels.ndim != 2 or pixels.shape[1] != self.n_in:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; expected {self.dtype} (n, {self.n_in})")
        if not (pixels.flags.c_contiguous and pixels.flags.aligned and pixels.flags.writeable):
            pixels = pixels.copy()  # numba would compile anew for another kind of array
        lanes = len(pixels)
        signs = np.empty(lanes * (len(self._threshold) // BLOCK - words(self.n_out)), np.uint64)
        sums = np.empty((lanes, self.n_out), np.int64)
        seen = forward(
            self._weights,
            self._threshold,
            self._polarity,
            self._columns,
            self._table,
            pixels,
            self._planes,
            self.dtype == np.uint8 and lanes >= PRODUCTS_FROM,
            signs,
            sums,
        )
        if seen >> self._planes:
            raise ValueError(f"a pixel is larger than max_level, {self.max_level}")
        return signs, sums


def _lay(layer: DenseLayer | Readout, first: bool, weight: np.ndarray) -> None:
    """Write a layer's bits into weight (blocks, words, 64), polarity folded in, inverted for all but the first."""
    valid = np.full(words(layer.n_in), ~np.uint64(0))
    if layer.n_in % 64:
        valid[-1] = np.uint64((1 << layer.n_in % 64) - 1)
    negative = layer.polarity < 0 if isinstance(layer, DenseLayer) else np.zeros(layer.n_out, bool)
    for block, rows in enumerate(weight):
        units = slice(block * BLOCK, min((block + 1) * BLOCK, layer.n_out))
        inverted = negative[units] ^ (not first)
        rows[:, : len(inverted)] = (layer.bits[units] ^ (inverted[:, None] * valid)).T


def _columns(layer: DenseLayer) -> np.ndarray:
    """Sum of each column of W, int64 (64 * words(n_in),); 0 past the inputs."""
    columns = np.empty(64 * words(layer.n_in), np.int64)
    column_sums(layer.bits, columns)
    columns[layer.n_in :] = 0
    return columns
