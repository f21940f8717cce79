"""The on-line rule's settings, and the integers that a layer in fixed point derives from them.

Hidden weights are counted in units of their full range: 1 in floating point, 2**(bits-1) - 1 levels in fixed point. All
settings are in these units, so one rule serves every precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lava_meta.online_learning.device import STORED_BITS, Device
from lava_meta.rule import Consolidation, Constant, Linear, as_consolidation, consolidation_from_dict
from lava_meta.rule.gates import is_polynomial
from lava_meta.rule.lowering import TRACE_LIMIT, EngineRule, lower

Precision = Literal["float"] | int
ERRORS = ("softmax", "margin", "ternary", "prototype")
THRESHOLDS = ("balanced", "homeostatic")
ACTIVATIONS = ("signs", "spikes", "abs_spikes")

NEURON_BITS = 12  # fraction bits of a threshold, a deviation, a trace of errors
ERROR_ONE = 128  # an error of 1.0 in fixed point: errors are 8 bits, sign included
GATE_ONE = 256  # a gate of 1.0 in fixed point
RATE_BITS = 12  # fraction bits of the learning rate, in levels
WINDOW_NUM, WINDOW_DEN = 5, 8  # of a mean deviation: half a standard deviation of a normal distribution
SCALE_SHIFT = 8  # a deviation, or a homeostatic threshold, follows at 2**-8 an image
KAPPA_BITS = 8  # fraction bits of kappa
SPREAD_BITS = 28  # a normalised distance is the distance times 2**SPREAD_BITS / spread, an integer per image
CLASS_BITS = 16  # fraction bits of how often a class came lately, and of the rate at which that follows
CENTRE_SHIFT = 7  # the mean error of a unit follows at 2**-7 an image
MEMORY_LEAST = 64  # images: with it a step and what is forgotten stay inside 32 bits together
AMOUNT_LIMIT = 1 << 22  # clamp of a step before its gate: with 8 bits of gate it stays inside 32 bits
ERROR_LIMIT = (1 << 15) - 1  # clamp of an error that a layer passes down: 16 bits
ENGINE_BITS, ENGINE_LEVELS = 9, 255  # of a tag of the learning engine
ENGINE_LEAST_STEPS = 5  # time steps of an image there, with one layer


@dataclass(frozen=True)
class OnlineRule:
    """How a network learns from one image at a time, by what each synapse and its two neurons know.

        step      dh = -lr * d_k * x_j                      d_k: the unit's error, x_j: its input
        gate      f(h / limit) if the step shrinks |h|, else grow(h / limit) or 1;   |h| never passes its limit
        centring  d_k <- d_k - its running mean             hidden units only
        window    d_k = 0 unless |u_k - threshold_k| <= 5/8 of its mean deviation
        spikes    with activation "spikes" hidden units send 1 from kappa mean deviations above the threshold on, else
                  0, with "abs_spikes" also from as many below it on; with `divisive`, relative to the image's spread;
                  with `layer_norm`, relative to the mean and the deviation of the layer's sums
        forgetting  dh = -h / memory                        at every image in which the synapse's input is active

    Defaults were chosen on held-out training images of permuted MNIST (docs/results/online.md). `lr` times the images
    per task is what to adapt first: 100 for 20,000 images.

    Raises ValueError for a value out of range, TypeError for a consolidation that is not one.
    """

    lr: float = 0.005  # share of the full range a unit error moves a synapse
    consolidation: Consolidation = field(default_factory=lambda: Linear(1.0))  # of |h| / limit
    readout_limit: float = 0.5  # |h| of readout synapses stays below this; hidden synapses below 1
    centring: bool = True
    thresholds: str = "balanced"  # or "homeostatic": the running mean of the unit's sum
    error: str = "softmax"  # or "margin", "ternary"; "prototype", of which hidden layers learn nothing
    dead_zone: float = 0.02  # softmax errors below are 0
    init_width: float = 0.02  # hidden weights start uniform in +- this
    memory: int | None = None  # images of an active input in which h falls to 1/e; None: nothing is forgotten
    grow: Consolidation | None = None  # of |h| / limit, for steps that grow |h|; None: they are taken whole
    activation: str = "signs"  # of hidden units: +-1; or 0/1, sparse: "spikes", or "abs_spikes" on both sides
    kappa: float = 1.2  # of spikes: mean deviations above the threshold
    divisive: bool = True  # of spikes: sums are divided by the spread of the image; False has fixed thresholds
    layer_norm: bool = False  # of spikes, instead: the layer's mean is the threshold, its deviation the scale
    temperature: float | None = None  # softmax of sums / temperature; None: the root of the readout's inputs
    class_rate: float = 0.0  # at which each class neuron follows how often its class comes; 0: it does not

    def __post_init__(self) -> None:
        object.__setattr__(self, "consolidation", as_consolidation(self.consolidation, np.zeros(0)))
        if self.grow is not None:
            object.__setattr__(self, "grow", as_consolidation(self.grow, np.zeros(0)))
        for name, low, high in (
            ("lr", 0, 1),
            ("readout_limit", 0.01, 1),
            ("dead_zone", 0, 1),
            ("init_width", 0, 1),
            ("kappa", 0, 8),
            ("class_rate", 0, 0.5),
        ):
            if not (math.isfinite(getattr(self, name)) and low <= getattr(self, name) <= high):
                raise ValueError(f"{name} is {getattr(self, name)}; it lies between {low} and {high}")
        if self.memory is not None and self.memory < MEMORY_LEAST:
            raise ValueError(
                f"memory is {self.memory}; it is at least {MEMORY_LEAST} images, or None for no forgetting"
            )
        if self.temperature is not None and not 0.1 <= self.temperature <= 1000:
            raise ValueError(f"temperature is {self.temperature}; it lies between 0.1 and 1000, or is None")
        if self.activation != "signs" and self.thresholds == "homeostatic":
            raise ValueError(
                f"activation {self.activation!r} has thresholds of its own, so thresholds must be 'balanced'"
            )
        if self.error == "prototype" and self.activation != "signs":
            raise ValueError(
                f"error 'prototype' averages signs, so activation must be 'signs', not {self.activation!r}"
            )
        if self.activation == "signs" and self.layer_norm:
            raise ValueError("layer_norm is for units that spike: give activation 'spikes' or 'abs_spikes'")
        for name, known in (("thresholds", THRESHOLDS), ("error", ERRORS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}")

    @classmethod
    def sparse(cls, **changes: Any) -> OnlineRule:
        """Sparse spikes, and class neurons that know how often their class came: for streams that last.

        Args:
            changes: settings that differ, as `lr`.
        """
        return cls(**{"activation": "spikes", "temperature": 10.0, "class_rate": 0.02, **changes})

    @classmethod
    def two_sided(cls, **changes: Any) -> OnlineRule:
        """Sparse spikes of units that are far from their threshold on either side: for permuted tasks, few or many.

        Args:
            changes: settings that differ, as `lr`. With `layer_norm`, kappa is one standard deviation unless given.
        """
        kappa = 1.25 if changes.get("layer_norm") else 1.6
        return cls.sparse(**{"activation": "abs_spikes", "kappa": kappa, **changes})

    @property
    def hidden_mean(self) -> float:
        """Expected mean of what a hidden unit sends: 0 of signs; of spikes, the tails of a normal distribution."""
        if self.activation == "signs":
            return 0.0
        deviations = self.kappa * math.sqrt(2 / math.pi)  # a mean deviation, in standard deviations
        return (0.5 if self.activation == "spikes" else 1.0) * math.erfc(deviations / math.sqrt(2))

    def to_dict(self) -> dict[str, Any]:
        """The rule as JSON holds it."""
        grow = None if self.grow is None else self.grow.to_dict()
        return {**vars(self), "consolidation": self.consolidation.to_dict(), "grow": grow}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> OnlineRule:
        """Inverse of `to_dict`."""
        gates = {
            name: consolidation_from_dict(record[name])
            for name in ("consolidation", "grow")
            if record.get(name) is not None
        }
        return cls(**{**record, **gates})


def check_precision(precision: Precision) -> None:
    """Raise ValueError unless `precision` is "float" or a whole number of bits from 3 to 16."""
    whole = isinstance(precision, (int, np.integer)) and not isinstance(precision, bool)
    if precision != "float" and not (whole and 3 <= int(precision) <= 16):
        raise ValueError(f"precision is {precision!r}; give 'float', or the bits of a hidden weight, 3 to 16")


@dataclass(frozen=True)
class LayerSettings:
    """One layer of metaplastic synapses and their neurons.

    `readout` layers give their sums and neither centre nor gate errors by a window; the others give signs or spikes.
    Raises ValueError for sizes or a precision that the form cannot hold.
    """

    n_in: int
    n_out: int
    readout: bool = False
    precision: Precision = 8  # "float", or the bits of a hidden weight
    rule: OnlineRule = field(default_factory=OnlineRule)
    seed: int = 0  # of the draws for stochastic rounding, 32 bits
    input_mean: float = 0.0  # threshold: this times the sum of the unit's binary weights; 0 where inputs are +-1
    device: Device | None = None  # of the memory; None keeps whole levels, without fault
    max_level: int = 1  # inputs are -1, 0 and 1; above 1 they are levels 0 .. max_level, and `input_mean` a share of it
    frozen: bool = False  # the synapses stay as they are; the neurons go on measuring their scale
    engine_steps: int = 0  # in Lava's learning engine an image takes this many time steps, layers + 4; 0: not there

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.device is not None and self.precision == "float":
            raise ValueError("a device writes whole levels; give the bits of a hidden weight, 3 to 16, as precision")
        if not 1 <= self.n_in < 2**17 or not 1 <= self.n_out < 2**17:
            raise ValueError(f"a layer of {self.n_out} units with {self.n_in} inputs; both are 1 to {2**17 - 1}")
        if not -1.0 <= self.input_mean <= 1.0:
            raise ValueError(f"input_mean is {self.input_mean}; inputs are -1, 0 or 1, so their mean lies between")
        if self.device is not None and (self.max_level > 1 or self.rule.memory is not None):
            raise ValueError("a device steps by spikes and errors only: no pixels as inputs, no memory in the rule")
        if not 1 <= self.max_level <= 255:
            raise ValueError(f"max_level is {self.max_level}; a layer that learns takes inputs of 1 to 8 bits")
        if self.device is not None and self.rule.grow is not None:
            raise ValueError(
                f"a device shapes growing steps by its own soft_bounds: the rule's grow, {self.rule.grow}, must be None"
            )
        if self.engine_steps:
            self._check_engine()

    def _check_engine(self) -> None:
        if self.engine_steps < ENGINE_LEAST_STEPS:
            raise ValueError(
                f"engine_steps is {self.engine_steps}; in the learning engine an image takes layers + 4 time steps, "
                f"{ENGINE_LEAST_STEPS} with one layer"
            )
        if self.precision not in ("float", ENGINE_BITS):
            raise ValueError(
                f"precision is {self.precision!r}; the learning engine's tags have 8 bits and a sign: give "
                f"{ENGINE_BITS}, or 'float'"
            )
        if self.device is not None or self.max_level > 1 or self.rule.memory is not None:
            raise ValueError(
                "the learning engine has its own memory, takes spikes or signs, and forgets nothing: no device, no "
                "pixels as inputs, no memory in the rule"
            )
        gate, grow = self.rule.consolidation, self.rule.grow
        if grow is not None and not (grow == gate and is_polynomial(gate)):
            raise ValueError(
                f"the learning engine gates growing steps only by the consolidation function itself, linear or "
                f"quadratic: the rule's grow, {grow}, must be that or None"
            )
        if self.relative or self.rule.class_rate:
            raise ValueError(
                "the learning engine's neurons know nothing of an image's spread and of how often a class came: give "
                "activation='signs' or divisive=False, and class_rate=0"
            )
        trace = self.rule.lr * self.full_range / self.engine_rule.step
        if self.precision != "float" and trace > TRACE_LIMIT:
            raise ValueError(
                f"lr is {self.rule.lr:g}: an error of 1 would need a trace of {trace:.0f}, and the learning engine's "
                f"go to {TRACE_LIMIT}; here lr is at most {self.rule.lr * TRACE_LIMIT / trace:.3g}"
            )

    @property
    def engine_rule(self) -> EngineRule:
        """The consolidation function of |h| / limit in the learning engine's language."""
        precision = "float" if self.precision == "float" else "fixed"
        inputs = "spikes" if self.input_mean else "signs"
        return _lowered(self.rule.consolidation, precision, inputs, self.rule.grow is not None)

    @property
    def full_range(self) -> float:
        """|h| of 1 in the units in which it is kept: levels, tags of the learning engine, or 1."""
        if self.engine_steps:
            return self.engine_rule.scale / self.limit
        return 1.0 if self.precision == "float" else self.levels

    @property
    def limit(self) -> float:
        """Largest |h|, as a share of the full range."""
        return self.rule.readout_limit if self.readout else 1.0

    @property
    def level_bits(self) -> int:
        """Levels are counted in units of 2**this: 0 for spikes and signs, 8 for 8-bit pixels."""
        return (self.max_level - 1).bit_length()

    @property
    def mean_input(self) -> float:
        """`input_mean` in these units."""
        return self.input_mean * self.max_level / (1 << self.level_bits)

    @property
    def spiking(self) -> bool:
        return self.rule.activation != "signs" and not self.readout

    @property
    def edges(self) -> int:
        """At how many distances a unit begins to spike: one, or one on either side; 0 of signs and of a readout."""
        return {"signs": 0, "spikes": 1, "abs_spikes": 2}[self.rule.activation] if not self.readout else 0

    @property
    def two_sided(self) -> bool:
        return self.edges == 2

    @property
    def layer_norm(self) -> bool:
        """Whether distances are from the layer's mean, in its deviations."""
        return self.spiking and self.rule.layer_norm

    @property
    def divisive(self) -> bool:
        """Whether distances are in spreads of the image."""
        return self.spiking and self.rule.divisive and not self.rule.layer_norm

    @property
    def relative(self) -> bool:
        """Whether thresholds follow each image, in one of the two ways."""
        return self.layer_norm or self.divisive

    @property
    def measures_scale(self) -> bool:
        """Whether units follow their mean deviation; that of a layer norm is known."""
        return not (self.readout or self.layer_norm)

    @property
    def homeostatic(self) -> bool:
        return self.rule.thresholds == "homeostatic" and not self.readout

    @property
    def centred(self) -> bool:
        return self.rule.centring and not self.readout

    @property
    def backward_shift(self) -> int:
        """Errors passed down are divided by 2**this, about the root of the units that add up; a readout's are not."""
        return 0 if self.readout else int(math.log2(math.sqrt(self.n_out)))

    @property
    def initial_deviation(self) -> float:
        """Expected mean deviation of a sum of random signs: of 0/1 inputs (one in eight active), or of +-1 inputs.

        Of units whose thresholds follow the image, that of a normal distribution.
        """
        if self.relative:
            return math.sqrt(2 / math.pi)
        return math.sqrt(self.n_in) * (0.8 if self.input_mean == 0 else 0.28)

    # In fixed point.

    @property
    def levels(self) -> int:
        """Levels of the full range: 127 for 8 bits."""
        return (1 << (int(self.precision) - 1)) - 1

    @property
    def limit_levels(self) -> int:
        return max(1, int(self.levels * self.limit))

    @property
    def unit(self) -> int:
        """Stored units per level: 1, or more if a device keeps values between levels."""
        return 1 if self.device is None else 1 << (STORED_BITS - int(self.precision))

    @property
    def limit_stored(self) -> int:
        """Largest |h| as it is stored; of float tags, which nothing clamps, where the gate ends."""
        if self.engine_steps:
            return int(min(self.engine_rule.T, ENGINE_LEVELS))
        return self.limit_levels * self.unit

    @property
    def sum_bits(self) -> int:
        """A sum is shifted left by this: it then has 12 fraction bits, whatever the unit of levels."""
        return NEURON_BITS - self.level_bits

    @property
    def mean_fixed(self) -> int:
        """`mean_input` with 12 fraction bits."""
        return round(self.mean_input * (1 << NEURON_BITS))

    @property
    def kappa_fixed(self) -> int:
        return round(self.rule.kappa * (1 << KAPPA_BITS))

    @property
    def step_bits(self) -> int:
        """Fraction bits of a step: 24 to 8 bits of precision, fewer above, so that a step stays inside 32 bits."""
        return 24 - max(0, int(self.precision) - 8)

    @property
    def amount_shift(self) -> int:
        """From error (7 + 12 fraction bits) times rate (12) to an amount (8 fraction bits less than a step)."""
        return 7 + NEURON_BITS + RATE_BITS - (self.step_bits - 8)

    def rate_fixed(self, lr: float) -> int:
        """Levels a unit error moves a synapse, with 12 fraction bits; in the learning engine, the trace that it is."""
        return round(self.full_range / (self.engine_rule.step if self.engine_steps else 1) * lr * (1 << RATE_BITS))

    def gate_table(self, consolidation_range: float) -> NDArray[Any]:
        """int32 (limit_stored + 1,): 256 * f(|h| / (limit * consolidation_range)) for every stored |h|."""
        return self._gates(self.rule.consolidation, consolidation_range)

    def growing_table(self, consolidation_range: float) -> NDArray[Any]:
        """The same of the rule's `grow`, for steps that grow |h|; all ones without it."""
        return self._gates(self.rule.grow or Constant(), consolidation_range)

    def _gates(self, f: Consolidation, consolidation_range: float) -> NDArray[Any]:
        distance = np.arange(self.limit_stored + 1) / (self.limit_stored * consolidation_range)
        gates: NDArray[Any] = np.rint(GATE_ONE * f(distance)).astype(np.int32)
        return gates

    def forgetting_table(self) -> NDArray[Any]:
        """int32 (limit_levels + 1,): |h| / memory for every level of |h|, in units of a step."""
        level = np.arange(self.limit_levels + 1)
        if self.rule.memory is None:
            return np.zeros(len(level), np.int32)
        forgets: NDArray[Any] = np.rint(level * (1 << self.step_bits) / self.rule.memory).astype(np.int32)
        return forgets


@lru_cache(maxsize=64)
def _lowered(consolidation: Consolidation, precision: str, inputs: str, both: bool) -> EngineRule:  # noqa: FBT001
    return lower(consolidation, precision=precision, inputs=inputs, both=both)
