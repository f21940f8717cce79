"""What the nodes of an `AcyclicGraph` become: functions of values as `lava_meta.graph.packed.held` has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.acyclic import Placed
from lava_meta.graph.bits import pack, words
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, BinaryWeight, Conv, Curve, Gather, Linear, Multiply, Pool, Threshold
from lava_meta.graph.packed.held import (
    MOST_REAL,
    Held,
    flat,
    narrowest,
    places,
    shared,
    stored_of,
    stream_kind,
    to_stored,
)
from lava_meta.graph.packed.leading import LeadingProducts
from lava_meta.graph.packed.loops import has_byte_products, pool_signs
from lava_meta.graph.packed.passes import Pass, in_places
from lava_meta.graph.packed.planes import PlaneSums
from lava_meta.graph.packed.products import Products
from lava_meta.graph.packed.streams import Limits, convolve_depthwise, pool, threshold_codes
from lava_meta.graph.packed.sums import MOST_SUM, ByteSums, SignSums, by_kind, fields

Step = Callable[[Sequence[Held]], Held]
Range = tuple[int, int]  # the least and greatest integer of a source

_FEWEST = 8  # inputs from which counting bits is faster than multiplying bytes
_FEWEST_BYTES = 64  # from which digits are faster than float64
_MOST_GROUPS = 8  # that are computed one after the other


# Sums.


@dataclass(frozen=True, eq=False)
class Summed:
    """A kernel of sums, and what it takes of a source."""

    kernel: SignSums | ByteSums | PlaneSums | Products
    low: int = 0  # of bytes

    def taken(self, value: Held) -> NDArray[Any]:
        """The source as the kernel has it."""
        if isinstance(self.kernel, SignSums):
            return value.signs
        if isinstance(self.kernel, (ByteSums, PlaneSums)):
            x = value.integers
            return x if x.dtype == np.uint8 else x.astype(np.uint8) - np.uint8(self.low & 255)  # modulo 256
        return value.integers if isinstance(self.kernel, LeadingProducts) else value.numbers

    def step(self, layer: Placed) -> Step:
        """The sums themselves."""
        stored = stored_of(layer.output_shape)

        def summed(values: Sequence[Held]) -> Held:
            sums = self.kernel.sums(self.taken(values[0]))
            return Held(stored, integers=sums.reshape(-1, *stored))

        return summed

    def fires(self) -> bool:
        """Whether a threshold of two codes can be part of it."""
        exact = isinstance(self.kernel, Products) and not isinstance(self.kernel, LeadingProducts)
        return not exact and self.kernel.groups == 1


def sums_of(layer: Placed, source: Range, *, signs: bool, order: NDArray[Any] | None = None) -> Summed | None:
    """The kernel for a node of sums, or None if it is depthwise.

    `signs`: the source holds +1 and -1. `order`: that in which the source's elements lie, if not the graph's.
    """
    node = layer.node
    assert isinstance(node, (Linear, Conv))
    window = node.window if isinstance(node, Conv) else Window((1, 1))
    groups = node.groups if isinstance(node, Conv) else 1
    rows, columns, channels = stored_of(layer.input_shapes[0])
    weight = node.weight.values.astype(np.int64)
    if order is not None:
        weight = weight[:, order]
    units, inputs = len(weight), channels // groups
    weight = weight.reshape(units, inputs, *window.kernel)
    place = window, (rows, columns), groups
    if groups == channels == units and groups > 1:
        return None
    if signs and isinstance(node.weight, BinaryWeight) and inputs >= _FEWEST and groups <= _MOST_GROUPS:
        return Summed(SignSums(weight > 0, *place))
    low, high = min(0, source[0]), max(0, source[1])
    small = int(weight.min()) >= -128 and int(weight.max()) <= 127
    if high - low < 256 and PlaneSums.fits(weight):
        if small and groups <= _MOST_GROUPS:
            return Summed(ByteSums(weight, *place, low=low), low)
        if groups == 1 and weight[0].size >= _FEWEST_BYTES and has_byte_products():
            return Summed(PlaneSums(weight, *place[:2], low=low), low)
    largest = max(map(abs, source))
    if groups == 1 and LeadingProducts.fits(weight, largest):
        return Summed(LeadingProducts(weight, *place[:2], largest))
    return Summed(Products(weight, *place, largest))


def depthwise(layer: Placed) -> Step:
    """Each channel with a kernel of its own."""
    node, stored = layer.node, stored_of(layer.output_shape)
    assert isinstance(node, Conv)
    kind = narrowest(min(layer.low, -MOST_SUM), max(layer.high, MOST_SUM))
    weight = node.weight.values.reshape(-1, *node.window.kernel).transpose(1, 2, 0)
    weight, window = np.ascontiguousarray(weight.astype(kind)), fields(node.window)

    def computed(values: Sequence[Held]) -> Held:
        x = values[0].integers
        out = np.empty((len(x), *stored), kind)
        convolve_depthwise(x, weight, window, out)
        return Held(stored, integers=out)

    return computed


# Thresholds.


def has_two_codes(node: Threshold) -> bool:
    """Whether it gives signs by one limit."""
    return len(node.limits) <= 1 and bool((np.abs(node.codes) == 1).all())


def two_codes(layer: Placed) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """int64 limits (1 or places, channels), and whether what is below them, and what reaches them, is +1."""
    node = layer.node
    assert isinstance(node, Threshold)
    codes = shared(node.codes, layer.output_shape) > 0
    if not len(node.limits):
        return np.full(codes[:, 0].shape, np.iinfo(np.int64).max), codes[:, 0], codes[:, 0]
    return shared(node.limits, layer.output_shape)[:, 0], codes[:, 0], codes[:, 1]


def fired(layer: Placed, summed: Summed) -> Step:
    """Sums and their signs in one pass."""
    stored = stored_of(layer.output_shape)
    kernel: Any = summed.kernel  # of one of the kinds that fire, each with tables of its own
    firing = kernel.firing(*two_codes(layer))

    def signs(values: Sequence[Held]) -> Held:
        packed = kernel.signs(summed.taken(values[0]), firing)
        return Held(stored, signs=packed.reshape(len(packed), *stored[:2], -1))

    return signs


def threshold(layer: Placed) -> Step:
    """Signs, spikes or levels."""
    node, stored = layer.node, stored_of(layer.output_shape)
    assert isinstance(node, Threshold)
    if has_two_codes(node):
        limits = Limits(*two_codes(layer))
        return lambda values: Held(stored, signs=limits.signs(values[0].numbers))
    levels, codes = shared(node.limits, layer.output_shape), shared(node.codes, layer.output_shape)
    kinds, tables = by_kind(levels, codes)
    reached, given = (np.ascontiguousarray(table.transpose(1, 0, 2)) for table in tables)
    kind = narrowest(layer.low, layer.high)

    def coded(values: Sequence[Held]) -> Held:
        x = values[0].integers
        out = np.empty(x.shape, kind)
        threshold_codes(in_places(x), reached, given, kinds, in_places(out))
        return Held(stored, integers=out)

    return coded


# Streams.


def is_identity(layer: Placed, source: Range) -> bool:
    """Whether a curve gives back what float64 holds exactly."""
    node = layer.node
    if not isinstance(node, Curve) or len(node.start) > 1 or node.intercept.any() or node.start.any():
        return False
    return bool((node.slope == 1).all()) and max(map(abs, source)) <= MOST_REAL


def passed(
    layer: Placed, parts: Sequence[tuple[Pass, int]], *, stores: bool, fires: bool, over: int | None = None
) -> Step:
    """Passes side by side, each of so many channels; the value, unless it `stores` none, and its signs.

    over: the source, of the same shape, in whose place the value may be.
    """
    stored, kind = stored_of(layer.output_shape), stream_kind(layer.low, layer.high)

    def computed(values: Sequence[Held]) -> Held:
        lanes, given, first = len(values[0].numbers), iter(values), 0
        spare = None if over is None else values[over].numbers
        if spare is not None and spare.dtype == kind:
            out: NDArray[Any] | None = spare
        else:
            out = np.empty((lanes, *stored), kind) if stores else None
        signs = np.zeros((lanes, *stored[:2], words(stored[2])), np.uint64) if fires else None
        for part, channels in parts:
            part.into(out, [next(given).numbers for _ in range(part.terms)], signs, first)
            first += channels
        return Held(stored, integers=out, fired=signs) if stores else Held(stored, signs=signs)

    return computed


def fired_before(layer: Placed) -> Step:
    """The signs that the step before has found."""
    stored = stored_of(layer.output_shape)
    return lambda values: Held(stored, signs=values[0].fired)


def by_reference(layer: Placed) -> Step:
    """By the node's own arithmetic, on whole arrays."""
    node, shapes, stored = layer.node, layer.input_shapes, stored_of(layer.output_shape)
    kind = narrowest(layer.low, layer.high)
    as_stored = {len(shape) for shape in (*shapes, layer.output_shape)} == {3} and isinstance(node, (Add, Multiply))

    def computed(values: Sequence[Held]) -> Held:
        if as_stored:
            made = node([value.integers.astype(np.int64, copy=False) for value in values])
        else:
            given = [flat(value, shape).reshape(-1, *shape) for value, shape in zip(values, shapes, strict=True)]
            made = to_stored(node([x.astype(np.int64) for x in given]))
        return Held(stored, integers=np.ascontiguousarray(made.astype(kind, copy=False)))

    return computed


# Movement.


def _kept_as(layer: Placed, given: Sequence[NDArray[Any]]) -> np.dtype[Any]:
    """The type of what is only moved, or pooled: a stream stays one."""
    of_stream = any(part.dtype == np.float64 for part in given)
    return (stream_kind if of_stream else narrowest)(layer.low, layer.high)


def concat(layer: Placed) -> Step:
    """Sources side by side; signs as words if these are full."""
    if {len(shape) for shape in layer.input_shapes} - {1, 3}:
        return by_reference(layer)
    stored = stored_of(layer.output_shape)
    full = all(stored_of(shape)[2] % 64 == 0 for shape in layer.input_shapes)

    def joined(values: Sequence[Held]) -> Held:
        if full and all(value.packed for value in values):
            return Held(stored, signs=np.concatenate([value.signs for value in values], axis=3))
        numbers = [value.numbers for value in values]
        return Held(stored, integers=np.concatenate(numbers, axis=3, dtype=_kept_as(layer, numbers), casting="unsafe"))

    return joined


def moved_to(layer: Placed) -> NDArray[Any]:
    """For each element of a gathering node, in memory, the element of its source, in memory; -1 for 0."""
    node, source = layer.node, layer.input_shapes[0]
    assert isinstance(node, Gather)
    index = np.arange(math.prod(source)).reshape(node.out) if node.index is None else node.index
    place = np.append(places(source), -1)
    return np.ascontiguousarray(to_stored(place[index][None])[0]).reshape(-1)


def gather(layer: Placed) -> Step:
    """Places in the order of memory."""
    stored, moved = stored_of(layer.output_shape), moved_to(layer)
    absent = moved < 0
    missing = bool(absent.any())

    def taken(values: Sequence[Held]) -> Held:
        x = values[0].numbers.reshape(len(values[0].numbers), -1)
        out = np.take(x, moved, axis=1)
        if missing:
            out[:, absent] = 0
        return Held(stored, integers=out.reshape(-1, *stored))

    return taken


def reshaped(layer: Placed) -> Step:
    """What stays if it is in memory."""
    stored, source = stored_of(layer.output_shape), stored_of(layer.input_shapes[0])
    full = source[2] == stored[2] or source[2] % 64 == 0 == stored[2] % 64

    def same(values: Sequence[Held]) -> Held:
        if values[0].packed and full:
            return Held(stored, signs=values[0].signs.reshape(len(values[0].signs), *stored[:2], -1))
        return Held(stored, integers=values[0].numbers.reshape(-1, *stored))

    return same


def pooled(layer: Placed, *, signs: bool) -> Step:
    """The greatest, or the sum, of a window; the greatest of signs is their OR."""
    node, stored = layer.node, stored_of(layer.output_shape)
    assert isinstance(node, Pool)
    window, greatest = fields(node.window), node.how == "max"
    plain = pack(np.zeros(stored[2], bool))

    def computed(values: Sequence[Held]) -> Held:
        if signs and greatest:
            x = values[0].signs
            words = np.empty((len(x), *stored[:2], x.shape[3]), np.uint64)
            pool_signs(x, window, plain, words)
            return Held(stored, signs=words)
        x = values[0].numbers
        out = np.empty((len(x), *stored), _kept_as(layer, [x]))
        pool(x, window, greatest, out)
        return Held(stored, integers=out)

    return computed
