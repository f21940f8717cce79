"""Experiments that learn on-line: their settings, their arms, and one pass through a stream as a measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib as mpl
import numpy as np
from pydantic import PositiveInt

from lava_meta.data import Dataset, load_dataset
from lava_meta.data.scenarios import Scenario
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Measurement, Results, Run
from lava_meta.experiments.common.figures import band, horizontal_bars, spread_note, stack
from lava_meta.experiments.common.settings import Settings
from lava_meta.io.config import OrNone, Several
from lava_meta.io.files import write_json
from lava_meta.online_learning import History, Learner, OnlineRule, hidden_histogram, saturation
from lava_meta.online_learning.history import Probe
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import BLUE, VERMILION, task_styles
from lava_meta.rule import Consolidation, Constant, Exponential, Linear, Quadratic, Tanh2, Towards
from lava_meta.training.metrics import task_name
from lava_meta.training.run_folder import CHECKPOINT

GATES: dict[str, Callable[[float], Consolidation]] = {
    "linear": Linear,
    "quadratic": Quadratic,
    "exponential": Exponential,
    "tanh2": Tanh2,
    "squared": lambda T: Towards(T, power=2.0),
    "floor": lambda floor: Towards(1.0, floor=floor),
    "none": lambda _: Constant(),
}


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """What experiments that learn on-line have in common. `rules` are the arms, by the names that each experiment has.

    Everything else is the reference, from which an arm differs in what its name says.
    """

    rules: Several[str] = ("metaplastic", "plain")
    data: str = "mnist"
    tasks: PositiveInt = 5
    images: OrNone[PositiveInt] = 20_000  # of each part, in one pass; None for all
    hidden: Several[PositiveInt] = (512,)
    lr: float = 0.005
    bits: OrNone[int] = 8  # of a hidden weight; None is floating point
    gate: Literal["linear", "quadratic", "exponential", "tanh2", "squared", "floor", "none"] = "linear"
    gate_at: float = (
        1.0  # T of linear, quadratic and squared, m of exponential and tanh2, in units of the limit; the floor
    )
    grow: OrNone[float] = None  # floor of a linear gate of growing steps; None takes them whole
    activation: Literal["signs", "spikes", "abs_spikes"] = "signs"
    kappa: float = 1.2  # threshold of spikes, in mean deviations
    divisive: bool = True  # of spikes: relative to the spread of the image
    layer_norm: bool = False  # of spikes, instead: relative to the mean and deviation of the layer's sums
    temperature: OrNone[float] = None  # of the softmax; None: the root of the readout's inputs
    class_rate: float = 0.0  # at which class neurons follow how often their class comes
    memory: OrNone[int] = None  # images of an active input after which a synapse has forgotten
    centring: bool = True
    thresholds: Literal["balanced", "homeostatic"] = "balanced"
    error: Literal["softmax", "margin", "ternary", "prototype"] = "softmax"
    readout_limit: float = 0.5
    feedback: Literal["symmetric", "direct"] = "symmetric"
    inputs: Literal["spikes", "pixels"] = "spikes"
    plastic: OrNone[Several[str]] = None  # layers that learn; None for all
    every_part: bool = True  # test after each part; False only at the end
    held_out: bool = False  # test on training images that are then not learned, to choose settings honestly
    backend: Literal["lava", "kernels", "reference", "oracle"] = "lava"
    form: Literal["fused", "layers", "engine"] = "fused"

    def rule(self) -> OnlineRule:
        """The on-line rule. Raises ValueError for values out of range."""
        return OnlineRule(
            lr=self.lr,
            consolidation=GATES[self.gate](self.gate_at),
            readout_limit=self.readout_limit,
            centring=self.centring,
            thresholds=self.thresholds,
            error=self.error,
            memory=self.memory,
            grow=None if self.grow is None else Towards(1.0, floor=self.grow),
            activation=self.activation,
            kappa=self.kappa,
            divisive=self.divisive,
            layer_norm=self.layer_norm,
            temperature=self.temperature,
            class_rate=self.class_rate,
        )

    def learner_settings(self, seed: int) -> dict[str, Any]:
        """Arguments of a `Learner`, without its sizes."""
        return {
            "rule": self.rule(),
            "precision": "float" if self.bits is None else self.bits,
            "feedback": self.feedback,
            "seed": seed,
            "backend": self.backend,
            "inputs": self.inputs,
            "plastic": self.plastic,
            "form": self.form,
        }


PLAIN = {"gate": "none"}
OS = TypeVar("OS", bound=OnlineSettings)


def dataset_of(settings: OnlineSettings, name: str) -> Dataset:
    """The data set; with `held_out`, its last training images instead of its test images."""
    dataset = load_dataset(name)
    if not settings.held_out:
        return dataset
    kept = len(dataset.train) - len(dataset.test)
    order = np.arange(len(dataset.train))
    return Dataset(f"{name} held out", dataset.train.take(order[:kept]), dataset.train.take(order[kept:]))


def learning(scenario: Callable[[OS, int], Scenario]) -> Callable[[Run[OS]], Measurement]:
    """A measurement that learns the parts of `scenario(settings, seed)` once, in order, and tests on all.

    The learner is kept in the run's folder, and its checkpoint on the way.
    """
    return lambda run: _learned(run, scenario(run.settings, run.seed))


def _learned(run: Run[OnlineSettings], scenario: Scenario) -> Measurement:
    settings = run.settings
    sizes = [int(np.prod(scenario.shape)), *settings.hidden, scenario.classes]
    learner = Learner(sizes, **settings.learner_settings(run.seed))

    def newest(learner: Learner) -> float:
        """Accuracy on the task that has just been learned."""
        return learner.accuracy(scenario.tests[scenario.task_of[learner.parts_learned]])

    probes: list[Probe] = [hidden_histogram(), saturation, *([] if settings.every_part else [newest])]
    checkpoint: dict[str, Any] = {"checkpoint": run.folder / CHECKPOINT, "resume": True}
    history = learner.fit(scenario, probes=probes, images=settings.images, evaluate=settings.every_part, **checkpoint)
    learner.save(run.folder / "learner.safetensors")
    return measurement(learner, history, run.folder)


def measurement(learner: Learner, history: History, folder: Path) -> Measurement:
    """What a history says, in percent. ACC: mean over tests after the last part."""
    assert history.accuracy is not None
    rows = history.accuracy.values
    write_json(folder / "accuracy.json", history.accuracy.to_dict())
    last = 100 * rows[-1]
    metrics = {"ACC": float(last.mean())}
    if len(last) > 5:
        metrics |= {"first five": float(last[:5].mean()), "last five": float(last[-5:].mean())}
    if not math.isnan(forgetting := history.accuracy.forgetting()):
        metrics["forgetting"] = 100 * forgetting
    metrics |= {
        f"saturated {name}": 100 * share for name, share in zip(learner.names, saturation(learner), strict=True)
    }
    metrics["us an image"] = 1e6 * history.seconds / max(1, history.images)
    data = {
        "accuracies": [[None if math.isnan(v) else float(v) for v in row] for row in rows],
        "final": [float(value) for value in last],
        "online": history.online,
        "histograms": [record["hidden_histogram"] for record in history.probes],
        "saturation": [record["saturation"] for record in history.probes],
    }
    if history.probes and "newest" in history.probes[0]:
        data["newest"] = [record["newest"] for record in history.probes]
    return Measurement(metrics, data)


def arms_of(rows: Mapping[str, Mapping[str, Any]]) -> Callable[[OS], Mapping[str, OS]]:
    """The arms that `settings.rules` name, or all of them. Raises ValueError for an unknown one."""

    def arms(settings: OS) -> Mapping[str, OS]:
        chosen = list(rows) if settings.rules == ("all",) else settings.rules
        unknown = [name for name in chosen if name not in rows]
        if unknown:
            raise ValueError(f"no arm {', '.join(unknown)}; there are all, {', '.join(rows)}")
        return {name: replace(settings, **rows[name]) for name in chosen}

    return arms


def part_curves(results: Results, only: Sequence[str] | None = None, chance: float = 0.1) -> Figure:
    """Test accuracy on each task after each part, a panel per arm: mean over seeds, their standard deviation a band."""
    labels = list(only or results.arms)
    columns = min(4, len(labels))
    rows = math.ceil(len(labels) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.9 * columns + 0.9, 1.9 * rows + 0.2), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis in axes.flat[len(labels) :]:
            axis.set_visible(False)
        for axis, label in zip(axes.flat, labels, strict=False):
            values = stack([run.data["accuracies"] for run in results.arms[label]])
            for task, style in enumerate(task_styles(values.shape[2])):
                first = min(task, values.shape[1] - 2)
                line = {**style, "label": task_name(task), "markersize": 3}
                band(axis, np.arange(first, values.shape[1]), values[:, first:, task], **line)
            axis.axhline(100 * chance, color="0.5", linewidth=0.7, linestyle=":")
            axis.set(title=f"{label}\n{results.text(label, 'ACC')} %", ylim=(0, 101), xticks=range(values.shape[1]))
        figure.supxlabel("parts learned", fontsize=8)
        figure.supylabel(f"test accuracy (%){spread_note(results, 'band', line=True)}", fontsize=8)
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def final_bars(results: Results) -> Figure:
    """Mean accuracy after the last part, a bar per arm, a dot per seed; the first arm is the reference line."""
    labels = list(results.arms)
    # Dozens of arms, each a change of one thing: what tells them apart is their names.
    colours = [VERMILION, *[BLUE] * (len(labels) - 1)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.2 * len(labels) + 0.7), layout="constrained")
        axis = figure.subplots()
        horizontal_bars(axis, results, "ACC", colours)
        axis.axvline(results.mean(labels[0], "ACC"), color=VERMILION, linewidth=0.7, linestyle=":")
        note = spread_note(results, "bar", line=True)
        axis.set(xlabel=f"mean test accuracy after the last task (%){note}", yticks=range(len(labels)))
        axis.set_yticklabels(labels)
        axis.invert_yaxis()
    return figure


def keeps(results: Results, said: str = "the gate keeps earlier tasks") -> Claim:
    """That the first arm ends above the plain one."""
    first = next(iter(results.arms))
    return Claim(said, results.apart("ACC", "plain", first), results.above(first, "plain", "ACC"))
