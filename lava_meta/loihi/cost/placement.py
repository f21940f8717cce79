"""Neurons placed on cores, with the memory of the synapses before them.

The rule: a layer begins on a new core; its populations follow each other, their neurons in order (channel by channel);
a new core begins when the next neuron would pass a limit. A neuron lies on one core with all synapses before it. With
shared kernels a core holds the kernel of a channel once, however many of its positions lie there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.errors import ConversionError
from lava_meta.loihi.chips import Chip
from lava_meta.loihi.cost.populations import Population


@dataclass(frozen=True)
class Piece:
    """Neurons `start` to `stop` of a population on one core."""

    population: str
    start: int
    stop: int
    synapses: int  # connections before them
    bits: int  # synaptic memory


@dataclass
class Core:
    """What lies on one core."""

    layer: str
    pieces: list[Piece] = field(default_factory=list)

    @property
    def neurons(self) -> int:
        return sum(piece.stop - piece.start for piece in self.pieces)

    @property
    def synapses(self) -> int:
        return sum(piece.synapses for piece in self.pieces)

    @property
    def bits(self) -> int:
        """Synaptic memory."""
        return sum(piece.bits for piece in self.pieces)


def place(
    populations: Sequence[Population], chip: Chip, bits: dict[str, int], *, share_kernels: bool = True
) -> list[Core]:
    """Cores in order. `bits`: of a stored synapse, by layer.

    Raises `ConversionError` if one neuron's synapses exceed a core's memory.
    """
    cores: list[Core] = []
    for population in populations:
        if not cores or cores[-1].layer != population.layer:
            cores.append(Core(population.layer))
        width = bits[population.layer]
        own = population.stored_a_unit(share_kernels=share_kernels) * width
        shared = population.stored_a_channel(share_kernels=share_kernels) * width
        fan_in = population.fan_in
        a_channel = population.units // population.channels
        room = 8 * chip.synaptic_bytes
        heaviest = int(own.max()) + shared
        if heaviest > room:
            raise ConversionError(
                f"one neuron of {population.name} needs {-(-heaviest // 8):,} bytes of synaptic memory; a core of "
                f"{chip.name} has {chip.synaptic_bytes:,}. Take fewer inputs, or fewer bits per weight"
            )
        start = 0
        while start < population.units:
            stop, used = _fill(own, shared, a_channel, start, chip.neurons - cores[-1].neurons, room - cores[-1].bits)
            if stop == start:
                cores.append(Core(population.layer))
                continue
            cores[-1].pieces.append(Piece(population.name, start, stop, int(fan_in[start:stop].sum()), used))
            start = stop
    return cores


def _fill(own: NDArray[Any], shared: int, a_channel: int, start: int, neurons: int, room: int) -> tuple[int, int]:
    """How far neurons from `start` on fit into what a core has left, and the memory they take."""
    last = min(len(own), start + max(0, neurons))
    # The kernel of a channel is paid with the first of its neurons that lies here.
    costs = own[start:last].copy()
    if shared:
        first = np.arange(start, last) % a_channel == 0
        first[:1] = True
        costs += first * shared
    total = np.cumsum(costs)
    count = int(np.searchsorted(total, room, side="right"))
    return start + count, int(total[count - 1]) if count else 0
