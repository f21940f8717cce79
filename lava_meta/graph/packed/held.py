"""How an `AcyclicGraph`'s values lie in memory while it is computed: channels last, signs packed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack
from lava_meta.graph.nodes import Shape

Stored = tuple[int, int, int]  # rows, columns, channels
MOST_REAL = 2**53  # up to which float64 holds all integers


class Held:
    """A node's value for some images: integers, packed signs, or both once both were asked for.

    Those of streams may lie as float64 (`stream_kind`), and become integers once these are asked for.
    """

    def __init__(
        self,
        stored: Stored,
        integers: NDArray[Any] | None = None,
        signs: NDArray[Any] | None = None,
        fired: NDArray[Any] | None = None,
    ) -> None:
        """`fired`: what a threshold behind these integers gives, uint64 (lanes, rows, columns, words)."""
        self.stored, self.fired = stored, fired
        self._integers, self._signs = integers, signs

    @property
    def packed(self) -> bool:
        """Whether signs are at hand."""
        return self._signs is not None

    @property
    def numbers(self) -> NDArray[Any]:
        """Integers of any type, or float64, (lanes, rows, columns, channels)."""
        if self._integers is None:
            assert self._signs is not None
            bits = np.unpackbits(self._signs.view(np.uint8), axis=3, count=self.stored[2], bitorder="little")
            self._integers = 2 * bits.view(np.int8) - 1
        return self._integers

    @property
    def integers(self) -> NDArray[Any]:
        """Of any integer type, (lanes, rows, columns, channels)."""
        if self.numbers.dtype == np.float64:
            self._integers = self.numbers.astype(np.int64)
        return self.numbers

    @property
    def signs(self) -> NDArray[Any]:
        """uint64 (lanes, rows, columns, words)."""
        if self._signs is None:
            assert self._integers is not None
            self._signs = pack(self._integers > 0)
        return self._signs


def joined(parts: Sequence[Held]) -> Held:
    """The values of several batches as those of one."""
    if len(parts) == 1:
        return parts[0]
    if all(part.packed for part in parts):
        return Held(parts[0].stored, signs=np.concatenate([part.signs for part in parts]))
    fired = [part.fired for part in parts if part.fired is not None]
    return Held(
        parts[0].stored,
        integers=np.concatenate([part.numbers for part in parts]),
        fired=np.concatenate(fired) if fired else None,
    )


def narrowest(low: int, high: int) -> np.dtype[Any]:
    """The type in which integers from `low` to `high` are kept."""
    kinds = (np.int8, np.int32, np.int64)
    return np.dtype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))


def stream_kind(low: int, high: int) -> np.dtype[Any]:
    """The type in which a stream of integers from `low` to `high` is kept: curves are of float64."""
    kind = narrowest(low, high)
    if kind == np.int64 and max(-low, high) <= MOST_REAL:
        return np.dtype(np.float64)
    return np.promote_types(kind, np.int32)


def stored_of(shape: Shape) -> Stored:
    """Rows, columns and channels of a value in memory."""
    if len(shape) == 3:
        return shape[1], shape[2], shape[0]
    return (math.prod(shape[:-1]), 1, shape[-1]) if shape else (1, 1, 1)


def to_stored(array: NDArray[Any]) -> NDArray[Any]:
    """(n, *shape) with the channels last, (n, rows, columns, channels)."""
    if array.ndim == 4:
        return array.transpose(0, 2, 3, 1)
    return array.reshape(len(array), *stored_of(array.shape[1:]))


def flat(held: Held, shape: Shape) -> NDArray[Any]:
    """(n, n_out) in the order of the graph."""
    integers = held.integers
    return (integers.transpose(0, 3, 1, 2) if len(shape) == 3 else integers).reshape(len(integers), -1)


def places(shape: Shape) -> NDArray[Any]:
    """Where each element, in the order of the graph, lies in memory."""
    stored = np.arange(math.prod(shape)).reshape(stored_of(shape))
    return (stored.transpose(2, 0, 1) if len(shape) == 3 else stored).reshape(-1)


def shared(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """(m, *shared) as (1 or places, m, channels)."""
    rows, columns, channels = stored_of(shape)
    kept = stored_of(array.shape[1:])
    if kept[:2] != (1, 1):  # of places: of all of them
        array = np.broadcast_to(array, (len(array), *shape))
        kept = rows, columns, channels
    lines = to_stored(array).reshape(len(array), kept[0] * kept[1], kept[2])
    whole = np.broadcast_to(lines, (*lines.shape[:2], channels))
    return np.ascontiguousarray(whole.transpose(1, 0, 2))
