"""What a real memory does to a hidden weight: how a step is written, and how the value is kept.

A hidden weight of `bits` bits has levels of 1/(2**(bits-1) - 1) of its range; a write moves it by whole levels, as
pulses move the conductance of an analog memory. The stored value itself is finer: 16 bits, of which a level is
2**(16 - bits) units, so that noise and drift leave it between levels. With every imperfection at 0 it stays on them,
and a device that rounds a synapse at a time is, to the bit, the memory of whole levels of `lava_meta.online_learning`.

    s = step * (1 + asymmetry), step > 0;   step * (1 - asymmetry), step < 0
    s <- s * g                              g: the gate f where the step shrinks |h|, 1 - soft_bounds * |h|/T elsewhere
    k = s in whole levels                   by `rounding`
    h <- h + k * (1 + relative_noise * n) + absolute_noise * n',  where k is not 0;  clipped to +-T
    h <- h * (1 - drift)                    over 1,000 images

n and n' are new for every synapse and write: each the sum of four uniform bytes of a hash, of mean 0 and deviation 1,
near to a normal distribution and never beyond 3.46. Everything is integers: the reference, its compiled form and Lava
agree to the bit.

Sources of the forms: up and down steps of different size with noise from write to write, after Gokmen and Vlasov,
"Acceleration of deep neural network training with resistive cross-point devices", Front. Neurosci. 10:333 (2016); one
random number per step, as Lava's LearningDense draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

ROUNDINGS = ("synapse", "step", "nearest")
STORED_BITS = 16  # of a stored value, sign included
FACTOR_BITS = 12  # fraction bits of an asymmetry
NOISE_BITS = 16  # fraction bits of a noise's deviation
DRIFT_BITS = 24  # fraction bits of a drift's share
DRIFT_EVERY = 100  # images between two moments at which the drift is taken
NOISE_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four uniform bytes


@dataclass(frozen=True)
class Device:
    """A memory device; see the equations above. The defaults are an ideal one.

    Raises ValueError, naming the field, for a value out of range.
    """

    rounding: str = "synapse"  # stochastic with a draw a "synapse" or a "step" (for all synapses), or to the "nearest"
    relative_noise: float = 0.0  # deviation of a write, as a share of it, 0 .. 10
    absolute_noise: float = 0.0  # deviation of a write, as a share of the full range, 0 .. 1
    asymmetry: float = 0.0  # up steps are 1 + this, down steps 1 - this, -1 .. 1
    soft_bounds: float = 0.0  # share by which a growing step is smaller at the limit, 0 .. 1
    drift: float = 0.0  # share of the stored value that is lost in 1,000 images, 0 .. below 1

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding is {self.rounding!r}; choose one of {', '.join(ROUNDINGS)}")
        ranges = {
            "relative_noise": (0, 10),
            "absolute_noise": (0, 1),
            "asymmetry": (-1, 1),
            "soft_bounds": (0, 1),
            "drift": (0, 0.999),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name} is {value!r}; it is a number from {low} to {high}")
            if not low <= value <= high:  # also refuses NaN
                raise ValueError(f"{name} is {value}; it lies between {low} and {high}")

    def to_dict(self) -> dict[str, Any]:
        """The device as JSON holds it; `Device(**record)` makes it again."""
        return dict(vars(self))

    # What the integers derive from.

    @property
    def up(self) -> int:
        """Factor of a step up, with 12 fraction bits."""
        return round((1 + self.asymmetry) * (1 << FACTOR_BITS))

    @property
    def down(self) -> int:
        """Factor of a step down, with 12 fraction bits."""
        return round((1 - self.asymmetry) * (1 << FACTOR_BITS))

    @property
    def relative(self) -> int:
        """What a unit of the sum of bytes adds to a write, as a share of it, with 16 fraction bits."""
        return round(self.relative_noise / NOISE_DEVIATION * (1 << NOISE_BITS))

    def absolute(self, full_range: int) -> int:
        """What a unit of the sum of bytes adds to a write, in stored units, with 16 fraction bits."""
        return round(self.absolute_noise * full_range / NOISE_DEVIATION * (1 << NOISE_BITS))

    @property
    def loss(self) -> int:
        """Share of the stored value lost every `DRIFT_EVERY` images, with 24 fraction bits."""
        kept = math.pow(1 - self.drift, DRIFT_EVERY / 1000)
        return round((1 - kept) * (1 << DRIFT_BITS))
