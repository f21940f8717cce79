"""An `AcyclicGraph`, compiled: the same integers, on packed signs where these meet binary weights.

Values lie with their channels last, (lanes, rows, columns, channels): vectors as one place, (tokens, features) as
rows. Signs are packed, 64 channels to a word, and kept so while only binary layers take them. Binary sums count bits
(`lava_meta.graph.packed.loops`); other sums are exact products of float32 or float64 matrices, of several parts where
the integers are wide; the rest are the loops of `lava_meta.graph.packed.streams`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph, Placed
from lava_meta.graph.bits import pack, words
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    Add,
    BinaryWeight,
    Concat,
    Conv,
    Curve,
    Gather,
    Linear,
    Multiply,
    Pool,
    Shape,
    Threshold,
    exact_product,
)
from lava_meta.graph.packed.loops import BLOCK, convolve_signs
from lava_meta.graph.packed.streams import (
    convolve_depthwise,
    follow,
    pool,
    threshold_codes,
    threshold_signs,
    unpack_signs,
)

_LANES = 8  # images at once: more do not stay in the caches
_MESSAGE = 2**22  # integers of one image's widest value and its windows, beyond which images come one by one

Stored = tuple[int, int, int]  # rows, columns, channels


class Held:
    """A node's value for some images: integers, packed signs, or both once both were asked for."""

    def __init__(self, stored: Stored, integers: NDArray[Any] | None = None, signs: NDArray[Any] | None = None) -> None:
        self.stored = stored
        self._integers, self._signs = integers, signs

    @property
    def integers(self) -> NDArray[Any]:
        """int64 (lanes, rows, columns, channels)."""
        if self._integers is None:
            assert self._signs is not None
            rows, columns, channels = self.stored
            self._integers = np.empty((len(self._signs), rows, columns, channels), np.int64)
            unpack_signs(
                self._signs.reshape(len(self._signs), rows * columns, -1),
                self._integers.reshape(len(self._signs), rows * columns, channels),
            )
        return self._integers

    @property
    def signs(self) -> NDArray[Any]:
        """uint64 (lanes, rows, columns, words)."""
        if self._signs is None:
            assert self._integers is not None
            self._signs = pack(self._integers > 0)
        return self._signs


Step = Callable[[Sequence[Held]], Held]


class PackedAcyclic:
    """`sums`, `predict` and `activations` equal the graph's own, integer for integer.

    Takes inputs that `AcyclicGraph.check_images` returned, (n, n_in) of type `graph.dtype`; compiles when made.
    """

    def __init__(self, graph: AcyclicGraph) -> None:
        self.n_in, self.n_out = graph.n_in, graph.n_out
        self.dtype, self.domain = graph.dtype, graph.domain
        self.names = tuple(name for name, _ in graph.named_layers())
        self._graph = graph
        self._stored = {INPUT: stored_of(graph.input_shape)}
        self._stored |= {name: stored_of(layer.output_shape) for name, layer in graph.placed.items()}
        lows = {INPUT: (graph.min_level, graph.max_level)} | {
            name: (layer.low, layer.high) for name, layer in graph.placed.items()
        }
        signs = {name for name, node in graph.nodes.items() if isinstance(node, Threshold) and _only_signs(node)}
        if graph.signs:
            signs.add(INPUT)
        for name, node in graph.nodes.items():  # what only moves signs gives signs
            if (isinstance(node, Gather) and (node.index is None or node.index.min() >= 0)) or isinstance(node, Concat):
                signs |= {name} if {*node.sources} <= signs else set()
        self._steps = {
            name: _step(layer, [max(map(abs, lows[source])) for source in layer.node.sources], signs)
            for name, layer in graph.placed.items()
        }
        self._last = {source: name for name, node in graph.nodes.items() for source in node.sources}
        widest = max(max(layer.n_in, layer.n_out) * _taps(layer) for layer in graph.placed.values())
        self._lanes = max(1, min(_LANES, _MESSAGE // widest))
        level = np.full((1, self.n_in), graph.max_level, self.dtype)
        self.sums(level)

    def sums(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The readout's integers, int64 (n, classes)."""
        return self.activations(pixels, (READOUT,))[READOUT]

    def classes(self, sums: NDArray[Any]) -> NDArray[Any]:
        """int64 (n,): argmax of the values, lowest index on ties."""
        return self._graph.readout.classes(sums)

    def predict(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The classes, int64 (n,)."""
        return self.classes(self.sums(pixels))

    def activations(
        self, pixels: NDArray[Any], names: Iterable[str] | None = None, lanes: int = _LANES
    ) -> dict[str, NDArray[Any]]:
        """The integers of the nodes `names` (default: of all), `lanes` images at a time, or fewer."""
        names = self.names if names is None else tuple(names)
        lanes = max(1, min(lanes, self._lanes))
        parts = [self._forward(pixels[start : start + lanes], names) for start in range(0, len(pixels), lanes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _forward(self, pixels: NDArray[Any], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        if pixels.dtype != self.dtype or pixels.ndim != 2 or pixels.shape[1] != self.n_in:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; expected {self.dtype} (n, {self.n_in})")
        graph = self._graph
        first = _to_stored(pixels.reshape(-1, *graph.input_shape)).astype(np.int64)
        values = {INPUT: Held(self._stored[INPUT], integers=np.ascontiguousarray(first))}
        out = {}
        for name, node in graph.nodes.items():
            values[name] = self._steps[name]([values[source] for source in node.sources])
            if name in names:
                out[name] = _flat(values[name], graph.placed[name].output_shape).astype(graph.placed[name].dtype)
            for source in {*node.sources}:
                if self._last[source] == name and source != graph.output:
                    del values[source]
        if READOUT in names:
            out[READOUT] = _flat(values[graph.output], graph.placed[graph.output].output_shape)
        return out


def stored_of(shape: Shape) -> Stored:
    """Rows, columns and channels of a value in memory."""
    if len(shape) == 3:
        return shape[1], shape[2], shape[0]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    return (1, 1, shape[0]) if len(shape) == 1 else (math.prod(shape[:-1]), 1, shape[-1])


def _to_stored(array: NDArray[Any]) -> NDArray[Any]:
    """(n, *shape) with the channels last, (n, rows, columns, channels)."""
    if array.ndim == 4:
        return array.transpose(0, 2, 3, 1)
    return array.reshape(len(array), *stored_of(array.shape[1:]))


def _flat(held: Held, shape: Shape) -> NDArray[Any]:
    """int64 (n, n_out) in the order of the graph."""
    integers = held.integers
    ordered = integers.transpose(0, 3, 1, 2) if len(shape) == 3 else integers
    return ordered.reshape(len(integers), -1)


def _shared(array: NDArray[Any], shape: Shape, channels: bool = True) -> NDArray[Any]:
    """(m, *shared) as (m, 1 or places, channels); with `channels=False`, 1 channel where all are alike."""
    rows, columns, width = stored_of(shape)
    moved = np.ascontiguousarray(_to_stored(array)) if array.ndim in (2, 4) else None
    if array.ndim == 3:  # (m, tokens, features)
        moved = array.reshape(len(array), array.shape[1], 1, array.shape[2])
    if moved is None:
        whole = np.broadcast_to(array, (len(array), *shape)).reshape(len(array), rows, columns, width)
        moved = np.ascontiguousarray(whole)
    if moved.shape[1:3] != (1, 1):
        moved = np.broadcast_to(moved, (len(moved), rows, columns, moved.shape[3]))
    if channels:
        moved = np.broadcast_to(moved, (*moved.shape[:3], width))
    return np.ascontiguousarray(moved).reshape(len(moved), moved.shape[1] * moved.shape[2], moved.shape[3])


def _only_signs(node: Threshold) -> bool:
    return bool((np.abs(node.codes) == 1).all())


def _taps(layer: Placed) -> int:
    return math.prod(layer.node.window.kernel) if isinstance(layer.node, Conv) else 1


def _fields(window: Window) -> NDArray[Any]:
    return np.array([window.kernel, window.stride, window.padding, window.dilation, window.after], np.int64)


# What each node becomes.


def _step(layer: Placed, largest: Sequence[int], signs: set[str]) -> Step:
    """The compiled form of a node, whose sources' integers are at most `largest`; `signs` names those of +1 and -1."""
    node = layer.node
    if isinstance(node, (Linear, Conv)):
        return _sums(layer, node, largest[0], node.sources[0] in signs)
    if isinstance(node, Threshold):
        return _threshold(layer, node)
    if isinstance(node, Curve):
        return _curve(layer, node)
    if isinstance(node, Pool):
        return _pool(layer, node)
    if isinstance(node, Gather):
        return _gather(layer, node, node.sources[0] in signs)
    return _plain(layer)


def _plain(layer: Placed) -> Step:
    """By the node's own arithmetic: sums, products and concatenations of whole arrays are fast as they are."""
    node, stored = layer.node, stored_of(layer.output_shape)
    ranks = {len(shape) for shape in (*layer.input_shapes, layer.output_shape)}
    if isinstance(node, (Add, Multiply)) and ranks == {3}:

        def joined(values: Sequence[Held]) -> Held:
            return Held(stored, integers=node([value.integers for value in values]))

        return joined
    if isinstance(node, Concat) and ranks in ({1}, {3}):

        def side_by_side(values: Sequence[Held]) -> Held:
            return Held(stored, integers=np.concatenate([value.integers for value in values], axis=3))

        return side_by_side
    shapes = layer.input_shapes

    def general(values: Sequence[Held]) -> Held:
        given = [_flat(value, shape).reshape(-1, *shape) for value, shape in zip(values, shapes, strict=True)]
        return Held(stored, integers=np.ascontiguousarray(_to_stored(node(given))))

    return general


def _threshold(layer: Placed, node: Threshold) -> Step:
    stored = rows, columns, channels = stored_of(layer.output_shape)
    limits, codes = (_shared(array, layer.output_shape) for array in (node.limits, node.codes))
    if _only_signs(node) and len(limits) <= 1:
        limit = limits[0] if len(limits) else np.full(codes.shape[1:], np.iinfo(np.int64).max)
        low, high = codes[0] > 0, codes[-1] > 0

        def packed(values: Sequence[Held]) -> Held:
            x = values[0].integers
            out = np.empty((len(x), rows, columns, words(channels)), np.uint64)
            places = rows * columns
            threshold_signs(x.reshape(len(x), places, channels), limit, low, high, out.reshape(len(x), places, -1))
            return Held(stored, signs=out)

        return packed

    def leveled(values: Sequence[Held]) -> Held:
        x = values[0].integers
        out = np.empty_like(x)
        flat = len(x), rows * columns, channels
        threshold_codes(x.reshape(flat), limits, codes, out.reshape(flat))
        return Held(stored, integers=out)

    return leveled


def _curve(layer: Placed, node: Curve) -> Step:
    stored = rows, columns, channels = stored_of(layer.output_shape)
    start, slope, intercept = (
        _shared(array, layer.output_shape, channels=False) for array in (node.start, node.slope, node.intercept)
    )

    def followed(values: Sequence[Held]) -> Held:
        x = values[0].integers
        out = np.empty_like(x)
        flat = len(x), rows * columns, channels
        follow(x.reshape(flat), start, slope, intercept, out.reshape(flat))
        return Held(stored, integers=out)

    return followed


def _pool(layer: Placed, node: Pool) -> Step:
    stored, window = stored_of(layer.output_shape), _fields(node.window)
    greatest = node.how == "max"

    def pooled(values: Sequence[Held]) -> Held:
        x = values[0].integers
        out = np.empty((len(x), *stored), np.int64)
        pool(x, window, greatest, out)
        return Held(stored, integers=out)

    return pooled


def _gather(layer: Placed, node: Gather, signs: bool) -> Step:
    """Places in the order of memory: what stays where it is costs nothing."""
    stored, source = stored_of(layer.output_shape), layer.input_shapes[0]
    size = math.prod(source)
    index = np.arange(size).reshape(node.out) if node.index is None else node.index
    place = np.append(_places(source), -1)  # of each element of the source, in memory
    moved = np.ascontiguousarray(_to_stored(place[index][None]))[0].reshape(-1)
    if np.array_equal(moved, np.arange(size)):
        same_words = stored_of(source)[2] == stored[2] or stored_of(source)[2] % 64 == 0 == stored[2] % 64

        def reshaped(values: Sequence[Held]) -> Held:
            if signs and same_words:
                return Held(stored, signs=values[0].signs.reshape(len(values[0].signs), *stored[:2], -1))
            return Held(stored, integers=values[0].integers.reshape(-1, *stored))

        return reshaped
    absent = moved < 0

    def taken(values: Sequence[Held]) -> Held:
        x = values[0].integers.reshape(len(values[0].integers), -1)
        out = x[:, moved]
        if absent.any():
            out[:, absent] = 0
        return Held(stored, integers=out.reshape(-1, *stored))

    return taken


def _places(shape: Shape) -> NDArray[Any]:
    """Where each element, in the order of the graph, lies in memory."""
    stored = np.arange(math.prod(shape)).reshape(stored_of(shape))
    return (stored.transpose(2, 0, 1) if len(shape) == 3 else stored).reshape(-1)


# Sums.


def _sums(layer: Placed, node: Linear | Conv, largest: int, signs: bool) -> Step:
    stored = stored_of(layer.output_shape)
    window = node.window if isinstance(node, Conv) else Window((1, 1))
    groups = node.groups if isinstance(node, Conv) else 1
    inputs = stored_of(layer.input_shapes[0])[2]
    units = len(node.weight.values)
    kernel = node.weight.values.reshape(units, inputs // groups, *window.kernel).astype(np.int64)
    if signs and isinstance(node.weight, BinaryWeight) and inputs // groups >= 8:
        return _counted(kernel, window, groups, stored)
    if groups == inputs == units and groups > 1:
        depth, fields = np.ascontiguousarray(kernel[:, 0].transpose(1, 2, 0)), _fields(window)

        def depthwise(values: Sequence[Held]) -> Held:
            x = values[0].integers
            out = np.empty((len(x), *stored), np.int64)
            convolve_depthwise(x, depth, fields, out)
            return Held(stored, integers=out)

        return depthwise
    return _multiplied(kernel, window, groups, largest, stored)


def _counted(kernel: NDArray[Any], window: Window, groups: int, stored: Stored) -> Step:
    """Binary weights and signs, by counting bits."""
    units = len(kernel) // groups
    inputs = kernel.shape[1]
    runs = []
    for share in np.split(kernel, groups):
        rows = pack((share < 0).transpose(0, 2, 3, 1))  # inverted
        rows = rows.reshape(units, -1)
        padded = np.zeros((words(units) * BLOCK, rows.shape[1]), np.uint64)
        padded[:units] = rows
        runs.append(np.ascontiguousarray(padded.reshape(-1, BLOCK, rows.shape[1]).transpose(0, 2, 1)).reshape(-1))
    fields, single = _fields(window), _fields(Window((1, 1)))
    limit = np.zeros((1, words(units) * BLOCK), np.int64)

    def counted(values: Sequence[Held]) -> Held:
        count = len(values[0].signs) if groups == 1 else len(values[0].integers)
        parts = []
        for group, run in enumerate(runs):
            seen = slice(group * inputs, (group + 1) * inputs)
            x = values[0].signs if groups == 1 else pack(values[0].integers[..., seen] > 0)
            out = np.empty((count, *stored[:2], words(units)), np.uint64)
            sums = np.empty((count, *stored[:2], words(units) * BLOCK), np.int64)
            convolve_signs(run, x, inputs, fields, single, limit, out, sums)
            parts.append(sums[..., :units])
        joined = parts[0] if groups == 1 else np.concatenate(parts, axis=3)
        return Held(stored, integers=np.ascontiguousarray(joined))

    return counted


def _multiplied(kernel: NDArray[Any], window: Window, groups: int, largest: int, stored: Stored) -> Step:
    """Any weights, by matrix products that are exact: the weights in parts where the sums pass float64's 53 bits."""
    units, fan_in = len(kernel), math.prod(kernel.shape[1:])
    # In memory a window is (kernel rows, kernel columns, inputs).
    matrix = kernel.transpose(0, 2, 3, 1).reshape(groups, units // groups, fan_in)
    high_bits = max(1, largest).bit_length() + fan_in.bit_length()
    parts: list[tuple[NDArray[Any], int]] = []
    width = 53 - high_bits
    if width < 4:  # wide inputs too: the reference's own product splits both
        return _split_product(matrix, window, groups, stored)
    rest, shift = matrix, 0
    while True:
        if max(1, int(np.abs(rest).max())).bit_length() <= width:
            parts.append((rest, shift))
            break
        high = rest >> (width - 1)
        parts.append((rest - (high << (width - 1)), shift))
        rest, shift = high, shift + width - 1
    narrow = len(parts) == 1 and high_bits + int(np.abs(matrix).max()).bit_length() <= 24
    kind = np.float32 if narrow else np.float64
    matrices = [(np.ascontiguousarray(part.transpose(0, 2, 1).astype(kind)), shift) for part, shift in parts]

    def multiplied(values: Sequence[Held]) -> Held:
        rows = _windows(values[0].integers, window, groups, kind)
        total: Any = 0
        for part, shift in matrices:
            total = total + (np.matmul(rows, part).astype(np.int64) << shift)
        return Held(stored, integers=_grouped(total, stored))

    return multiplied


def _split_product(matrix: NDArray[Any], window: Window, groups: int, stored: Stored) -> Step:
    def product(values: Sequence[Held]) -> Held:
        rows = _windows(values[0].integers, window, groups, np.int64)
        return Held(stored, integers=_grouped(exact_product(rows, matrix), stored))

    return product


def _windows(x: NDArray[Any], window: Window, groups: int, kind: Any) -> NDArray[Any]:
    """What each window sees, (groups, n * places, fan_in)."""
    n, _, _, channels = x.shape
    if window.kernel == (1, 1) and not any(window.padding) and not any(window.after):
        seen = x[:, :: window.stride[0], :: window.stride[1]].astype(kind)
        rows: NDArray[Any] = seen.reshape(-1, groups, channels // groups).transpose(1, 0, 2)
        return np.ascontiguousarray(rows)
    views = window.views(x.astype(kind).transpose(0, 3, 1, 2))  # (n, c, down, across, *kernel)
    split = views.reshape(n, groups, channels // groups, *views.shape[2:]) if groups > 1 else views[:, None]
    ordered = split.transpose(1, 0, 3, 4, 5, 6, 2)
    return np.ascontiguousarray(ordered).reshape(groups, -1, channels // groups * math.prod(window.kernel))


def _grouped(sums: NDArray[Any], stored: Stored) -> NDArray[Any]:
    """(groups, n * places, units) as (n, rows, columns, channels)."""
    joined = sums.transpose(1, 0, 2)
    return np.ascontiguousarray(joined).reshape(-1, *stored)
