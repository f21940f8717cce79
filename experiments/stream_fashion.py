"""Fashion-MNIST as a stream: sixty disjoint subsets, one after the other, against the whole set at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lava_meta.experiments.common.experiment import Experiment, Measurement
from lava_meta.experiments.common.stream import (
    StreamSettings,
    measure_stream,
    stream_arms,
    stream_claims,
    stream_figures,
)
from lava_meta.experiments.common.training import dense_network


@dataclass(frozen=True)
class FashionSettings(StreamSettings):
    """The paper's dense network and stream."""

    m: tuple[float, ...] = (0.0, 2.5)
    data: str = "fashion-mnist"
    subsets: int = 60
    epochs: int = 20


SCALES = {
    "small": FashionSettings(
        m=(0.0, 12.0),
        subsets=40,
        hidden=(256, 256),
        epochs=10,
        train_images=4000,
        test_images=2000,
        batch_size=20,
    ),
    "medium": FashionSettings(seeds=1, hidden=(512, 512), epochs=4, m=(0.0, 2.5, 5.0)),
    "paper": FashionSettings(seeds=5, norm="batch"),
}


def measure(settings: FashionSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Train one arm on the stream, or on the whole set."""
    return measure_stream(settings, seed, folder, progress, dense_network)


EXPERIMENT = Experiment(
    name="stream_fashion",
    title="{data} as a stream of {subsets} subsets",
    source="Laborieux et al. 2021, stream learning: 784-1024-1024-10, 60 subsets, 20 epochs each, m = 0 and 2.5, one "
    "optimizer throughout, against the whole set at once.",
    scales=SCALES,
    arms=stream_arms,
    measure=measure,
    figures=stream_figures,
    claims=stream_claims,
    headline=("ACC",),
)
