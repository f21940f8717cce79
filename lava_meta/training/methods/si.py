"""Synaptic intelligence: springs as stiff as a synapse's share in how much the loss has fallen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.training.methods.base import Hooks, Method, anchored, check_choice, check_number, weights


@dataclass(frozen=True)
class SI(Method):
    """SI (Zenke et al. 2017): the path integral of a synapse's gradient, over what it has moved, is its importance.

        path   += -g * (a_after - a_before)                     each step; g: the gradient of the task alone
        Omega  += max(0, path) / ((a_end - a_begin)^2 + damping)    when a part ends; then path = 0
        loss + strength * sum Omega (a - a_end)^2               is trained

    A path below 0, where the loss rose along it, makes no spring: it would push away. Nothing is measured again at the
    end of a part, so SI costs no more passes over the data; but it needs to be told where a part ends.

    strength: c, at least 0. damping: xi > 0, in squared units of a. anchor: what `a` is: the `"hidden"` weight, or the
    `"binary"` one, whose path is made of its flips alone, 2 each. Every weight of two or
    more dimensions is held, a real-valued one always by itself.
    """

    strength: float = 1.0
    damping: float = 1e-3
    anchor: Literal["hidden", "binary"] = "hidden"
    kind: ClassVar[str] = "si"

    def __post_init__(self) -> None:
        check_number("strength", self.strength)
        check_number("damping", self.damping, least=1e-12)
        check_choice("anchor", self.anchor, ("hidden", "binary"))

    def start(self, model: nn.Module) -> Hooks:
        return _Paths(self, model)


class _Paths(Hooks):
    def __init__(self, settings: SI, model: nn.Module) -> None:
        self.settings = settings
        self.weights = weights(model)
        self.path = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.omega = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.anchor = {name: anchored(weight, self.settings.anchor).clone() for name, weight in self.weights.items()}
        self._before: dict[str, tuple[Tensor, Tensor]] = {}  # the step under way: gradients and weights

    @torch.no_grad()
    def gradients(self) -> None:
        self._before = {}
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            here = anchored(weight, self.settings.anchor)
            self._before[name] = weight.grad.clone(), here.clone()
            weight.grad.addcmul_(self.omega[name], here - self.anchor[name], value=2 * self.settings.strength)

    @torch.no_grad()
    def stepped(self) -> None:
        for name, (gradient, before) in self._before.items():
            self.path[name].addcmul_(gradient, anchored(self.weights[name], self.settings.anchor) - before, value=-1.0)

    @torch.no_grad()
    def end_part(self, part: int, images: Images) -> None:
        for name, weight in self.weights.items():
            here = anchored(weight, self.settings.anchor)
            moved = (here - self.anchor[name]).square_().add_(self.settings.damping)
            self.omega[name] += self.path[name].clamp_(min=0).div_(moved)
            self.path[name].zero_()
            self.anchor[name] = here.clone()

    def tensors(self) -> dict[str, Tensor]:
        kinds = {"path": self.path, "omega": self.omega, "anchor": self.anchor}
        return {f"{kind}.{name}": value for kind, values in kinds.items() for name, value in values.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for kind, values in (("path", self.path), ("omega", self.omega), ("anchor", self.anchor)):
            for name, value in values.items():
                value.copy_(tensors[f"{kind}.{name}"])
