"""What values pass on their way between layers, in one loop: curves, an addition, a threshold, a curve of the sum.

    y = curve(x) + curve(base)        signs = y >= limit        out = curve(y)

Each part may be absent. These are the integers of one node after the other (`lava_meta.graph.nodes`), operation by
operation: nothing is fused that would round otherwise, but what lies in between never goes to memory. Where no integer
on the way passes 2^53 it is a float64, of which curves need no conversion.

Values lie as (lanes, places, channels), channels last. What belongs to a place lies in tables with a row for each kind
of place, (..., kinds, channels): an image's borders differ from its inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from lava_meta.graph.acyclic import Placed
from lava_meta.graph.nodes import Curve
from lava_meta.graph.packed.casts import rounded, to_doubles, to_longs
from lava_meta.graph.packed.held import MOST_REAL, shared
from lava_meta.graph.packed.loops import pointer
from lava_meta.graph.packed.sums import by_kind
from lava_meta.jit import njit

EIGHT = 8  # values that a vector takes, and whose signs are a byte
_FEW = 4  # pieces of a curve that are looked at one after the other
_MOST_INT = int(np.iinfo(np.int32).max)
_NEVER = int(np.iinfo(np.int64).max)  # where a piece begins that no integer reaches
_BYTE = ir.IntType(8)
_LONGS = ir.VectorType(ir.IntType(64), EIGHT)
_DOUBLES = ir.VectorType(ir.DoubleType(), EIGHT)

# A curve as the loop has it: kinds of places, of one element for all; starts, slopes and intercepts (pieces * kinds *
# channels,), the elements from piece to piece, and the pieces; if these are few, None for each but the first, as Numba
# compiles every number of them by itself; True for a last one that gives back what it takes. None is no curve.
_Curve = tuple[Any, ...]
_NARROW = (np.int16, np.int32)


class Line:
    """A curve of the values of a pass."""

    def __init__(self, layer: Placed, source: tuple[int, int], channels: slice = slice(None)) -> None:
        """`source`: the least and greatest integer that it takes. `channels`: those that it serves."""
        node = layer.node
        assert isinstance(node, Curve)
        parts = [shared(part, layer.output_shape)[..., channels] for part in (node.start, node.slope, node.intercept)]
        kinds, tables = by_kind(*map(np.ascontiguousarray, parts))
        start, *line = (table.transpose(1, 0, 2).flatten() for table in tables)
        reached = start[start < _NEVER]
        farthest = max(map(abs, source)) + max(-int(reached.min(initial=0)), int(reached.max(initial=0)))
        self.most = max(farthest, abs(layer.low), abs(layer.high))  # that is met on the way
        pieces = len(node.start)
        few: list[bool | None] = [None] * (pieces - 1) if pieces <= _FEW else []
        begins, slopes, intercepts = (table[len(table) // pieces * (pieces - 1) :] for table in (start, *line))
        if few and self.most <= MOST_REAL and (slopes == 1).all() and (intercepts == begins).all():
            few[-1] = True
        rest = *line, len(start) // pieces, pieces, *few
        self.long: _Curve = kinds, start, *rest
        self.real: _Curve = kinds, start.astype(np.float64), *rest
        fits = farthest < _MOST_INT
        self.narrow: _Curve | None = (kinds, np.minimum(start, _MOST_INT).astype(np.int32), *rest) if fits else None


class Fired:
    """A threshold of two codes behind a pass, as limits and the bits of the signs that change to +1 below them."""

    def __init__(
        self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any], channels: slice = slice(None)
    ) -> None:
        """int64 limits (1 or places, channels); bools of what lies below the limit, and of what reaches it."""
        limits, below, above = np.broadcast_arrays(*(part[:, channels] for part in (limits, below, above)))
        limits = np.where(below == above, np.where(below, -_NEVER, _NEVER), limits)
        kinds, (limits, turned) = by_kind(limits, below & ~above)
        turns = np.packbits(turned, axis=1, bitorder="little")
        self.long = kinds, limits.reshape(-1), turns
        self.real = kinds, limits.reshape(-1).astype(np.float64), turns  # those past 2^53 stay there


class Pass:
    """A curve or an addition, and what is behind it."""

    def __init__(
        self, lines: Sequence[Line | None], most: int, after: Line | None = None, fired: Fired | None = None
    ) -> None:
        """`lines`: the curves of the terms. `most`: what these then are at most, all together."""
        self.terms = len(lines)
        self._before = Pass(lines[:-1], most) if len(lines) > 2 else None
        self._lines = (lines[-1], None) if self._before else lines
        bent = max((line.most for line in (*lines, after) if line is not None), default=0)
        self._real = max(most, bent) <= MOST_REAL
        self._after, self._firing = self._table(after), self._table(fired)

    def _table(self, part: Line | Fired | None) -> tuple[Any, ...] | None:
        """What belongs to a part, of the type of what is added."""
        return None if part is None else part.real if self._real else part.long

    def into(
        self,
        out: NDArray[Any] | None,
        terms: Sequence[NDArray[Any]],
        signs: NDArray[Any] | None = None,
        first: int = 0,
    ) -> None:
        """Write to the channels of `out`, and set those of `signs`, from `first` on.

        terms, out: (lanes, rows, columns, channels), `out` of int32, int64 or float64. signs: uint64 (lanes, rows,
        columns, words), 0 before; `first` is a multiple of eight then.
        """
        if self._before is not None:
            sums = np.empty(terms[0].shape, np.float64 if self._real else np.int64)
            self._before.into(sums, terms[:-1])
            terms = terms[-1], sums
        (x, curve), *more = (self._taken(x, line) for x, line in zip(terms, self._lines, strict=True))
        base, base_curve = more[0] if more else (None, None)
        zero = 0.0 if self._real else 0
        kept = None if out is None else in_places(out)
        packed = None if signs is None else signs.view(np.uint8).reshape(-1, 8 * signs.shape[3])
        follow(x, curve, base, base_curve, self._firing, self._after, zero, kept, packed, first)

    def _taken(self, x: NDArray[Any], line: Line | None) -> tuple[NDArray[Any], _Curve | None]:
        """A term, of a type that the loop knows, and the curve whose starts it meets."""
        if x.itemsize == 1:
            x = x.astype(np.int32)
        elif x.dtype == np.float64 and not self._real:
            x = x.astype(np.int64)
        narrow = line.narrow if line is not None and x.dtype in _NARROW else None
        return in_places(x), narrow or self._table(line)


def in_places(array: NDArray[Any]) -> NDArray[Any]:
    """(lanes, places, channels)."""
    return array.reshape(len(array), -1, array.shape[3])


# The pass of eight values.


def _passed(
    typing_context: Any,
    x: Any,
    i: Any,
    curve: Any,
    j: Any,
    base: Any,
    base_curve: Any,
    base_j: Any,
    firing: Any,
    limit: Any,
    code: Any,
    signs: Any,
    spot: Any,
    after: Any,
    after_j: Any,
    out: Any,
    to: Any,
    zero: Any,
) -> Any:
    """The eight values from x[i], and base[i], on: to out[to] on, and their byte to signs[spot].

    curve, base_curve, after: what belongs to these values begins at j. firing: their limits begin at `limit`, and the
    byte of those that turn is at `code`. zero: as for `follow`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = dict(zip(_GIVEN, args, strict=True))
        real = isinstance(zero, types.Float)
        sums = _DOUBLES if real else _LONGS

        def data(kind: Any, array: Any) -> Any:
            assert kind.layout == "C", "what lies otherwise would be read wrongly"
            return context.make_array(kind)(context, builder, array).data

        def load(array: Any, at: Any) -> Any:
            return builder.load(pointer(builder, array, at, _eight(array.type.pointee)), align=1)

        def moved(value: Any, to: Any) -> Any:
            """A vector of whole numbers as one of another type that holds them."""
            if value.type == to:
                return value
            if value.type == _DOUBLES:
                return to_longs(builder, value) if to == _LONGS else builder.fptosi(value, to)
            if to == _DOUBLES:
                return to_doubles(builder, value) if value.type == _LONGS else builder.sitofp(value, to)
            return builder.trunc(value, to) if value.type == _LONGS else builder.sext(value, to)

        def reaches(value: Any, limit: Any) -> Any:
            compared = builder.fcmp_ordered if value.type == _DOUBLES else builder.icmp_signed
            return compared(">=", value, limit)

        def bent(value: Any, kind: Any, curve: Any, at: Any) -> Any:
            """A vector through a curve, as what is added."""
            if isinstance(kind, types.NoneType):
                return moved(value, sums)
            parts = cgutils.unpack_tuple(builder, curve, len(kind))
            tables = [data(*pair) for pair in zip(kind[1:4], parts[1:4], strict=True)]
            chosen = [load(table, at) for table in tables]
            value = moved(value, chosen[0].type)
            back = None
            for returns in kind[6:]:
                at = builder.add(at, parts[4])
                if isinstance(returns, types.Boolean):
                    back = reaches(value, load(tables[0], at))
                    break
                piece = [load(table, at) for table in tables]
                reached = reaches(value, piece[0])
                chosen = [builder.select(reached, *pair) for pair in zip(piece, chosen, strict=True)]
            start, slope, intercept = chosen
            distance = builder.fsub(value, start) if start.type == _DOUBLES else builder.sub(value, start)
            far = moved(distance, _DOUBLES)
            made = builder.fadd(builder.fmul(slope, far), intercept)
            made = rounded(builder, made) if real else to_longs(builder, made)
            return made if back is None else builder.select(back, moved(value, sums), made)

        total = bent(load(data(x, given["x"]), given["i"]), curve, given["curve"], given["j"])
        if not isinstance(base, types.NoneType):
            value = load(data(base, given["base"]), given["i"])
            more = bent(value, base_curve, given["base_curve"], given["base_j"])
            total = builder.fadd(total, more) if real else builder.add(total, more)
        if not isinstance(out, types.NoneType):
            made, place = bent(total, after, given["after"], given["after_j"]), data(out, given["out"])
            kind = _eight(place.type.pointee)
            made = moved(made, kind)
            builder.store(made, pointer(builder, place, given["to"], kind), align=1)
        if not isinstance(firing, types.NoneType):
            parts = cgutils.unpack_tuple(builder, given["firing"], len(firing))
            limits, turned = (data(*pair) for pair in zip(firing[1:3], parts[1:], strict=True))
            reached = builder.bitcast(reaches(total, load(limits, given["limit"])), _BYTE)
            byte = builder.xor(reached, builder.load(builder.gep(turned, [given["code"]])))
            builder.store(byte, builder.gep(data(signs, given["signs"]), [given["spot"]]))
        return context.get_dummy_value()

    index = types.intp
    terms = x, index, curve, index, base, base_curve, index
    return types.void(*terms, firing, index, index, signs, index, after, index, out, index, zero), codegen


_GIVEN = [*inspect.signature(_passed).parameters][1:]


def _eight(element: Any) -> Any:
    return ir.VectorType(element, EIGHT)


_pass: Any = intrinsic(_passed)


@njit(cache=True)
def _bent(value, curve, j):  # type: ignore[no-untyped-def]
    """One value through its curve: `round(slope * (x - start) + intercept)` of its piece."""
    if curve is None:
        return np.int64(value)
    low, high, stride = 0, curve[5], curve[4]
    while high - low > 1:
        middle = (low + high) // 2
        if curve[1][j + middle * stride] <= value:
            low = middle
        else:
            high = middle
    row = j + low * stride
    return np.int64(np.rint(curve[2][row] * np.float64(np.int64(value) - curve[1][row]) + curve[3][row]))


@njit(cache=True)
def _pieces(curve):  # type: ignore[no-untyped-def]
    if curve is None:
        return 0
    return curve[5]


@njit(cache=True)
def _row(table, place):  # type: ignore[no-untyped-def]
    """Which row of a curve, or of a threshold, is that of a place."""
    if table is None:
        return np.int64(0)
    return np.int64(table[0][min(place, table[0].size - 1)])


@njit(cache=True)
def follow(x, curve, base, base_curve, firing, after, zero, out, signs, first):  # type: ignore[no-untyped-def]
    """One pass (`Pass`), of what is not None.

    x, base: int16, int32, int64 or float64 (lanes, places, channels). zero: of the type of what is added, int64 or
    float64. curve, base_curve, after: with starts of that type, or of 32 bits if they take 16 or 32. firing: kinds,
    limits of the type of `zero` (kinds * channels,), uint8 bits of the units that turn (kinds, bytes). out: int32,
    int64 or float64 (lanes, places, first + channels or more). signs: uint8 (lanes * places, bytes).
    """
    lanes, places, channels = x.shape
    few = max(_pieces(curve), _pieces(base_curve), _pieces(after)) <= _FEW
    whole = channels // EIGHT * EIGHT if few else 0
    for lane in range(lanes):
        for place in range(places):
            n = lane * places + place
            j, base_j, after_j = _row(curve, place), _row(base_curve, place), _row(after, place)
            row, codes, spot, to = _row(firing, place), 0, first // EIGHT, first
            if firing is not None:
                codes, spot = firing[2].shape[1], spot + n * signs.shape[1]
            if out is not None:
                to += n * out.shape[2]
            for c in range(0, whole, EIGHT):
                _pass(
                    x, n * channels + c, curve, j * channels + c, base, base_curve, base_j * channels + c,
                    firing, row * channels + c, row * codes + c // EIGHT, signs, spot + c // EIGHT,
                    after, after_j * channels + c, out, to + c, zero,
                )  # fmt: skip
            for c in range(whole, channels):
                value = _bent(x[lane, place, c], curve, j * channels + c)
                if base is not None:
                    value += _bent(base[lane, place, c], base_curve, base_j * channels + c)
                if firing is not None:
                    bit = np.uint8(c % EIGHT)
                    turned = firing[2][row, c // EIGHT] >> bit & np.uint8(1)
                    reached = np.uint8(value >= firing[1][row * channels + c])
                    signs[n, (first + c) // EIGHT] |= (reached ^ turned) << bit
                if out is not None:
                    out[lane, place, first + c] = _bent(value, after, after_j * channels + c)
