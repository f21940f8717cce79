"""Energy by Loihi 1's published coefficients: an estimate of another chip than the target, and labelled so.

No energy of an operation is public for Loihi 2. Static power, and what enters and leaves the chip, are not counted.

Source: Davies et al., "Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro 38(1):82-99 (2018),
at 0.75 V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lava_meta.loihi.cost.placement import Core
from lava_meta.loihi.cost.populations import Population
from lava_meta.loihi.cost.workload import Workload

SOURCE = "Davies et al., IEEE Micro 38(1):82-99 (2018): Loihi 1, not Loihi 2"


@dataclass(frozen=True)
class Operations:
    """One figure per kind of operation: counts per image, or energies."""

    synaptic_operation: float
    active_neuron_update: float
    inactive_neuron_update: float
    spike_within_a_tile: float
    hop_east_or_west: float
    hop_north_or_south: float
    synaptic_update: float | None = None  # None if no layer learns

    @property
    def total(self) -> float:
        """The sum over all kinds."""
        return sum(getattr(self, each.name) or 0.0 for each in fields(self))


PICOJOULES = Operations(
    synaptic_operation=23.6,
    active_neuron_update=81.0,
    inactive_neuron_update=52.0,
    spike_within_a_tile=1.7,
    hop_east_or_west=3.0,
    hop_north_or_south=4.0,
    synaptic_update=120.0,
)
CORES_A_TILE, TILES_A_ROW, TILE_ROWS = 4, 8, 4  # Loihi 1: 128 cores


def traffic(populations: Sequence[Population], cores: Sequence[Core], workload: Workload) -> dict[str, float]:
    """Spike messages per image, one per receiving core, and their hops between tiles, by the names of `Operations`.

    Cores lie on Loihi 1's mesh in their order, row by row; a second chip begins again at the first place, and the way
    between chips is not counted. What enters from outside has no hops.
    """
    places = {
        population.name: [
            (i, piece) for i, core in enumerate(cores) for piece in core.pieces if piece.population == population.name
        ]
        for population in populations
    }
    targets: dict[str, set[int]] = {}
    for population in populations:
        for _, source in population.synapses:
            targets.setdefault(source, set()).update(core for core, _ in places[population.name])
    total = {"spike_within_a_tile": 0.0, "hop_east_or_west": 0.0, "hop_north_or_south": 0.0}
    for source, reached in targets.items():
        sent = workload.sent[source]
        total["spike_within_a_tile"] += float(sent.sum()) * len(reached)
        for core, piece in places.get(source, []):
            spikes = float(sent[piece.start : piece.stop].sum())
            row, column = _tile(core)
            for target in reached:
                there = _tile(target)
                total["hop_north_or_south"] += spikes * abs(there[0] - row)
                total["hop_east_or_west"] += spikes * abs(there[1] - column)
    return total


def nanojoules(counts: Operations) -> Operations:
    """Energy per image of each kind of operation: its count times its `PICOJOULES`."""
    each = {kind.name: (getattr(counts, kind.name), getattr(PICOJOULES, kind.name)) for kind in fields(counts)}
    return Operations(**{name: n * pico / 1000 for name, (n, pico) in each.items() if n is not None})


def _tile(core: int) -> tuple[int, int]:
    tile = core // CORES_A_TILE % (TILES_A_ROW * TILE_ROWS)
    row, column = np.divmod(tile, TILES_A_ROW)
    return int(row), int(column)
