"""MNIST and then Fashion-MNIST, and the reverse: two tasks that differ in more than the order of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lava_meta.data.scenarios import dataset_sequence
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import task_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings, load, measured, rule_arms, train_arm
from lava_meta.io.config import Several
from lava_meta.plotting.figure import Figure

_ORDERS = {"MNIST first": ("mnist", "fashion-mnist"), "Fashion first": ("fashion-mnist", "mnist")}


@dataclass(frozen=True)
class PairSettings(TrainingSettings):
    """Which order; `"both"` makes two arms of each rule."""

    m: Several[float] = (0.0, 1.5)
    order: Literal["both", "MNIST first", "Fashion first"] = "both"


SCALES = {
    "small": changed(
        PairSettings(),
        m=(0.0, 8.0, 24.0),
        hidden=(256, 256),
        epochs=2,
        train_images=4000,
        test_images=2000,
        batch_size=50,
    ),
    "medium": changed(PairSettings(), seeds=1, m=(0.0, 2.0, 4.0), hidden=(512, 512)),
    "paper": changed(PairSettings(), seeds=5, norm="batch", hidden=(4096, 4096), epochs=50),
}


def arms(settings: PairSettings) -> Mapping[str, PairSettings]:
    """Every rule in every order."""
    orders = list(_ORDERS) if settings.order == "both" else [settings.order]
    return {
        f"{order}, {label}": changed(arm, order=order) for order in orders for label, arm in rule_arms(settings).items()
    }


def measure(run: Run[PairSettings]) -> Measurement:
    """Train one arm in its order."""
    settings = run.settings
    scenario = dataset_sequence([load(settings, name, run.seed) for name in _ORDERS[settings.order]])
    return measured(train_arm(run, scenario)[1])


def figures(settings: PairSettings, results: Results) -> Mapping[str, Figure]:
    """A figure per order: both accuracies over the epochs, a panel per arm."""
    found = {}
    for order, names in _ORDERS.items():
        labels = [label for label in results.arms if label.startswith(order)]
        if labels:
            found[order.replace(" ", "_").lower()] = task_curves(results, settings.training.epochs, names, 0.1, labels)
    return found


def claims(settings: PairSettings, results: Results) -> Sequence[Claim]:
    """What metaplasticity saves of the first task, and what it costs the second."""
    found = []
    for order in _ORDERS:
        plain = f"{order}, m = 0"
        others = [label for label in results.arms if label.startswith(f"{order}, m = ") and label != plain]
        if plain not in results.arms or not others:
            continue
        best = max(others, key=lambda label: results.mean(label, "ACC"))
        said = "; ".join(results.apart(task, plain, best) for task in ("task 1", "task 2"))
        found.append(Claim(f"{order}: the first task is kept", said, results.above(best, plain, "task 1")))
    return found


EXPERIMENT = Experiment(
    name="mnist_fashion",
    title="MNIST and Fashion-MNIST, in both orders",
    source="Laborieux et al. 2021: 784-4096-4096-10, 50 epochs each, m = 0 and 1.5. The plain network learns MNIST to "
    "97, then Fashion-MNIST to 85 with MNIST down to about 20 in 25 epochs.",
    scales=SCALES,
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
