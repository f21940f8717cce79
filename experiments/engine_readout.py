"""A readout learns in Lava's own learning engine, on the signs of a frozen network that was trained in PyTorch.

A network with 256 hidden units learns digits in PyTorch and is converted. Its hidden layer stays as it is; above it a
new readout learns each image once, inside Lava: images of the task that the network knows, and images with pixels
permuted again. Arms as in `engine_layers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np

from lava_meta.converters import convert
from lava_meta.converters.online import online
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, between, both
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import error_bars, spread_note
from lava_meta.experiments.common.online import OnlineSettings, arms_of, dataset_of
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.engine_layers import FORMS
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning.reference import initial_state
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.training import TrainSettings, train

TASKS = ("known images", "permuted anew")


@dataclass(frozen=True)
class ReadoutSettings(OnlineSettings):
    """What is trained in PyTorch before, and how."""

    training: TrainSettings = TrainSettings(epochs=10, m=8.0, evaluate="task")


_SETTINGS = changed(
    ReadoutSettings(),
    data="digits",
    tasks=2,
    images=None,
    hidden=(256,),
    lr=0.01,
    inputs="pixels",
    plastic=("readout",),
    rules=tuple(FORMS),
)


def measure(run: Run[ReadoutSettings]) -> Measurement:
    """Train, convert, and learn a new readout for each of the two tasks."""
    settings, seed = run.settings, run.seed
    scenario = permuted_tasks(dataset_of(settings, settings.data), len(TASKS), seed)
    known = replace(scenario, train=scenario.train[:1], task_of=(0,), tests=scenario.tests[:1])
    model = BinaryMLP.for_images(scenario.train[0], settings.hidden, seed=seed)
    train(model, known, replace(settings.training, seed=seed))
    network = convert(model.eval())
    found = {}
    for name, images, test in zip(TASKS, scenario.train, scenario.tests, strict=True):
        learner = online(network, **settings.learner_settings(seed))
        new = initial_state(learner.settings[0], np.random.default_rng(seed))
        for part, value in new.items():
            learner.states[0][part][:] = value
        learner.fit(images, images=settings.images)
        found[name] = 100 * learner.accuracy(test)
        learner.save(run.folder / f"{name.replace(' ', '_')}.safetensors")
    return Measurement(found)


def figures(settings: ReadoutSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy of each arm on both tasks."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.4), layout="constrained")
        axis = figure.subplots()
        width = 0.8 / len(results.arms)
        styles = arm_styles(results.arms)
        for i, arm in enumerate(results.arms):
            places = np.arange(len(TASKS)) + (i - (len(results.arms) - 1) / 2) * width
            means = [results.mean(arm, task) for task in TASKS]
            spreads = error_bars([results.spread(arm, task) for task in TASKS])
            look = {"color": styles[arm]["color"], "ecolor": "0.45", "capsize": 2}
            axis.bar(places, means, width, yerr=spreads, label=arm, **look)
        note = spread_note(results, "bar", line=True)
        axis.set(ylabel=f"test accuracy (%){note}", xticks=range(len(TASKS)), xticklabels=TASKS, ylim=(0, 101))
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(results.arms))
    return {"accuracy": figure}


def claims(settings: ReadoutSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [
        Claim(
            "a readout learns in the learning engine as well as in our form, to two points",
            "; ".join(results.apart(task, "ours", "engine") for task in TASKS),
            both(*(between(results.differences("engine", "ours", task), -2.0, 2.0) for task in TASKS)),
        )
    ]


EXPERIMENT = Experiment(
    name="engine_readout",
    title="A readout of {data} learned in Lava's learning engine, on a converted network's hidden signs",
    source="Ours: docs/results/engine.md.",
    scales={"small": changed(_SETTINGS, images=400), "medium": _SETTINGS, "paper": _SETTINGS},
    arms=arms_of(FORMS),
    measure=measure,
    figures=figures,
    claims=claims,
    headline=TASKS,
)
