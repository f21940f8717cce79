"""CIFAR-10 as a stream of twenty subsets, on a binary convolutional network in the manner of VGG.

Where CIFAR-10 is not at hand, `--set data=tinted` makes a small set of its shape from Fashion-MNIST: garments in a
colour of their own on a field of 32x32. It shows that the code runs, not what CIFAR-10 would give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lava_meta.data import Dataset, Images
from lava_meta.experiments.common.conv import ConvSettings, conv_network
from lava_meta.experiments.common.experiment import Experiment, Measurement
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.stream import (
    StreamSettings,
    measure_stream,
    stream_arms,
    stream_claims,
    stream_figures,
)
from lava_meta.experiments.common.training import load


@dataclass(frozen=True)
class CifarSettings(ConvSettings, StreamSettings):
    """The paper's stream: a small learning rate needs a large m."""

    data: str = "cifar10"
    m: tuple[float, ...] = (0.0, 13.0)
    subsets: int = 20
    epochs: int = 200
    lr: float = 1e-4
    batch_size: int = 64
    channels: tuple[int, ...] = (128, 256, 512)
    convolutions: int = 2
    hidden: tuple[int, ...] | None = (1024,)  # type: ignore[assignment]
    init_std: float | None = 0.007


_TINY = CifarSettings(
    data="tinted",
    subsets=10,
    epochs=8,
    lr=1e-3,
    channels=(8, 16, 32),
    convolutions=1,
    hidden=(64,),
    batch_size=20,
)
SCALES = {
    "small": changed(_TINY, train_images=1000, test_images=500),
    "medium": changed(_TINY, seeds=1, channels=(16, 32, 64), epochs=10, train_images=4000, test_images=2000),
    "paper": CifarSettings(seeds=5, norm="batch"),
}


def measure(settings: CifarSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Train one arm on the stream, or on the whole set."""
    return measure_stream(settings, seed, folder, progress, conv_network, tinted if settings.data == "tinted" else load)


def tinted(settings: CifarSettings, name: str, seed: int) -> Dataset:
    """Fashion-MNIST as (n, 3, 32, 32), each image in a colour drawn at random."""
    garments = load(settings, "fashion-mnist", seed)
    draw = torch.Generator().manual_seed(seed)

    def colour(images: Images) -> Images:
        tint = torch.randint(128, 256, (len(images), 3, 1, 1), generator=draw)
        x = (images.padded(32, 32).x.to(torch.int32) * tint // 255).to(torch.uint8)
        return replace(images, x=x, name=f"{images.name} tinted")

    return Dataset("tinted", colour(garments.train), colour(garments.test))


EXPERIMENT = Experiment(
    name="stream_cifar",
    title="{data} as a stream of {subsets} subsets, on a convolutional network",
    source="Laborieux et al. 2021, stream learning: a binary VGG-like network, m = 13, 20 subsets, 200 epochs each, "
    "lr 1e-4, batches of 64, hidden weights normal with deviation 0.007.",
    scales=SCALES,
    arms=stream_arms,
    measure=measure,
    figures=stream_figures,
    claims=stream_claims,
    headline=("ACC",),
)
