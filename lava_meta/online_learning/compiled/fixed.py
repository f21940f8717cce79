"""The on-line rule in fixed point, compiled: the same integers as `online_learning.reference.FixedLayer`.

A layer's hidden weights lie input by input, so both passes over an active input run along one row of memory, in the
vectors of the CPU. Inputs of 0 cost nothing. One thread: the kernels run inside Lava's forked actors, where numba's
threads would abort; the functions are compiled for fixed types when this module is imported, before any fork.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.compiled.neurons import CompiledNeurons
from lava_meta.online_learning.compiled.signs import pass_down, sums
from lava_meta.online_learning.compiled.steps import Synapses, update
from lava_meta.online_learning.reference import FixedLayer


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
