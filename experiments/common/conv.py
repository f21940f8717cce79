"""Binary convolutional networks of the experiments: blocks of 3x3 convolutions, each pooled, then dense layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.settings import at_least
from lava_meta.experiments.common.training import TrainingSettings
from lava_meta.nn import BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm
from lava_meta.nn import select_task as select_in


@dataclass(frozen=True)
class ConvSettings(TrainingSettings):
    """`hidden` are the dense layers between the last block and the readout; `norm` is fixed or batch."""

    hidden: tuple[int, ...] | None = None  # type: ignore[assignment]
    channels: tuple[int, ...] = (16, 32)  # of each block
    convolutions: int = 1  # in a block, before its 2x2 max pooling
    init_std: float | None = None  # hidden weights start normal with this deviation; None: uniform in (-0.05, 0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, channels=1, convolutions=1, init_std=0)
        if self.norm == "layer":
            raise ValueError("norm is 'layer', which is for dense layers; a convolutional network takes fixed or batch")


class ConvNet(nn.Sequential):
    """Layers in a row, whose batch norms can be told the task."""

    def select_task(self, task: int) -> None:
        """Use the affine and statistics of `task`."""
        select_in(self, task)


def conv_network(settings: ConvSettings, scenario: Scenario, seed: int) -> ConvNet:
    """The network of an arm. Its pixel offset and scale are those of the first part's images.

    conv, norm, sign, ..., conv, norm, 2x2 max pooling, sign for each block; flatten; dense, norm, sign; readout, norm.
    Raises `ValueError` where the poolings leave nothing of the images.
    """
    images = scenario.train[0]
    depth, height, width = images.shape
    if min(height, width) >> len(settings.channels) < 1:
        raise ValueError(f"{len(settings.channels)} poolings leave nothing of images of {height}x{width}")
    layers: list[nn.Module] = [Pixels(offset=round(images.mean_level), max_level=images.max_level)]
    scale = 1 / images.std_level  # of the first layer's inputs; signs need none

    def norm(features: int, fan_in: int) -> nn.Module:
        if settings.norm == "fixed":
            return FixedNorm(scale / math.sqrt(fan_in))
        return TaskBatchNorm(
            features,
            len(scenario.tests),
            settings.affine,
            settings.statistics,
            settings.gain,  # type: ignore[arg-type]
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for channels in settings.channels:
            for place in range(settings.convolutions):
                layers += [BinaryConv2d(depth, channels, 3, padding=1), norm(channels, 9 * depth)]
                if place == settings.convolutions - 1:
                    layers.append(nn.MaxPool2d(2))
                layers.append(Sign())
                depth, scale = channels, 1.0
            height, width = height // 2, width // 2
        sizes: Sequence[int] = (depth * height * width, *(settings.hidden or ()), scenario.classes)
        layers.append(nn.Flatten())
        for fan_in, fan_out in pairwise(sizes):
            layers += [BinaryLinear(fan_in, fan_out), norm(fan_out, fan_in), Sign()]
        layers.pop()  # no sign behind the readout
        if settings.norm == "fixed":
            layers[-1] = SampleNorm(training_only=True)
        net = ConvNet(*layers)
        if settings.init_std is not None:
            for weight in (p for p in net.parameters() if p.dim() >= 2):
                nn.init.normal_(weight, std=settings.init_std)
    return net
