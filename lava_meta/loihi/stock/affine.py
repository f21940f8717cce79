"""Values of a network of any form as affine functions of what stock neurons send.

    x = sum over senders of M s + c        s: spikes of 0 and 1, or the graded spikes of the input

So linear layers, convolutions, sums, concatenations, moves and sums over windows need no neurons: they become the
weights M of the neurons that follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack, kron, vstack

from lava_meta.errors import ConversionError
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, Concat, Conv, Curve, Gather, Linear, Pool, Shape

Range = tuple[int, int]  # the least and the greatest that a sender sends


@dataclass(frozen=True, eq=False)
class Coded:
    """What a threshold's neurons say: `x = base + sum_k step_k s_k`, of `sender`."""

    sender: str
    base: NDArray[Any]  # int64, of the value's shape
    step: NDArray[Any]  # int64 (limits, *shape)

    def values(self, spikes: NDArray[Any]) -> NDArray[Any]:
        """The values, int64 (n, ...), that spikes (n, units) stand for: any value above 0 is one."""
        fired = (spikes > 0).reshape(len(spikes), *self.step.shape)
        values: NDArray[Any] = (self.base + (self.step * fired).sum(axis=1)).reshape(len(spikes), -1)
        return values

    def value(self) -> Value:
        """The same as an affine function."""
        steps = self.step.reshape(len(self.step), -1)
        matrix = hstack([diags(row, format="csr", dtype=np.int64) for row in steps], format="csr")
        return Value({self.sender: matrix}, self.base.reshape(-1), self.base.shape, coded=self)


@dataclass(frozen=True, eq=False)
class Value:
    """`sum M s + c`, flat; behind `pools`, the greatest of these in windows, one pooling after the other."""

    parts: Mapping[str, csr_matrix]  # by sender: int64 (values, its units)
    constant: NDArray[Any]  # int64 (values,)
    shape: Shape  # before `pools`
    coded: Coded | None = None
    pools: tuple[Window, ...] = ()

    def bounds(self, ranges: Mapping[str, Range]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The least and the greatest of `sum M s`, int64 (values,)."""
        low, high = np.zeros((2, len(self.constant)), np.int64)
        for sender, matrix in self.parts.items():
            least, most = ranges[sender]
            rise, fall = (np.asarray(part.sum(axis=1)).reshape(-1) for part in (matrix.maximum(0), matrix.minimum(0)))
            low, high = low + least * rise + most * fall, high + most * rise + least * fall
        return low, high


def through(node: Any, values: Sequence[Value], out: Shape) -> Value:
    """The value of a linear node. Raises `ConversionError` for a node that is none."""
    if any(value.pools for value in values):
        raise ConversionError("gets the greatest of sums: stock neurons find it behind a threshold only")
    if isinstance(node, Add):
        return _added([_moved(value, _broadcast(value.shape, out), out) for value in values], out)
    if isinstance(node, Concat):
        return _joined(values, out)
    (value,) = values
    if isinstance(node, Linear):
        return _weighted(value, _blocks(node.weight.values, math.prod(value.shape[:-1])), out)
    if isinstance(node, Conv):
        return _weighted(value, _unrolled(node, value.shape), out)
    if isinstance(node, Gather):
        index = np.arange(math.prod(out)) if node.index is None else node.index.reshape(-1)
        return _moved(value, index, out)
    if isinstance(node, Pool) and node.how == "sum":
        return _weighted(value, windows(node.window, value.shape), out)
    if isinstance(node, Curve) and is_whole(node):
        return _scaled(node, value)
    raise ConversionError(f"is a {node.kind}, which stock neurons do not compute")


def _weighted(value: Value, matrix: csr_matrix, shape: Shape) -> Value:
    parts = {sender: (matrix @ part).tocsr() for sender, part in value.parts.items()}
    return Value(parts, np.asarray(matrix @ value.constant).reshape(-1), shape)


def _added(values: Sequence[Value], shape: Shape) -> Value:
    parts: dict[str, csr_matrix] = {}
    for value in values:
        for sender, matrix in value.parts.items():
            parts[sender] = parts[sender] + matrix if sender in parts else matrix
    return Value(parts, np.sum([value.constant for value in values], axis=0), shape)


def _joined(values: Sequence[Value], shape: Shape) -> Value:
    sizes = [len(value.constant) for value in values]
    units = {sender: matrix.shape[1] for value in values for sender, matrix in value.parts.items()}
    parts = {
        sender: vstack(
            [
                value.parts.get(sender, csr_matrix((size, count), dtype=np.int64))
                for value, size in zip(values, sizes, strict=True)
            ],
            format="csr",
        )
        for sender, count in units.items()
    }
    return Value(parts, np.concatenate([value.constant for value in values]), shape)


def _moved(value: Value, index: NDArray[Any], shape: Shape) -> Value:
    """The values at these places, 0 for -1."""
    if np.array_equal(index, np.arange(len(value.constant))):
        return replace(value, shape=shape, coded=None)
    inside = index >= 0
    rows = np.flatnonzero(inside)
    ones = np.ones(len(rows), np.int64)
    matrix = csr_matrix((ones, (rows, index[inside])), (len(index), len(value.constant)))
    return _weighted(value, matrix, shape)


def _scaled(node: Curve, value: Value) -> Value:
    """A line of whole numbers."""
    start, slope, intercept = (
        np.broadcast_to(part[0], value.shape).reshape(-1).astype(np.int64)
        for part in (node.start, node.slope, node.intercept)
    )
    scaled = _weighted(value, diags(slope, format="csr", dtype=np.int64), value.shape)
    return replace(scaled, constant=scaled.constant + intercept - slope * start)


def is_whole(node: Curve) -> bool:
    """Whether a curve is one line of whole numbers."""
    return len(node.start) == 1 and not (node.slope % 1).any() and not (node.intercept % 1).any()


def _blocks(weight: NDArray[Any], count: int) -> csr_matrix:
    """The weights for each of `count` rows of a value."""
    return kron(diags(np.ones(count, np.int64), dtype=np.int64), csr_matrix(weight.astype(np.int64)), format="csr")


def _unrolled(node: Conv, shape: Shape) -> csr_matrix:
    """A convolution as a matrix (units * positions, values)."""
    places = node.window.views(np.arange(1, math.prod(shape) + 1).reshape(1, *shape))[0] - 1
    channels, down, across = places.shape[:3]
    units, share = len(node.weight.values), channels // node.groups
    seen = places.reshape(node.groups, share, down * across, -1).transpose(0, 2, 1, 3)
    columns = seen.reshape(node.groups, 1, down * across, -1)  # (groups, 1, positions, fan-in)
    weight = node.weight.values.reshape(node.groups, units // node.groups, 1, -1)
    columns, weight = np.broadcast_arrays(columns, weight)
    rows = np.repeat(np.arange(units * down * across), columns.shape[-1])
    inside = columns.reshape(-1) >= 0
    entries = weight.reshape(-1)[inside], (rows[inside], columns.reshape(-1)[inside])
    return csr_matrix(entries, (units * down * across, math.prod(shape)), dtype=np.int64)


def windows(window: Window, shape: Shape) -> csr_matrix:
    """Ones for what each window sees, (channels * positions, values)."""
    places = window.views(np.arange(1, math.prod(shape) + 1).reshape(1, *shape))[0] - 1
    flat = places.reshape(-1, math.prod(window.kernel))
    rows, inside = np.repeat(np.arange(len(flat)), flat.shape[1]), flat.reshape(-1) >= 0
    ones = np.ones(int(inside.sum()), np.int64)
    return csr_matrix((ones, (rows[inside], flat.reshape(-1)[inside])), (len(flat), math.prod(shape)))


def _broadcast(shape: Shape, out: Shape) -> NDArray[Any]:
    """Where each value of `out` lies in `shape`, which broadcasts to it."""
    places = np.arange(math.prod(shape)).reshape((1,) * (len(out) - len(shape)) + shape)
    return np.broadcast_to(places, out).reshape(-1)
