"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.nn import mark_binary
from lava_meta.optim import MetaplasticAdam, MetaplasticSGD, parameter_groups
from lava_meta.rule import Consolidation, as_consolidation
from lava_meta.training.evaluation import device_of
from lava_meta.training.proposal import propose_m


@dataclass(frozen=True)
class TrainSettings:
    """How to train. Raises `ValueError` or `TypeError`, naming the setting that is out of range.

    `m` is the metaplasticity: one value, or one per layer; 0 is plain training. None, the default, proposes a value
    from the number of steps and `lr` (`propose_m`); `train` prints it, and `TrainResult.settings.m` has it.
    """

    epochs: int = 20  # a part
    batch_size: int = 50
    lr: float = 0.005
    m: float | tuple[float, ...] | None = None  # 1/(units of the hidden weight); None: proposed; 0: plain
    consolidation: Consolidation | None = None  # any other gate; replaces m
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.0  # of sgd
    weight_decay: float = 1e-7
    reset_moments: bool = True  # a new optimizer with each part; False: one throughout
    seed: int = 0  # of the order of the images, and of models that draw at random
    evaluate: Literal["epoch", "task"] = "epoch"  # test after each epoch, or after each part only
    eval_batch: int = 1000  # images a batch in tests: matters where a norm takes the batch's own statistics
    fast: bool = False  # compiled passes and narrow products where they fit: the same in distribution, not bit for bit

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("eval_batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}; it must be an integer")
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        for name in ("reset_moments", "fast"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be True or False")
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer is {self.optimizer!r}; choose 'adam' or 'sgd'")
        if self.evaluate not in ("epoch", "task"):
            raise ValueError(f"evaluate is {self.evaluate!r}; choose 'epoch' or 'task'")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError("momentum is an option of sgd; adam has its own")
        if self.m is None and self.consolidation is None and self.optimizer == "sgd":
            raise ValueError("m is not given, and a value is proposed for adam only: give m (0 is plain training)")
        if isinstance(self.m, list):
            object.__setattr__(self, "m", tuple(self.m))
        if self.consolidation is not None:  # a plain function too
            object.__setattr__(self, "consolidation", as_consolidation(self.consolidation, torch.zeros(0)))
        # The optimizer knows the ranges of its own options.
        layers = len(self.m) if isinstance(self.m, tuple) else 1
        checked = replace(self, m=0.0) if self.m is None and self.consolidation is None else self
        checked.make_optimizer(nn.ParameterList(mark_binary(nn.Parameter(torch.zeros(1, 1))) for _ in range(layers)))

    def for_scenario(self, scenario: Scenario) -> TrainSettings:
        """These settings with `m` proposed for the steps that `scenario` takes, if it is None; else as they are."""
        if self.m is not None or self.consolidation is not None:
            return self
        steps = [self.epochs * math.ceil(len(part) / self.batch_size) for part in scenario.train]
        return replace(self, m=propose_m(sum(steps), self.lr))

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A new optimizer for `model`.

        Raises:
            ValueError: `m` is None, or does not have one value per layer.
        """
        if self.consolidation is None:
            if self.m is None:
                raise ValueError("m is not chosen yet: for_scenario(scenario) proposes one, or give m")
            options: dict[str, Any] = {"params": parameter_groups(model, self.m)}
        else:
            options = {"params": list(model.parameters()), "consolidation": self.consolidation}
        options |= {"lr": self.lr, "weight_decay": self.weight_decay, "fused": self.fast}
        if self.optimizer == "sgd":
            return MetaplasticSGD(**options, momentum=self.momentum)
        return MetaplasticAdam(**options, capturable=self.fast and device_of(model).type == "cuda")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.consolidation is not None:
            values |= {"m": None, "consolidation": self.consolidation.to_dict()}
        return values
