"""A `SteppedGraph`, compiled: the same spikes, from the spikes that there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.graph.spiking_graph import Run


class CompiledRun(Run):
    """`step`, `restart` and `potential` as those of `Run`."""

    def trains(self, frames: NDArray[Any], steps: int | None, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """All time steps of frames (frames, n, n_in), from rest; of one frame that is held, with `steps`.

        By layer, uint8 spikes (steps, n, units); by "layer.mem", potentials.
        """
        self.restart()
        rows: list[list[Any]] = []
        for k in range(len(frames) if steps is None else steps):
            spikes = self.step(frames[0] if steps is not None else frames[k], held=steps is not None)
            rows.append([self._wanted(name, spikes) for name in names])
        self.restart()
        return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}

    def _wanted(self, name: str, spikes: dict[str, NDArray[Any]]) -> NDArray[Any]:
        if name in spikes:
            return spikes[name].astype(np.uint8)
        return self.potential(name.removesuffix(".mem")).astype(np.float32)
