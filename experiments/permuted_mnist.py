"""Permuted MNIST: the paper's first experiment. Does a larger m keep earlier tasks, without task boundaries?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, both
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results
from lava_meta.experiments.common.figures import permuted_task_figures
from lava_meta.experiments.common.settings import at_least
from lava_meta.experiments.common.training import (
    TrainingSettings,
    best_m,
    load,
    measured,
    rule_arms,
    train_arm,
)


@dataclass(frozen=True)
class PermutedSettings(TrainingSettings):
    """The data set, and how many permutations of its pixels are learned one after the other."""

    rules: tuple[str, ...] = ("metaplastic", "random", "ewc")
    m: tuple[float, ...] = (0.0, 0.5, 1.0, 1.35)
    data: str = "mnist"
    tasks: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, tasks=1)


SCALES = {
    "small": PermutedSettings(
        data="digits",
        tasks=5,
        m=(0.0, 4.0, 8.0, 12.0),
        hidden=(256, 256),
        epochs=10,
        batch_size=50,
        ewc_strength=1000.0,
    ),
    "medium": PermutedSettings(
        seeds=1, m=(0.0, 4.0, 8.0, 12.0), hidden=(512, 512), epochs=3, lr=0.0025, ewc_strength=1000.0
    ),
    "paper": PermutedSettings(seeds=5, norm="batch", hidden=(4096, 4096), epochs=40),
}


def measure(settings: PermutedSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Train one arm on the sequence of tasks."""
    scenario = permuted_tasks(load(settings, settings.data, seed), settings.tasks, seed)
    return measured(train_arm(settings, scenario, seed, folder, progress)[1])


def figures(settings: PermutedSettings, results: Results) -> Mapping[str, Figure]:
    """The paper's Figure 2."""
    return permuted_task_figures(results, settings.tasks, settings.epochs)


def claims(settings: PermutedSettings, results: Results) -> Sequence[Claim]:
    """What the paper says of this experiment, as far as the arms can tell; m is the best of those that were run."""
    plain, best = "m = 0", best_m(results)
    return [
        Claim(
            "metaplasticity keeps earlier tasks", results.apart("ACC", plain, best), results.above(best, plain, "ACC")
        ),
        Claim(
            "plain < random consolidation < metaplastic",
            results.apart("ACC", plain, "random", best),
            both(results.above("random", plain, "ACC"), results.above(best, "random", "ACC")),
        ),
        Claim(
            "metaplasticity comes close to EWC (at most 3 points below), never told of tasks",
            results.apart("ACC", "ewc", best),
            results.above(best, "ewc", "ACC", by=-3.0),
        ),
    ]


EXPERIMENT = Experiment(
    name="permuted_mnist",
    title="Permuted {data}: {tasks} tasks in a row",
    source="Laborieux et al. 2021, Figure 2: six tasks, 784-4096-4096-10, 40 epochs a task, batch norm, m = 0 to 1.35. "
    "Shorter runs need a larger m.",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
