"""Binary convolutional networks of the experiments: blocks of 3x3 convolutions, each pooled, then dense layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.io.config import OrNone, Several
from lava_meta.nn import BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm
from lava_meta.nn import select_task as select_in


@dataclass(frozen=True)
class ConvSettings(TrainingSettings):
    """`hidden` are the dense layers between the last block and the readout; `norm` is fixed or batch."""

    hidden: OrNone[Several[PositiveInt]] = None  # type: ignore[assignment]
    channels: Several[PositiveInt] = (16, 32)  # of each block
    convolutions: PositiveInt = 1  # in a block, before its 2x2 max pooling
    # Hidden weights start normal with this deviation; None: uniform in (-0.05, 0.05).
    init_std: OrNone[NonNegativeFloat] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "layer":
            raise ValueError("norm is 'layer', which is for dense layers; a convolutional network takes fixed or batch")
        if self.activation != "sign":
            raise ValueError(f"activation is {self.activation!r}; a convolutional network has signs")


class ConvNet(nn.Sequential):
    """Layers in a row, whose batch norms can be told the task."""

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task`."""
        select_in(self, task)


def conv_network(settings: ConvSettings, scenario: Scenario, seed: int) -> ConvNet:
    """The network of an arm. Its pixel offset and scale are those of the first part's images.

    conv, norm, sign, ..., conv, norm, 2x2 max pooling, sign for each block; flatten; dense, norm, sign; readout, norm.
    Raises `ValueError` if the poolings leave nothing of the images.
    """
    images = scenario.train[0]
    _, height, width = images.shape
    if min(height, width) >> len(settings.channels) < 1:
        raise ValueError(f"{len(settings.channels)} poolings leave nothing of images of {height}x{width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = list(_layers(settings, scenario))
        layers.pop()  # no sign behind the readout
        if settings.norm == "fixed":
            layers[-1] = SampleNorm(training_only=True)
        pixels = Pixels(offset=round(images.mean_level), max_level=images.max_level)
        net = ConvNet(pixels, *layers)
        if settings.init_std is not None:
            for weight in (p for p in net.parameters() if p.dim() >= 2):
                nn.init.normal_(weight, std=settings.init_std)
    return net


def _layers(settings: ConvSettings, scenario: Scenario) -> Iterator[nn.Module]:
    """The layers behind the pixels, a sign behind each."""
    depth, height, width = scenario.train[0].shape
    scale = 1 / scenario.train[0].std_level  # of the first layer's inputs; signs need none
    for channels in settings.channels:
        for place in range(settings.convolutions):
            yield BinaryConv2d(depth, channels, 3, padding=1)
            yield _norm(settings, scenario, channels, scale / math.sqrt(9 * depth))
            if place == settings.convolutions - 1:
                yield nn.MaxPool2d(2)
            yield Sign()
            depth, scale = channels, 1.0
        height, width = height // 2, width // 2
    yield nn.Flatten()
    for fan_in, fan_out in pairwise((depth * height * width, *(settings.hidden or ()), scenario.classes)):
        yield BinaryLinear(fan_in, fan_out)
        yield _norm(settings, scenario, fan_out, scale / math.sqrt(fan_in))
        yield Sign()


def _norm(settings: ConvSettings, scenario: Scenario, features: int, scale: float) -> nn.Module:
    """scale: of the fixed norm."""
    if settings.norm == "fixed":
        return FixedNorm(scale)
    tasks = len(scenario.tests)
    return TaskBatchNorm(features, tasks, settings.affine, settings.statistics, settings.gain)  # type: ignore[arg-type]
