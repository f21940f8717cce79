"""Permuted images, task after task: the paper's first experiment, and how much can be kept by how many synapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from pydantic import PositiveInt

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, both
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import band, error_bars, permuted_task_figures, spread_note, stack
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
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles, task_styles
from lava_meta.training import TrainSettings


@dataclass(frozen=True)
class PermutedSettings(TrainingSettings):
    """The data set, and how many permutations of its pixels are learned one after the other."""

    rules: Several[str] = ("metaplastic", "random", "ewc")
    m: Several[float] = (0.0, 0.5, 1.0, 1.35)
    data: str = "mnist"
    tasks: PositiveInt = 6


def measure(run: Run[PermutedSettings]) -> Measurement:
    """Train one arm on the sequence of tasks."""
    settings, seed = run.settings, run.seed
    scenario = permuted_tasks(load(settings, settings.data, seed), settings.tasks, seed)
    return measured(train_arm(run, scenario)[1])


def figures(settings: PermutedSettings, results: Results) -> Mapping[str, Figure]:
    """The paper's Figure 2."""
    return permuted_task_figures(results, settings.tasks, settings.training.epochs)


def claims(settings: PermutedSettings, results: Results) -> Sequence[Claim]:
    """What the paper says of this experiment, as far as the arms can tell; m is the best of those that were run."""
    plain, best = compared(results)
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


@dataclass(frozen=True)
class CapacitySettings(PermutedSettings):
    """`widths` of the two hidden layers; each makes an arm of every rule."""

    rules: Several[str] = ("metaplastic", "ewc", "together")
    m: Several[float] = (1.35,)
    tasks: PositiveInt = 10
    widths: Several[PositiveInt] = (512, 1024, 2048, 4096)
    training: TrainSettings = replace(TRAINING, weight_decay=1e-8, evaluate="task")


def capacity_arms(settings: CapacitySettings) -> Mapping[str, CapacitySettings]:
    """Every rule at every width."""
    return {
        f"{width} units, {label}": changed(arm, widths=(width,), hidden=(width, width))
        for width in settings.widths
        for label, arm in rule_arms(settings).items()
    }


def _groups(results: Results) -> dict[str, dict[int, str]]:
    """Arms by rule, then by width."""
    found: dict[str, dict[int, str]] = {}
    for label in results.arms:
        width, rule = label.split(" units, ", 1)
        found.setdefault(rule, {})[int(width)] = label
    return found


def capacity_figures(settings: CapacitySettings, results: Results) -> Mapping[str, Figure]:
    """Mean accuracy of the tasks learned so far, a panel per rule, a line per width; at last, the end over widths."""
    groups = _groups(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * (len(groups) + 1), 2.5), layout="constrained")
        axes = figure.subplots(1, len(groups) + 1, sharey=True)
        for axis, (rule, of_width) in zip(axes, groups.items(), strict=False):
            _draw_rule(axis, results, of_width)
            axis.set(title=rule, xlabel="tasks learned", xlim=(1, settings.tasks), ylim=(0, 101))
        _draw_end(axes[-1], results, groups)
        axes[-1].set_xticks(list(settings.widths), list(map(str, settings.widths)))
        axes[-1].minorticks_off()
        axes[0].legend(title="units a layer", loc="lower left")
        axes[0].set_ylabel(f"mean accuracy (%){spread_note(results, 'band, bar', line=True)}")
    return {"capacity": figure}


def _draw_rule(axis: Axes, results: Results, of_width: Mapping[int, str]) -> None:
    for (width, label), look in zip(of_width.items(), task_styles(len(of_width)), strict=True):
        values = stack([run.data["matrix"]["values"][1:] for run in results.arms[label]])  # (seeds, parts, tasks)
        parts = values.shape[1]
        if parts < values.shape[2]:  # all tasks at once: a level
            axis.axhline(results.mean(label, "ACC"), color=look["color"], label=f"{width}")
            continue
        so_far = np.stack([values[:, k, : k + 1].mean(axis=1) for k in range(parts)], axis=1)
        band(axis, np.arange(1, parts + 1), so_far, label=f"{width}", markersize=3, **look)


def _draw_end(axis: Axes, results: Results, groups: Mapping[str, Mapping[int, str]]) -> None:
    styles = arm_styles(groups)
    for rule, of_width in groups.items():
        means = [results.mean(label, "ACC") for label in of_width.values()]
        spreads = error_bars([results.spread(label, "ACC") for label in of_width.values()])
        axis.errorbar(list(of_width), means, yerr=spreads, markersize=3.5, capsize=2, label=rule, **styles[rule])
    axis.set(xscale="log", xlabel="units a layer", title="after the last task")
    axis.legend()


def capacity_claims(settings: CapacitySettings, results: Results) -> Sequence[Claim]:
    """Larger networks keep more."""
    found = []
    for rule, of_width in _groups(results).items():
        small, large = of_width[min(of_width)], of_width[max(of_width)]
        if rule != "together" and small != large:
            said = results.apart("ACC", small, large)
            found.append(Claim(f"{rule}: wider networks keep more tasks", said, results.above(large, small, "ACC")))
    return found


_PERMUTED = changed(PermutedSettings(), m=(0.0, 4.0, 8.0, 12.0), ewc_strength=1000.0)
_DIGITS = changed(
    CapacitySettings(),
    data="digits",
    m=(12.0,),
    tasks=6,
    widths=(32, 64, 128),
    epochs=5,
    batch_size=50,
    ewc_strength=1000.0,
)
EXPERIMENTS = (
    Experiment(
        name="permuted_mnist",
        title="Permuted {data}: {tasks} tasks in a row",
        source="Laborieux et al. 2021, Figure 2: six tasks, 784-4096-4096-10, 40 epochs per task, batch norm, m = 0 to "
        "1.35. Shorter runs need a larger m.",
        scales={
            "small": changed(_PERMUTED, data="digits", tasks=5, hidden=(256, 256), epochs=10, batch_size=50),
            "medium": changed(_PERMUTED, seeds=1, hidden=(512, 512), epochs=3, lr=0.0025),
            "paper": changed(PermutedSettings(), seeds=5, norm="batch", hidden=(4096, 4096), epochs=40),
        },
        arms=rule_arms,
        measure=measure,
        figures=figures,
        claims=claims,
    ),
    Experiment(
        name="permuted_capacity",
        title="Permuted {data}: capacity over widths, {tasks} tasks",
        source="Laborieux et al. 2021: ten tasks, two hidden layers of 512, 1024, 2048 and 4096 units, m = 1.35, decay "
        "1e-8, against EWC and all tasks together.",
        scales={
            "small": _DIGITS,
            "medium": changed(
                _DIGITS,
                seeds=1,
                data="mnist",
                m=(5.0,),
                tasks=10,
                widths=(256, 512, 1024),
                epochs=3,
                batch_size=100,
                lr=0.00125,
            ),
            "paper": changed(CapacitySettings(), seeds=5, norm="batch", epochs=40),
        },
        arms=capacity_arms,
        measure=measure,
        figures=capacity_figures,
        claims=capacity_claims,
    ),
)
