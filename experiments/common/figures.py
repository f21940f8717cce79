"""Figures that several experiments draw: means over seeds, with their spread as a band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lava_meta.experiments.common.experiment import Results
from lava_meta.figures import STYLE

_COLUMNS = 4


def task_curves(
    results: Results, epochs: int, names: Sequence[str], chance: float | None = None, only: Sequence[str] | None = None
) -> Figure:
    """Test accuracy of every task after every epoch, a panel an arm (the paper's Figure 2 a to d).

    The line is the mean over seeds, the band one standard deviation; a task's own training time is shaded.
    """
    labels = list(only or results.arms)
    columns = min(len(labels), _COLUMNS)
    rows = math.ceil(len(labels) / columns)
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.88, len(names)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * columns + 0.9, 2.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis in axes.flat[len(labels) :]:
            axis.set_visible(False)
        for axis in axes.flat[len(labels) - columns : len(labels)]:
            axis.xaxis.set_tick_params(labelbottom=True)
        for axis, label in zip(axes.flat, labels, strict=False):
            values = stack([run.data["accuracies"] for run in results.arms[label]])  # (seeds, epochs + 1, tasks)
            for task, colour in enumerate(colours):
                begin = task * epochs
                axis.axvspan(begin, begin + epochs, color=colour, alpha=0.07, linewidth=0)
                band(axis, np.arange(begin, values.shape[1]), values[:, begin:, task], color=colour, label=names[task])
            _chance(axis, chance)
            axis.set(title=label, xlim=(0, values.shape[1] - 1), ylim=(0, 101))
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel("test accuracy (%)", fontsize=8)
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def final_accuracies(results: Results, names: Sequence[str], chance: float | None = None) -> Figure:
    """Accuracy on each task once all are learned, a line an arm (the paper's Figure 2 e).

    Arms that differ in m are shades of one scale; other rules have a colour and a mark of their own.
    """
    of_m = [label for label in results.arms if "m = " in label]
    shades = dict(zip(of_m, mpl.colormaps["plasma"](np.linspace(0.0, 0.85, len(of_m))), strict=True))
    marks = dict(zip([label for label in results.arms if label not in of_m], cycle("osD^vP<>*XH"), strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.6), layout="constrained")
        axis = figure.subplots()
        places = np.arange(1, len(names) + 1)
        for label, runs in results.arms.items():
            values = stack([run.data["accuracies"][-1:] for run in runs])[:, 0]
            mean = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
            look = {"color": shades.get(label), "marker": marks.get(label, "o"), "markersize": 3, "linewidth": 1}
            axis.errorbar(places, mean, yerr=spread, label=label, capsize=2, **look)
        _chance(axis, chance)
        axis.set(xlabel="task", ylabel="accuracy after the last task (%)", xticks=places, ylim=(0, 101))
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def permuted_task_figures(results: Results, tasks: int, epochs: int) -> dict[str, Figure]:
    """Both of the above, for tasks of ten classes."""
    names = [f"task {task + 1}" for task in range(tasks)]
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


def bars(values: Mapping[str, tuple[float, float]], label: str) -> Figure:
    """One horizontal bar an arm: (mean, spread)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 0.28 * len(values) + 0.7), layout="constrained")
        axis = figure.subplots()
        means = [mean for mean, _ in values.values()]
        spreads = [0.0 if math.isnan(spread) else spread for _, spread in values.values()]
        axis.barh(range(len(values)), means, xerr=spreads, height=0.65, capsize=2, color="C0")
        axis.set_yticks(range(len(values)), list(values))
        axis.invert_yaxis()
        axis.set_xlabel(label)
    return figure


def _chance(axis: Any, chance: float | None) -> None:
    if chance is not None:
        axis.axhline(100 * chance, color="0.5", linewidth=0.7, linestyle=":")
        axis.annotate("chance", (0, 100 * chance), (2, 2), textcoords="offset points", color="0.4", fontsize=6)
