"""What comparing a spiking network with the model that it came from found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpikingParity:
    """What the check on images saw: spikes that differ from the model's, and how near quantised forms come."""

    images: int  # images checked
    steps: int  # time steps each was held
    seed: int | None  # of random images; None for images that were given
    compared: int  # spikes and silences compared
    mismatches: dict[str, int]  # floating point against the model, by layer: all 0 for an exact conversion
    spikes: dict[str, float]  # share of floating point's spikes and silences that equal the model's, by layer
    rates: dict[str, float]  # the mean difference of a neuron's firing rate, by layer
    classes: float  # share of classes (by rate) that are equal
    fixed_spikes: dict[str, float]  # share of fixed point's spikes and silences that equal the model's, by layer
    fixed_classes: float | None  # share of its classes that do; None if fixed point does not take the weights
    ties: dict[str, int] = field(default_factory=dict)  # differing spikes of single steps, all within rounding

    @property
    def exact(self) -> bool:
        """Whether floating point agrees spike for spike."""
        return not any(self.mismatches.values())
