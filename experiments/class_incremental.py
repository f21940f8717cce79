"""Class-incremental learning on feature vectors: a few classes at a time, one readout, no label of the task at test.

The paper takes features of CIFAR images from a trained network. Any classifier of torchvision gives them
(`--set data=cifar10 --set backbone=resnet18`); where there is neither, random convolutions of digits do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lava_meta.data.scenarios import split_classes
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results
from lava_meta.experiments.common.features import feature_dataset
from lava_meta.experiments.common.figures import task_curves
from lava_meta.experiments.common.settings import at_least
from lava_meta.experiments.common.training import TrainingSettings, best_m, load, measured, rule_arms, train_arm


@dataclass(frozen=True)
class ClassSettings(TrainingSettings):
    """Where features come from, and how many classes a part learns."""

    rules: tuple[str, ...] = ("metaplastic", "together")
    m: tuple[float, ...] = (0.0, 1.8)
    data: str = "cifar10"
    backbone: str = "resnet18"  # or "random"
    weights: str = "DEFAULT"  # of torchvision's backbone; "none": untrained
    features: int = 512  # of random convolutions
    classes: int = 1  # a part
    hidden: tuple[int, ...] = (2048,)
    epochs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, features=4, classes=1)


SCALES = {
    "small": ClassSettings(
        data="digits", backbone="random", m=(0.0, 4.0, 16.0), classes=5, hidden=(512,), batch_size=20, epochs=4
    ),
    "medium": ClassSettings(
        data="mnist", backbone="random", seeds=1, m=(0.0, 4.0, 16.0), classes=5, hidden=(1024,), train_images=20000
    ),
    "paper": ClassSettings(seeds=5, norm="batch"),
}


def measure(settings: ClassSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Train one arm, some classes after the other."""
    images = load(settings, settings.data, seed)
    dataset = feature_dataset(images, settings.backbone, settings.features, seed, settings.weights)
    count = dataset.train.classes
    groups = [range(first, min(first + settings.classes, count)) for first in range(0, count, settings.classes)]
    return measured(train_arm(settings, split_classes(dataset, groups), seed, folder, progress)[1])


def figures(settings: ClassSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy on each group of classes over the epochs, a panel an arm."""
    sequences = [label for label in results.arms if label != "together"]
    count = len(results.arms[sequences[0]][0].data["accuracies"][0]) if sequences else 0
    names = [f"group {group + 1}" for group in range(count)]
    return {"class_incremental": task_curves(results, settings.epochs, names, only=sequences)} if sequences else {}


def claims(settings: ClassSettings, results: Results) -> Sequence[Claim]:
    """Earlier classes are kept."""
    best = best_m(results)
    said = results.apart("ACC", "together", "m = 0", best)
    return [Claim("metaplasticity keeps earlier classes", said, results.above(best, "m = 0", "ACC"))]


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
