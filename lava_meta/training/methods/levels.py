"""Hidden weights on a few levels, moved at random: probabilistic metaplasticity, and any other rule in few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lava_meta.training.methods.base import Hooks, Method, check_choice, check_number, check_whole, synapses


@dataclass(frozen=True)
class Levels(Method):
    """Hidden weights are kept on 2**bits - 1 levels, evenly spaced over +-limit, after every step.

        d = limit / (2**(bits-1) - 1);   h <- d * floor(h/d + r), clamped to +-limit;   r uniform in [0, 1), or 1/2

    A step u shorter than d then moves a synapse by one whole level with probability |u| f(h) / d, where f is the
    optimizer's consolidation function. With f = Exponential(m) that is probabilistic metaplasticity (Zohora and
    Kudithipudi 2024): a synapse changes with probability exp(-m |h|), and needs no small steps. With another f it is
    the limited-precision form of that rule. To the nearest (`rounding="nearest"`), short steps are lost.

    bits: of a hidden weight, 2 to 16. limit: the largest |h|, positive, in units of h.
    """

    bits: int = 8
    limit: float = 1.0
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    kind: ClassVar[str] = "levels"

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 2)
        if self.bits > 16:
            raise ValueError(f"bits is {self.bits}; give 2 to 16")
        check_number("limit", self.limit, least=1e-12)
        check_choice("rounding", self.rounding, ("stochastic", "nearest"))

    def start(self, model: nn.Module) -> Hooks:
        hooks = _Rounding(self, synapses(model))
        hooks.stepped()  # training starts on the levels
        return hooks


class _Rounding(Hooks):
    def __init__(self, settings: Levels, weights: dict[str, nn.Parameter]) -> None:
        self.settings, self.weights = settings, weights

    @torch.no_grad()
    def stepped(self) -> None:
        s = self.settings
        most = 2 ** (s.bits - 1) - 1
        spacing = s.limit / most
        for weight in self.weights.values():
            offset: float | Tensor = torch.rand_like(weight) if s.rounding == "stochastic" else 0.5
            weight.copy_(weight.div(spacing).add_(offset).floor_().clamp_(-most, most).mul_(spacing))
