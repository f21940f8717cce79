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
from lava_meta.online_learning.compiled.neurons import CompiledNeurons
from lava_meta.online_learning.compiled.steps import Synapses, update
from lava_meta.online_learning.reference import FixedLayer
from lava_meta.online_learning.settings import ERROR_LIMIT


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
