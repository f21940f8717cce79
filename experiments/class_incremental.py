"""Class-incremental learning on feature vectors: a few classes at a time, one readout, no label of the task at test.

The paper takes features of CIFAR images from a trained network. Any classifier of torchvision gives them
(`--set data=cifar10 --set backbone=resnet18`); where there is neither, random convolutions of digits do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, PositiveInt

from lava_meta.data.scenarios import split_classes
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.features import feature_dataset
from lava_meta.experiments.common.figures import task_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import (
    TRAINING,
    TrainingSettings,
    compared,
    load,
    measured,
    rule_arms,
    train_arm,
)
from lava_meta.io.config import Several
from lava_meta.plotting.figure import Figure
from lava_meta.training import TrainSettings


@dataclass(frozen=True)
class ClassSettings(TrainingSettings):
    """Where features come from, and how many classes a part learns."""

    rules: Several[str] = ("metaplastic", "together")
    m: Several[float] = (0.0, 1.8)
    data: str = "cifar10"
    backbone: str = "resnet18"  # or "random"
    weights: str = "DEFAULT"  # of torchvision's backbone; "none": untrained
    features: Annotated[int, Field(ge=4)] = 512  # of random convolutions
    classes: PositiveInt = 1  # a part
    hidden: Several[PositiveInt] = (2048,)
    training: TrainSettings = replace(TRAINING, epochs=10)


SCALES = {
    "small": changed(
        ClassSettings(),
        data="digits",
        backbone="random",
        m=(0.0, 4.0, 16.0),
        classes=5,
        hidden=(512,),
        batch_size=20,
        epochs=4,
    ),
    "medium": changed(
        ClassSettings(),
        data="mnist",
        backbone="random",
        seeds=1,
        m=(0.0, 4.0, 16.0),
        classes=5,
        hidden=(1024,),
        train_images=20000,
    ),
    "paper": changed(ClassSettings(), seeds=5, norm="batch"),
}


def measure(run: Run[ClassSettings]) -> Measurement:
    """Train one arm, some classes after the other."""
    settings, seed = run.settings, run.seed
    images = load(settings, settings.data, seed)
    dataset = feature_dataset(images, settings.backbone, settings.features, seed, settings.weights)
    count = dataset.train.classes
    groups = [range(first, min(first + settings.classes, count)) for first in range(0, count, settings.classes)]
    return measured(train_arm(run, split_classes(dataset, groups))[1])


def figures(settings: ClassSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy on each group of classes over the epochs, a panel per arm."""
    sequences = [label for label in results.arms if label != "together"]
    count = len(results.arms[sequences[0]][0].data["accuracies"][0]) if sequences else 0
    names = [f"group {group + 1}" for group in range(count)]
    return (
        {"class_incremental": task_curves(results, settings.training.epochs, names, only=sequences)}
        if sequences
        else {}
    )


def claims(settings: ClassSettings, results: Results) -> Sequence[Claim]:
    """Earlier classes are kept."""
    plain, best = compared(results)
    said = results.apart("ACC", "together", plain, best)
    return [Claim("metaplasticity keeps earlier classes", said, results.above(best, plain, "ACC"))]


EXPERIMENT = Experiment(
    name="class_incremental",
    title="Class-incremental learning on feature vectors of {data}",
    source="Laborieux et al. 2021: CIFAR-10 features, 512-2048-10, m = 1.8, 10 epochs; CIFAR-100 features, "
    "512-2048-2048-100, m = 1.3, 20 epochs, instance norm (`--set data=cifar100 --set hidden=2048,2048 --norm layer`).",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
