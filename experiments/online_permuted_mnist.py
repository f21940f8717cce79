"""Permuted MNIST learned on-line inside Lava, one image at a time, and what each part of the rule does.

    lava-meta experiment online-permuted-mnist --scale medium       # the reference beside the plain rule
    lava-meta experiment online-permuted-mnist --scale paper        # every row of the table, seeds 0 to 2

Five tasks of 20,000 images; no task label at test, one set of thresholds for all tasks. An arm changes one thing of the
reference. With `--set held_out=true` the network is tested on the last 10,000 training images, which it then does not
learn: that is how the constants were chosen. `--set backend=kernels` runs without Lava and ends in the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim, both
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.online import (
    PLAIN,
    OnlineSettings,
    dataset_of,
    final_bars,
    keeps,
    part_curves,
    stream_experiment,
)

ROWS: dict[str, dict[str, Any]] = {
    "reference": {},
    "floating point": {"bits": None},
    "1024 hidden units": {"hidden": (1024,)},
    "2048 hidden units": {"hidden": (2048,), "lr": 0.0075},  # more synapses share what a task needs
    "16 bits": {"bits": 16},
    "5 bits": {"bits": 5},
    "4 bits": {"bits": 4},
    "grey pixels": {"inputs": "pixels"},
    "homeostatic thresholds": {"thresholds": "homeostatic"},
    "direct feedback": {"feedback": "direct"},
    "plain": PLAIN,
    "centring off": {"centring": False},
    "gate and centring off": {**PLAIN, "centring": False},
    "frozen hidden layer": {"plastic": ("readout",)},
    "quadratic gate": {"gate": "quadratic"},
    "exponential gate": {"gate": "exponential", "gate_at": 2.0},
    "margin error": {"error": "margin"},
    "ternary error": {"error": "ternary"},
    "1024 units of 16 bits": {"hidden": (1024,), "bits": 16},
}
_REFERENCE = OnlineSettings(rules=("reference", "plain"))
SCALES = {
    "small": replace(_REFERENCE, images=2000, lr=0.02),
    "medium": _REFERENCE,
    "paper": replace(_REFERENCE, rules=("all",)),
}


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """The tasks."""
    return permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)


def figures(settings: OnlineSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy on each task after each, and all arms side by side."""
    shown = [name for name in ("reference", "plain", "centring off", "direct feedback") if name in results.arms]
    return {"accuracy_after_each_task": part_curves(results, shown or None), "arms": final_bars(results)}


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed of the rule."""
    return [
        keeps(results),
        Claim(
            "integers of 8 bits cost less than a point against floating point",
            results.apart("ACC", "floating point", "reference"),
            results.above("reference", "floating point", "ACC", by=-1.0),
        ),
        Claim(
            "centring is needed",
            results.apart("ACC", "centring off", "reference"),
            results.above("reference", "centring off", "ACC"),
        ),
        Claim(
            "random feedback learns too, with a loss",
            results.apart("ACC", "plain", "reference", "direct feedback"),
            both(
                results.above("direct feedback", "plain", "ACC"), results.above("reference", "direct feedback", "ACC")
            ),
        ),
    ]


EXPERIMENT = stream_experiment(
    "online_permuted_mnist",
    "Permuted {data} on-line: {tasks} tasks, one image at a time",
    "Ours: docs/online.md. 784-512-10, 20,000 images a task, one pass, integers only.",
    SCALES,
    scenario,
    claims,
    ROWS,
    figures,
)
