"""Figures that several experiments draw: means over seeds, with their spread as a band or bar.

Bands and bars are one standard deviation over the seeds, say so, and are there from two seeds on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from lava_meta.experiments.common.experiment import Results
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE, after_each_task, chance_line
from lava_meta.plotting.palette import arm_styles, task_styles
from lava_meta.training.metrics import task_name

_COLUMNS = 4


def task_curves(
    results: Results, epochs: int, names: Sequence[str], chance: float | None = None, only: Sequence[str] | None = None
) -> Figure:
    """Test accuracy of every task after every epoch, a panel per arm (the paper's Figure 2 a to d).

    The line is the mean over seeds, the band one standard deviation; a task's own training time is shaded. `names` are
    what the legend calls the tasks.
    """
    labels = list(only or results.arms)
    columns = min(len(labels), _COLUMNS)
    rows = math.ceil(len(labels) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * columns + 0.9, 2.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis in axes.flat[len(labels) :]:
            axis.set_visible(False)
        for axis in axes.flat[len(labels) - columns : len(labels)]:
            axis.xaxis.set_tick_params(labelbottom=True)
        for axis, label in zip(axes.flat, labels, strict=False):
            values = stack([run.data["accuracies"] for run in results.arms[label]])  # (seeds, epochs + 1, tasks)
            for task, style in enumerate(task_styles(len(names))):
                begin = task * epochs
                axis.axvspan(begin, begin + epochs, color=style["color"], alpha=0.07, linewidth=0)
                line = {**style, "label": names[task], "markersize": 3, "markevery": after_each_task(epochs)}
                band(axis, np.arange(begin, values.shape[1]), values[:, begin:, task], **line)
            chance_line(axis, chance)
            axis.set(title=label, xlim=(0, values.shape[1] - 1), ylim=(0, 101))
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel(f"test accuracy (%){spread_note(results, 'band', line=rows == 1)}", fontsize=8)
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def final_accuracies(results: Results, names: Sequence[str], chance: float | None = None) -> Figure:
    """Accuracy on each task once all are learned, a line per arm (the paper's Figure 2 e)."""
    styles = arm_styles(results.arms)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axis = figure.subplots()
        places = np.arange(1, len(names) + 1)
        for label, runs in results.arms.items():
            values = stack([run.data["accuracies"][-1:] for run in runs])[:, 0]
            mean = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
            look = {**styles[label], "markersize": 3.5, "linewidth": 1}
            axis.errorbar(places, mean, yerr=spread, label=label, capsize=2, **look)
        chance_line(axis, chance)
        axis.set(
            xlabel="task",
            ylabel=f"accuracy after the last task (%){spread_note(results, 'bar', line=True)}",
            xticks=places,
            ylim=(0, 101),
        )
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def permuted_task_figures(results: Results, tasks: int, epochs: int) -> dict[str, Figure]:
    """Both of the above, for tasks of ten classes."""
    names = [task_name(task) for task in range(tasks)]
    return {
        "accuracy_over_time": task_curves(results, epochs, names, chance=0.1),
        "final_accuracies": final_accuracies(results, names, chance=0.1),
    }


def band(axis: Any, x: np.ndarray, values: np.ndarray, **line: Any) -> None:
    """The mean of `values` (seeds, points) over x, with a band of one standard deviation where there are seeds."""
    mean = values.mean(axis=0)
    known = np.isfinite(mean)
    axis.plot(x[known], mean[known], **line)
    if len(values) > 1:
        spread = values.std(axis=0, ddof=1)
        axis.fill_between(
            x[known], (mean - spread)[known], (mean + spread)[known], color=line.get("color"), alpha=0.2, linewidth=0
        )


def stack(rows: Sequence[Sequence[Sequence[float | None]]]) -> np.ndarray:
    """Histories of accuracies (seeds, epochs, tasks) in percent; NaN where not measured."""
    return 100 * np.array([[[np.nan if v is None else v for v in row] for row in run] for run in rows], dtype=float)


def spread_note(results: Results, what: str, *, line: bool = False) -> str:
    """What the `what` ("bar", "band") of a figure is, for an axis label: nothing where there is one seed."""
    seeds = max(map(len, results.arms.values()), default=0)
    between = "\n" if line else ", "
    return f"{between}{what}: ± 1 standard deviation, {seeds} seeds" if seeds > 1 else ""


def error_bars(spreads: Sequence[float]) -> list[float] | None:
    """`spreads` as matplotlib's error bars; None, which draws none, where one seed has no spread."""
    return None if any(map(math.isnan, spreads)) else list(spreads)


def bars(results: Results, metric: str, label: str) -> Figure:
    """One horizontal bar per arm: the mean of `metric` over the seeds, and their standard deviation."""
    styles = arm_styles(results.arms)
    with mpl.rc_context(STYLE):
        labels = list(results.arms)
        figure = Figure(figsize=(4.8, 0.28 * len(labels) + 0.8), layout="constrained")
        axis = figure.subplots()
        horizontal_bars(axis, results, metric, [styles[arm]["color"] for arm in labels])
        axis.set(
            yticks=range(len(labels)), yticklabels=labels, xlabel=f"{label}{spread_note(results, 'bar', line=True)}"
        )
        axis.invert_yaxis()
    return figure


def horizontal_bars(axis: Any, results: Results, metric: str, colours: Sequence[str]) -> None:
    """The mean of each arm as a bar, its standard deviation from two seeds on, and a dot per seed."""
    for place, (arm, colour) in enumerate(zip(results.arms, colours, strict=True)):
        spread = error_bars([results.spread(arm, metric)])
        axis.barh(place, results.mean(arm, metric), xerr=spread, height=0.65, capsize=2, color=colour, ecolor="0.45")
        dots = results.values(arm, metric)
        axis.plot(dots, [place] * len(dots), "o", color="w", markeredgecolor="0.2", markersize=3, markeredgewidth=0.6)
