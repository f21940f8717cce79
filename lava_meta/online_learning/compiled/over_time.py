"""`FixedOverTime`, whose passes are compiled: equal to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.over_time import FixedOverTime
from lava_meta.online_learning.settings import NEURON_BITS, WINDOW_DEN, WINDOW_NUM


@njit(
    "void(int64[:, ::1], int64[::1], int32[::1], int64, boolean, int16[:, ::1], int64[::1], int64[::1])",
    cache=True,
    nogil=True,
)
def _integrate(
    y: Any,
    raised: Any,
    deviation: Any,
    leak: int,
    two_sided: bool,  # noqa: FBT001  # numba takes no keyword-only arguments
    spikes: Any,
    near: Any,
    size: Any,
) -> None:
    """All steps of one image: its spikes, how often each unit was in its window, and the sum of its potentials."""
    for k in range(y.shape[1]):
        v, inside, total = np.int64(0), np.int64(0), np.int64(0)
        for step in range(y.shape[0]):
            v = (v * leak >> NEURON_BITS) + y[step, k]
            beyond = (abs(v) if two_sided else v) - raised[k]
            if WINDOW_DEN * abs(beyond) <= WINDOW_NUM * np.int64(deviation[k]):
                inside += -1 if two_sided and v < 0 else 1
            total += abs(v)
            fires = beyond >= 0
            spikes[step, k] = fires
            if fires:
                v = np.int64(0)
        near[k], size[k] = inside, total


class CompiledOverTime(FixedOverTime, CompiledLayer):
    """Integrating units above compiled passes over the synapses."""

    def forward(self, x: NDArray[Any]) -> NDArray[Any]:
        s, now = self.settings, self._now
        x = np.ascontiguousarray(x, np.int16)
        spikes = np.empty((*x.shape[:2], s.n_out), np.int16)
        self._near, size = (np.empty((len(x), s.n_out), np.int64) for _ in range(2))
        raised, leak = now._raised(), round(self.leak * 2**NEURON_BITS)
        for lane, train in enumerate(x):
            y = np.ascontiguousarray(now.distance(self._sums(train), train), np.int64)
            _integrate(y, raised, now.deviation, leak, s.two_sided, spikes[lane], self._near[lane], size[lane])
        self._x = x.sum(axis=1, dtype=np.int16)
        mean: NDArray[Any] = size >> s.level_bits
        self._distance = mean
        return spikes

    def _own_errors(self, error: NDArray[Any]) -> NDArray[Any]:
        d: NDArray[Any] = error.astype(np.int64) * self._near >> self.settings.level_bits
        return d
