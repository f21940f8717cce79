"""The on-line rule in floating point, compiled: `online_learning.reference.FloatLayer` at speed.

Every operation on a synapse is the reference's own, in float32 and in its order, so that with gates that are
polynomials the bits are equal; exponentials, and the sums of errors that are passed down, differ in their last one.
Serial, for Lava's actors, and compiled when this module is imported, as `lava_meta.online_learning.compiled.fixed` is.
Which functions the expressions below are for is said once, in `lava_meta/rule/gates.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.compiled.signs import sums
from lava_meta.online_learning.reference import FloatLayer
from lava_meta.rule import Consolidation, Constant
from lava_meta.rule.gates import closed_form

_KINDS = ("plain", "linear", "quadratic", "tanh2", "exponential", "towards", "towards2")
_PLAIN, _LINEAR, _QUADRATIC, _TANH2, _EXPONENTIAL, _TOWARDS, _TOWARDS2 = map(float, range(len(_KINDS)))


@njit("void(float32[:, ::1], float32[::1], float32[::1])", cache=True, nogil=True, fastmath=True)
def _down(hidden: Any, d: Any, out: Any) -> None:
    """out[j] = sum_k sign(hidden[j, k]) d[k]."""
    for j in range(hidden.shape[0]):
        row = hidden[j]
        total = np.float32(0)
        for k in range(hidden.shape[1]):
            total += d[k] if row[k] >= 0 else -d[k]
        out[j] = total


@njit("void(float32[::1], float32, float32[::1], float32[::1])", cache=True, nogil=True)
def _shares(row: Any, scale: Any, function: Any, out: Any) -> None:
    """Out = f(|row| * scale) of a function as `_function` gives it; a loop each, of which LLVM can make vectors."""
    kind, parameter, falls = function
    one, four = np.float32(1), np.float32(4)
    if kind == _LINEAR:
        for k in range(row.shape[0]):
            out[k] = one - min(one, abs(row[k] * scale) / parameter)
    elif kind == _QUADRATIC:
        for k in range(row.shape[0]):
            r = min(one, abs(row[k] * scale) / parameter)
            out[k] = (one - r) * (one + r)
    elif kind == _EXPONENTIAL:
        for k in range(row.shape[0]):
            out[k] = np.exp(abs(row[k] * scale) * parameter)
    elif kind == _TANH2:
        for k in range(row.shape[0]):
            e = np.exp(abs(row[k] * scale) * parameter)
            r = e / (e + one)
            out[k] = four * r * (one - r)
    elif kind == _TOWARDS:
        for k in range(row.shape[0]):
            left = one - min(one, abs(row[k] * scale) / parameter)
            out[k] = one - falls * (one - left)
    elif kind == _TOWARDS2:
        for k in range(row.shape[0]):
            left = one - min(one, abs(row[k] * scale) / parameter)
            out[k] = one - falls * (one - left * left)


@njit(
    "void(float32[:, ::1], int32[::1], int16[::1], float32[::1], float32, float32[::1], float32[::1], float32, "
    "float32, float32)",
    cache=True,
    nogil=True,
)
def _update(
    hidden: Any,
    balance: Any,
    x: Any,
    amount: Any,
    level: Any,
    f: Any,
    grow: Any,
    scale: Any,
    limit: Any,
    forgets: Any,
) -> None:
    """The step of every synapse whose input is active, and the sums of binary weights that follow."""
    units = hidden.shape[1]
    gate, growing = np.ones(units, np.float32), np.ones(units, np.float32)
    zero = np.float32(0)
    for j in range(x.shape[0]):
        if x[j] == 0:
            continue
        value = np.float32(np.float32(x[j]) * level)
        row = hidden[j]
        _shares(row, scale, f, gate)
        _shares(row, scale, grow, growing)
        for k in range(units):
            h = row[k]
            step = np.float32(amount[k] * value)
            shrinks = (step < zero) if h >= zero else (step > zero)
            new = np.float32(h + np.float32(step * (gate[k] if shrinks else growing[k])))
            new = np.float32(new - np.float32(h * forgets))
            new = limit if new > limit else new
            new = -limit if new < -limit else new
            balance[k] += np.int32(2) * (np.int32(new >= zero) - np.int32(h >= zero))
            row[k] = new


def _function(f: Consolidation) -> NDArray[np.float32]:
    """The function as its kind and its numbers, float32 (3,)."""
    form = closed_form(f)
    assert form is not None
    return np.array([_KINDS.index(form.name), form.number, 1 - form.floor], np.float32)


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
        _update(
            self.hidden,
            self.balance,
            x,
            np.ascontiguousarray(amount, np.float32),
            np.float32(2.0**-s.level_bits),
            _function(s.rule.consolidation),
            _function(s.rule.grow or Constant()),
            np.float32(1 / (s.limit * self.consolidation_range)),
            np.float32(s.limit),
            np.float32(0 if s.rule.memory is None else 1 / s.rule.memory),
        )
