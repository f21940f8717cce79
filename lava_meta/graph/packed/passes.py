"""What values pass on their way between layers, in one loop: curves, an addition, a threshold, a curve of the sum.

    y = curve(x) + curve(base)        signs = y >= limit        out = curve(y)

Each part may be absent. These are the integers of one node after the other (`lava_meta.graph.nodes`), operation by
operation: nothing is fused that would round otherwise, but what lies in between never goes to memory.

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
from lava_meta.graph.packed.casts import MOST_SMALL, NATIVE, to_doubles, to_longs
from lava_meta.graph.packed.held import shared
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
# compiles every number of them by itself. None is no curve.
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
        self.small = max(farthest, abs(layer.low), abs(layer.high)) <= MOST_SMALL
        pieces = len(node.start)
        few = (None,) * (pieces - 1) if pieces <= _FEW else ()
        rest = *line, len(start) // pieces, pieces, *few
        self.curve: _Curve = kinds, start, *rest
        fits = farthest < _MOST_INT
        self._narrow: _Curve | None = (kinds, np.minimum(start, _MOST_INT).astype(np.int32), *rest) if fits else None

    def taken(self, x: NDArray[Any]) -> tuple[NDArray[Any], _Curve]:
        """Integers of 16, 32 or 64 bits, and the curve whose starts they meet."""
        if x.dtype in _NARROW and self._narrow is not None:
            return x, self._narrow
        return x.astype(np.int64, copy=False), self.curve


class Fired:
    """A threshold of two codes behind a pass, as limits and the bits of the signs that change to +1 below them."""

    def __init__(
        self, limits: NDArray[Any], below: NDArray[Any], above: NDArray[Any], channels: slice = slice(None)
    ) -> None:
        """int64 limits (1 or places, channels); bools of what lies below the limit, and of what reaches it."""
        limits, below, above = np.broadcast_arrays(*(part[:, channels] for part in (limits, below, above)))
        limits = np.where(below == above, np.where(below, -_NEVER, _NEVER), limits)
        kinds, (limits, turned) = by_kind(limits, below & ~above)
        self.table = kinds, limits.reshape(-1), np.packbits(turned, axis=1, bitorder="little")


class Pass:
    """A curve or an addition, and what is behind it."""

    def __init__(self, lines: Sequence[Line | None], after: Line | None = None, fired: Fired | None = None) -> None:
        """`lines`: the curves of the terms."""
        self.terms = len(lines)
        self._before = Pass(lines[:-1]) if len(lines) > 2 else None
        self._lines = (lines[-1], None) if self._before else lines
        self._after = None if after is None else after.curve
        self._firing = None if fired is None else fired.table
        small = NATIVE or all(line.small for line in (*lines, after) if line is not None)
        self._wide = None if small else True

    def into(
        self,
        out: NDArray[Any] | None,
        terms: Sequence[NDArray[Any]],
        signs: NDArray[Any] | None = None,
        first: int = 0,
    ) -> None:
        """Write to the channels of `out`, and set those of `signs`, from `first` on.

        terms, out: integers (lanes, rows, columns, channels), those of `out` int32 or int64. signs: uint64 (lanes,
        rows, columns, words), 0 before; `first` is a multiple of eight then.
        """
        if self._before is not None:
            sums = np.empty(terms[0].shape, np.int64)
            self._before.into(sums, terms[:-1])
            terms = terms[-1], sums
        (x, curve), *more = (_taken(x, line) for x, line in zip(terms, self._lines, strict=True))
        base, base_curve = more[0] if more else (None, None)
        kept = None if out is None else in_places(out)
        packed = None if signs is None else signs.view(np.uint8).reshape(-1, 8 * signs.shape[3])
        follow(x, curve, base, base_curve, self._firing, self._after, self._wide, kept, packed, first)


def _taken(x: NDArray[Any], line: Line | None) -> tuple[NDArray[Any], _Curve | None]:
    if line is not None:
        taken, curve = line.taken(x)
        return in_places(taken), curve
    return in_places(x if x.dtype in (*_NARROW, np.int64) else x.astype(np.int32)), None


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
    wide: Any,
) -> Any:
    """The eight values from x[i], and base[i], on: to out[to] on, and their byte to signs[spot].

    curve, base_curve, after: what belongs to these values begins at j. firing: their limits begin at `limit`, and the
    byte of those that turn is at `code`. wide: as for `follow`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = dict(zip(_GIVEN, args, strict=True))
        small = isinstance(wide, types.NoneType)

        def data(kind: Any, array: Any) -> Any:
            assert kind.layout == "C", "what lies otherwise would be read wrongly"
            return context.make_array(kind)(context, builder, array).data

        def load(array: Any, at: Any) -> Any:
            return builder.load(pointer(builder, array, at, _eight(array.type.pointee)), align=1)

        def widened(value: Any, kind: Any) -> Any:
            return value if value.type == kind else builder.sext(value, kind)

        def bent(value: Any, kind: Any, curve: Any, at: Any) -> Any:
            """A vector through a curve, as int64."""
            if isinstance(kind, types.NoneType):
                return widened(value, _LONGS)
            parts = cgutils.unpack_tuple(builder, curve, len(kind))
            tables = [data(*pair) for pair in zip(kind[1:4], parts[1:4], strict=True)]
            chosen = [load(table, at) for table in tables]
            value = widened(value, chosen[0].type)
            for _ in parts[6:]:
                at = builder.add(at, parts[4])
                piece = [load(table, at) for table in tables]
                reached = builder.icmp_signed(">=", value, piece[0])
                chosen = [builder.select(reached, *pair) for pair in zip(piece, chosen, strict=True)]
            start, slope, intercept = chosen
            distance = builder.sub(value, start)
            long = distance.type == _LONGS
            far = to_doubles(builder, distance, small=small) if long else builder.sitofp(distance, _DOUBLES)
            return to_longs(builder, builder.fadd(builder.fmul(slope, far), intercept), small=small)

        total = bent(load(data(x, given["x"]), given["i"]), curve, given["curve"], given["j"])
        if not isinstance(base, types.NoneType):
            value = load(data(base, given["base"]), given["i"])
            total = builder.add(total, bent(value, base_curve, given["base_curve"], given["base_j"]))
        if not isinstance(out, types.NoneType):
            made, place = bent(total, after, given["after"], given["after_j"]), data(out, given["out"])
            kind = _eight(place.type.pointee)
            made = made if kind == _LONGS else builder.trunc(made, kind)
            builder.store(made, pointer(builder, place, given["to"], kind), align=1)
        if not isinstance(firing, types.NoneType):
            parts = cgutils.unpack_tuple(builder, given["firing"], len(firing))
            limits, turned = (data(*pair) for pair in zip(firing[1:3], parts[1:], strict=True))
            reached = builder.bitcast(builder.icmp_signed(">=", total, load(limits, given["limit"])), _BYTE)
            byte = builder.xor(reached, builder.load(builder.gep(turned, [given["code"]])))
            builder.store(byte, builder.gep(data(signs, given["signs"]), [given["spot"]]))
        return context.get_dummy_value()

    index = types.intp
    terms = x, index, curve, index, base, base_curve, index
    return types.void(*terms, firing, index, index, signs, index, after, index, out, index, wide), codegen


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
def follow(x, curve, base, base_curve, firing, after, wide, out, signs, first):  # type: ignore[no-untyped-def]
    """One pass (`Pass`), of what is not None.

    x, base: int16, int32 or int64 (lanes, places, channels). curve, base_curve, after: with starts of the type they
    take, or of 32 bits. firing: kinds, int64 limits (kinds * channels,), uint8 bits of the units that turn (kinds,
    bytes). wide: None if no integer on the way through a curve passes `casts.MOST_SMALL`. out: int32 or int64 (lanes,
    places, first + channels or more). signs: uint8 (lanes * places, bytes).
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
                    after, after_j * channels + c, out, to + c, wide,
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
