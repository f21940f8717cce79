"""The on-line rule in fixed point, compiled: the same integers as `online_learning.reference.FixedLayer`.

A layer's hidden weights lie input by input, so both passes over an active input run along one row of memory, in the
vectors of the CPU. Inputs of 0 cost nothing. One thread: the kernels run inside Lava's forked actors, where numba's
threads would abort; the functions are compiled for fixed types when this module is imported, before any fork.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning import draws
from lava_meta.online_learning.compiled.neurons import CompiledNeurons
from lava_meta.online_learning.compiled.reach import WIDTH, reach, search, searches
from lava_meta.online_learning.reference import FixedLayer
from lava_meta.online_learning.settings import ERROR_LIMIT

_GOLDEN, _FIRST, _SECOND = np.uint32(draws.GOLDEN), np.uint32(draws.FIRST), np.uint32(draws.SECOND)
_S15, _S16, _SIGN = np.uint32(15), np.uint32(16), np.int32(31)
_SEARCHES, _SHARE, _END = searches(), 4, np.int64(2**32)  # from a quarter of all on, looking at each is faster


@njit("uint32(uint32)", cache=True)
def _mix(v: Any) -> Any:
    v = np.uint32(np.uint32(v ^ (v >> _S16)) * _FIRST)
    v = np.uint32(np.uint32(v ^ (v >> _S15)) * _SECOND)
    return np.uint32(v ^ (v >> _S16))


@njit(
    ["void(int16[:, ::1], int16[:, ::1], int32[:, ::1])", "void(float32[:, ::1], int16[:, ::1], int32[:, ::1])"],
    cache=True,
    nogil=True,
)
def sum_up(hidden: Any, x: Any, u: Any) -> None:
    """u[lane, k] = sum_j sign(hidden[j, k]) x[lane, j]."""
    units = hidden.shape[1]
    for lane in range(x.shape[0]):
        row_u = u[lane]
        row_u[:] = 0
        for j in range(x.shape[1]):
            value = np.int32(x[lane, j])
            if value == 0:
                continue
            row = hidden[j]
            for k in range(units):
                row_u[k] += value if row[k] >= 0 else -value


@njit("void(int16[:, ::1], int64[::1], int64, int32[::1])", cache=True, nogil=True)
def pass_down(hidden: Any, d: Any, shift: int, out: Any) -> None:
    """out[j] = clip((sum_k sign(hidden[j, k]) d[k]) >> shift)."""
    for j in range(hidden.shape[0]):
        row = hidden[j]
        total = np.int64(0)
        for k in range(hidden.shape[1]):
            total += d[k] if row[k] >= 0 else -d[k]
        out[j] = np.int32(min(np.int64(ERROR_LIMIT), max(np.int64(-ERROR_LIMIT), total >> shift)))


class Synapses(NamedTuple):
    """A layer's hidden weights, and what their steps need.

    gates: 256 f for |h| = 0 .. limit_levels; with `growing`, behind it the same of growing steps.
    """

    hidden: NDArray[Any]
    balance: NDArray[Any]
    gates: NDArray[Any]
    forgets: NDArray[Any]
    images: NDArray[Any]
    growing: bool
    forgetting: bool
    limit_levels: int
    seed: int
    step_bits: int
    level_bits: int


SYNAPSES = types.NamedTuple(
    [types.int16[:, ::1], *[types.int32[::1]] * 3, types.int64[::1], *[types.boolean] * 2, *[types.int64] * 4],
    Synapses,
)


@njit(types.void(SYNAPSES, types.int16[::1], types.int32[::1], types.uint32), cache=True, nogil=True)
def _step_all(synapses: Synapses, x: Any, amount: Any, key: Any) -> None:
    """The step of every synapse whose input is active: where many of them move."""
    hidden, balance, gates, forgets = synapses.hidden, synapses.balance, synapses.gates, synapses.forgets
    units = hidden.shape[1]
    behind = np.int32(gates.shape[0] // 2)
    top, low = np.int32(synapses.limit_levels), np.int32(-synapses.limit_levels)
    fraction = np.int32(synapses.step_bits)
    shift = np.uint32(32 - synapses.step_bits)
    scale = np.int32(synapses.level_bits)
    gate, back, moved = np.empty(units, np.int32), np.zeros(units, np.int32), np.empty(units, np.int32)
    column = np.empty(units, np.uint32)
    for k in range(units):
        column[k] = np.uint32(np.uint32(k) * _GOLDEN)
    last = np.int32(0)
    for j in range(x.shape[0]):
        value = np.int32(x[j])
        if value == 0:
            continue
        if value != last:
            for k in range(units):
                moved[k] = np.int32(np.int32(amount[k] * value) >> scale)
            last = value
        row = hidden[j]
        base = _mix(np.uint32(key + np.uint32(j)))
        # Three loops, since LLVM makes vectors of the first and the last but not of a look-up in a table. h and the
        # step differ in sign where the step shrinks |h|; elsewhere the place in the table is 0, and f(0) = 1.
        if synapses.growing:
            for k in range(units):
                h = np.int32(row[k])
                gate[k] = np.int32(abs(h) + np.int32(behind & ~np.int32(np.int32(h ^ moved[k]) >> _SIGN)))
        else:
            for k in range(units):
                h = np.int32(row[k])
                gate[k] = np.int32(abs(h) & np.int32(np.int32(h ^ moved[k]) >> _SIGN))
        for k in range(units):
            gate[k] = gates[np.uint32(gate[k])]
        if synapses.forgetting:
            for k in range(units):
                h = np.int32(row[k])
                back[k] = -forgets[np.uint32(h)] if h >= 0 else forgets[np.uint32(-h)]
        for k in range(units):
            h = np.int32(row[k])
            v = np.uint32(base + column[k])
            v = np.uint32(np.uint32(v ^ (v >> _S16)) * _FIRST)
            draw = np.int32(np.uint32(v ^ (v >> _S15)) >> shift)
            step = np.int32(np.int32(moved[k] * gate[k]) + back[k])
            new = np.int32(h + np.int32(np.int32(step + draw) >> fraction))
            new = top if new > top else new
            new = low if new < low else new
            balance[k] += np.int32(2) * np.int32(np.int32(new >> _SIGN) - np.int32(h >> _SIGN))
            row[k] = np.int16(new)


@njit(types.int64(SYNAPSES), cache=True, nogil=True)
def _rest(synapses: Synapses) -> Any:
    """Bound on what a synapse forgets, and on how far a product is rounded down, in 2**-32 levels."""
    forgets = np.int64(synapses.forgets[synapses.forgets.shape[0] - 1]) << (32 - synapses.step_bits)
    return forgets + (np.int64(1) << (40 - synapses.step_bits) if synapses.level_bits else np.int64(0))


@njit(
    types.void(SYNAPSES, types.int16[::1], types.int32, types.int32[::1], types.uint32, types.int32[::1], types.int64),
    cache=True,
    nogil=True,
)
def _step_found(synapses: Synapses, row: Any, value: Any, amount: Any, base: Any, found: Any, count: int) -> None:
    """The step of the first `count` units of `found`, in one row."""
    balance, gates, forgets = synapses.balance, synapses.gates, synapses.forgets
    behind = np.int32(gates.shape[0] // 2)
    top = np.int32(synapses.limit_levels)
    fraction, scale = np.int32(synapses.step_bits), np.int32(synapses.level_bits)
    shift = np.uint32(32 - synapses.step_bits)
    for i in range(count):
        k = found[i]
        h = np.int32(row[k])
        moved = np.int32(np.int32(amount[k] * value) >> scale)
        size, same = abs(h), np.int32(~(np.int32(h ^ moved) >> _SIGN))
        gate = gates[np.uint32(size + (behind & same) if synapses.growing else size & ~same)]
        step = np.int32(moved * gate)
        if synapses.forgetting:
            step -= forgets[np.uint32(size)] if h >= 0 else -forgets[np.uint32(size)]
        v = np.uint32(base + np.uint32(np.uint32(k) * _GOLDEN))
        v = np.uint32(np.uint32(v ^ (v >> _S16)) * _FIRST)
        draw = np.int32(np.uint32(v ^ (v >> _S15)) >> shift)
        new = np.int32(h + np.int32(np.int32(step + draw) >> fraction))
        new = min(top, max(np.int32(-top), new))
        balance[k] += np.int32(2) * np.int32(np.int32(new >> _SIGN) - np.int32(h >> _SIGN))
        row[k] = np.int16(new)


@njit(types.void(SYNAPSES, types.int16[::1], types.int32[::1]), cache=True, nogil=True)
def update(synapses: Synapses, x: Any, amount: Any) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow."""
    units = synapses.hidden.shape[1]
    key = _mix(np.uint32(np.uint32(synapses.seed) ^ _mix(np.uint32(synapses.images[0]))))
    largest = np.int64(0)
    for j in range(x.shape[0]):
        largest = max(largest, abs(np.int64(x[j])))
    room = -(-units // WIDTH) * WIDTH
    slope, always, up = np.empty(room, np.uint32), np.empty(room, np.uint32), np.empty(room, np.uint32)
    rest = _rest(synapses)
    expected = reach(amount, largest, synapses.level_bits, synapses.step_bits, rest, slope, always, up)
    if not _SEARCHES or expected > _END // _SHARE * units:
        _step_all(synapses, x, amount, key)
        return
    if expected == 0:
        return
    found = np.empty(room, np.int32)
    for j in range(x.shape[0]):
        value = np.int32(x[j])
        if value == 0:
            continue
        base = _mix(np.uint32(key + np.uint32(j)))
        count = search(base, value, np.uint32(rest), units, slope, always, up, found)
        _step_found(synapses, synapses.hidden[j], value, amount, base, found, count)


class CompiledLayer(FixedLayer):
    """A `FixedLayer` whose two passes are compiled."""

    form = CompiledNeurons
    neurons: CompiledNeurons

    def refresh(self) -> None:
        super().refresh()
        grows = self.settings.rule.grow is not None
        self.synapses = Synapses(
            self.hidden,
            self.balance,
            np.concatenate([self._gates, self._growing]) if grows else self._gates,
            self._forgets,
            self.images,
            grows,
            self.settings.rule.memory is not None,
            self.settings.limit_levels,
            self.settings.seed,
            self.settings.step_bits,
            self.settings.level_bits,
        )

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        return super().forward(np.ascontiguousarray(x, np.int16))

    def _sums(self, x: NDArray[Any]) -> NDArray[Any]:
        return sums(self.hidden, x)

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        down = np.empty((len(d), self.settings.n_in), np.int32)
        for lane in range(len(d)):
            pass_down(self.hidden, d[lane], self.settings.backward_shift, down[lane])
        return down

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        update(self.synapses, x, amount)


def sums(hidden: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """int32 (lanes, units): sum_j sign(hidden[j, k]) x[lane, j] of inputs int16 (lanes, n_in)."""
    u = np.empty((len(x), hidden.shape[1]), np.int32)
    sum_up(hidden, x, u)
    return u
