"""Elastic weight consolidation: springs to what earlier parts needed, as stiff as their Fisher information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lava_meta.data import Images
from lava_meta.training.methods.base import Hooks, Method, anchored, check_choice, check_number, check_whole, weights
from lava_meta.training.methods.fisher import diagonal_fisher


@dataclass(frozen=True)
class EWC(Method):
    """Elastic weight consolidation: springs to the weights after each task k, as stiff as the Fisher information F_k.

        loss + strength / 2 * sum over k of F_k (a - a_k)^2

    is trained. The sum over tasks is kept as one, exactly: its gradient is strength * (sum F_k * a - sum F_k a_k), so
    memory does not grow with the tasks. It needs task boundaries.

    Source: Kirkpatrick et al., PNAS 114:3521 (2017).

    strength: lambda, at least 0; the paper's is 5000 on its own scale of F. anchor: what `a` is, the `"hidden"` weight
    (the public code's choice) or the `"binary"` one, whose gradient passes straight through to the hidden weight.
    images: how many images of a part, drawn at random, F is measured on. labels: drawn from the `"model"`, which
    makes it the Fisher information, or those of the `"data"` (the empirical one, as in the public code). shuffle: the
    importances of each layer change places at random: the paper's *random consolidation*, a baseline that has the
    right amount of consolidation in the wrong places.

    Every weight of two or more dimensions is held, a real-valued one always by itself; gains and offsets are not.
    """

    strength: float = 5000.0
    anchor: Literal["hidden", "binary"] = "hidden"
    images: int = 2000
    labels: Literal["model", "data"] = "model"
    shuffle: bool = False
    kind: ClassVar[str] = "ewc"

    def __post_init__(self) -> None:
        check_number("strength", self.strength)
        check_choice("anchor", self.anchor, ("hidden", "binary"))
        check_whole("images", self.images, 1)
        check_choice("labels", self.labels, ("model", "data"))
        if not isinstance(self.shuffle, bool):
            raise TypeError(f"shuffle is {self.shuffle!r}; it must be True or False")

    def start(self, model: nn.Module) -> Hooks:
        return _Springs(self, model)


class _Springs(Hooks):
    def __init__(self, settings: EWC, model: nn.Module) -> None:
        self.settings, self.model = settings, model
        self.weights = weights(model)
        self.stiffness = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}  # sum F_k
        self.pull = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}  # sum F_k a_k
        self.parts = 0

    @torch.no_grad()
    def gradients(self) -> None:
        if not self.parts:
            return
        for name, weight in self.weights.items():
            if weight.grad is not None:
                force = torch.addcmul(-self.pull[name], self.stiffness[name], anchored(weight, self.settings.anchor))
                weight.grad.add_(force, alpha=self.settings.strength)

    def end_part(self, part: int, images: Images) -> None:
        chosen = torch.randperm(len(images))[: self.settings.images].to(images.x.device)
        labels = None if self.settings.labels == "model" else images.y[chosen]
        fisher = diagonal_fisher(self.model, images.x[chosen], labels)
        with torch.no_grad():
            for name, weight in self.weights.items():
                importance = fisher[name]
                if self.settings.shuffle:
                    places = torch.randperm(importance.numel()).to(importance.device)
                    importance = importance.flatten()[places].view_as(importance)
                self.stiffness[name] += importance
                self.pull[name].addcmul_(importance, anchored(weight, self.settings.anchor))
        self.parts += 1

    def tensors(self) -> dict[str, Tensor]:
        kept = {f"stiffness.{name}": value for name, value in self.stiffness.items()}
        kept |= {f"pull.{name}": value for name, value in self.pull.items()}
        return {**kept, "parts": torch.tensor(self.parts)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name in self.weights:
            self.stiffness[name].copy_(tensors[f"stiffness.{name}"])
            self.pull[name].copy_(tensors[f"pull.{name}"])
        self.parts = int(tensors["parts"])
