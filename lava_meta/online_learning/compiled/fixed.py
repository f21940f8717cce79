"""The on-line rule in fixed point, compiled: the same integers as `online_learning.reference.FixedLayer`.

A layer's hidden weights lie input by input, so both passes over an active input run along one row of memory, in the
vectors of the CPU. Inputs of 0 cost nothing. One thread: the kernels run inside Lava's forked actors, where numba's
threads would abort; the functions are compiled for fixed types when this module is imported, before any fork.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning import draws
from lava_meta.online_learning.neurons import FixedNeurons
from lava_meta.online_learning.reference import FixedLayer
from lava_meta.online_learning.settings import (
    AMOUNT_LIMIT,
    CENTRE_SHIFT,
    ERROR_LIMIT,
    NEURON_BITS,
    SCALE_SHIFT,
)

_GOLDEN, _FIRST, _SECOND = np.uint32(draws.GOLDEN), np.uint32(draws.FIRST), np.uint32(draws.SECOND)
_S15, _S16, _SIGN = np.uint32(15), np.uint32(16), np.int32(31)


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
def _sums(hidden: Any, x: Any, u: Any) -> None:
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
def _down(hidden: Any, d: Any, shift: int, out: Any) -> None:
    """out[j] = clip((sum_k sign(hidden[j, k]) d[k]) >> shift)."""
    for j in range(hidden.shape[0]):
        row = hidden[j]
        total = np.int64(0)
        for k in range(hidden.shape[1]):
            total += d[k] if row[k] >= 0 else -d[k]
        out[j] = np.int32(min(np.int64(ERROR_LIMIT), max(np.int64(-ERROR_LIMIT), total >> shift)))


@njit(
    "void(int16[:, ::1], int32[::1], int16[::1], int32[::1], int32[::1], boolean, int32[::1], boolean, int64, int64, "
    "int64, int64, int64)",
    cache=True,
    nogil=True,
)
def _update(
    hidden: Any,
    balance: Any,
    x: Any,
    amount: Any,
    gates: Any,
    growing: bool,
    forgets: Any,
    forgetting: bool,
    limit: int,
    seed: int,
    image: int,
    bits: int,
    level_bits: int,
) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow.

    gates: 256 f for |h| = 0 .. limit; with `growing`, behind it the same of growing steps.
    """
    units = hidden.shape[1]
    behind = np.int32(gates.shape[0] // 2)
    top, low = np.int32(limit), np.int32(-limit)
    fraction = np.int32(bits)
    shift = np.uint32(32 - bits)
    key = _mix(np.uint32(np.uint32(seed) ^ _mix(np.uint32(image))))
    scale = np.int32(level_bits)
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
        if growing:
            for k in range(units):
                h = np.int32(row[k])
                gate[k] = np.int32(abs(h) + np.int32(behind & ~np.int32(np.int32(h ^ moved[k]) >> _SIGN)))
        else:
            for k in range(units):
                h = np.int32(row[k])
                gate[k] = np.int32(abs(h) & np.int32(np.int32(h ^ moved[k]) >> _SIGN))
        for k in range(units):
            gate[k] = gates[np.uint32(gate[k])]
        if forgetting:
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


@njit(
    "void(int32[::1], int32[::1], int64[::1], int64[::1], int32[::1], int32[::1], int64, int64, "
    "boolean, boolean, boolean)",
    cache=True,
    nogil=True,
)
def _neurons(
    mean: Any,
    deviation: Any,
    distance: Any,
    d: Any,
    trace: Any,
    amount: Any,
    rate: int,
    shift: int,
    measures_scale: bool,
    homeostatic: bool,
    centred: bool,
) -> None:
    """Each unit's own scale, threshold and mean error, and the amount by which its synapses step."""
    for k in range(d.shape[0]):
        if measures_scale:
            deviation[k] += np.int32((abs(distance[k]) - np.int64(deviation[k])) >> SCALE_SHIFT)
        if homeostatic:
            mean[k] += np.int32(distance[k] >> SCALE_SHIFT)
        scaled = d[k] << NEURON_BITS
        if centred:
            trace[k] += np.int32((scaled - trace[k]) >> CENTRE_SHIFT)
            scaled -= trace[k]
        step = (-rate * scaled) >> shift
        amount[k] = np.int32(min(np.int64(AMOUNT_LIMIT), max(np.int64(-AMOUNT_LIMIT), step)))


class CompiledNeurons(FixedNeurons):
    """`FixedNeurons` that follow an image in one compiled pass."""

    def learn(self, distance: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
        s = self.settings
        amount = np.empty(s.n_out, np.int32)
        _neurons(
            self.mean,
            self.deviation,
            distance,
            d,
            self.trace,
            amount,
            self.rate,
            s.amount_shift,
            s.measures_scale,
            s.homeostatic,
            s.centred,
        )
        return amount


class CompiledLayer(FixedLayer):
    """A `FixedLayer` whose two passes are compiled."""

    form = CompiledNeurons

    def refresh(self) -> None:
        super().refresh()
        grows = self.settings.rule.grow is not None
        self._both_gates = np.concatenate([self._gates, self._growing]) if grows else self._gates

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        return super().forward(np.ascontiguousarray(x, np.int16))

    def _sums(self, x: NDArray[Any]) -> NDArray[Any]:
        return sums(self.hidden, x)

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        down = np.empty((len(d), self.settings.n_in), np.int32)
        for lane in range(len(d)):
            _down(self.hidden, d[lane], self.settings.backward_shift, down[lane])
        return down

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s = self.settings
        _update(
            self.hidden,
            self.balance,
            x,
            amount,
            self._both_gates,
            s.rule.grow is not None,
            self._forgets,
            s.rule.memory is not None,
            s.limit_levels,
            s.seed,
            int(self.images[0]),
            s.step_bits,
            s.level_bits,
        )


def sums(hidden: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """int32 (lanes, units): sum_j sign(hidden[j, k]) x[lane, j] of inputs int16 (lanes, n_in)."""
    u = np.empty((len(x), hidden.shape[1]), np.int32)
    _sums(hidden, x, u)
    return u
