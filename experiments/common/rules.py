"""What is done against forgetting, by name: the choices of `--rule`.

Every rule runs under the same loop, network and data. A rule may use the metaplasticity `m`, attach a method to the
training loop (`lava_meta.methods`), or rearrange the parts that are learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lava_meta.methods import EWC, Method
from lava_meta.streams import Scenario

if TYPE_CHECKING:
    from lava_meta.experiments.common.training import TrainingSettings


@dataclass(frozen=True)
class Rule:
    """One way of learning. `method` and `scenario` leave things as they are where nothing is given."""

    about: str
    uses_m: bool = False
    method: Callable[[TrainingSettings], Method | None] = lambda settings: None
    scenario: Callable[[Scenario], Scenario] = lambda scenario: scenario


RULES: dict[str, Rule] = {
    "plain": Rule("m = 0: ordinary training"),
    "metaplastic": Rule("steps that shrink |h| are scaled by 1 - tanh(m h)^2", uses_m=True),
    "ewc": Rule("plain, and EWC: told where a task ends", method=lambda s: _ewc(s, shuffle=False)),
    "random": Rule("EWC with shuffled importances: random consolidation", method=lambda s: _ewc(s, shuffle=True)),
}


def _ewc(settings: TrainingSettings, shuffle: bool) -> EWC:
    return EWC(strength=settings.ewc_strength, anchor=settings.ewc_anchor, shuffle=shuffle)
