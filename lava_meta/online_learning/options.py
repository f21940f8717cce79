"""The choices of a learner, in one record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lava_meta.online_learning.device import Device
from lava_meta.online_learning.settings import OnlineRule, Precision, check_precision
from lava_meta.rule import Consolidation

CHOICES = {
    "feedback": ("symmetric", "direct"),
    "inputs": ("spikes", "pixels"),
    "form": ("fused", "layers", "engine"),
}


@dataclass(frozen=True, kw_only=True)
class LearnerOptions:
    """How a `Learner` is made and how it runs.

    Args:
        rule: what each synapse does.
        precision: "float", or the bits of a hidden weight, 3 to 16: then no step uses a floating-point number.
        feedback: "symmetric" passes errors down through the binary weights; "direct" through fixed random signs.
        seed: of everything that is drawn.
        lanes: images per time step. They see the same weights; then their steps are taken in order.
        input_mean: mean of the first layer's inputs, 0 to 1, which sets its thresholds; by default that of the first
            images.
        max_level: the brightest level of images; those of `fit` bring their own.
        timeout: seconds without a finished time step after which a run in Lava is given up.
        device: the memory that holds the hidden weights, a `Device`; None is an ideal one of whole levels.
        inputs: what the first layer sees of an image, "spikes" or "pixels" (graded spikes of up to 8 bits).
        plastic: names of the layers that learn, of `hidden1`, `hidden2`, ..., `readout`; by default all. The synapses
            of the others stay as they are.
        form: how it runs in Lava: "fused", one Process; "layers", a Process per layer. Both end in identical states.
            "engine" learns in Lava's own learning engine, as a chip would (docs/engine.md): precision 9 or "float", one
            lane, feedback "direct" if there are hidden layers; `hidden` are then its tags.

    Raises:
        ValueError, TypeError: values that do not fit.
    """

    rule: OnlineRule = field(default_factory=OnlineRule)
    precision: Precision = 8
    feedback: str = "symmetric"
    seed: int = 0
    lanes: int = 1
    input_mean: float | None = None
    max_level: int = 255
    timeout: float = 60.0
    device: Device | None = None
    inputs: str = "spikes"
    plastic: Sequence[str] | None = None
    form: str = "fused"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}")
        if operator.index(self.seed) < 0 or operator.index(self.lanes) < 1:
            raise ValueError(f"seed is {self.seed} and lanes is {self.lanes}; a seed is 0 or more, lanes 1 or more")
        if operator.index(self.max_level) < 1 or not self.timeout > 0:
            raise ValueError(f"max_level is {self.max_level} and timeout is {self.timeout}; both are positive")


def as_rule(rule: OnlineRule | Consolidation | Callable[[Any], Any] | None) -> OnlineRule:
    """`rule`; of a consolidation function, a rule with defaults; None for all defaults."""
    if isinstance(rule, OnlineRule):
        return rule
    return OnlineRule() if rule is None else OnlineRule(consolidation=rule)  # type: ignore[arg-type]


def check_plastic(plastic: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """The names of layers that learn, in order; None stands for all. Raises ValueError for others, and for none."""
    chosen = tuple(names) if plastic is None else (plastic,) if isinstance(plastic, str) else tuple(plastic)
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        raise ValueError(f"plastic is {plastic!r}; name one or more of {', '.join(names)}")
    return tuple(name for name in names if name in chosen)
