"""MNIST and then USPS on a small binary convolutional network: the same digits from another source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lava_meta.data.scenarios import dataset_sequence
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.conv import ConvSettings, conv_network
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import task_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TRAINING, compared, load, measured, rule_arms, train_arm
from lava_meta.io.config import Several
from lava_meta.plotting.figure import Figure
from lava_meta.training import TrainSettings

_NAMES = ("mnist", "usps")


@dataclass(frozen=True)
class UspsSettings(ConvSettings):
    """USPS's 16x16 images are centred on a black field of 28x28."""

    m: Several[float] = (0.0, 1.2)
    training: TrainSettings = replace(TRAINING, weight_decay=1e-8)


SCALES = {
    "small": changed(
        UspsSettings(), m=(0.0, 8.0), channels=(8, 16), epochs=4, train_images=3000, test_images=1000, batch_size=50
    ),
    "medium": changed(UspsSettings(), seeds=1, m=(0.0, 4.0), epochs=3, train_images=20000),
    "paper": changed(UspsSettings(), seeds=5, norm="batch", channels=(32, 64), hidden=(512,), epochs=240),
}


def measure(run: Run[UspsSettings]) -> Measurement:
    """Train one arm on MNIST and then on USPS."""
    datasets = [load(run.settings, name, run.seed) for name in _NAMES]
    return measured(train_arm(run, dataset_sequence(datasets, pad_to=(28, 28)), conv_network)[1])


def figures(settings: UspsSettings, results: Results) -> Mapping[str, Figure]:
    """Both accuracies over the epochs, a panel per arm."""
    return {"mnist_usps": task_curves(results, settings.training.epochs, _NAMES, chance=0.1)}


def claims(settings: UspsSettings, results: Results) -> Sequence[Claim]:
    """MNIST is kept."""
    plain, best = compared(results)
    said = "; ".join(results.apart(task, plain, best) for task in ("task 1", "task 2"))
    return [Claim("MNIST is kept while USPS is learned", said, results.above(best, plain, "task 1"))]


EXPERIMENT = Experiment(
    name="mnist_usps",
    title="MNIST, then USPS, on a convolutional network",
    source="Laborieux et al. 2021: a small binary convolutional network, m = 1.2, 240 epochs each. Its exact layers "
    "are ours: 3x3 convolutions, each with a 2x2 max pooling.",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
