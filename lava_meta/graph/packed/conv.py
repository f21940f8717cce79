"""A `ConvLayer` on packed bits, without unfolding the image: the fast form of its oracle, integer for integer.

Signs lie as (rows, columns, words) with the channels of a place in its words, so the taps of one kernel row that fall
side by side on the image are one run of words, against one run of weights. Taps outside the image are left out of the
run, and out of the count of terms: `s = 2 * popcount(~w ^ x) - terms`.

The first layer multiplies bytes: its patches are short, and a place of one to three channels would waste a word.

Groups are convolutions of their own, whose channels are packed apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack, words
from lava_meta.graph.conv import ConvLayer, Window
from lava_meta.graph.dense import reachable
from lava_meta.graph.packed.loops import BLOCK, convolve_pixels, convolve_signs, pool_signs


class PackedConv:
    """`fire` takes packed signs (lanes, rows, columns, words(channels)), or integers if `low` is given.

    The integers are unsigned (lanes, n_in), `low` less than the levels that the layer's equation is in.
    """

    def __init__(self, layer: ConvLayer, low: int | None = None) -> None:
        self.input_shape = layer.input_shape
        self.output_shape = layer.output_shape
        self._pixels = low is not None
        self._norm = layer.norm
        self._outside = -(low or 0)  # what a padded place, whose level is 0, has become
        self._groups = layer.groups
        self._sums_shape = layer.sums_shape
        self._window = _fields(layer.window)
        self._sum_window = _fields(layer.sum_window or Window((1, 1)))
        # Turning a unit's weights turns its sum: the polarity is folded in.
        positive = layer.weight ^ (layer.polarity < 0)[:, None]
        limits = reachable(layer.threshold).reshape(layer.channels, -1).T
        parts = layer.most_terms // layer.fan_in
        self._shift = (low or 0) * parts * (2 * positive.sum(axis=1, dtype=np.int64) - layer.fan_in)
        limits = limits - self._shift
        shares = zip(np.split(positive, layer.groups), np.split(limits, layer.groups, axis=1), strict=True)
        lay = _masks if self._pixels else self._runs
        self._shares = [(lay(weight), _limits(limit)) for weight, limit in shares]
        self._pools = [(_fields(pool), _turned(pool.every, layer.channels)) for pool in layer.pools]
        self._pooled = []
        rows, columns = layer.sums_shape[1:]
        for pool in layer.pools:
            rows, columns = pool.positions(rows, columns)
            self._pooled.append((rows, columns))

    @property
    def bytes_an_image(self) -> int:
        """Bytes that `fire` takes for one image: packed signs, and the sums where a norm needs them."""
        share = words(self._sums_shape[0] // self._groups)
        a_word = 8 + (8 * BLOCK if self._norm is not None else 0)
        return math.prod(self._sums_shape[1:]) * self._groups * share * a_word

    @property
    def nbytes(self) -> int:
        """Bytes of weights and thresholds."""
        return sum(weight.nbytes + limit.nbytes for weight, limit in self._shares)

    def fire(self, x: NDArray[Any]) -> NDArray[Any]:
        """Packed signs uint64 (lanes, rows, columns, words(channels)) of the layer's output."""
        channels, rows, columns = self.input_shape
        if self._pixels:
            x = x.reshape(len(x), channels, rows, columns)
        lanes, share = len(x), self._sums_shape[0] // self._groups
        parts, sums = [], []
        for group, (weight, limit) in enumerate(self._shares):
            signs = np.empty((lanes, *self._sums_shape[1:], words(share)), np.uint64)
            whole = np.empty((lanes if self._norm else 0, *self._sums_shape[1:], words(share) * BLOCK), np.int64)
            seen = slice(group * channels // self._groups, (group + 1) * channels // self._groups)
            if self._pixels:
                part = x if self._groups == 1 else np.ascontiguousarray(x[:, seen])
                convolve_pixels(weight, part, self._outside, self._window, self._sum_window, limit, signs, whole)
            else:
                part = x if self._groups == 1 else pack(unpack(x, channels)[..., seen])
                convolve_signs(
                    weight, part, channels // self._groups, self._window, self._sum_window, limit, signs, whole
                )
            parts.append(signs)
            sums.append(whole[..., :share])
        if self._norm is not None:
            every = np.concatenate(sums, axis=-1) + self._shift
            fires = self._norm.fires(every.transpose(0, 3, 1, 2).reshape(lanes, -1))
            signs = pack(fires.reshape(lanes, *self._sums_shape).transpose(0, 2, 3, 1))
        elif self._groups == 1:
            signs = parts[0]
        else:
            signs = pack(np.concatenate([unpack(part, share) for part in parts], axis=-1))
        for (window, turned), shape in zip(self._pools, self._pooled, strict=True):
            pooled = np.empty((lanes, *shape, signs.shape[-1]), np.uint64)
            pool_signs(signs, window, turned, pooled)
            signs = pooled
        return signs

    def flat(self, signs: NDArray[Any]) -> NDArray[Any]:
        """Booleans (lanes, n_out), True for +1, in the order (channel, row, column), of what `fire` returned."""
        return unpack(signs, self.output_shape[0]).transpose(0, 3, 1, 2).reshape(len(signs), -1)

    def _runs(self, positive: NDArray[Any]) -> NDArray[Any]:
        """Weights as runs: (blocks, kernel rows, kernel columns, words, 64), inverted."""
        inputs = self.input_shape[0] // self._groups
        taps = ~positive.reshape(len(positive), inputs, *self._window[0])
        rows = pack(taps.transpose(0, 2, 3, 1))
        return _blocks(rows.reshape(len(rows), -1)).reshape(-1)


def _masks(positive: NDArray[Any]) -> NDArray[Any]:
    """Weights as bytes of 0 and 1, four to a word: uint32 (blocks, groups, 64)."""
    channels, fan_in = positive.shape
    padded = np.zeros((channels, -(-fan_in // 4) * 4), np.uint8)
    padded[:, :fan_in] = positive
    return _blocks(padded.view(np.uint32))


def _blocks(rows: NDArray[Any]) -> NDArray[Any]:
    """(units, n) to (blocks, n, 64); the last block is filled up with zeros."""
    units, n = rows.shape
    padded = np.zeros((words(units) * BLOCK, n), rows.dtype)
    padded[:units] = rows
    return np.ascontiguousarray(padded.reshape(-1, BLOCK, n).transpose(0, 2, 1))


def _limits(limit: NDArray[Any]) -> NDArray[Any]:
    """Thresholds (1 or positions, units) with those of the units that fill the last block, which never fire."""
    padded = np.full((len(limit), words(limit.shape[1]) * BLOCK), np.iinfo(np.int64).max)
    padded[:, : limit.shape[1]] = limit
    return padded


def _fields(window: Window) -> NDArray[Any]:
    return np.array([window.kernel, window.stride, window.padding, window.dilation, window.after], np.int64)


def _turned(every: tuple[int, ...], channels: int) -> NDArray[Any]:
    turned = np.zeros(channels, dtype=bool)
    turned[list(every)] = True
    return pack(turned)
