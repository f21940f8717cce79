"""Beakers: a hidden weight joined by pipes to ever larger and slower ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lava_meta.rule import Tanh2, sign
from lava_meta.training.methods.base import Hooks, Method, check_number, synapses


@dataclass(frozen=True)
class Beakers(Method):
    """Beakers (Benna and Fusi 2016; with a metaplastic last one as in the public code of Laborieux et al. 2021).

    The hidden weight is the level u_0 of the first of n beakers of growing area C_k, and neighbours are joined by
    pipes g_k of shrinking width; behind the last one the level is 0. After every step of the optimizer, all at once:

        u_k += g_(k-1)/C_k * f * (u_(k-1) - u_k) + g_k/C_k * (u_(k+1) - u_k)
        u_0 += g_0/C_0 * (u_1 - u_0) + feedback * (u_last - u_0  where that has the sign of u_last)

    f = Tanh2(m)(u_last) gates the flow into the last beaker where it would pull it towards 0; elsewhere f = 1. Used
    with a plain optimizer (m = 0 there) the synapses forget gracefully, over many time scales, instead of going rigid.

    pipes: g_0, g_1, ..., one a beaker, at least 0. areas: C_0, C_1, ..., as many, positive. A step is stable where
    (g_(k-1) + g_k)/C_k < 1. m: metaplasticity of the last beaker, in 1/(units of h). feedback: at least 0.
    """

    pipes: Sequence[float] = (1e-2, 1e-3, 1e-4, 1e-5)
    areas: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
    m: float = 1.35
    feedback: float = 5e-3
    kind: ClassVar[str] = "beakers"

    def __post_init__(self) -> None:
        for name, least in (("pipes", 0.0), ("areas", 1e-12)):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise TypeError(f"{name} is {values!r}; give one number a beaker")
            for value in values:
                check_number(name, value, least)
            object.__setattr__(self, name, tuple(map(float, values)))
        if len(self.pipes) != len(self.areas) or len(self.areas) < 2:
            raise ValueError(f"{len(self.pipes)} pipes and {len(self.areas)} areas; give as many of each, at least two")
        inflow = (0.0, *self.pipes)
        for k, area in enumerate(self.areas):
            if (inflow[k] + self.pipes[k]) / area >= 1:
                raise ValueError(f"beaker {k} of area {area:g} is emptied within a step: make its pipes narrower")
        check_number("feedback", self.feedback)
        Tanh2(self.m)  # says what m may be

    def start(self, model: nn.Module) -> Hooks:
        return _Levels(self, model)


class _Levels(Hooks):
    def __init__(self, settings: Beakers, model: nn.Module) -> None:
        self.settings = settings
        self.weights = synapses(model)
        # All beakers start at the level of the weight: at rest except for the leak behind the last.
        self.deep = {
            name: [weight.detach().clone() for _ in settings.areas[1:]] for name, weight in self.weights.items()
        }

    @torch.no_grad()
    def stepped(self) -> None:
        for name, weight in self.weights.items():
            deep = self.deep[name]
            flows = self._flows([weight, *deep])
            for level, flow in zip((weight, *deep), flows, strict=True):
                level.add_(flow)

    def _flows(self, levels: list[Tensor]) -> list[Tensor]:
        s = self.settings
        flows = []
        for k, level in enumerate(levels):
            flow = -level if k + 1 == len(levels) else levels[k + 1] - level
            flow *= s.pipes[k] / s.areas[k]
            if k > 0:
                into = (levels[k - 1] - level) * (s.pipes[k - 1] / s.areas[k])
                if k + 1 == len(levels):
                    into *= torch.where(sign(level) * into < 0, Tanh2(s.m)(level), torch.ones_like(level))
                flow += into
            flows.append(flow)
        if s.feedback:
            up = levels[-1] - levels[0]
            flows[0] += s.feedback * torch.where(sign(levels[-1]) * up > 0, up, torch.zeros_like(up))
        return flows

    def tensors(self) -> dict[str, Tensor]:
        return {f"{k}.{name}": level for name, deep in self.deep.items() for k, level in enumerate(deep, 1)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, deep in self.deep.items():
            for k, level in enumerate(deep, 1):
                level.copy_(tensors[f"{k}.{name}"])
