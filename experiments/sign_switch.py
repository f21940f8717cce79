"""The sign-switch test: is a weight with a large hidden value one whose sign matters?

A network learns one task. Then the weights of a layer are sorted by |h| into bins of equal number, the signs of some
weights of one bin are switched, and the loss is measured, again and again with other draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import matplotlib as mpl
import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lava_meta.data import Images
from lava_meta.data.scenarios import dataset_sequence
from lava_meta.experiments.common.claims import Claim, both, judge
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.common.training import TrainingSettings, load, measured, rule_arms, train_arm
from lava_meta.io.config import Several
from lava_meta.nn import SampleNorm
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles
from lava_meta.training.methods import synapses


@dataclass(frozen=True)
class SwitchSettings(TrainingSettings):
    """How many signs are switched in each layer, in how many bins, how often, and on how many images."""

    m: Several[float] = (1.35,)
    data: str = "mnist"
    flips: Several[PositiveInt] = (1000, 2000, 100)  # one for each layer
    bins: Annotated[int, Field(ge=2)] = 15
    runs: PositiveInt = 100
    images: Annotated[int, Field(ge=10)] = 1000  # on which the loss is measured
    on: Literal["train", "test"] = "train"  # which images: hidden weights grow by what training is about

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.flips) != len(self.hidden) + 1:
            raise ValueError(
                f"flips has {len(self.flips)} values for {len(self.hidden) + 1} layers: give one per layer"
            )


SCALES = {
    "small": changed(
        SwitchSettings(),
        data="digits",
        hidden=(256, 256),
        epochs=10,
        batch_size=50,
        flips=(400, 2000, 60),
        runs=20,
        images=1400,
    ),
    "medium": changed(SwitchSettings(), seeds=1, norm="batch", runs=20, images=500, evaluate="task"),
    "paper": changed(SwitchSettings(), seeds=1, norm="batch", epochs=40),
}


def measure(run: Run[SwitchSettings]) -> Measurement:
    """Train on one task, then switch signs."""
    settings, seed = run.settings, run.seed
    scenario = dataset_sequence([load(settings, settings.data, seed)])
    model, result = train_arm(run, scenario)
    for module in model.modules():  # the loss is that of training, whose logits are normed
        if isinstance(module, SampleNorm):
            module.train()
    images = scenario.train[0] if settings.on == "train" else scenario.tests[0]
    images = images.take(range(min(settings.images, len(images)))).to(settings.device)
    before = _loss(model, images)
    draw = torch.Generator().manual_seed(seed)
    layers, correlations = {}, {}
    for (name, weight), flips in zip(synapses(model).items(), settings.flips, strict=True):
        bins = switch(model, weight.data, images, flips=flips, bins=settings.bins, runs=settings.runs, draw=draw)
        layers[name.removesuffix(".weight")] = [[size, mean - before, spread] for size, mean, spread in bins]
        correlations[f"rank correlation, layer {len(layers)}"] = _rank_correlation([mean for _, mean, _ in bins])
    return Measurement({"ACC": measured(result).metrics["ACC"], "loss": before, **correlations}, {"layers": layers})


@torch.no_grad()
def switch(
    model: nn.Module, hidden: Tensor, images: Images, *, flips: int, bins: int, runs: int, draw: torch.Generator
) -> list[tuple[float, float, float]]:
    """(mean |h|, mean loss, its spread over the runs) for each bin; `hidden` is left as it was.

    Raises `ValueError` where a bin has fewer weights than are to be switched.
    """
    flat = hidden.view(-1)
    groups = flat.abs().argsort(stable=True).tensor_split(bins)
    if flips > len(groups[-1]):
        raise ValueError(f"{flips} signs cannot be switched in a bin of {len(groups[-1])} weights: lower flips or bins")
    found = []
    for group in groups:
        losses = []
        for _ in range(runs):
            chosen = group[torch.randperm(len(group), generator=draw)[:flips]]
            kept = flat[chosen].clone()
            # sign(0) is +1, so a zero is switched by any negative number.
            flat[chosen] = torch.where(kept == 0, -1.0, -kept)
            losses.append(_loss(model, images))
            flat[chosen] = kept
        found.append((float(flat[group].abs().mean()), float(np.mean(losses)), float(np.std(losses))))
    return found


@torch.no_grad()
def _loss(model: nn.Module, images: Images) -> float:
    return float(functional.cross_entropy(model(images.x.to(torch.float32)), images.y))


def _rank_correlation(values: Sequence[float]) -> float:
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def figures(settings: SwitchSettings, results: Results) -> Mapping[str, Figure]:
    """Growth of the loss against |h|, a panel per layer, a colour per arm."""
    layers = list(next(iter(results.arms.values()))[0].data["layers"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(layers), 2.4), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(layers)))  # layers differ in how many signs are switched
        styles = arm_styles(results.arms)
        for place, (axis, layer, flips) in enumerate(zip(axes, layers, settings.flips, strict=True)):
            for label, runs in results.arms.items():
                for run in runs:
                    sizes, growth, spread = np.array(run.data["layers"][layer]).T
                    axis.errorbar(
                        sizes,
                        growth,
                        yerr=spread,
                        ms=3,
                        lw=0.8,
                        elinewidth=0.5,
                        capsize=1,
                        label=label,
                        **styles[label],
                    )
            axis.set(title=f"layer {place + 1}, {flips} signs switched", xlabel="|hidden weight|")
        axes[0].set_ylabel(f"growth of the loss, a line per seed\nbar: ± 1 standard deviation, {settings.runs} draws")
        axes[0].legend(*_once(axes[0]))
    return {"sign_switch": figure}


def _once(axis: mpl.axes.Axes) -> tuple[list, list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    first = {label: handle for handle, label in reversed(list(zip(handles, labels, strict=True)))}
    return list(first.values()), list(first)


def claims(settings: SwitchSettings, results: Results) -> Sequence[Claim]:
    """The loss grows with |h| in every layer."""
    found = []
    for label in results.arms:
        names = [name for name in results.metrics() if name.startswith("rank correlation")]
        said = ", ".join(f"{name.split(', ')[1]} {results.text(label, name, 2)}" for name in names)
        verdict = both(*(judge(results.values(label, name), 0.5) for name in names))
        text = f"{label}: switching signs costs more, the larger |h| (rank correlation above 0.5)"
        found.append(Claim(text, f"rank correlation of {said}", verdict))
    return found


EXPERIMENT = Experiment(
    name="sign_switch",
    title="What a hidden weight means: switching signs, {data}",
    source="Laborieux et al. 2021: 784-1024-1024-10, m = 1.35, 15 bins, 1000, 2000 and 100 switches in layers 1 to 3, "
    "100 runs.",
    scales=SCALES,
    arms=rule_arms,
    measure=measure,
    figures=figures,
    claims=claims,
    headline=("ACC", "rank correlation, layer 1", "rank correlation, layer 2", "rank correlation, layer 3"),
    digits=2,
)
