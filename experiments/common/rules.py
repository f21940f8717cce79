"""What is done against forgetting, by name: the choices of `--rule`.

Every rule runs under the same loop, network and data. A rule may use the metaplasticity `m`, attach a method to the
training loop (`lava_meta.training.methods`), or rearrange the parts that are learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lava_meta.data.scenarios import Scenario, all_together
from lava_meta.rule import Consolidation, Constant, Exponential
from lava_meta.training.methods import EWC, SI, Beakers, Levels, Method, Replay

if TYPE_CHECKING:
    from lava_meta.experiments.common.training import TrainingSettings


@dataclass(frozen=True)
class Rule:
    """One way of learning. What is not given leaves things as they are."""

    about: str
    uses_m: bool = False
    method: Callable[[TrainingSettings], Method | None] = lambda settings: None
    scenario: Callable[[Scenario], Scenario] = lambda scenario: scenario
    consolidation: Callable[[float], Consolidation] | None = None  # of m, in the place of Tanh2
    real: bool = False  # a network of real weights
    one_task: bool = False  # all tests are one task to the network's norms


RULES: dict[str, Rule] = {
    "plain": Rule("m = 0: ordinary training"),
    "metaplastic": Rule("steps that shrink |h| are scaled by 1 - tanh(m h)^2", uses_m=True),
    "ewc": Rule("plain, and EWC: told where a task ends", method=lambda s: _ewc(s, shuffle=False)),
    "random": Rule("EWC with shuffled importances: random consolidation", method=lambda s: _ewc(s, shuffle=True)),
    "si": Rule("plain, and synaptic intelligence: told where a task ends", method=lambda s: SI(s.si_strength)),
    "replay": Rule("plain, with stored images in every batch", method=lambda s: Replay(s.replay_images)),
    "beakers": Rule(
        "each hidden weight leaks into slower ones, the last metaplastic",
        uses_m=True,
        method=lambda s: Beakers(m=s.m[0]),
        consolidation=lambda m: Constant(),
    ),
    "probabilistic": Rule(
        "whole levels, moved with probability exp(-m |h|) where |h| would shrink",
        uses_m=True,
        method=lambda s: Levels(s.level_bits, s.level_limit),
        consolidation=Exponential,
    ),
    "real": Rule("the metaplastic rule on real weights that compute themselves", uses_m=True, real=True),
    "together": Rule("plain, all tasks at once: the upper bound", scenario=all_together, one_task=True),
}


def _ewc(settings: TrainingSettings, shuffle: bool) -> EWC:
    return EWC(strength=settings.ewc_strength, anchor=settings.ewc_anchor, shuffle=shuffle)
