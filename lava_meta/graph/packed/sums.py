"""Sums over windows as prepared kernels: signs with binary weights, and bytes with weights of 8 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack, words
from lava_meta.graph.conv import Window
from lava_meta.graph.packed import aligned, nibbles
from lava_meta.graph.packed.loops import BLOCK
from lava_meta.graph.packed.patches import convolve_bytes, convolve_signs

MOST_SUM = 2**31 - 1
_MANY = 4  # windows of an image from which a second reading of the weights is not what takes the time
_MOST_SHORT = 2**15 - 2  # of sums of 16 bits: a limit of one more is never reached
_NO_SIGNS = np.empty((0, 0, 0, 0), np.uint64)
_NO_BITS = (np.empty((0, 0), np.uint64), np.empty((0, 0), np.uint64))


@dataclass(frozen=True, eq=False)
class Firing:
    """When sums fire, laid out for a kernel: tables by kind of place, and the kind of each place."""

    kinds: NDArray[Any]  # int32 (places,)
    base: NDArray[Any]  # of the type of the sums, (kinds, 64 * blocks)
    limits: NDArray[Any]  # likewise
    below: NDArray[Any]  # uint64 (kinds, blocks): bits of the units that do not reach their limit
    above: NDArray[Any]  # of those that do


class _Sums:
    """What sums of signs and of bytes share: groups, one after the other, and whether sums or their signs go out."""

    units: int
    inputs: int  # of a group
    groups: int
    places: tuple[int, ...]
    _weights: list[NDArray[Any]]  # by group, as `_base`
    _base: list[NDArray[Any]]
    _kind: type[np.integer[Any]] = np.int32  # of sums

    @property
    def nbytes(self) -> int:
        """Bytes of weights and tables."""
        return sum(weight.nbytes + base.nbytes for weight, base in zip(self._weights, self._base, strict=True))

    def sums(self, x: NDArray[Any]) -> NDArray[Any]:
        """int16 or int32 (lanes, down, across, units)."""
        parts = []
        for group in range(self.groups):
            part = x if self.groups == 1 else self._share(x, slice(group * self.inputs, (group + 1) * self.inputs))
            sums = np.empty((len(x), *self.places, self.units // self.groups), self._kind)
            self._convolve(group, part, self._unfired(group), _NO_SIGNS, sums)
            parts.append(sums)
        return parts[0] if self.groups == 1 else np.concatenate(parts, axis=3)

    def signs(self, x: NDArray[Any], firing: Firing) -> NDArray[Any]:
        """Packed signs uint64 (lanes, down, across, words), of one group."""
        signs = np.empty((len(x), *self.places, words(self.units)), np.uint64)
        self._convolve(0, x, firing, signs, np.empty((0, *self.places, self.units), self._kind))
        return signs

    def _share(self, x: NDArray[Any], seen: slice) -> NDArray[Any]:
        """The channels `seen` of x."""
        raise NotImplementedError

    def _unfired(self, group: int) -> Firing:
        """The tables of sums that go out as they are."""
        raise NotImplementedError

    def _convolve(self, group: int, x: NDArray[Any], firing: Firing, signs: NDArray[Any], sums: NDArray[Any]) -> None:
        """Fill `signs`, or if these have no size `sums`."""
        raise NotImplementedError


class SignSums(_Sums):
    """Sums of packed signs (lanes, rows, columns, words) with weights of +1 and -1; what lies outside adds nothing."""

    def __init__(self, positive: NDArray[Any], window: Window, image: tuple[int, int], groups: int = 1) -> None:
        """`positive`: bool (units, inputs of a group, kernel rows, kernel columns), True for +1."""
        self.units, self.inputs = len(positive), positive.shape[1]
        self.groups = groups
        self.places = window.positions(*image)
        self._window = fields(window)
        inside = window.views(np.ones((1, 1, *image), bool))[0, 0].reshape(math.prod(self.places), -1)
        self._kinds, (self._seen,) = by_kind(inside)
        terms = math.prod(positive.shape[1:])
        self._kind = np.int16 if terms <= _MOST_SHORT else np.int32
        self._fours = nibbles.USED and terms <= nibbles.MOST and math.prod(self.places) >= _MANY
        self.take(positive)

    def take(self, positive: NDArray[Any]) -> None:
        """Other weights of the same shape."""
        parts = [self._laid(part, self._seen) for part in np.split(positive, self.groups)]
        self._weights = [weight for weight, _ in parts]
        self._base = [base for _, base in parts]

    def _laid(self, positive: NDArray[Any], seen: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inverted weights (blocks, words or fours, 64), and what is taken from twice the counts, by kind of place."""
        inverted = ~positive.transpose(0, 2, 3, 1)
        inverted = inverted.reshape(len(positive), -1, self.inputs)
        rows = nibbles.laid(inverted) if self._fours else pack(inverted).reshape(len(positive), -1)
        outside = inverted.sum(axis=2) @ (~seen).T.astype(np.int64)
        terms = self.inputs * seen.sum(axis=1)
        return blocks_of(rows), padded((2 * outside + terms).T, 0).astype(self._kind)

    def firing(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> Firing:
        """How `signs` is to fire: int64 limits (1 or places, units); bools of what lies below and what reaches them."""
        places = len(self._kinds)
        base = self._base[0][self._kinds]
        return _firing(places, base, limits, below, above)

    def _share(self, x: NDArray[Any], seen: slice) -> NDArray[Any]:
        return pack(unpack(x, self.groups * self.inputs)[..., seen])

    def _unfired(self, group: int) -> Firing:
        return Firing(self._kinds, self._base[group], self._base[group], *_NO_BITS)

    def _convolve(self, group: int, x: NDArray[Any], firing: Firing, signs: NDArray[Any], sums: NDArray[Any]) -> None:
        tables = firing.base, firing.kinds, firing.limits, firing.below, firing.above
        x = nibbles.spread(x, self.inputs) if self._fours else x
        convolve_signs(self._weights[group], x, self._window, *tables, signs, sums)


class ByteSums(_Sums):
    """Sums of x with weights of 8 bits, from bytes x - low (lanes, rows, columns, channels); outside, x is 0.

    The bytes of no sum times 255 may pass `MOST_SUM`.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        window: Window,
        image: tuple[int, int],
        groups: int = 1,
        *,
        low: int = 0,
        outside: int | None = None,
    ) -> None:
        """`weight`: integers -128 .. 127 (units, inputs of a group, kernel rows, kernel columns).

        `outside`: the byte of what lies outside the image, by default that of 0.
        """
        self.units, self.inputs = len(weight), weight.shape[1]
        self.groups = groups
        self.places = window.positions(*image)
        self._window, self._outside = fields(window), -low if outside is None else outside
        self._weights, self._base = [], []
        for part in np.split(weight, groups):
            taps = part.transpose(0, 2, 3, 1).reshape(len(part), -1)
            quads = np.zeros((len(part), -(-taps.shape[1] // 4) * 4), np.int8)
            quads[:, : taps.shape[1]] = taps
            self._weights.append(blocks_of(quads.view(np.int32)))
            self._base.append(padded(low * taps.sum(axis=1, dtype=np.int64)[None], 0).astype(np.int32).reshape(-1))

    def firing(self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> Firing:
        """As for `SignSums`."""
        places = math.prod(self.places)
        return _firing(places, np.zeros((places, 1), np.int32), limits, below, above)

    def _share(self, x: NDArray[Any], seen: slice) -> NDArray[Any]:
        return np.ascontiguousarray(x[..., seen])

    def _unfired(self, group: int) -> Firing:
        base = self._base[group].reshape(1, -1)
        return Firing(np.zeros(math.prod(self.places), np.int32), base, base, *_NO_BITS)

    def _convolve(self, group: int, x: NDArray[Any], firing: Firing, signs: NDArray[Any], sums: NDArray[Any]) -> None:
        tables = self._base[group], firing.kinds, firing.limits, firing.below, firing.above
        convolve_bytes(self._weights[group], x, self._outside, self._window, *tables, signs, sums)


def fields(window: Window) -> NDArray[Any]:
    """A window as the kernels read it."""
    return np.array([window.kernel, window.stride, window.padding, window.dilation, window.after], np.int64)


def by_kind(*arrays: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Which row of a table each place has, int32 (places,), and the tables of `arrays` (1 or places, ...)."""
    places = max(map(len, arrays))
    rows = [np.broadcast_to(array.reshape(len(array), -1), (places, array[0].size)) for array in arrays]
    whole = [np.ascontiguousarray(row) for row in rows if len(row) > 1]
    if all(len(array) == 1 for array in arrays):
        return np.zeros(places, np.int32), [np.ascontiguousarray(array) for array in arrays]
    joined = np.concatenate([row.view(np.uint8).reshape(places, -1) for row in whole], axis=1)
    lines = joined.view(np.dtype((np.void, joined.shape[1]))).reshape(-1)
    _, first, kinds = np.unique(lines, return_index=True, return_inverse=True)
    tables = [np.ascontiguousarray(np.broadcast_to(array, (places, *array.shape[1:]))[first]) for array in arrays]
    return kinds.reshape(-1).astype(np.int32), tables


def blocks_of(rows: NDArray[Any]) -> NDArray[Any]:
    """(units, n) to (blocks, n, 64); the last block is filled up with zeros."""
    return aligned.copy(padded(rows.T, 0).reshape(rows.shape[1], -1, BLOCK).transpose(1, 0, 2))


def padded(array: NDArray[Any], fill: Any) -> NDArray[Any]:
    """The last axis filled up to whole blocks."""
    units = array.shape[-1]
    whole = np.full((*array.shape[:-1], words(units) * BLOCK), fill, array.dtype)
    whole[..., :units] = array
    return whole


def _firing(places: int, base: NDArray[Any], limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any]) -> Firing:
    kind = np.iinfo(base.dtype)
    least = padded(np.clip(limits, kind.min, kind.max), kind.max).astype(base.dtype)
    kinds, tables = by_kind(base, least, pack(below), pack(above))
    kinds = np.ascontiguousarray(np.broadcast_to(kinds, (places,)))
    return Firing(kinds, *tables)
