"""What an `AcyclicGraph` is made of: nodes that make integers of integers.

    Linear      s = W x over the last axis            W binary (packed bits) or of wide integers
    Conv        s = W * x, zero padding, groups
    Threshold   y = codes[number of limits that x reaches]      signs, spikes, few-bit levels, of falling units too
    Curve       y = round(slope (x - start) + intercept) of the last piece that x reaches     a real stream
    Add         y = sum of its sources
    Multiply    y = round(a b / 2**shift)
    MatMul      Y = A B over the last two axes, of two sources: attention
    Concat      y = its sources one behind the other along the first axis
    Gather      y = x at fixed places, 0 if a place is -1: reshapes, permutations, slices, channel shuffles, padding
    Pool        y = the greatest, or the sum, of a window

A node knows its shape without the batch, and bounds of its integers from bounds of its sources'. Every product and sum
is of integers below 2**63, so that its order does not matter; rounding is that of single operations in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.bits import pack, unpack
from lava_meta.graph.conv import LARGEST_MAP, Window
from lava_meta.graph.dense import check_bits

MOST = 2**62  # that a node's integers may reach
_EXACT = 2**53  # float64 holds every integer up to it

Shape = tuple[int, ...]
Bounds = tuple[NDArray[Any], NDArray[Any]]  # int64, the least and the greatest integer; broadcast to the shape


@dataclass(frozen=True, eq=False)
class BinaryWeight:
    """Weights of +1 and -1 as packed bits (`lava_meta.graph.bits`)."""

    bits: NDArray[Any]  # uint64 (units, words(fan_in))
    fan_in: int

    def __post_init__(self) -> None:
        check_bits(self.bits, self.fan_in)

    @property
    def units(self) -> int:
        """Units, each of which sums `fan_in` inputs."""
        return len(self.bits)

    @property
    def values(self) -> NDArray[Any]:
        """int64 (units, fan_in), +1 and -1."""
        return np.where(unpack(self.bits, self.fan_in), 1, -1).astype(np.int64)

    @property
    def bits_each(self) -> int:
        """Bits that one weight takes."""
        return 1


@dataclass(frozen=True, eq=False)
class WideWeight:
    """Weights of any integers."""

    values: NDArray[Any]  # int8, int16, int32 or int64 (units, fan_in)

    def __post_init__(self) -> None:
        if self.values.dtype.kind != "i" or self.values.ndim != 2 or not self.values.size:
            raise ValueError(f"wide weights are {self.values.dtype} {self.values.shape}; expected integers (units, n)")
        if _largest(self.values) > MOST:
            raise ValueError("a wide weight exceeds 62 bits")

    @property
    def units(self) -> int:
        """Units, each of which sums `fan_in` inputs."""
        return len(self.values)

    @property
    def fan_in(self) -> int:
        """Weights of a unit."""
        return int(self.values.shape[1])

    @property
    def bits_each(self) -> int:
        """Bits that one weight takes."""
        return 8 * self.values.dtype.itemsize


Weight = BinaryWeight | WideWeight


def weight_of(values: NDArray[Any]) -> Weight:
    """Integer weights (units, fan_in) in the narrowest form that holds them."""
    if (np.abs(values) == 1).all():
        return BinaryWeight(pack(values > 0), values.shape[1])
    kind = next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if _largest(values) <= np.iinfo(kind).max)
    return WideWeight(values.astype(kind))


@dataclass(frozen=True, eq=False)
class Node:
    """One node. `sources` are names of nodes before it, or "input"; the network gives their values and shapes."""

    kind: ClassVar[str]
    sources: tuple[str, ...]

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        """Of one image's result, from the sources'. Raises `ValueError` if these do not fit."""
        raise NotImplementedError

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        """The least and greatest integer of every element that the sources' bounds allow, up to `MOST`."""
        raise NotImplementedError

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """int64 (n, *shape) from the sources' int64 (n, *their shapes)."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Linear(Node):
    """Sums over the last axis: (..., fan_in) to (..., units)."""

    kind = "linear"
    weight: Weight

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        if not shapes[0] or shapes[0][-1] != self.weight.fan_in:
            raise ValueError(f"sums {self.weight.fan_in} inputs, but gets {shapes[0]}")
        return (*shapes[0][:-1], self.weight.units)

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = (np.broadcast_to(end, shapes[0]) for end in bounds[0])
        return sum_bounds(self.weight.values, low, high, exact_product)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return exact_product(values[0], self.weight.values)


@dataclass(frozen=True, eq=False)
class Conv(Node):
    """A convolution of (channels, rows, columns); what lies outside adds nothing."""

    kind = "conv"
    weight: Weight
    window: Window
    groups: int = 1

    def __post_init__(self) -> None:
        units = self.weight.units
        if self.groups < 1 or units % self.groups:
            raise ValueError(f"{units} channels do not part into {self.groups} groups")

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        (channels, rows, columns) = three(shapes[0])
        taps = math.prod(self.window.kernel)
        if channels * taps != self.weight.fan_in * self.groups:
            raise ValueError(f"has kernels of {self.weight.fan_in} inputs in {self.groups} groups; gets {shapes[0]}")
        down, across = self.window.positions(rows, columns)
        check_size(channels * down * across * taps, math.prod(shapes[0]))
        return (self.weight.units, down, across)

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = bounds[0]
        if low.shape[1:] != (1, 1) or high.shape[1:] != (1, 1):
            low, high = (np.broadcast_to(end, shapes[0]) for end in bounds[0])
            return sum_bounds(self.weight.values, low, high, self.convolve)
        # All positions that lie alike to the border have the same sums: each kind of row and column is summed once.
        extents = shapes[0][1:]
        counts = self.window.positions(*extents)
        borders = [self._borders(*both, axis) for axis, both in enumerate(zip(extents, counts, strict=True))]
        kinds, (rows, columns) = zip(*borders, strict=True)
        inside = (kinds[0][:, None, :, None] & kinds[1][None, :, None, :]).astype(np.int64)

        def summed(ends: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
            views = np.broadcast_to(ends[0], (shapes[0][0], 1, 1))[..., None, None] * inside
            return self._summed(views[None], weight)

        low, high = sum_bounds(self.weight.values, low, high, summed)
        return low[:, rows[:, None], columns], high[:, rows[:, None], columns]

    def _borders(self, extent: int, count: int, axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Along one axis of `count` positions: their kinds, by which taps lie inside the image, and each one's kind."""
        fields = self.window.kernel, self.window.stride, self.window.padding, self.window.dilation
        kernel, stride, padding, dilation = (field[axis] for field in fields)
        taps = stride * np.arange(count)[:, None] - padding + dilation * np.arange(kernel)
        kinds, places = np.unique((taps >= 0) & (taps < extent), axis=0, return_inverse=True)
        return kinds, places.reshape(-1)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return self.convolve(values[0], self.weight.values)

    def convolve(self, x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """int64 (n, units, down, across) of x (n, channels, rows, columns) with integer weights (units, fan_in)."""
        kind = _exact_type(x, weight)
        return self._summed(self.window.views(x if kind is None else x.astype(kind)), weight)

    def _summed(self, views: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """Of what the window sees (n, channels, down, across, *kernel)."""
        n, channels, down, across, *kernel = views.shape
        seen = views.reshape(n, self.groups, channels // self.groups, down, across, *kernel)
        rows = seen.transpose(1, 0, 3, 4, 2, 5, 6).reshape(self.groups, n * down * across, -1)
        sums = exact_product(rows, weight.reshape(self.groups, -1, weight.shape[1]))
        return sums.reshape(self.groups, n, down, across, -1).transpose(1, 0, 4, 2, 3).reshape(n, -1, down, across)


@dataclass(frozen=True, eq=False)
class Threshold(Node):
    """`y = codes[k]`, k the number of limits that x reaches; limits and codes for each element, or shared."""

    kind = "threshold"
    limits: NDArray[Any]  # int64 (m, *shared shape), rising along the first axis
    codes: NDArray[Any]  # int64 (m + 1, *shared shape)

    def __post_init__(self) -> None:
        if self.limits.dtype != np.int64 or self.codes.dtype != np.int64:
            raise ValueError("limits and codes are int64")
        if self.codes.shape != (len(self.limits) + 1, *self.limits.shape[1:]):
            raise ValueError(f"{self.limits.shape} limits and {self.codes.shape} codes do not fit each other")
        if (self.limits[1:] < self.limits[:-1]).any():
            raise ValueError("limits fall")

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        check_shared(self.limits.shape[1:], shapes[0])
        return shapes[0]

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = bounds[0]
        reached = [(self.limits <= end).sum(axis=0) for end in (low, high)]
        places = np.arange(len(self.codes)).reshape(-1, *(1 for _ in shapes[0]))
        seen = (places >= reached[0]) & (places <= reached[1])
        least = np.where(seen, self.codes, np.iinfo(np.int64).max).min(axis=0)
        return least, np.where(seen, self.codes, np.iinfo(np.int64).min).max(axis=0)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        x = values[0]
        y = np.broadcast_to(self.codes[0], x.shape).copy()
        for limit, code in zip(self.limits, self.codes[1:], strict=True):
            np.copyto(y, np.broadcast_to(code, x.shape), where=x >= limit)
        return y


@dataclass(frozen=True, eq=False)
class Curve(Node):
    """`y = round(slope * (x - start) + intercept)` of the last piece that begins at or below x, in float64."""

    kind = "curve"
    start: NDArray[Any]  # int64 (pieces, *shared shape), rising; the first piece also holds below
    slope: NDArray[Any]  # float64, likewise
    intercept: NDArray[Any]  # float64, likewise

    def __post_init__(self) -> None:
        if self.start.dtype != np.int64 or self.slope.dtype != np.float64 or self.intercept.dtype != np.float64:
            raise ValueError("pieces start at int64 and have slopes and intercepts of float64")
        if not self.start.shape == self.slope.shape == self.intercept.shape or not len(self.start):
            raise ValueError("a curve's starts, slopes and intercepts have one shape, of at least one piece")
        if not (np.isfinite(self.slope).all() and np.isfinite(self.intercept).all()):
            raise ValueError("a curve has a slope or intercept that is not finite")
        if (self.start[1:] < self.start[:-1]).any():
            raise ValueError("a curve's pieces overlap")

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        check_shared(self.start.shape[1:], shapes[0])
        return shapes[0]

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        axes = tuple(i for i, extent in enumerate(self.start.shape[1:]) if extent == 1)
        low = np.broadcast_to(bounds[0][0].min(axis=axes, keepdims=True), self.start.shape[1:])
        high = np.broadcast_to(bounds[0][1].max(axis=axes, keepdims=True), self.start.shape[1:])
        begin, end = self.start.copy(), np.empty_like(self.start)
        begin[0], end[-1] = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        end[:-1] = self.start[1:]
        inside = (begin <= high) & (low < end)
        ends = [np.maximum(low, begin), np.minimum(high, np.maximum(end, low + 1) - 1)]
        values = [_line(x, self.start, self.slope, self.intercept) for x in ends]
        least = np.where(inside, np.minimum(*values), np.inf).min(axis=0)
        most = np.where(inside, np.maximum(*values), -np.inf).max(axis=0)
        if max(-float(np.min(least)), float(np.max(most))) > MOST:
            raise ValueError("has values past 62 bits")
        return least.astype(np.int64), most.astype(np.int64)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        x = values[0]
        y = _line(x, self.start[0], self.slope[0], self.intercept[0])
        if len(self.start) > _MANY:
            place = self._place(x)
            take = (
                np.take_along_axis(np.broadcast_to(part, (len(part), *x.shape[1:])), place, axis=0)
                for part in vars_of(self)
            )
            return _line(x, *take).astype(np.int64)
        for start, slope, intercept in zip(self.start[1:], self.slope[1:], self.intercept[1:], strict=True):
            y = np.where(x >= start, _line(x, start, slope, intercept), y)
        rounded: NDArray[Any] = y.astype(np.int64)
        return rounded

    def _place(self, x: NDArray[Any]) -> NDArray[Any]:
        """The piece of every x, by bisection."""
        if self.start.size == len(self.start):  # one curve for all
            return np.maximum(np.searchsorted(self.start.reshape(-1), x, side="right") - 1, 0)
        low = np.zeros(x.shape, np.int64)
        high = np.full(x.shape, len(self.start))
        starts = np.broadcast_to(self.start, (len(self.start), *x.shape[1:]))
        while (high - low > 1).any():
            middle = (low + high) // 2
            reached = np.take_along_axis(starts, middle, axis=0) <= x
            low, high = np.where(reached, middle, low), np.where(reached, high, middle)
        return low


_MANY = 32  # pieces from which bisection is faster than a pass for each


def vars_of(curve: Curve) -> tuple[NDArray[Any], ...]:
    """Starts, slopes and intercepts."""
    return curve.start, curve.slope, curve.intercept


def _line(x: NDArray[Any], start: Any, slope: Any, intercept: Any) -> NDArray[Any]:
    line: NDArray[Any] = np.rint(slope * (x - start).astype(np.float64) + intercept)
    return line


@dataclass(frozen=True, eq=False)
class Add(Node):
    """The sum of sources that broadcast to one shape."""

    kind = "add"

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return tuple(int(extent) for extent in np.broadcast_shapes(*shapes))

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = (sum(end.astype(object) for end in ends) for ends in zip(*bounds, strict=True))
        return _fitting(low), _fitting(high)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        total: NDArray[Any] = sum(_ranked(values)[1:], start=_ranked(values)[0])
        return total


@dataclass(frozen=True, eq=False)
class Multiply(Node):
    """`y = round(a * b / 2**shift)`, in float64, of two sources that broadcast to one shape."""

    kind = "multiply"
    shift: int

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or not 0 <= self.shift < 64:
            raise ValueError("multiplies two sources and shifts by 0 to 63 bits")
        return tuple(int(extent) for extent in np.broadcast_shapes(*shapes))

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        corners = [a.astype(np.float64) * b * 2.0**-self.shift for a in bounds[0] for b in bounds[1]]
        if max(float(np.abs(corner).max()) for corner in corners) > MOST:
            raise ValueError("has values past 62 bits")
        every = np.stack(np.broadcast_arrays(*corners))
        low, high = every.min(axis=0), every.max(axis=0)
        if self.sources[0] == self.sources[1]:
            low = np.maximum(low, 0.0)
        return np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        a, b = _ranked(values)
        product: NDArray[Any] = np.rint(a.astype(np.float64) * b.astype(np.float64) * 2.0**-self.shift).astype(np.int64)
        return product


@dataclass(frozen=True, eq=False)
class MatMul(Node):
    """`Y = A B`, matrix products of two sources (..., rows, n) and (..., n, columns)."""

    kind = "matmul"

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        if len(shapes) != 2 or min(map(len, shapes)) < 2:
            raise ValueError(f"multiplies matrices, but gets {', '.join(map(str, shapes))}")
        a, b = shapes
        if a[:-2] != b[:-2] or a[-1] != b[-2]:
            raise ValueError(f"multiplies matrices that do not fit: {a} and {b}")
        check_size(math.prod(a) * b[-1], math.prod(a) + math.prod(b))
        return (*a[:-1], b[-1])

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        (a, b), terms = ((int(low.min()), int(high.max())) for low, high in bounds), shapes[0][-1]
        corners = [terms * x * y for x in a for y in b]
        if max(map(abs, corners)) > MOST:
            raise ValueError(f"can sum to {max(map(abs, corners)):.3g}; sums of up to 62 bits fit")
        ones = (1,) * len(shapes[0])
        return np.full(ones, min(corners), np.int64), np.full(ones, max(corners), np.int64)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return exact_product(values[0], np.swapaxes(values[1], -1, -2))


@dataclass(frozen=True, eq=False)
class Concat(Node):
    """Sources one behind the other along their first axis."""

    kind = "concat"

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        if len({shape[1:] for shape in shapes}) != 1:
            raise ValueError(f"joins shapes that differ: {', '.join(map(str, shapes))}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        def joined(place: int) -> NDArray[Any]:
            whole = [np.broadcast_to(b[place], shape) for b, shape in zip(bounds, shapes, strict=True)]
            return np.concatenate(whole)

        return joined(0), joined(1)

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(values, axis=1)


@dataclass(frozen=True, eq=False)
class Gather(Node):
    """`y = x[index]` of the flat source, 0 if an index is -1; without an index, a new shape alone."""

    kind = "gather"
    out: Shape
    index: NDArray[Any] | None = None  # int64, of shape out

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        size = math.prod(shapes[0])
        check_size(math.prod(self.out), size)
        if self.index is None:
            if math.prod(self.out) != size:
                raise ValueError(f"makes {self.out} of {shapes[0]}")
        elif self.index.dtype != np.int64 or self.index.shape != self.out:
            raise ValueError(f"has an index of {self.index.dtype} {self.index.shape} for {self.out}")
        elif self.index.size and (self.index.min() < -1 or self.index.max() >= size):
            raise ValueError(f"reaches past the {size} values of its source")
        return self.out

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = (self((np.broadcast_to(end, shapes[0])[None],))[0] for end in bounds[0])
        return low, high

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        flat = values[0].reshape(len(values[0]), -1)
        if self.index is None:
            return flat.reshape(-1, *self.out)
        taken: NDArray[Any] = np.where(self.index < 0, 0, flat[:, self.index])
        return taken


@dataclass(frozen=True, eq=False)
class Pool(Node):
    """The greatest, the least, or the sum of a window of (channels, rows, columns); padding does not count."""

    kind = "pool"
    window: Window
    how: str  # "max" or "sum"

    def __post_init__(self) -> None:
        if self.how not in ("max", "sum"):
            raise ValueError(f"pools by {self.how!r}; expected 'max' or 'sum'")

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        channels, rows, columns = three(shapes[0])
        down, across = self.window.positions(rows, columns)
        check_size(channels * down * across * math.prod(self.window.kernel), math.prod(shapes[0]))
        if not self.window.views(np.ones((1, 1, rows, columns), bool)).any(axis=(4, 5)).all():
            raise ValueError("has windows that see nothing but padding")
        return channels, down, across

    def bounds(self, bounds: Sequence[Bounds], shapes: Sequence[Shape]) -> Bounds:
        low, high = (np.broadcast_to(end, shapes[0])[None] for end in bounds[0])
        if self.how == "max":
            return self((low,))[0], self((high,))[0]
        if max(_largest(low), _largest(high)) * math.prod(self.window.kernel) > MOST:
            raise ValueError("has sums past 62 bits")
        return self((low,))[0], self((high,))[0]

    def __call__(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        x = values[0]
        if self.how == "sum":
            total: NDArray[Any] = self.window.views(x).sum(axis=(4, 5))
            return total
        inside = self.window.views(np.ones((1, 1, *x.shape[2:]), bool))
        least = np.iinfo(np.int64).min
        greatest: NDArray[Any] = np.where(inside, self.window.views(x), least).max(axis=(4, 5))
        return greatest


KINDS: dict[str, type[Node]] = {
    kind.kind: kind for kind in (Linear, Conv, Threshold, Curve, Add, Multiply, MatMul, Concat, Gather, Pool)
}


def exact_product(x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """`x W^T`, int64 (..., units), of integers whose sums stay below 2**63.

    float32 sums of integers below 2**24 are exact in any order, those of float64 below 2**53; wider operands are split
    in two until theirs are.
    """
    kind = _exact_type(x, weight)
    if kind is not None:
        product = x.astype(kind, copy=False) @ np.swapaxes(weight.astype(kind, copy=False), -1, -2)
        whole: NDArray[Any] = product.astype(np.int64)
        return whole
    a, w = _largest(x), _largest(weight)
    wide = x if a >= w else weight
    half = max(a, w).bit_length() // 2
    high = wide.astype(np.int64) >> half
    low = wide - (high << half)
    parts = [exact_product(part, weight) if a >= w else exact_product(x, part) for part in (high, low)]
    joined: NDArray[Any] = (parts[0] << half) + parts[1]
    return joined


def _exact_type(x: NDArray[Any], weight: NDArray[Any]) -> type[np.floating[Any]] | None:
    """The narrowest float that holds every sum of products, and every part of one; None if none does."""
    most = max(1, _largest(x)) * max(1, _largest(weight)) * weight.shape[-1]
    return np.float32 if most < 2**24 else np.float64 if most < _EXACT else None


def sum_bounds(weight: NDArray[Any], low: NDArray[Any], high: NDArray[Any], product: Any) -> Bounds:
    """Bounds of sums of `weight` (units, fan_in) times elements in low .. high, by the node's own `product`.

    Raises `ValueError` if a sum could pass 62 bits.
    """
    most = float(np.abs(weight).astype(np.float64).sum(axis=1).max()) * max(_largest(low), _largest(high))
    if most > MOST:
        raise ValueError(f"can sum to {most:.3g}; sums of up to 62 bits fit")
    rise, fall = np.maximum(weight, 0).astype(np.int64), np.minimum(weight, 0).astype(np.int64)
    at_low, at_high = low[None].astype(np.int64), high[None].astype(np.int64)
    least = product(at_low, rise) + product(at_high, fall)
    return least[0], (product(at_high, rise) + product(at_low, fall))[0]


def three(shape: Shape) -> tuple[int, int, int]:
    """(channels, rows, columns). Raises `ValueError` for another shape."""
    if len(shape) != 3:
        raise ValueError(f"takes (channels, rows, columns), but gets {shape}")
    return shape[0], shape[1], shape[2]


def check_shared(shared: Shape, shape: Shape) -> None:
    """Raises `ValueError` unless `shared` broadcasts to `shape`, extent by extent."""
    if len(shared) != len(shape) or any(s not in (1, extent) for s, extent in zip(shared, shape, strict=True)):
        raise ValueError(f"has numbers of shape {shared} for values of shape {shape}")


def check_size(values: int, inputs: int) -> None:
    """Raises `ValueError` for a map out of all proportion, which a file of a few bytes could ask for."""
    if values > max(LARGEST_MAP * 8, 1000 * inputs):
        raise ValueError(f"makes {values:,} values of {inputs:,}")


def _ranked(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays (n, ...) with extents of 1 behind n, so that they have equally many."""
    rank = max(value.ndim for value in values)
    return [value.reshape(len(value), *(1,) * (rank - value.ndim), *value.shape[1:]) for value in values]


def _fitting(values: NDArray[Any]) -> NDArray[Any]:
    if np.abs(values).max() > MOST:
        raise ValueError("has sums past 62 bits")
    fitting: NDArray[Any] = np.asarray(values).astype(np.int64)
    return fitting


def _largest(values: NDArray[Any]) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
