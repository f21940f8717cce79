"""The binary convolutional networks of the experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import NonNegativeFloat, PositiveInt
from torch import nn

from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.training import TrainingSettings, batch_norm_options
from lava_meta.io.config import OrNone, Several
from lava_meta.nn import BinaryConvNet
from lava_meta.nn.networks import seeded


@dataclass(frozen=True)
class ConvSettings(TrainingSettings):
    """`hidden` are the dense layers between the last block and the readout."""

    hidden: OrNone[Several[PositiveInt]] = None  # type: ignore[assignment]
    channels: Several[PositiveInt] = (16, 32)  # of each block
    convolutions: PositiveInt = 1  # in a block, before its 2x2 max pooling
    # Hidden weights start normal with this deviation; None: uniform in (-0.05, 0.05).
    init_std: OrNone[NonNegativeFloat] = None


def conv_network(settings: ConvSettings, scenario: Scenario, seed: int) -> BinaryConvNet:
    """The network of an arm. Its pixel offset and scale are those of the first part's images."""
    images = scenario.train[0]
    options: dict[str, Any] = {
        "activation": settings.activation,
        "hidden": settings.hidden or (),
        "convolutions": settings.convolutions,
    }
    if settings.norm == "batch":
        options |= batch_norm_options(settings, scenario)
    with seeded(seed):
        net = BinaryConvNet.for_images(images, settings.channels, settings.norm, **options)
        if settings.init_std is not None:
            for weight in (p for p in net.parameters() if p.dim() >= 2):
                nn.init.normal_(weight, std=settings.init_std)
    return net
