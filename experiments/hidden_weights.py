"""Histograms of the hidden weights: plain training leaves them near 0, metaplasticity drives them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from pydantic import PositiveInt

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, Verdict, both, judge
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings, compared, load, measured, rule_arms, train_arm
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.training.methods import synapses

_BINS = 101


@dataclass(frozen=True)
class HistogramSettings(TrainingSettings):
    """The permuted tasks after which the weights are looked at."""

    data: str = "mnist"
    tasks: PositiveInt = 1


SCALES = {
    "small": changed(
        HistogramSettings(), data="digits", tasks=3, m=(0.0, 12.0), hidden=(256, 256), epochs=10, batch_size=50
    ),
    "medium": changed(HistogramSettings(), seeds=1, m=(0.0, 4.0), evaluate="task"),
    "paper": changed(HistogramSettings(), seeds=1, norm="batch", hidden=(4096, 4096), epochs=40, tasks=6),
}


def measure(run: Run[HistogramSettings]) -> Measurement:
    """Train, and take histograms of h in every layer."""
    settings, seed = run.settings, run.seed
    scenario = permuted_tasks(load(settings, settings.data, seed), settings.tasks, seed)
    model, result = train_arm(run, scenario)
    metrics, layers = {"ACC": measured(result).metrics["ACC"]}, {}
    for place, (name, weight) in enumerate(synapses(model).items(), 1):
        hidden = weight.detach().cpu().numpy().ravel()
        limit = float(np.abs(hidden).max())
        density, edges = np.histogram(hidden, bins=_BINS, range=(-limit, limit), density=True)
        layers[name.removesuffix(".weight")] = {"density": density.tolist(), "limit": float(edges[-1])}
        metrics[f"median |h|, layer {place}"] = float(np.median(np.abs(hidden)))
        metrics[f"99 % of |h| below, layer {place}"] = float(np.quantile(np.abs(hidden), 0.99))
    return Measurement(metrics, {"layers": layers})


def figures(settings: HistogramSettings, results: Results) -> Mapping[str, Figure]:
    """A row per arm, a column per layer, one scale per column; seed 0."""
    runs = {label: measurements[0].data["layers"] for label, measurements in results.arms.items()}
    layers = list(next(iter(runs.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * len(layers), 1.6 * len(runs) + 0.3), layout="constrained")
        axes = figure.subplots(len(runs), len(layers), sharex="col", sharey="col", squeeze=False)
        styles = arm_styles(runs)
        for row, (label, histograms) in enumerate(runs.items()):
            for column, layer in enumerate(layers):
                axis, histogram = axes[row, column], histograms[layer]
                edges = np.linspace(-histogram["limit"], histogram["limit"], _BINS + 1)
                axis.stairs(histogram["density"], edges, fill=True, color=styles[label]["color"])
                axis.axvline(0, color="0.2", linewidth=0.6)
                axis.set_yscale("log")
            axes[row, 0].set_ylabel(f"{label}\ndensity")
        for column, axis in enumerate(axes[0]):
            axis.set_title(f"layer {column + 1}")
        for axis in axes[-1]:
            axis.set_xlabel("hidden weight")
    return {"hidden_weights": figure}


def claims(settings: HistogramSettings, results: Results) -> Sequence[Claim]:
    """Gated steps back make hidden weights larger."""
    plain, best = compared(results)
    names = [name for name in results.metrics() if name.startswith("median")]
    ratios = [results.values(best, name) / results.values(plain, name) for name in names]
    verdict = both(*(judge(ratio, 1.0) for ratio in ratios))
    grown = ", ".join(f"layer {place} {ratio.mean():.1f}x" for place, ratio in enumerate(ratios, 1))
    said = "not run" if verdict is Verdict.NOT_RUN else grown
    return [Claim("metaplasticity drives hidden weights apart", f"median |h|, {best} against {plain}: {said}", verdict)]


EXPERIMENT = Experiment(
    name="hidden_weights",
    title="Histograms of the hidden weights: permuted {data}, {tasks} tasks",
    source="Laborieux et al. 2021: the distribution of hidden weights after training, plain and metaplastic.",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
    headline=("ACC", "median |h|, layer 1"),
    digits=2,
)
