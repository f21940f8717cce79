"""The on-line rule in floating point, compiled: `online_learning.reference.FloatLayer` at speed.

Every operation on a synapse is the reference's own, in float32 and in its order, so that with the constant, linear and
quadratic gates the bits are equal; exponentials, and the sums of errors that are passed down, differ in their last one.
Serial, for Lava's actors, and compiled when this module is imported, as `lava_meta.online_learning.compiled.fixed` is.
Which functions the expressions below are for is said once, in `lava_meta/rule/gates.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.compiled.fixed import sums
from lava_meta.online_learning.reference import FloatLayer
from lava_meta.rule.gates import closed_form

_LINEAR, _QUADRATIC, _TANH2, _EXPONENTIAL, _PLAIN = range(5)
_CODES = {
    "linear": _LINEAR,
    "quadratic": _QUADRATIC,
    "tanh2": _TANH2,
    "exponential": _EXPONENTIAL,
    "plain": _PLAIN,
}


@njit("void(float32[:, ::1], float32[::1], float32[::1])", cache=True, nogil=True, fastmath=True)
def _down(hidden: Any, d: Any, out: Any) -> None:
    """out[j] = sum_k sign(hidden[j, k]) d[k]."""
    for j in range(hidden.shape[0]):
        row = hidden[j]
        total = np.float32(0)
        for k in range(hidden.shape[1]):
            total += d[k] if row[k] >= 0 else -d[k]
        out[j] = total


@njit(
    "void(float32[:, ::1], int32[::1], int16[::1], float32[::1], float32, int64, float32, float32, float32, float32)",
    cache=True,
    nogil=True,
)
def _update(
    hidden: Any,
    balance: Any,
    x: Any,
    amount: Any,
    level: Any,
    code: int,
    parameter: Any,
    scale: Any,
    limit: Any,
    forgets: Any,
) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow."""
    units = hidden.shape[1]
    gate = np.ones(units, np.float32)
    zero, one, four = np.float32(0), np.float32(1), np.float32(4)
    for j in range(x.shape[0]):
        if x[j] == 0:
            continue
        value = np.float32(np.float32(x[j]) * level)
        row = hidden[j]
        # A loop a function, each of which LLVM can make vectors of.
        if code == _LINEAR:
            for k in range(units):
                gate[k] = one - min(one, abs(row[k] * scale) / parameter)
        elif code == _QUADRATIC:
            for k in range(units):
                r = min(one, abs(row[k] * scale) / parameter)
                gate[k] = (one - r) * (one + r)
        elif code == _EXPONENTIAL:
            for k in range(units):
                gate[k] = np.exp(abs(row[k] * scale) * parameter)
        elif code == _TANH2:
            for k in range(units):
                e = np.exp(abs(row[k] * scale) * parameter)
                r = e / (e + one)
                gate[k] = four * r * (one - r)
        for k in range(units):
            h = row[k]
            step = np.float32(amount[k] * value)
            shrinks = (step < zero) if h >= zero else (step > zero)
            new = np.float32(h + (np.float32(step * gate[k]) if shrinks else step))
            new = np.float32(new - np.float32(h * forgets))
            new = limit if new > limit else new
            new = -limit if new < -limit else new
            balance[k] += np.int32(2) * (np.int32(new >= zero) - np.int32(h >= zero))
            row[k] = new


class CompiledFloatLayer(FloatLayer):
    """A `FloatLayer` whose passes over the synapses are compiled, for consolidation functions of closed form."""

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        return super().forward(np.ascontiguousarray(x, np.int16))

    def _sums(self, x: NDArray[Any]) -> NDArray[Any]:
        return sums(self.hidden, x)

    def _passed_down(self, d: NDArray[Any]) -> NDArray[Any]:
        down = np.empty((len(d), self.settings.n_in), np.float32)
        for lane in range(len(d)):
            _down(self.hidden, np.ascontiguousarray(d[lane]), down[lane])
        return down / np.float32(2**self.settings.backward_shift)

    def _step_synapses(self, x: NDArray[Any], amount: NDArray[Any]) -> None:
        s = self.settings
        form = closed_form(s.rule.consolidation)
        assert form is not None
        _update(
            self.hidden,
            self.balance,
            x,
            np.ascontiguousarray(amount, np.float32),
            np.float32(2.0**-s.level_bits),
            _CODES[form.name],
            np.float32(form.number),
            np.float32(1 / (s.limit * self.consolidation_range)),
            np.float32(s.limit),
            np.float32(0 if s.rule.memory is None else 1 / s.rule.memory),
        )
