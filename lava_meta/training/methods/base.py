"""What every method is made of: its declaration, and its hooks in a run.

    part begins:      begin_part(part, images)
    each step:        x, y = batch(x, y)
                      forward, cross entropy, backward
                      gradients()                         <- the gradients of the task alone are in place
                      optimizer step
                      stepped()
    part ends:        end_part(part, images)              <- before its test and its checkpoint

A declaration is a frozen dataclass of settings; `start` makes the hooks, which hold everything that changes. What
changes must be in `tensors`, because a run may be stopped after any epoch and goes on from there.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from lava_meta.nn.binary import hidden_weights, is_binary
from lava_meta.rule import sign

if TYPE_CHECKING:
    import torch

    from lava_meta.data import Images


class Hooks:
    """A method in a run. Every hook does nothing; a method overrides those that it needs.

    Draw random numbers from torch's global generator, which the loop seeds and keeps in its checkpoint, or keep the
    state of a generator of your own in `tensors`.
    """

    def optimizer(self, batch_size: int) -> torch.optim.Optimizer | None:
        """A new optimizer instead of the settings', which None keeps. batch_size: images in a step, before `batch`."""
        return None

    def begin_part(self, part: int, images: Images) -> None:
        """Before the first step of part `part` (from 0), which learns `images`."""

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What is trained on instead of this batch: x uint8 (n, *shape), raw levels; y int64 (n,)."""
        return x, y

    def gradients(self) -> None:
        """After the backward pass, before the step: add to `parameter.grad`, in place."""

    def stepped(self) -> None:
        """After the optimizer has changed the parameters."""

    def end_part(self, part: int, images: Images) -> None:
        """After the last step of part `part` on `images`; leave the model as it is."""

    def tensors(self) -> dict[str, Tensor]:
        """All that has changed since `start`, for the checkpoint."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave. Raises KeyError, ValueError or RuntimeError if it does not fit."""


class Method(ABC):
    """The declaration of a method: a frozen dataclass, JSON-ready, checked when it is made."""

    kind: ClassVar[str]

    @abstractmethod
    def start(self, model: nn.Module) -> Hooks:
        """The hooks for a run of `model`, on the model's device. Raises `ValueError` for a model it cannot serve."""

    def to_dict(self) -> dict[str, Any]:
        """Kind and settings, as JSON holds them."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


def check_method(method: Any) -> None:
    """Raise `TypeError`, with the call that makes one, for what is neither a method nor None."""
    if method is not None and not isinstance(method, Method):
        known = ", ".join(sorted(kind.__name__ for kind in Method.__subclasses__()))
        raise TypeError(f"method is {method!r}; give an object, as lava_meta.training.methods.EWC(): there are {known}")


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters of two or more dimensions by name, hidden weights and real-valued ones."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad and p.dim() >= 2}


def synapses(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable hidden weights by name: those that the optimizers gate (`lava_meta.nn.hidden_weights`).

    Raises:
        ValueError: if the model has none, so that a method on them would do nothing.
    """
    found = hidden_weights(model)
    if not found:
        raise ValueError(
            "the model has no binary weights: if layers of your own take signs of theirs, derive them from "
            "lava_meta.nn.BinaryLayer, or mark the weights with lava_meta.nn.mark_binary"
        )
    return found


def anchored(weight: nn.Parameter, anchor: str) -> Tensor:
    """What a spring holds of a weight, without gradient: of a hidden weight with the anchor "binary" its sign."""
    held = weight.detach()
    return sign(held) if anchor == "binary" and is_binary(weight) else held


def check_number(name: str, value: Any, least: float = 0.0) -> None:
    """Raise TypeError or ValueError naming the setting unless `value` is a finite number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not least <= float(value) < math.inf:
        raise ValueError(f"{name} must be at least {least:g} and finite, not {value}")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError naming the setting unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, allowed))}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise TypeError or ValueError naming the setting unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; it must be an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
