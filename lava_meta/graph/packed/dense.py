"""Dense layers one after the other on packed bits, laid out for one compiled call (`lava_meta.graph.packed.loops`).

The last layer gives sums: it is a readout, or a layer whose norm decides from all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack, words
from lava_meta.graph.dense import DenseLayer, Readout, reachable
from lava_meta.graph.packed.loops import BLOCK, PLAIN, column_sums, forward


class PackedDense:
    """`layers` in flat arrays. `forward` gives the packed signs of all but the last, and the sums of the last.

    `low`: None if the first layer takes signs; else its inputs are integers, `low` less than the levels that its
    equation is in. `places`: (channels, rows, columns) if those signs come from a convolution, packed by place.
    """

    def __init__(
        self, layers: Sequence[DenseLayer | Readout], low: int | None = None, places: tuple[int, ...] | None = None
    ) -> None:
        self.norm = getattr(layers[-1], "norm", None)
        self.units = [layer.n_out for layer in layers]
        bits = [layer.bits for layer in layers]
        valid = [pack(np.ones(layer.n_in, dtype=bool)) for layer in layers]
        if places is not None:
            bits[0], valid[0] = _by_place(layers[0], places)
        blocks = [words(layer.n_out) for layer in layers]
        sizes = [n * row.size * BLOCK for n, row in zip(blocks, valid, strict=True)]
        columns: list[NDArray[Any]] = []
        self._weights = np.zeros(sum(sizes), np.uint64)
        self._threshold = np.full(sum(blocks) * BLOCK, np.iinfo(np.int64).max)  # units that fill up never fire
        self._polarity = np.zeros(sum(blocks) * BLOCK, np.int64)
        self._table = np.empty((len(layers), 6), np.int64)
        start = units = 0
        for i, layer in enumerate(layers):
            centre = PLAIN
            inverted = np.full(layer.n_out, i > 0 or low is None)
            if isinstance(layer, DenseLayer):
                inverted ^= layer.polarity < 0
                limit = reachable(layer.threshold)
                if i == 0 and low:
                    limit = limit - low * (layer.polarity * layer.centre(layer.row_sums()[None])[0])
                self._threshold[units : units + layer.n_out] = limit
                self._polarity[units : units + layer.n_out] = layer.polarity
                if layer.centred:
                    centre = sum(map(len, columns))
                    columns.append(_columns(bits[i], valid[i]))
            weight = self._weights[start : start + sizes[i]].reshape(blocks[i], -1, BLOCK)
            _lay(bits[i], valid[i], inverted, weight)
            self._table[i] = layer.n_in, layer.n_out, valid[i].size, start, units, centre
            start += sizes[i]
            units += blocks[i] * BLOCK
        self._columns = np.concatenate([*columns, np.zeros(1, np.int64)])
        # Sums that leave have no threshold which could take the inputs' least level.
        self._shift = low * layers[0].row_sums() if low and len(layers) == 1 else None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def forward(
        self, pixels: NDArray[Any], planes: int, x: NDArray[Any], kind: int, lanes: int
    ) -> tuple[list[NDArray[Any]], NDArray[Any], int]:
        """Packed signs uint64 (n, words) of all layers but the last, its sums int64 (n, units), the OR of all pixels.

        `pixels`, `planes`, `x`, `kind` and `lanes` as in `lava_meta.graph.packed.loops.forward`.
        """
        images = len(x)
        hidden = [words(units) for units in self.units[:-1]]
        signs = np.empty(images * sum(hidden), np.uint64)
        sums = np.empty((images, self.units[-1]), np.int64)
        seen = forward(
            self._weights,
            self._threshold,
            self._polarity,
            self._columns,
            self._table,
            pixels,
            planes,
            x,
            kind,
            lanes,
            signs,
            sums,
        )
        parts, start = [], 0
        for width in hidden:
            parts.append(signs[start : start + images * width].reshape(images, width))
            start += images * width
        return parts, sums if self._shift is None else sums + self._shift, seen


def _by_place(layer: DenseLayer | Readout, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bits (n_out, rows * columns * words(channels)) for inputs packed by place, and which of them are inputs."""
    channels, rows, columns = shape
    weight = layer.weight.reshape(layer.n_out, channels, rows, columns).transpose(0, 2, 3, 1)
    return pack(weight).reshape(layer.n_out, -1), pack(np.ones(weight.shape[1:], dtype=bool)).reshape(-1)


def _lay(bits: NDArray[Any], valid: NDArray[Any], inverted: NDArray[Any], weight: NDArray[Any]) -> None:
    """Write bits (n_out, words) into weight (blocks, words, 64), those of the units `inverted` turned."""
    for block, rows in enumerate(weight):
        units = slice(block * BLOCK, min((block + 1) * BLOCK, len(bits)))
        turned = inverted[units, None] * valid
        rows[:, : len(turned)] = (bits[units] ^ turned).T


def _columns(bits: NDArray[Any], valid: NDArray[Any]) -> NDArray[Any]:
    """Sum of each column of W, int64 (64 * words,); 0 if there is no input."""
    columns = np.empty(64 * valid.size, np.int64)
    column_sums(bits, columns)
    columns[~unpack(valid, columns.size)] = 0
    return columns
