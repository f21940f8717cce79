"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator
from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.io.config import OrNone, check, to_dict
from lava_meta.nn import mark_binary
from lava_meta.optim import MetaplasticAdalayer, MetaplasticAdam, MetaplasticSGD, parameter_groups
from lava_meta.rule import Consolidation, as_consolidation, consolidation_from_dict
from lava_meta.training.proposal import has_convolutions, has_new_classes, norm_of, propose_m

RELATIVE_M = 2.0
"""The `m` of `relative` trainings: within 3 points of the best at any length that was tried (docs/results/paper.md)."""


def _one_or_several(value: Any) -> Any:
    """A text such as "2,4" as its numbers, a list as a tuple."""
    if isinstance(value, str) and "," in value:
        value = value.split(",")
    return tuple(value) if isinstance(value, list) else value


def _gate(value: Any) -> Consolidation | None:
    """None, a consolidation function or a plain one, or what `Consolidation.to_dict` gave."""
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    return consolidation_from_dict(value) if isinstance(value, Mapping) else as_consolidation(value, torch.zeros(0))


_Gate = Annotated[
    Consolidation | None,
    PlainValidator(_gate),
    PlainSerializer(lambda gate: None if gate is None else gate.to_dict()),
]
_M = Annotated[float | tuple[float, ...], BeforeValidator(_one_or_several)]


@dataclass(frozen=True)
class TrainSettings:
    """How to train. Raises `ValueError` or `TypeError`, naming the setting that is out of range.

    `m` is the metaplasticity: one value, or one per layer; 0 is plain training. None, the default, proposes a value
    from the number of steps, `lr` and the norm (`propose_m`); `train` prints it, and `TrainResult.settings.m` has it.
    With `relative` it is in medians of |h| of the layer, and 2 if it is not given.

    The fields are the one place of these settings: the command line's flags, configuration files and the experiments'
    settings are made of them (`lava_meta.io.config`).
    """

    epochs: Annotated[int, Field(ge=1, description="Epochs per task.")] = 20
    batch_size: Annotated[int, Field(ge=1, description="Images per step.")] = 50
    lr: Annotated[float, Field(description="Learning rate.")] = 0.005
    m: Annotated[
        OrNone[_M],
        Field(
            description="Metaplasticity: one value, or one per layer separated by commas; 0 is plain. "
            "By default proposed from the number of steps, lr and the norm."
        ),
    ] = None  # 1/(units of the hidden weight)
    relative: Annotated[
        bool, Field(description="m counts in medians of |h| of the layer, and need not fit the length of the training.")
    ] = False
    consolidation: Annotated[_Gate, Field(description="Any other gate instead of m.")] = None
    grow: Annotated[_Gate, Field(description="Gate of growing steps; by default they are taken whole.")] = None
    optimizer: Annotated[
        Literal["adam", "adalayer", "sgd"],
        Field(description="adam, adalayer (one adaptive step per layer) or sgd."),
    ] = "adam"
    momentum: Annotated[float, Field(description="Of sgd.")] = 0.0
    weight_decay: Annotated[float, Field(description="Coupled weight decay.")] = 1e-7
    reset_moments: Annotated[bool, Field(description="A new optimizer per task, or one throughout.")] = True
    seed: Annotated[int, Field(ge=0, description="Fixes everything.")] = 0  # of models that draw at random too
    evaluate: Annotated[
        Literal["epoch", "task"], Field(description="Test after each epoch, or after each task only.")
    ] = "epoch"
    eval_batch: Annotated[
        int, Field(ge=1, description="Images per batch in tests, for norms that take the batch's own statistics.")
    ] = 1000
    fast: Annotated[
        bool,
        Field(description="Compiled steps and narrow products, the same in distribution only, or torch's in float32."),
    ] = False

    def __post_init__(self) -> None:
        check(self)
        if self.momentum and self.optimizer != "sgd":
            raise ValueError("momentum is an option of sgd; adam has its own")
        if self.m is None and self.consolidation is None and self.optimizer == "sgd" and not self.relative:
            raise ValueError(
                "m is not given, and none is proposed for sgd, whose steps are as large as its gradients: give m (0 is "
                "plain training)"
            )
        # The optimizer knows the ranges of its own options.
        layers = len(self.m) if isinstance(self.m, tuple) else 1
        checked = replace(self, m=0.0) if self.m is None and self.consolidation is None else self
        checked.make_optimizer(nn.ParameterList(mark_binary(nn.Parameter(torch.zeros(1, 1))) for _ in range(layers)))

    def for_scenario(self, scenario: Scenario, model: nn.Module | None = None) -> TrainSettings:
        """These settings with `m` proposed for `scenario` and the norm of `model`, if it is None; else as they are."""
        if self.m is not None or self.consolidation is not None:
            return self
        if self.relative:
            return replace(self, m=RELATIVE_M)
        steps = sum(self.epochs * math.ceil(len(part) / self.batch_size) for part in scenario.train)
        tasks = len({*scenario.task_of})
        m = propose_m(
            math.ceil(steps / tasks),
            self.lr,
            tasks,
            norm=norm_of(model),
            convolutions=has_convolutions(model),
            new_classes=has_new_classes(scenario),
        )
        return replace(self, m=m)

    def make_optimizer(self, model: nn.Module, **form: bool) -> MetaplasticAdam | MetaplasticSGD:
        """A new optimizer for `model`.

        Args:
            model: the network.
            form: how steps are computed: options such as `fused` (`lava_meta.optim.options.FORM`).

        Raises:
            ValueError: `m` is None, or does not have one value per layer.
        """
        if self.consolidation is None:
            if self.m is None:
                raise ValueError("m is not chosen yet: for_scenario(scenario) proposes one, or give m")
            options: dict[str, Any] = {"params": parameter_groups(model, self.m, self.grow)}
        else:
            gates = {"consolidation": self.consolidation, "grow": self.grow}
            options = {"params": list(model.parameters()), **gates}
        options |= {"relative": self.relative, "lr": self.lr, "weight_decay": self.weight_decay, **form}
        if self.optimizer == "sgd":
            options.pop("capturable", None)  # it counts nothing, and is capturable as it is
            return MetaplasticSGD(**options, momentum=self.momentum)
        return (MetaplasticAdalayer if self.optimizer == "adalayer" else MetaplasticAdam)(**options)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        for gate in (self.consolidation, self.grow):
            if gate is not None:
                gate.to_dict()  # says itself what no file can hold
        return to_dict(self) if self.consolidation is None else to_dict(self) | {"m": None}
