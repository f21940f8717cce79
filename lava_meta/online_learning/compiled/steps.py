"""The steps of a layer's synapses in fixed point, compiled.

Few synapses move at an image, and `reach` finds those that can before their hidden weights are read. If many can, as
with 16 bits or a large learning rate, every synapse of the active inputs is looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning import draws
from lava_meta.online_learning.compiled.reach import LEVEL, WIDTH, reach, search
from lava_meta.online_learning.compiled.signs import active, has_masks

_GOLDEN, _FIRST, _SECOND = np.uint32(draws.GOLDEN), np.uint32(draws.FIRST), np.uint32(draws.SECOND)
_S15, _S16, _SIGN = np.uint32(15), np.uint32(16), np.int32(31)
_MASKS = has_masks()
_MANY = LEVEL * 3 // 4  # from three quarters of all on, looking at each is faster
_TOGETHER = 1024  # synapses found are stepped from so many on


@njit("uint32(uint32)", cache=True)
def mix(v: Any) -> Any:
    """As `draws.mix`, of one word."""
    v = np.uint32(np.uint32(v ^ (v >> _S16)) * _FIRST)
    v = np.uint32(np.uint32(v ^ (v >> _S15)) * _SECOND)
    return np.uint32(v ^ (v >> _S16))


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
        base = mix(np.uint32(key + np.uint32(j)))
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
    types.void(SYNAPSES, types.int16[::1], types.int32[::1], types.int32[:, ::1], types.int64), cache=True, nogil=True
)
def _step_found(synapses: Synapses, x: Any, amount: Any, found: Any, count: int) -> None:
    """The step of the first `count` synapses of `found`."""
    hidden, balance, gates, forgets = synapses.hidden, synapses.balance, synapses.gates, synapses.forgets
    behind = np.int32(gates.shape[0] // 2)
    top = np.int32(synapses.limit_levels)
    fraction, scale = np.int32(synapses.step_bits), np.int32(synapses.level_bits)
    shift = np.uint32(32 - synapses.step_bits)
    for i in range(count):
        k, j = np.uint32(found[0, i]), np.uint32(found[1, i])
        if k >= hidden.shape[1]:
            continue
        h = np.int32(hidden[j, k])
        moved = np.int32(np.int32(amount[k] * x[j]) >> scale)
        size, same = abs(h), np.int32(~(np.int32(h ^ moved) >> _SIGN))
        gate = gates[np.uint32(size + (behind & same) if synapses.growing else size & ~same)]
        step = np.int32(moved * gate)
        if synapses.forgetting:
            step -= forgets[np.uint32(size)] if h >= 0 else -forgets[np.uint32(size)]
        draw = np.int32(np.uint32(found[2, i]) >> shift)
        new = np.int32(h + np.int32(np.int32(step + draw) >> fraction))
        new = min(top, max(np.int32(-top), new))
        balance[k] += np.int32(2) * np.int32(np.int32(new >> _SIGN) - np.int32(h >> _SIGN))
        hidden[j, k] = np.int16(new)


@njit(types.void(SYNAPSES, types.int16[::1], types.int32[::1]), cache=True, nogil=True)
def update(synapses: Synapses, x: Any, amount: Any) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow."""
    units = synapses.hidden.shape[1]
    key = mix(np.uint32(np.uint32(synapses.seed) ^ mix(np.uint32(synapses.images[0]))))
    rows = np.empty(x.shape[0], np.int32)
    count, largest = active(x, rows), np.int64(0)
    for i in range(count):
        largest = max(largest, abs(np.int64(x[rows[i]])))
    room = -(-units // WIDTH) * WIDTH
    slope, always, up = np.zeros(room, np.uint32), np.zeros(room, np.uint32), np.zeros(room, np.uint32)
    rest = _rest(synapses)
    expected = reach(amount, largest, synapses.level_bits, synapses.step_bits, rest, slope, always, up)
    if not _MASKS or expected > _MANY * units:
        _step_all(synapses, x, amount, key)
        return
    if expected == 0:
        return
    found, many = np.empty((3, _TOGETHER + room + WIDTH), np.int32), np.int64(0)
    for j in rows[:count]:
        base = mix(np.uint32(key + np.uint32(j)))
        many = search(base, j, np.int32(x[j]), np.uint32(rest), slope, always, up, found, many)
        if many > _TOGETHER:
            _step_found(synapses, x, amount, found, many)
            many = np.int64(0)
    _step_found(synapses, x, amount, found, many)
