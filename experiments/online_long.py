"""Fifty permuted tasks of 5,000 images in a row, learned on-line: does the network saturate, and does forgetting help?

Hidden weights that have reached their limit can no longer be moved towards 0 by the linear gate. In the end there may
be nothing left to learn with. A memory of N images lets weights relax, by h / N whenever their input is active, so that
old tasks fade. An input is active in 13 % of the images, 650 times a task: N = 3,000 keeps 80 % of h over a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.figures import band, spread_note
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, dataset_of, stream_experiment
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles

ROWS: dict[str, dict[str, Any]] = {
    "metaplastic": {},
    "memory": {"memory": 3_000},
    "long memory": {"memory": 10_000},
    "plain": PLAIN,
}
_SETTINGS = OnlineSettings(tasks=50, images=5_000, rules=tuple(ROWS), every_part=False)
SCALES = {
    "small": replace(_SETTINGS, tasks=10, images=600, lr=0.02),
    "medium": _SETTINGS,
    "paper": _SETTINGS,
}


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """The tasks."""
    return permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)


def figures(settings: OnlineSettings, results: Results) -> Mapping[str, Figure]:
    """How well each task was learned, what is left of it at the end, and how far the hidden layer has saturated."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.3), layout="constrained")
        learned, left, saturated = figure.subplots(1, 3)
        styles = arm_styles(results.arms)
        for label, runs in results.arms.items():
            look = {**styles[label], "markersize": 3, "markevery": max(1, settings.tasks // 8)}
            parts = np.arange(1, settings.tasks + 1)
            for axis, values in (
                (learned, [100 * np.array(run.data["newest"]) for run in runs]),
                (left, [np.array(run.data["final"]) for run in runs]),
                (saturated, [100 * np.array(run.data["saturation"])[:, 0] for run in runs]),
            ):
                band(axis, parts, np.array(values), label=label, **look)
        note = spread_note(results, "band", line=True)
        learned.set(title="a task just learned", xlabel="task", ylabel=f"test accuracy (%){note}", ylim=(0, 101))
        left.set(title="after all tasks", xlabel="task", ylim=(0, 101))
        saturated.set(title="hidden weights at their limit", xlabel="tasks learned", ylabel="share (%)", ylim=(0, 101))
        saturated.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return {"long_stream": figure}


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [
        Claim(
            "a memory keeps the network able to learn: it is better on the last five tasks",
            results.apart("last five", "metaplastic", "memory"),
            results.above("memory", "metaplastic", "last five"),
        ),
        Claim(
            "metaplastic weights hold more of the first five tasks than plain ones",
            results.apart("first five", "plain", "metaplastic"),
            results.above("metaplastic", "plain", "first five"),
        ),
    ]


EXPERIMENT = stream_experiment(
    "online_long",
    "A long stream on-line: {tasks} permuted tasks of {data}, {images} images each",
    "Ours: docs/online.md. The forgetting term after BiMU (Cottart et al. 2026).",
    SCALES,
    scenario,
    claims,
    ROWS,
    figures,
)
