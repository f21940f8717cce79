"""What is done against forgetting, by name: the choices of `--rule`.

Every rule runs under the same loop, network and data. A rule may use the metaplasticity `m`, attach a method to the
training loop (`lava_meta.training.methods`), or rearrange the parts that are learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from lava_meta.data.scenarios import Scenario, all_together
from lava_meta.io.config import check
from lava_meta.rule import Consolidation, Constant, Exponential, Towards
from lava_meta.training.methods import EWC, MESU, SI, Beakers, BiMU, Levels, Method, Replay


@dataclass(frozen=True)
class MethodSettings:
    """The options of methods, each of which its own rule looks at."""

    ewc_strength: NonNegativeFloat = 5000.0  # also of random consolidation
    ewc_anchor: Literal["hidden", "binary"] = "hidden"
    si_strength: NonNegativeFloat = 1.0
    replay_images: PositiveInt = 1000  # kept in all
    level_bits: Annotated[int, Field(ge=2)] = 5  # probabilistic metaplasticity: bits of a hidden weight
    level_limit: float = 1.0  # and the largest |h|
    engram_share: Annotated[float, Field(gt=0, le=1)] = 0.5  # of hidden units that each task draws
    bimu_lr: PositiveFloat = 4.9
    bimu_window: PositiveFloat = 700.0
    mesu_lr: PositiveFloat = 1.6  # of the means
    mesu_window: PositiveFloat = 600_000.0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Rule:
    """One way of learning. What is not given leaves things as they are."""

    about: str
    uses_m: bool = False
    proposes: bool = False  # m is the one that training proposes
    relative: bool = False  # m counts in medians of |h| of the layer
    method: Callable[[MethodSettings, float], Method | None] = lambda options, m: None
    scenario: Callable[[Scenario], Scenario] = lambda scenario: scenario
    consolidation: Callable[[float], Consolidation] | None = None  # of m, instead of Tanh2
    grow: Callable[[float], Consolidation] | None = None  # of m, for growing steps
    optimizer: Literal["adam", "adalayer", "sgd"] | None = None  # instead of the settings'
    real: bool = False  # a network of real weights
    same_bits: bool = False  # of so few that they take the memory of the binary ones
    engrams: bool = False  # each task draws its own hidden units
    drawn: Literal["bernoulli", "gaussian"] | None = None  # a network whose weights are drawn
    one_task: bool = False  # all tests are one task to the network's norms


RULES: dict[str, Rule] = {
    "plain": Rule("m = 0: ordinary training"),
    "metaplastic": Rule("steps that shrink |h| are scaled by 1 - tanh(m h)^2", uses_m=True),
    "proposed": Rule("the same, with the m that training proposes", proposes=True),
    "relative": Rule(
        "the same, with m in medians of |h| of the layer, and one adaptive step per layer",
        uses_m=True,
        relative=True,
        optimizer="adalayer",
    ),
    "lasting": Rule(
        "gates in both directions that end at 1/m, and one adaptive step per layer",
        uses_m=True,
        consolidation=lambda m: Towards(1 / m, floor=0.005, power=2.0) if m else Constant(),
        grow=lambda m: Towards(1 / m, floor=0.1) if m else Constant(),
        optimizer="adalayer",
    ),
    "ewc": Rule("plain, and EWC: told where a task ends", method=lambda o, m: EWC(o.ewc_strength, anchor=o.ewc_anchor)),
    "random": Rule(
        "EWC with shuffled importances: random consolidation",
        method=lambda o, m: EWC(o.ewc_strength, anchor=o.ewc_anchor, shuffle=True),
    ),
    "si": Rule("plain, and synaptic intelligence: told where a task ends", method=lambda o, m: SI(o.si_strength)),
    "replay": Rule("plain, with stored images in every batch", method=lambda o, m: Replay(o.replay_images)),
    "beakers": Rule(
        "each hidden weight leaks into slower ones, the last metaplastic",
        uses_m=True,
        # The last of two follows within a task of a few hundred steps; a slower one feeds its random start back.
        method=lambda o, m: Beakers(pipes=(1e-2, 1e-4), areas=(1.0, 2.0), m=m, feedback=0.02),
        consolidation=lambda m: Constant(),
    ),
    "probabilistic": Rule(
        "whole levels, moved with probability exp(-m |h|) where |h| would shrink",
        uses_m=True,
        method=lambda o, m: Levels(o.level_bits, o.level_limit),
        consolidation=Exponential,
    ),
    "engrams": Rule(
        "the metaplastic rule in hidden units that each task draws: told the task", uses_m=True, engrams=True
    ),
    # The constants are those that the authors publish for 784-100-10 and 1000 permuted tasks.
    "bimu": Rule(
        "binary weights drawn at random, with a memory of a window",
        method=lambda o, m: BiMU(o.bimu_window, o.bimu_lr, lr_max=0.0023, likelihood=161.3, prior=3.76),
        drawn="bernoulli",
    ),
    "mesu": Rule(
        "real weights drawn at random, with a memory of a window",
        method=lambda o, m: MESU(o.mesu_window, o.mesu_lr, lr_deviation=2.1, prior=0.3, clip=0.36),
        drawn="gaussian",
    ),
    "real-small": Rule("plain, so few real weights that they take the memory of the binary ones", same_bits=True),
    "real": Rule("the metaplastic rule on real weights that compute themselves", uses_m=True, real=True),
    "together": Rule("plain, all tasks at once: the upper bound", scenario=all_together, one_task=True),
}
