"""One data set as a stream of disjoint subsets, one after the other, never seen again, against the whole set at once.

    stream_fashion   Fashion-MNIST in sixty subsets, on the paper's dense network
    stream_cifar     CIFAR-10 in twenty subsets, on a binary convolutional network in the manner of VGG

For want of CIFAR-10, `--set data=tinted` makes a small set of its shape from Fashion-MNIST: garments in a colour of
their own on a field of 32x32. It shows that the code runs, not what CIFAR-10 would give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt

from lava_meta.data import Dataset, Images
from lava_meta.data.scenarios import stream_of_subsets
from lava_meta.experiments.common.claims import Claim, Verdict, judge
from lava_meta.experiments.common.conv import ConvSettings, conv_network
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import band, spread_note, stack
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import (
    TRAINING,
    TrainingSettings,
    compared,
    dense_network,
    load,
    measured,
    rule_arms,
    train_arm,
)
from lava_meta.io.config import OrNone, Several
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.training import TrainSettings

WHOLE = "whole set at once"


@dataclass(frozen=True)
class StreamSettings(TrainingSettings):
    """A data set cut into subsets. The paper's: Fashion-MNIST."""

    m: Several[float] = (0.0, 2.5)
    data: str = "fashion-mnist"
    subsets: PositiveInt = 60
    whole: bool = True  # also train on the whole set at once, plain: the upper bound
    # One optimizer throughout, as for one long task.
    training: TrainSettings = replace(TRAINING, epochs=20, reset_moments=False, evaluate="task")


@dataclass(frozen=True)
class CifarSettings(ConvSettings, StreamSettings):
    """The paper's stream of CIFAR-10: a small learning rate needs a large m."""

    data: str = "cifar10"
    m: Several[float] = (0.0, 13.0)
    subsets: PositiveInt = 20
    training: TrainSettings = replace(
        TRAINING, epochs=200, lr=1e-4, batch_size=64, reset_moments=False, evaluate="task"
    )
    channels: Several[PositiveInt] = (128, 256, 512)
    convolutions: PositiveInt = 2
    hidden: OrNone[Several[PositiveInt]] = (1024,)  # type: ignore[assignment]
    init_std: OrNone[NonNegativeFloat] = 0.007


S = TypeVar("S", bound=StreamSettings)


def arms(settings: S) -> dict[str, S]:
    """Every rule on the stream, and the whole set at once."""
    made = rule_arms(settings)
    if settings.whole:
        made[WHOLE] = changed(settings, rules=("plain",), m=(0.0,), subsets=1)
    return made


def measure(run: Run[StreamSettings]) -> Measurement:
    """Train one arm on the stream, or on the whole set; `data` has the test accuracy after each subset."""
    settings, seed = run.settings, run.seed
    dataset = (tinted if settings.data == "tinted" else load)(settings, settings.data, seed)
    make = conv_network if isinstance(settings, ConvSettings) else dense_network
    return measured(train_arm(run, stream_of_subsets(dataset, settings.subsets, seed), make)[1])


def tinted(settings: StreamSettings, name: str, seed: int) -> Dataset:
    """Fashion-MNIST as (n, 3, 32, 32), each image in a colour drawn at random."""
    garments = load(settings, "fashion-mnist", seed)
    draw = torch.Generator().manual_seed(seed)

    def colour(images: Images) -> Images:
        tint = torch.randint(128, 256, (len(images), 3, 1, 1), generator=draw)
        x = (images.padded(32, 32).x.to(torch.int32) * tint // 255).to(torch.uint8)
        return replace(images, x=x, name=f"{images.name} tinted")

    return Dataset(name, colour(garments.train), colour(garments.test))


def figures(settings: StreamSettings, results: Results) -> Mapping[str, Figure]:
    """Test accuracy against subsets seen, a line per arm; the whole set at once as a level."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axis = figure.subplots()
        streams = [label for label in results.arms if label != WHOLE]
        styles = arm_styles(streams)
        lowest = 100.0
        for label in streams:
            values = stack([run.data["accuracies"] for run in results.arms[label]])[..., 0]
            values = values[:, :: settings.training.epochs]  # before training, and after each subset
            lowest = min(lowest, np.nanmin(values[:, 1:]))  # the untrained network is of no interest
            look = {**styles[label], "markersize": 3.5, "markevery": max(1, settings.subsets // 10)}
            band(axis, np.arange(values.shape[1]), values, label=label, **look)
        if WHOLE in results.arms:
            axis.axhline(results.mean(WHOLE, "ACC"), color="0.3", linestyle="--", linewidth=1, label=WHOLE)
        note = spread_note(results, "band", line=True)
        axis.set(
            xlabel="subsets seen",
            ylabel=f"test accuracy (%){note}",
            xlim=(0, settings.subsets),
            ylim=(lowest - 5, None),
        )
        axis.legend(loc="lower right")
    return {"stream": figure}


def claims(settings: StreamSettings, results: Results) -> Sequence[Claim]:
    """What the paper says of streams: metaplastic above plain, and part of the way to the whole set at once."""
    plain, best = compared(results)
    start, ours, bound = (results.mean(label, "ACC") for label in (plain, best, WHOLE))
    # Where the stream costs nothing there is no way to go; NaN, where an arm was not run, fails the comparison too.
    share = (ours - start) / (bound - start) if bound - start > 1 else math.nan
    # More than half of the way, seed by seed, without a quotient: 2 (ours - plain) > whole - plain.
    half = 2 * results.differences(best, plain, "ACC") - results.differences(WHOLE, plain, "ACC")
    said = results.apart("ACC", WHOLE, plain, best)
    return [
        Claim("on a stream the metaplastic network stays above the plain one", said, results.above(best, plain, "ACC")),
        Claim(
            "it comes close to learning the whole set at once (more than half of the way from plain)",
            "no difference to close" if math.isnan(share) else f"{share:.0%} of the way from plain",
            Verdict.NOT_RUN if math.isnan(share) else judge(half, 0.0),
        ),
    ]


_TINTED = changed(
    CifarSettings(),
    data="tinted",
    subsets=10,
    channels=(8, 16, 32),
    convolutions=1,
    hidden=(64,),
    epochs=8,
    lr=1e-3,
    batch_size=20,
)
EXPERIMENTS = (
    Experiment(
        name="stream_fashion",
        title="{data} as a stream of {subsets} subsets",
        source="Laborieux et al. 2021, stream learning: 784-1024-1024-10, 60 subsets, 20 epochs each, m = 0 and 2.5, "
        "one optimizer throughout, against the whole set at once.",
        scales={
            "small": changed(
                StreamSettings(),
                m=(0.0, 12.0),
                subsets=40,
                hidden=(256, 256),
                epochs=10,
                batch_size=20,
                train_images=4000,
                test_images=2000,
            ),
            "medium": changed(StreamSettings(), seeds=1, m=(0.0, 2.5, 5.0), hidden=(512, 512), epochs=4),
            "paper": changed(StreamSettings(), seeds=5, norm="batch"),
        },
        arms=arms,
        measure=measure,
        figures=figures,
        claims=claims,
        headline=("ACC",),
    ),
    Experiment(
        name="stream_cifar",
        title="{data} as a stream of {subsets} subsets, on a convolutional network",
        source="Laborieux et al. 2021, stream learning: a binary VGG-like network, m = 13, 20 subsets, 200 epochs "
        "each, lr 1e-4, batches of 64, hidden weights normal with deviation 0.007.",
        scales={
            "small": changed(_TINTED, train_images=1000, test_images=500),
            "medium": changed(_TINTED, seeds=1, channels=(16, 32, 64), epochs=10, train_images=4000, test_images=2000),
            "paper": changed(CifarSettings(), seeds=5, norm="batch"),
        },
        arms=arms,
        measure=measure,
        figures=figures,
        claims=claims,
        headline=("ACC",),
    ),
)
