"""The figures of a report, a dataclass per row; names are given here once and nowhere else.

In JSON and in tables a field is called as here, with spaces: `synaptic_bytes` is "synaptic bytes".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from lava_meta.loihi.chips import Chip
from lava_meta.loihi.cost.assumptions import Assumption
from lava_meta.loihi.cost.energy import PICOJOULES, SOURCE, Operations
from lava_meta.loihi.cost.placement import Core


def named(row: Any) -> dict[str, Any]:
    """The fields of a row that hold something, by their names with spaces."""
    values = ((each.name, getattr(row, each.name)) for each in fields(row))
    return {name.replace("_", " "): value for name, value in values if value is not None}


@dataclass(frozen=True)
class LayerCost:
    """What one layer takes on the chip, and does per image; the last three fields only if the layer learns."""

    layer: str
    neurons: int
    synapses: int
    synaptic_bytes: int
    spikes_in: float  # that enter per image
    spikes_sent: float  # per image
    synaptic_operations: float  # per image
    active_neurons: float  # that receive or send a spike, per image
    cores: int
    steps: int  # of latency
    tag_bytes: int | None = None
    trace_bytes: int | None = None
    synaptic_updates: float | None = None  # per image

    @property
    def learns(self) -> bool:
        """Whether its synapses are plastic."""
        return self.synaptic_updates is not None


@dataclass(frozen=True)
class Totals:
    """Sums over all layers."""

    neurons: int
    synapses: int
    synaptic_bytes: int
    spikes_sent: float
    synaptic_operations: float
    active_neurons: float
    cores: int
    neuron_updates: int  # per image
    latency_in_steps: int
    tag_bytes: int | None = None
    trace_bytes: int | None = None
    synaptic_updates: float | None = None

    @classmethod
    def of(cls, layers: Sequence[LayerCost], steps: int, latency: int) -> Totals:
        """The sums, for images that are held for `steps` time steps and answered after `latency`."""
        summed = [each.name for each in fields(cls) if each.name not in ("neuron_updates", "latency_in_steps")]
        sums = {name: [v for layer in layers if (v := getattr(layer, name)) is not None] for name in summed}
        totals: dict[str, Any] = {name: sum(values) if values else None for name, values in sums.items()}
        return cls(**totals, neuron_updates=totals["neurons"] * steps, latency_in_steps=latency)


@dataclass(frozen=True)
class CoreUse:
    """One core: what lies on it, and the share of its limits that is used."""

    core: int
    layer: str
    pieces: list[str]
    neurons: int
    neurons_used: float  # share of the core's limit
    synapses: int
    synaptic_bytes: int
    synaptic_memory_used: float  # share of the core's limit


@dataclass(frozen=True, eq=False)
class Record:
    """All figures of a report. Counts of operations, spikes and energy are means per image."""

    chip: Chip
    images: int  # on which was counted
    layers: list[LayerCost]
    totals: Totals
    cores: list[Core] = field(repr=False)
    chips: int  # needed
    neurobench: dict[str, Any]
    counts: Operations  # per image
    nanojoules: Operations  # per image, by Loihi 1's coefficients
    assumptions: list[Assumption] = field(repr=False)

    def core_rows(self) -> list[CoreUse]:
        """One row per core."""
        return [
            CoreUse(
                core=i,
                layer=core.layer,
                pieces=[f"{p.population}[{p.start}:{p.stop}]" for p in core.pieces],
                neurons=core.neurons,
                neurons_used=core.neurons / self.chip.neurons,
                synapses=core.synapses,
                synaptic_bytes=math.ceil(core.bits / 8),
                synaptic_memory_used=core.bits / (8 * self.chip.synaptic_bytes),
            )
            for i, core in enumerate(self.cores)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "chip": vars(self.chip),
            "images": self.images,
            "totals": named(self.totals),
            "layers": [named(layer) for layer in self.layers],
            "cores": [named(row) for row in self.core_rows()],
            "chips": self.chips,
            "neurobench": self.neurobench,
            "energy": {
                "unit": "nJ per image",
                "coefficients": SOURCE,
                "picojoules": named(PICOJOULES),
                "counts": named(self.counts),
                "nanojoules": named(self.nanojoules),
                "total": self.nanojoules.total,
            },
            "assumptions": [vars(assumption) for assumption in self.assumptions],
            "verified": False,
        }
