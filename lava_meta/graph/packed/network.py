"""A whole `BinaryGraph` on packed bits: equal to its reference implementation, integer for integer.

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
three times cheaper, so it is used from `PRODUCTS_FROM` lanes on if the processor multiplies bytes (AVX-512 VNNI).
Its counters have 32 bits: beyond `MOST_PRODUCTS` inputs, the bits are counted, in 64.

Signed features come in as `p - min_level`, unsigned; `min_level` times the sum of a unit's weights goes to its
threshold. Inputs that are signs, or become signs, are packed at once and enter as a hidden layer's do.

Convolutions (`lava_meta.graph.packed.conv`) come first in a network. Their channels lie in the words of each place, and
the weights of the dense layer behind them are laid out in that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.graph.bits import pack, unpack
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer, Readout
from lava_meta.graph.inputs import check_range
from lava_meta.graph.network import BinaryGraph
from lava_meta.graph.packed.conv import PackedConv
from lava_meta.graph.packed.dense import PackedDense
from lava_meta.graph.packed.loops import MOST_PRODUCTS, PLANES, PRODUCTS, SIGNS, has_byte_products
from lava_meta.graph.packed.sums import MOST_SUM

LANES = 256  # images computed at once: more gain nothing, and leave the second-level cache
CALL = 4096  # images to one compiled call, some batches of them: its fixed cost is several microseconds
CALL_BYTES = 2**30  # what the maps of one call may take: fewer images if maps are large
PRODUCTS_FROM = 8 if has_byte_products() else LANES + 1  # lanes; measured, see docs/results/speed.md


class PackedNetwork:
    """A `BinaryGraph` ready to run: `sums`, `predict` and `activations` equal the graph's own, bit for bit.

    Takes inputs that `BinaryGraph.check_images` returned, (n, n_in) of type `graph.dtype`. Compiles its code when made
    (or reads it from numba's cache), so that a process forked afterwards runs it at once.
    Raises `ConversionError` for a first convolution whose kernels are larger than the kernels here can count.
    Its arrays are only read: any number of processes may share them.
    """

    def __init__(self, graph: BinaryGraph) -> None:
        self.n_in = graph.n_in
        self.n_out = graph.n_out
        self.dtype, self.domain = graph.dtype, graph.domain
        self._range = graph.min_level, graph.max_level
        self._given_signs = graph.signs
        self._low = graph.min_level if graph.first_levels else 0  # what is subtracted from inputs
        self._takes_signs = graph.first_levels is None
        self._binarize = graph.binarize
        self.names = tuple(name for name, _ in graph.named_layers())
        self.scale, self.offset = graph.readout.scale, graph.readout.offset
        self._planes = (graph.max_level - self._low).bit_length()
        # Behind a dense layer there are no rows and columns, so the convolutions are the first layers.
        convolutions = [layer for layer in graph.layers if isinstance(layer, ConvLayer)]
        first = None if self._takes_signs else self._low
        if convolutions and first is not None and convolutions[0].fan_in > MOST_SUM // 255:
            raise ConversionError(
                f"hidden1 has kernels of {convolutions[0].fan_in:,} inputs; the packed form takes up to "
                f"{MOST_SUM // 255:,} on integers. Use the form 'floating_pt'"
            )
        self._convs = [PackedConv(layer, first if i == 0 else None) for i, layer in enumerate(convolutions)]
        # A dense layer with a norm gives its sums out, and what follows starts again from its signs.
        self._dense: list[PackedDense] = []
        run: list[DenseLayer | Readout] = []
        places = convolutions[-1].output_shape if convolutions else None
        low = None if convolutions else first
        for _, layer in graph.named_layers():
            if not isinstance(layer, ConvLayer):
                run.append(layer)
            if isinstance(layer, Readout) or (isinstance(layer, DenseLayer) and layer.norm is not None):
                self._dense.append(PackedDense(run, low, places))
                run, low, places = [], None, None
        self._forward(np.ones((1, self.n_in), self.dtype), 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(conv.nbytes for conv in self._convs) + sum(dense.nbytes for dense in self._dense)

    def sums(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The readout's integer sums, int64 (n, classes)."""
        return self.activations(pixels, self.names[-1:])[self.names[-1]]

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,): argmax of `scale * sums + offset`, lowest index on ties."""
        classes: NDArray[Any] = np.argmax(self.scale * sums + self.offset, axis=1).astype(np.int64)
        return classes

    def predict(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(
        self, pixels: NDArray[Any], names: Iterable[str] | None = None, lanes: int = LANES
    ) -> dict[str, NDArray[Any]]:
        """The outputs of the layers `names` (default: of all): int8 signs (n, n_out), int64 sums of the readout.

        `lanes` images at a time pass through all layers; the weights are read once for each such batch.
        """
        names = self.names if names is None else tuple(names)
        largest = max((conv.bytes_an_image for conv in self._convs), default=1)
        lanes = min(lanes, LANES, max(1, len(pixels)), max(1, CALL_BYTES // largest))
        call = lanes if self._convs else lanes * max(1, CALL // lanes)
        if len(pixels) <= call:
            return self._activations(pixels, names, lanes)
        parts = [self._activations(pixels[start : start + call], names, lanes) for start in range(0, len(pixels), call)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _activations(self, pixels: NDArray[Any], names: tuple[str, ...], lanes: int) -> dict[str, NDArray[Any]]:
        signs, sums = self._forward(pixels, lanes)
        out = {}
        units = [n for dense in self._dense for n in dense.units]
        for i, (name, packed) in enumerate(zip(self.names, signs, strict=False)):
            if name not in names:
                continue
            if i < len(self._convs):
                positive = self._convs[i].flat(packed)
            else:
                positive = unpack(packed, units[i - len(self._convs)])
            out[name] = 2 * positive.view(np.int8) - 1
        if self.names[-1] in names:
            out[self.names[-1]] = sums
        return out

    def _forward(self, pixels: NDArray[Any], lanes: int) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        """Packed signs of the hidden layers, those of convolutions by place, and the readout's sums."""
        if pixels.dtype != self.dtype or pixels.ndim != 2 or pixels.shape[1] != self.n_in:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; expected {self.dtype} (n, {self.n_in})")
        images = len(pixels)
        x = np.empty((images, 1, 0), np.uint64)
        if self._takes_signs:
            x, pixels = self._input_signs(pixels), np.empty((images, 0), np.uint8)
        elif self._low:
            check_range(pixels, *self._range, signs=self._given_signs)
            unsigned = np.uint8 if self._planes <= 8 else np.uint16
            pixels = (pixels.astype(np.int32) - self._low).astype(unsigned)
        elif not (pixels.flags.c_contiguous and pixels.flags.aligned and pixels.flags.writeable):
            pixels = pixels.copy()  # numba would compile again for another kind of array
        kind = SIGNS if self._takes_signs else PLANES
        if kind == PLANES and pixels.dtype == np.uint8 and lanes >= PRODUCTS_FROM and self.n_in <= MOST_PRODUCTS:
            kind = PRODUCTS
        signs: list[NDArray[Any]] = []
        for conv in self._convs:
            x = conv.fire(pixels if kind != SIGNS else x)
            signs.append(x)
            kind = SIGNS
        x = x.reshape(images, 1, -1)
        for dense in self._dense:
            hidden, sums, seen = dense.forward(pixels, self._planes, x, kind, lanes)
            if seen >> self._planes:
                raise ValueError(f"a pixel is larger than max_level, {self._range[1]}")
            signs += hidden
            if dense.norm is not None:
                signs.append(pack(dense.norm.fires(sums)))
                pixels, x, kind = np.empty((images, 0), np.uint8), signs[-1][:, None], SIGNS
        return signs, sums

    def _input_signs(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Packed signs of the inputs (lanes, 1, words); for a convolution (lanes, rows, columns, words(channels))."""
        check_range(inputs, *self._range, signs=self._given_signs)
        positive = inputs > 0 if self._binarize is None else self._binarize.fires(inputs)
        if not self._convs:
            return pack(positive)[:, None]
        return pack(positive.reshape(-1, *self._convs[0].input_shape).transpose(0, 2, 3, 1))
