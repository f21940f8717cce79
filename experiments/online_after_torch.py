"""A network trained in PyTorch on two tasks goes on inside Lava, and learns a third without losing them.

784-512-10 with the fixed norm learns tasks 1 and 2 of permuted MNIST in batches of 100, by metaplastic Adam. Converted,
it learns 20,000 images of task 3 one at a time, on the same grey pixels, with 8-bit hidden weights:

    metaplastic   all layers, with the gate, from the model's hidden weights
    plain         the same without the gate
    bare network  with the gate, from the signs alone: every hidden weight starts at half of its limit
    readout       with the gate, the hidden layer frozen as it was converted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from lava_meta.converters import convert
from lava_meta.converters.online import online
from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.figures import error_bars, spread_note
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, arms_of, dataset_of, keeps, measurement
from lava_meta.experiments.common.settings import changed
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import hidden_histogram, saturation
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.training import TrainSettings, train
from lava_meta.training.model_file import load_model, save_model
from lava_meta.training.run_folder import CHECKPOINT


@dataclass(frozen=True)
class AfterTorchSettings(OnlineSettings):
    """What is trained in PyTorch before, and how."""

    training: TrainSettings = TrainSettings(epochs=3, batch_size=100, m=4.0, evaluate="task")  # the first two tasks
    start: str = "model"  # hidden weights of the "model", or of the "network": signs alone
    strength: float = 0.5  # of hidden weights that start from signs, a share of their limit


ROWS: dict[str, dict[str, Any]] = {
    "metaplastic": {},
    "plain": PLAIN,
    "bare network": {"start": "network"},
    "readout": {"plastic": ("readout",)},
}
_SETTINGS = changed(AfterTorchSettings(), tasks=3, rules=tuple(ROWS), inputs="pixels")


def measure(run: Run[AfterTorchSettings]) -> Measurement:
    """Train, convert, and learn the last task."""
    settings, seed, folder = run.settings, run.seed, run.folder
    scenario = permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)
    before = replace(scenario, train=scenario.train[:-1], task_of=scenario.task_of[:-1])
    model = _trained(settings, before, seed, folder.parents[1] / "trained" / f"seed{seed}.safetensors")
    network = convert(model)
    learner = online(
        network,
        model=model if settings.start == "model" else None,
        strength=settings.strength,
        **settings.learner_settings(seed),
    )
    last = replace(scenario, train=scenario.train[-1:], task_of=scenario.task_of[-1:])
    checkpoint: dict[str, Any] = {"checkpoint": folder / CHECKPOINT, "resume": True}
    history = learner.fit(last, probes=[hidden_histogram(), saturation], images=settings.images, **checkpoint)
    learner.save(folder / "learner.safetensors")
    network.save(folder / "network.safetensors")
    found = measurement(learner, history, folder)
    expected = [100 * float(np.mean(network.graph.predict(test.x) == test.y.numpy())) for test in scenario.tests]
    start = [100 * float(value) for value in found.data["accuracies"][0]]
    if start != expected:
        raise AssertionError(f"the learner starts at {start}, the network has {expected}")
    tasks = {f"task {i}": value for i, value in enumerate(found.data["final"], 1)}
    tasks |= {f"task {i} before": value for i, value in enumerate(start, 1)}
    return replace(found, metrics={**found.metrics, **tasks})


def _trained(settings: AfterTorchSettings, scenario: Scenario, seed: int, file: Path) -> BinaryMLP:
    """The model that has learned the first tasks, which all arms of a seed share."""
    if not file.exists():
        model = BinaryMLP.for_images(scenario.train[0], settings.hidden, seed=seed)
        train(model, scenario, replace(settings.training, seed=seed))
        save_model(model, file)
    model = load_model(file)
    assert isinstance(model, BinaryMLP)
    return model.eval()


def figures(settings: AfterTorchSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy on each task before and after the last one is learned."""
    names = [f"task {i}" for i in range(1, settings.tasks + 1)]
    first = next(iter(results.arms))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 2.4), layout="constrained")
        axis = figure.subplots()
        width = 0.8 / (len(results.arms) + 1)
        places = np.arange(len(names))
        styles = arm_styles(results.arms)
        bars = [("trained in PyTorch", first, [f"{name} before" for name in names], "0.75")]
        bars += [
            (f"after task {settings.tasks}: {label}", label, names, styles[label]["color"]) for label in results.arms
        ]
        for i, (label, arm, metrics, colour) in enumerate(bars):
            means = [results.mean(arm, metric) for metric in metrics]
            spreads = error_bars([results.spread(arm, metric) for metric in metrics])
            at = places + (i - len(bars) / 2 + 0.5) * width
            axis.bar(at, means, width, yerr=spreads, label=label, color=colour, ecolor="0.45", capsize=1.5)
        note = spread_note(results, "bar", line=True)
        axis.set(ylabel=f"test accuracy (%){note}", xticks=places, xticklabels=names, ylim=(0, 101))
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return {"before_and_after": figure}


def claims(settings: AfterTorchSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [keeps(results, "a converted network learns a third task and keeps two, with the gate")]


EXPERIMENT = Experiment(
    name="online_after_torch",
    title="Permuted {data}: trained in PyTorch, goes on inside Lava",
    source="Ours: docs/results/online.md.",
    scales={"small": changed(_SETTINGS, epochs=1, images=2000), "medium": _SETTINGS, "paper": _SETTINGS},
    arms=arms_of(ROWS),
    measure=measure,
    figures=figures,
    claims=claims,
)
