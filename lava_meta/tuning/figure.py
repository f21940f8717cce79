"""The figure of a search."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl

from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.tuning.trial import Trial, best_of


def accuracy_over_m(trials: Sequence[Trial]) -> Figure:
    """Accuracy on held-out images against m, a line per value of what else was chosen; proposed and best are marked."""
    kinds = dict.fromkeys(map(_kind, trials))
    line = "o-" if len({trial.values["lr"] for trial in trials}) == 1 else "o"  # else neighbours in m differ in lr too
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axis = figure.subplots()
        for kind, look in arm_styles(kinds).items():
            own = sorted((trial.values["m"], trial.accuracy) for trial in trials if _kind(trial) == kind)
            axis.plot(*zip(*own, strict=True), line, label=kind or None, color=look["color"], markersize=3.5)
        for trial, name, marker in ((trials[0], "proposed", "s"), (best_of(trials), "best", "*")):
            place = [trial.values["m"]], [trial.accuracy]
            axis.plot(*place, marker, color="0.2", fillstyle="none", markersize=9, label=name)
        axis.set(xscale="log", xlabel="m", ylabel="accuracy on held-out images (%)")
        axis.legend()
    return figure


def _kind(trial: Trial) -> str:
    """What was chosen beside numbers, as "metaplastic"."""
    return ", ".join(str(value) for value in trial.values.values() if isinstance(value, str))
