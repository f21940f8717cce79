"""The on-line rule beside others that see the same images, one at a time.

Ours learns in integers of 8 bits; the others are this library's own in PyTorch, in floating point, in batches of one
image. BiMU and MESU have the rates that were best in batches (`baselines`), the paper's rule the m that training
proposes. Choose others, and `online.lr`, on held-out training images (`--set held_out=0.17`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import PositiveInt
from torch import nn

from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import bars, final_accuracies
from lava_meta.experiments.common.online import OnlineSettings, learning
from lava_meta.experiments.common.rules import RULES, MethodSettings
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TRAINING, dense_network, load, measured, train_arm
from lava_meta.experiments.online import BOTH_WAYS, LAYER_NORM, SPARSE, TWO_SIDED
from lava_meta.experiments.permuted import PermutedSettings
from lava_meta.io.config import OrNone, Several
from lava_meta.nn import BayesianMLP, RealMLP
from lava_meta.plotting.figure import Figure
from lava_meta.training import TrainSettings
from lava_meta.training.metrics import task_name

OURS: Mapping[str, Mapping[str, Any]] = {
    "layer norm": {**LAYER_NORM, "inputs": "pixels"},  # grey, as all others see them
    "two-sided spikes": TWO_SIDED,
    "sparse spikes": SPARSE,
    "gates in both directions": {**TWO_SIDED, **BOTH_WAYS},
    "signs": {},
}
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "the paper's rule": {"rules": ("proposed",), "training.lr": 0.0005},
    "plain": {"rules": ("plain",), "training.lr": 0.0005},
    "BiMU": {"rules": ("bimu",), "bimu_lr": 20.0},
    "MESU": {"rules": ("mesu",), "mesu_lr": 3.2},
    "replay of 500 images": {"rules": ("replay",), "training.lr": 0.0005},
    "full precision of the same memory": {
        "rules": ("real-small",),
        "training.lr": 0.01,
        "training.optimizer": "sgd",
    },
}
_ONLINE = OnlineSettings(images=None, backend="kernels")


@dataclass(frozen=True)
class NeighbourSettings(PermutedSettings):
    """`ways` are the arms. `online` is ours, everything else that of the others."""

    ways: Several[str] = (*OURS, *OTHERS)
    rules: Several[str] = ("plain",)
    m: Several[float] = (0.0,)
    tasks: PositiveInt = 5
    train_images: OrNone[PositiveInt] = 20_000  # of each task
    hidden: Several[PositiveInt] = (512,)
    training: TrainSettings = replace(TRAINING, epochs=1, batch_size=1, evaluate="task")
    methods: MethodSettings = MethodSettings(replay_images=500)
    draws: PositiveInt = 1  # networks that BiMU and MESU draw for each image that they learn
    online: OnlineSettings = _ONLINE


def arms(settings: NeighbourSettings) -> Mapping[str, NeighbourSettings]:
    """The ways that the settings name. Raises ValueError for an unknown one."""
    unknown = [way for way in settings.ways if way not in (*OURS, *OTHERS)]
    if unknown:
        raise ValueError(f"no way {', '.join(unknown)}; there are {', '.join((*OURS, *OTHERS))}")
    values = {way: {"online": OURS[way]} if way in OURS else OTHERS[way] for way in settings.ways}
    return {way: changed(settings, ways=(way,), **values[way]) for way in settings.ways}


def measure(run: Run[NeighbourSettings]) -> Measurement:
    """Learn the tasks once, in one way."""
    settings = run.settings
    scenario = permuted_tasks(load(settings, settings.data, run.seed), settings.tasks, run.seed)
    if settings.ways[0] in OTHERS:
        return measured(train_arm(run, scenario, network)[1])
    online = replace(settings.online, hidden=settings.hidden)
    return learning(lambda *_: scenario)(Run(online, run.seed, run.folder, run.progress))


def network(settings: NeighbourSettings, scenario: Scenario, seed: int) -> nn.Module:
    """Drawn weights of so many networks; real ones so few that they take the memory of our hidden weights."""
    rule, images = RULES[settings.rules[0]], scenario.train[0]
    if rule.drawn:
        return BayesianMLP.for_images(images, settings.hidden, rule.drawn, draws=settings.draws, seed=seed)
    if rule.same_bits:
        units = [max(1, width * (settings.online.bits or 32) // 32) for width in settings.hidden]
        return RealMLP.for_images(images, units, "layer", seed=seed)
    return dense_network(settings, scenario, seed)


def figures(settings: NeighbourSettings, results: Results) -> Mapping[str, Figure]:
    """Mean accuracy in every way, and each task's."""
    return {
        "mean_accuracy": bars(results, "ACC", "mean accuracy after the last task (%)"),
        "final_accuracies": final_accuracies(results, [task_name(task) for task in range(settings.tasks)], chance=0.1),
    }


def claims(settings: NeighbourSettings, results: Results) -> Sequence[Claim]:
    """The rule that learns on-line, beside those that were made for batches and for Bayesian networks."""
    ours = next(iter(OURS))
    return [
        Claim(f"{ours} above {other}", results.apart("ACC", other, ours), results.above(ours, other, "ACC"))
        for other in ("the paper's rule", "BiMU", "replay of 500 images")
    ]


_SETTINGS = NeighbourSettings()
EXPERIMENT = Experiment(
    name="online_neighbours",
    title="Permuted {data}, {tasks} tasks, one image at a time: the on-line rule beside others",
    source="Ours: docs/results/online.md. BiMU: Cottart et al. 2026; MESU: Bonnet et al. 2025.",
    scales={
        "small": changed(_SETTINGS, data="digits", train_images=500, hidden=(64,), **{"online.lr": 0.04}),
        "medium": _SETTINGS,
        "paper": _SETTINGS,
    },
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
