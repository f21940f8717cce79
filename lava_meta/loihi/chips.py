"""What is public about the chips, and the widths of the learning engine, with their sources."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """The public limits of a chip."""

    name: str
    cores: int  # neurocores per chip
    neurons: int  # per core, memory permitting
    synaptic_bytes: int  # per core
    synapses: int  # per chip, stored
    source: str


LOIHI2 = Chip(
    name="Loihi 2",
    cores=128,
    neurons=8192,
    synaptic_bytes=128 * 1024,
    synapses=120_000_000,
    source='Intel Labs, "Taking Neuromorphic Computing to the Next Level with Loihi 2", technology brief (2021); that '
    "synapses can take 128 of a core's 192 KB is stated by users of the chip, not by Intel",
)
CHIPS = {"loihi2": LOIHI2}

# Of Lava's learning engine, as Lava 0.10.0's fixed-point models have them.
TAG_BITS = 9  # a plastic synapse's tag: 8 bits and sign
TRACE_BITS = 7  # a trace
TRACES = {"inputs": 1, "units": 3}  # x1 of each input; y1, y2, y3 of each unit


def find_chip(target: str) -> Chip:
    """The chip of this name. Raises `ValueError` for another."""
    if target not in CHIPS:
        raise ValueError(f"target is {target!r}; there are public limits for {', '.join(CHIPS)}")
    return CHIPS[target]
