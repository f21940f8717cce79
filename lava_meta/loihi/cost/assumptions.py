"""What a report takes for granted, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lava_meta.loihi.chips import TAG_BITS, TRACE_BITS, Chip
from lava_meta.loihi.cost import energy

LAVA = "Lava 0.10.0, fixed-point models and their docstrings"
OURS = "a choice of this report"


@dataclass(frozen=True)
class Assumption:
    """One thing that the report takes for granted."""

    says: str
    source: str


PLACEMENT = (
    Assumption(
        "A layer begins on a new core; neurons follow in order, and a new core begins when the next would pass a "
        "limit. A neuron lies on one core with all synapses before it.",
        OURS,
    ),
    Assumption(
        "The network is the stock form, its relays, inhibitory units and constant units included; spikes are 0 or "
        "1, and pixels enter as graded spikes, none for a pixel of 0.",
        "docs/hardware.md; Lava 0.10.0's Processes",
    ),
)
TRAFFIC = (
    Assumption(
        "Pixels come from outside the cores: no neurons, no hops. A spike is one message to every core that holds "
        "neurons of a population it is connected to, even if none of its synapses lie there.",
        OURS,
    ),
    Assumption(
        "Energy is by coefficients of Loihi 1: none are public for Loihi 2. Static power, input and output, and "
        "the way between chips are left out. A neuron that receives or sends a spike is active. Cores lie on Loihi "
        "1's mesh (32 tiles of 4) in their order.",
        energy.SOURCE,
    ),
)


def assumptions(
    chip: Chip,
    weight_bits: int,
    *,
    share_kernels: bool,
    convolutional: bool,
    plastic: Mapping[str, int],
    steps: int | None,
) -> list[Assumption]:
    """All that the report takes for granted; `steps` is how long an image is held, in networks with time."""
    found = [*_memory(chip, weight_bits), *PLACEMENT, _pace(steps), *TRAFFIC]
    if weight_bits < 8:
        found.append(
            Assumption(
                "Fewer than 8 bits per weight hold +128 and -128, not the stock form's +2 and -2: the same network "
                "with all thresholds 64 times as large. The synapses of constant units need all 8, counted alike.",
                f"weights that Lava truncates to 2 bits of mixed sign keep +128 and -128: {LAVA}",
            )
        )
    if convolutional:
        says = "once per core for each channel that lies there" if share_kernels else "per synapse"
        found.append(Assumption(f"A convolution's weights are stored {says}.", OURS))
    return found + _plasticity(plastic)


def _memory(chip: Chip, weight_bits: int) -> list[Assumption]:
    return [
        Assumption(
            f"{chip.name}: {chip.cores} cores per chip, up to {chip.neurons:,} neurons and "
            f"{chip.synaptic_bytes // 1024} KB of synaptic memory per core, {chip.synapses:,} synapses per chip. "
            "Limits on axons and on the memory of neuron programs are not public and not counted.",
            chip.source,
        ),
        Assumption(
            f"A stored weight takes {weight_bits} bits, and nothing is counted for addresses or headers.",
            f"weights of up to 8 bits, one of them for mixed signs: {LAVA}; headers: {OURS}",
        ),
    ]


def _pace(steps: int | None) -> Assumption:
    if steps is not None:
        return Assumption(
            f"An image is held for {steps} time steps. Counts are sums over them; every neuron is updated in each.",
            OURS,
        )
    return Assumption(
        "An image enters each time step, so each neuron is updated once per image. Waiting for an answer before "
        "the next image takes as many updates of each neuron as the latency has steps.",
        OURS,
    )


def _plasticity(plastic: Mapping[str, int]) -> list[Assumption]:
    """Of layers that learn, with the bits of a hidden weight; none if none does."""
    if not plastic:
        return []
    found = [
        Assumption(
            f"A plastic synapse has a tag of {TAG_BITS} bits beside its weight; an input has one trace and a unit "
            f"three, of {TRACE_BITS} bits. Each synapse of an active input counts as updated: an upper bound.",
            f"widths: {LAVA}",
        ),
        Assumption("Steps in which errors come back, and what neurons do for the rule, are not counted.", OURS),
    ]
    wide = [f"{name} ({bits} bits)" for name, bits in plastic.items() if bits > TAG_BITS]
    if wide:
        found.append(
            Assumption(f"Hidden weights wider than a tag do not fit: {', '.join(wide)}; counted as a tag.", LAVA)
        )
    return found
