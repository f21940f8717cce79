"""`FixedOverTime`, whose passes are compiled: equal to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.jit import njit
from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.neurons import FixedNeurons
from lava_meta.online_learning.over_time import FixedOverTime
from lava_meta.online_learning.settings import NEURON_BITS, SPREAD_BITS, WINDOW_DEN, WINDOW_NUM


@njit(
    "void(int32[:, ::1], int64[::1], int64[::1], int64[::1], int32[::1], int64, int64, boolean, int16[:, ::1], "
    "int64[::1], int64[::1])",
    cache=True,
    nogil=True,
)
def _integrate(
    u: Any,
    thresholds: Any,
    reciprocals: Any,
    raised: Any,
    deviation: Any,
    leak: int,
    spread_shift: int,
    two_sided: bool,  # noqa: FBT001  # numba takes no keyword-only arguments
    spikes: Any,
    near: Any,
    size: Any,
) -> None:
    """All steps of one image: its spikes, how often each unit was in its window, and the sum of its potentials."""
    for k in range(u.shape[1]):
        v, inside, total = np.int64(0), np.int64(0), np.int64(0)
        for step in range(u.shape[0]):
            y = (np.int64(u[step, k]) << NEURON_BITS) - thresholds[k]
            v = (v * leak >> NEURON_BITS) + (y * reciprocals[step] >> spread_shift)
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
        assert isinstance(now, FixedNeurons)
        x = np.ascontiguousarray(x, np.int16)
        lanes, steps, _ = x.shape
        spikes = np.empty((lanes, steps, s.n_out), np.int16)
        self._near, size = (np.empty((lanes, s.n_out), np.int64) for _ in range(2))
        thresholds, raised, leak = now._thresholds(), now._raised(), round(self.leak * 2**NEURON_BITS)
        ones, shift = np.ones(steps, np.int64), SPREAD_BITS - NEURON_BITS if s.divisive else 0
        for lane in range(lanes):
            reciprocals = now.reciprocals(x[lane])[:, 0] if s.divisive else ones
            _integrate(
                self._sums(x[lane]),
                thresholds,
                reciprocals,
                raised,
                now.deviation,
                leak,
                shift,
                s.two_sided,
                spikes[lane],
                self._near[lane],
                size[lane],
            )
        self._x = x.sum(axis=1, dtype=np.int16)
        mean: NDArray[Any] = size >> s.level_bits
        self._distance = mean
        return spikes

    def _own_errors(self, error: NDArray[Any]) -> NDArray[Any]:
        d: NDArray[Any] = error.astype(np.int64) * self._near >> self.settings.level_bits
        return d
