"""Figures of continual-learning runs: what a reader looks at first.

Each function draws runs side by side and returns a matplotlib `Figure`; `save` writes it as PNG and PDF.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.rcsetup import cycler
from numpy.typing import NDArray

from lava_meta.io.files import write_atomically
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.palette import PALETTE, arm_styles, task_styles
from lava_meta.training.metrics import AccuracyMatrix, task_name

STYLE: dict[Any, Any] = {  # rcParams
    # Text in PDF and PostScript as TrueType, which journals ask for and drawing programs can edit; Type 3 is neither.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "axes.prop_cycle": cycler(color=PALETTE),
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
}


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `path` with the endings .png and .pdf, each whole or not at all."""
    for kind in ("png", "pdf"):
        with write_atomically(Path(path).with_suffix(f".{kind}")) as file:
            # No creation date: equal runs give equal files.
            metadata = {"CreationDate": None} if kind == "pdf" else None
            with mpl.rc_context(STYLE):
                figure.savefig(file, format=kind, metadata=metadata)


def after_each_task(epochs: int) -> tuple[int, int]:
    """Marks of a line that begins with its task's training: after that, and after each later task."""
    return epochs, epochs


def chance_line(axis: Axes, chance: float | None) -> None:
    """A dotted line where guessing lies, a fraction 0 to 1; nothing for None."""
    if chance is not None:
        axis.axhline(100 * chance, color="0.5", linewidth=0.7, linestyle=":")
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axis.annotate("chance", (0, 100 * chance), (2, 2), **place, color="0.4", fontsize=6)


def accuracy_over_time(
    runs: Mapping[str, Sequence[Sequence[float | None]]], epochs: int, chance: float | None = None
) -> Figure:
    """Test accuracy of each task after each epoch, one panel per run.

    `runs` maps a run's name to its rows (epochs in all + 1, tasks), fractions 0 to 1, the first row before training.
    `epochs` is the number per task; a task's own training time is shaded in its colour.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(runs), 2.6), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
        for axis, (name, rows) in zip(axes, runs.items(), strict=True):
            values = 100 * np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)
            for task, style in enumerate(task_styles(values.shape[1])):
                begin = task * epochs
                axis.axvspan(begin, begin + epochs, color=style["color"], alpha=0.07, linewidth=0)
                axis.plot(
                    np.arange(begin, len(values)),
                    values[begin:, task],
                    label=task_name(task),
                    markersize=3,
                    markevery=after_each_task(epochs),
                    **style,
                )
            chance_line(axis, chance)
            axis.set(title=name, xlabel="epoch", xlim=(0, len(values) - 1), ylim=(0, 101))
        axes[0].set_ylabel("test accuracy (%)")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def hidden_weight_histograms(runs: Mapping[str, Mapping[str, NDArray[Any]]], bins: int = 101) -> Figure:
    """Histograms of the hidden weights, one row per run, one column per layer; `runs` maps run -> layer -> weights."""
    layers = list(next(iter(runs.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * len(layers), 1.9 * len(runs)), layout="constrained")
        axes = np.atleast_2d(figure.subplots(len(runs), len(layers), sharex="col", sharey="col", squeeze=False))
        styles = arm_styles(runs)
        limits = {
            layer: max(float(np.quantile(np.abs(weights[layer]), 0.999)) for weights in runs.values())
            for layer in layers
        }
        for row, (name, weights) in enumerate(runs.items()):
            for column, layer in enumerate(layers):
                axis, limit = axes[row, column], limits[layer]
                values = np.clip(weights[layer].ravel(), -limit, limit)
                axis.hist(values, bins=bins, range=(-limit, limit), color=styles[name]["color"], density=True)
                axis.axvline(0, color="0.2", linewidth=0.6)
                axis.set_yscale("log")
                if row == 0:
                    axis.set_title(layer)
                if row == len(runs) - 1:
                    axis.set_xlabel("hidden weight")
            axes[row, 0].set_ylabel(f"{name}\ndensity")
    return figure


def accuracy_matrices(runs: Mapping[str, AccuracyMatrix]) -> Figure:
    """The accuracy matrices as heat maps: row, after learning task i; column, test accuracy on task j in percent."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(runs) + 0.5, 2.9), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
        for axis, (name, matrix) in zip(axes, runs.items(), strict=True):
            values = 100 * matrix.values[1:]
            axis.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="equal")
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    axis.text(
                        j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="w" if value < 60 else "k"
                    )
            axis.set(
                title=f"{name}\nACC {100 * matrix.acc():.1f} %, forgetting {100 * matrix.forgetting():.1f} %",
                xlabel="tested on task",
                xticks=range(values.shape[1]),
                xticklabels=range(1, values.shape[1] + 1),
                yticks=range(values.shape[0]),
                yticklabels=range(1, values.shape[0] + 1),
            )
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel("after learning task")
        figure.colorbar(axes[0].images[0], ax=list(axes), label="test accuracy (%)", shrink=0.85)
    return figure


def sweeps(
    panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, str]]]]],
    values: Mapping[str, Sequence[float]],
    label: str,
) -> Figure:
    """One panel per swept quantity: `panels` gives its name and its curves, each of (position, name of a run).

    `values` maps the name of a run to one value per seed. A dot per seed, a line through the means; runs without values
    are left out.
    """
    with mpl.rc_context(STYLE):
        columns = min(3, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(2.4 * columns, 2.1 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axis, (name, curves) in zip(axes.flat, panels, strict=False):
            # Evenly apart: swept values are often powers of something.
            measured = sorted({x for points in curves.values() for x, run in points if run in values})
            styles = arm_styles(curves)
            for curve, points in curves.items():
                there = [(measured.index(x), values[run]) for x, run in points if run in values]
                style = {**styles[curve], "markersize": 4, "markerfacecolor": "none"}
                axis.plot([x for x, _ in there], [np.mean(v) for _, v in there], label=curve, **style)
                for x, seeds in there:
                    axis.plot([x] * len(seeds), seeds, ".", color=style["color"], markersize=3)
            axis.set(xlabel=name, ylim=(0, 100), xticks=range(len(measured)), xticklabels=[f"{x:g}" for x in measured])
            if len(curves) > 1:
                axis.legend(loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.2)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel(label)
    return figure


def lowered_gate(
    declared: tuple[NDArray[Any], NDArray[Any]],
    lowered: tuple[NDArray[Any], NDArray[Any]],
    taken: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    names: tuple[str, str],
) -> Figure:
    """The gate that was declared and the one that a chip is given, over the hidden weight, each as (|h|, share).

    `taken` maps a label to the shares that integers take; names: of the declared and the lowered gate.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axis = figure.subplots()
        for i, (label, (h, share)) in enumerate(taken.items()):
            axis.plot(
                h, share, color=("0.7", PALETTE[2])[i % 2], linewidth=0.9, linestyle=("-", "-.")[i % 2], label=label
            )
        axis.plot(*declared, color=PALETTE[0], label=f"declared: {names[0]}")
        axis.plot(*lowered, color=PALETTE[1], linestyle="--", label=f"lowered: {names[1]}")
        axis.set(
            xlabel="|h|", ylabel="share of a shrinking step", ylim=(-0.05, 1.08), xlim=(0, max(declared[0].max(), 1e-9))
        )
        axis.legend()
    return figure
