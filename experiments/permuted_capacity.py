"""Ten permuted tasks on networks of several widths: how much can be kept by how many synapses?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results
from lava_meta.experiments.common.figures import band, error_bars, spread_note, stack
from lava_meta.experiments.common.settings import at_least, changed
from lava_meta.experiments.common.training import rule_arms
from lava_meta.experiments.permuted_mnist import PermutedSettings
from lava_meta.experiments.permuted_mnist import measure as measure_permuted
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles, task_styles


@dataclass(frozen=True)
class CapacitySettings(PermutedSettings):
    """`widths` of the two hidden layers; each makes an arm of every rule."""

    rules: tuple[str, ...] = ("metaplastic", "ewc", "together")
    m: tuple[float, ...] = (1.35,)
    tasks: int = 10
    widths: tuple[int, ...] = (512, 1024, 2048, 4096)
    weight_decay: float = 1e-8
    evaluate: Literal["epoch", "task"] = "task"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, widths=1)


_DIGITS = CapacitySettings(data="digits", m=(12.0,), epochs=5, batch_size=50, ewc_strength=1000.0)
SCALES = {
    "small": changed(_DIGITS, tasks=6, widths=(32, 64, 128)),
    "medium": changed(
        _DIGITS, seeds=1, data="mnist", m=(5.0,), lr=0.00125, widths=(256, 512, 1024), epochs=3, batch_size=100
    ),
    "paper": CapacitySettings(seeds=5, norm="batch", epochs=40),
}


def arms(settings: CapacitySettings) -> Mapping[str, CapacitySettings]:
    """Every rule at every width."""
    return {
        f"{width} units, {label}": changed(arm, widths=(width,), hidden=(width, width))
        for width in settings.widths
        for label, arm in rule_arms(settings).items()
    }


def measure(settings: CapacitySettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Train one arm on the sequence of tasks."""
    return measure_permuted(settings, seed, folder, progress)


def _groups(results: Results) -> dict[str, dict[int, str]]:
    """Arms by rule, then by width."""
    found: dict[str, dict[int, str]] = {}
    for label in results.arms:
        width, rule = label.split(" units, ", 1)
        found.setdefault(rule, {})[int(width)] = label
    return found


def figures(settings: CapacitySettings, results: Results) -> Mapping[str, Figure]:
    """Mean accuracy of the tasks learned so far, a panel per rule, a line per width; at last, the end over widths."""
    groups = _groups(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * (len(groups) + 1), 2.5), layout="constrained")
        axes = figure.subplots(1, len(groups) + 1, sharey=True)
        widths = task_styles(len(settings.widths))
        styles = arm_styles(groups)
        for axis, (rule, of_width) in zip(axes, groups.items(), strict=False):
            for (width, label), look in zip(of_width.items(), widths, strict=True):
                matrices = [run.data["matrix"]["values"][1:] for run in results.arms[label]]
                values = stack(matrices)  # (seeds, parts, tasks)
                parts = values.shape[1]
                if parts < values.shape[2]:  # all tasks at once: a level
                    axis.axhline(results.mean(label, "ACC"), color=look["color"], label=f"{width}")
                    continue
                so_far = np.stack([values[:, k, : k + 1].mean(axis=1) for k in range(parts)], axis=1)
                band(axis, np.arange(1, parts + 1), so_far, label=f"{width}", markersize=3, **look)
            axis.set(title=rule, xlabel="tasks learned", xlim=(1, settings.tasks), ylim=(0, 101))
        for rule, of_width in groups.items():
            means = [results.mean(label, "ACC") for label in of_width.values()]
            spreads = error_bars([results.spread(label, "ACC") for label in of_width.values()])
            axes[-1].errorbar(
                list(of_width), means, yerr=spreads, markersize=3.5, capsize=2, label=rule, **styles[rule]
            )
        axes[-1].set(xscale="log", xlabel="units a layer", title="after the last task")
        axes[-1].set_xticks(list(settings.widths), list(map(str, settings.widths)))
        axes[-1].minorticks_off()
        axes[-1].legend()
        axes[0].legend(title="units a layer", loc="lower left")
        axes[0].set_ylabel(f"mean accuracy (%){spread_note(results, 'band, bar', line=True)}")
    return {"capacity": figure}


def claims(settings: CapacitySettings, results: Results) -> Sequence[Claim]:
    """Larger networks keep more."""
    found = []
    for rule, of_width in _groups(results).items():
        small, large = of_width[min(of_width)], of_width[max(of_width)]
        if rule != "together" and small != large:
            said = results.apart("ACC", small, large)
            found.append(Claim(f"{rule}: wider networks keep more tasks", said, results.above(large, small, "ACC")))
    return found


EXPERIMENT = Experiment(
    name="permuted_capacity",
    title="Permuted {data}: capacity over widths, {tasks} tasks",
    source="Laborieux et al. 2021: ten tasks, two hidden layers of 512, 1024, 2048 and 4096 units, m = 1.35, decay "
    "1e-8, against EWC and all tasks together.",
    scales=SCALES,
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
