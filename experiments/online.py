"""Learning on-line inside Lava, one image at a time: six streams, and what each part of the rule does to them.

    online_digits           five permuted tasks of digits: seconds, offline (`lava-meta demo --online`)
    online_permuted_mnist   the reference: five permuted tasks of 20,000 images, and an arm for each part of the rule
    online_fashion          MNIST, then Fashion-MNIST: two data sets that share their labels and their pixels
    online_split            MNIST two classes at a time
    online_stream           Fashion-MNIST as a stream of 60 disjoint subsets
    online_long             fifty permuted tasks: does the network saturate, and does forgetting help?

There is no task label at test, and one set of thresholds for all tasks. An arm changes one thing of the reference;
`--set rules=all` runs every arm. With `--set held_out=true` the network is tested on the last training images, which it
then does not learn: that is how the constants were chosen. `--set backend=kernels` runs without Lava and ends in the
same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
from pydantic import PositiveInt

from lava_meta.data.scenarios import (
    Scenario,
    dataset_sequence,
    permuted_tasks,
    split_classes,
    stream_of_subsets,
)
from lava_meta.experiments.common.claims import Claim, both
from lava_meta.experiments.common.experiment import Experiment, Results
from lava_meta.experiments.common.figures import band, spread_note
from lava_meta.experiments.common.online import (
    PLAIN,
    OnlineSettings,
    arms_of,
    dataset_of,
    final_bars,
    keeps,
    learning,
    part_curves,
)
from lava_meta.experiments.common.settings import changed
from lava_meta.plotting.figure import Figure
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles

Arms = Mapping[str, Mapping[str, Any]]
GATED_AND_PLAIN: Arms = {"metaplastic": {}, "plain": PLAIN}
# Hidden weights stay as they were drawn; each class neuron learns what its own images look like.
PROTOTYPES: Mapping[str, Any] = {
    **PLAIN,
    "error": "prototype",
    "plastic": ("readout",),
    "lr": 0.001,
    "readout_limit": 1.0,
}
# What streams that last need (docs/online_spikes.md): chosen on held-out images.
SPARSE: Mapping[str, Any] = {"activation": "spikes", "temperature": 10.0, "class_rate": 0.02}
TWO_SIDED: Mapping[str, Any] = {**SPARSE, "activation": "abs_spikes", "kappa": 1.6}
BOTH_WAYS: Mapping[str, Any] = {"gate": "floor", "gate_at": 0.08, "grow": 0.1}  # gates in both directions
LAYER_NORM: Mapping[str, Any] = {**TWO_SIDED, "layer_norm": True, "kappa": 1.25}
PARTS: Arms = {
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
    "sparse spikes": SPARSE,
    "sparse spikes of 5 bits": {**SPARSE, "inputs": "pixels", "bits": 5},
    "1024 sparse spiking units": {**SPARSE, "hidden": (1024,), "lr": 0.012},
    "two-sided spikes": TWO_SIDED,
    "layer norm": {**LAYER_NORM, "inputs": "pixels"},
    "1024 units with layer norm": {**LAYER_NORM, "inputs": "pixels", "hidden": (1024,), "lr": 0.008},
}
# These two data sets use the same pixels for other things, so that the second moves the very synapses of the first. The
# gate must close earlier than for permuted tasks: exponential, m = 4, chosen on held-out images. With the linear gate
# MNIST is lost. That Fashion-MNIST has more than twice as many spikes is not the reason: held out (seed 0), the linear
# gate kept MNIST at 38.5 %, with thresholds balanced per image at 29.6, with homeostatic ones at 33.5, with a hundred
# spikes in every image at 43.7; this gate at 79.3.
PAIR: Arms = {
    **GATED_AND_PLAIN,
    "linear gate": {"gate": "linear", "gate_at": 1.0},
    "homeostatic thresholds": {"thresholds": "homeostatic"},
    "1024 hidden units": {"hidden": (1024,)},
    "the reverse": {"data": "fashion-mnist"},
    "sparse spikes": {**SPARSE, "gate": "squared", "gate_at": 1.0, "lr": 0.01},
    # The linear gate is enough if thresholds do not follow the data set at all.
    "layer norm": {**LAYER_NORM, "gate": "linear", "gate_at": 1.0, "lr": 0.01},
}
# The hardest setting for a local rule: while two classes are shown, the readout is told ten thousand times that no
# other class occurs. It is here to be seen.
SPLIT: Arms = {
    **GATED_AND_PLAIN,
    "margin error": {"error": "margin"},
    "ternary error": {"error": "ternary"},
    # With twice the range, steps of the readout are half as large a share of it.
    "sparse spikes": {**SPARSE, "class_rate": 0.05, "gate": "squared", "lr": 0.004, "readout_limit": 1.0},
    "class neurons alone": {"class_rate": 0.05, "lr": 0.004, "readout_limit": 1.0},
    "prototypes": PROTOTYPES,
    "prototypes of 2048 units": {**PROTOTYPES, "hidden": (2048,)},
}
CLASSES = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
# Shown once, a stream is the data set in one order of many, and only consolidation could hurt. Shown five times in a
# row, each subset is a small task, which the next ones may push out.
SUBSETS: Arms = {
    "metaplastic once": {},
    "plain once": PLAIN,
    "metaplastic five times": {"passes": 5},
    "plain five times": {"passes": 5, **PLAIN},
    "sparse spikes once": SPARSE,
    "two-sided spikes once": {**TWO_SIDED, "inputs": "pixels"},  # grey, where most pixels are
}
# For tasks of 60,000 images: grey pixels. Of fewer units fewer spike, so sums are smaller, and so is the temperature.
LASTING: Mapping[str, Any] = {**TWO_SIDED, **BOTH_WAYS, "inputs": "pixels", "lr": 0.005}
# Hidden weights that have reached their limit can no longer be moved towards 0 by the linear gate. In the end there may
# be nothing left to learn with. A memory of N images lets weights relax, by h / N whenever their input is active, so
# that old tasks fade. An input is active in 13 % of the images, 650 times per task: N = 3,000 keeps 80 % of h per task.
LONG: Arms = {
    "metaplastic": {},
    "memory": {"memory": 3_000},
    "long memory": {"memory": 10_000},
    "plain": PLAIN,
    "sparse spikes": {**SPARSE, **PLAIN},
    "two-sided spikes": {**TWO_SIDED, **PLAIN},
    "gates in both directions": {**SPARSE, **BOTH_WAYS, "lr": 0.02},
    "lasting": {**LASTING, "hidden": (400,), "temperature": 14.0, "lr": 0.0035},
    "lasting of 100 units": {**LASTING, "hidden": (100,), "temperature": 5.0, "lr": 0.0025},
    "lasting of 2000 units": {**LASTING, "hidden": (2000,), "temperature": 45.0, "lr": 0.005},
}


@dataclass(frozen=True)
class SubsetSettings(OnlineSettings):
    """How often each subset is shown before the next one."""

    passes: PositiveInt = 1


def permuted(settings: OnlineSettings, seed: int) -> Scenario:
    """Permuted tasks of one data set."""
    return permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)


def pair(settings: OnlineSettings, seed: int) -> Scenario:
    """MNIST and Fashion-MNIST, `settings.data` first."""
    other = "mnist" if settings.data == "fashion-mnist" else "fashion-mnist"
    return dataset_sequence([dataset_of(settings, name) for name in (settings.data, other)])


def split(settings: OnlineSettings, seed: int) -> Scenario:
    """Two classes at a time."""
    return split_classes(dataset_of(settings, settings.data), CLASSES)


def subsets(settings: SubsetSettings, seed: int) -> Scenario:
    """Disjoint subsets, each shown so many times in a row."""
    stream = stream_of_subsets(dataset_of(settings, settings.data), settings.tasks, seed)
    parts = [part for part in stream.train for _ in range(settings.passes)]
    return replace(stream, train=parts, task_of=(0,) * len(parts))


def part_figures(settings: OnlineSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy on each task after each, and all arms side by side."""
    shown = [name for name in ("reference", "plain", "centring off", "direct feedback") if name in results.arms]
    return {"accuracy_after_each_task": part_curves(results, shown or None), "arms": final_bars(results)}


def part_claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
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


def subset_claims(settings: SubsetSettings, results: Results) -> Sequence[Claim]:
    """What a stream costs, shown once and again and again."""
    found = []
    for how, said, by in (
        ("once", "consolidation does not hurt a stream (at most a point)", -1.0),
        ("five times", "it helps if subsets are shown again and again", 0.0),
    ):
        plain, ours = f"plain {how}", f"metaplastic {how}"
        found.append(Claim(said, results.apart("ACC", plain, ours), results.above(ours, plain, "ACC", by)))
    return found


def long_figures(settings: OnlineSettings, results: Results) -> Mapping[str, Figure]:
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


def long_claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """A memory keeps it learning, and the gate keeps the first tasks."""
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


def _curves(settings: OnlineSettings, results: Results) -> Mapping[str, Figure]:
    return {"accuracy_after_each_part": part_curves(results)}


# Grey pixels and rarer spikes, of fixed thresholds, so that the network converts: chosen on held-out images, on which
# one-sided spikes, kappa 1.6, have 74.0 % and these 79.9 (seeds 0 to 2).
_DIGITS = changed(
    OnlineSettings(),
    data="digits",
    images=None,
    hidden=(1024,),
    inputs="pixels",
    lr=0.04,
    **{**TWO_SIDED, "kappa": 2.0, "temperature": 20.0, "divisive": False},
)
_REFERENCE = changed(OnlineSettings(), rules=("reference", "plain"))
_PAIR = changed(OnlineSettings(), gate="exponential", gate_at=4.0)
_SPLIT = changed(OnlineSettings(), images=None, rules=tuple(SPLIT))
_SUBSETS = changed(
    SubsetSettings(), rules=tuple(SUBSETS), data="fashion-mnist", tasks=60, images=None, every_part=False
)
_LONG = changed(OnlineSettings(), tasks=50, images=5_000, rules=tuple(LONG), every_part=False)
DIGITS = Experiment(
    name="online_digits",
    title="Permuted {data} on-line: {tasks} tasks, one pass",
    source="Ours: docs/results/online.md.",
    scales={"small": _DIGITS, "medium": _DIGITS, "paper": _DIGITS},
    arms=arms_of({**GATED_AND_PLAIN, "one-sided spikes": {"activation": "spikes", "kappa": 1.6}}),
    measure=learning(permuted),
    figures=_curves,
    claims=lambda settings, results: [keeps(results)],
)
PERMUTED = Experiment(
    name="online_permuted_mnist",
    title="Permuted {data} on-line: {tasks} tasks, one image at a time",
    source="Ours: docs/results/online.md. 784-512-10, 20,000 images per task, one pass, integers only.",
    scales={
        "small": changed(_REFERENCE, images=2000, lr=0.02),
        "medium": _REFERENCE,
        "paper": changed(_REFERENCE, rules=("all",)),
    },
    arms=arms_of(PARTS),
    measure=learning(permuted),
    figures=part_figures,
    claims=part_claims,
)
EXPERIMENTS = (
    DIGITS,
    PERMUTED,
    Experiment(
        name="online_fashion",
        title="MNIST and Fashion-MNIST, one after the other, on-line",
        source="The sequence of Laborieux et al. 2021 (Figure 3), here in one pass of 20,000 images each.",
        scales={
            "small": changed(_PAIR, images=5000, lr=0.01),
            "medium": changed(_PAIR, rules=tuple(PAIR)),
            "paper": changed(_PAIR, rules=tuple(PAIR)),
        },
        arms=arms_of(PAIR),
        measure=learning(pair),
        figures=_curves,
        claims=lambda settings, results: [keeps(results, "the gate keeps MNIST while Fashion-MNIST is learned")],
    ),
    Experiment(
        name="online_split",
        title="Split {data} on-line, two classes at a time",
        source="The sequence of Zenke et al. 2017 with one readout (class-incremental), one pass.",
        scales={"small": changed(_SPLIT, images=1000), "medium": _SPLIT, "paper": _SPLIT},
        arms=arms_of(SPLIT),
        measure=learning(split),
        figures=_curves,
        claims=lambda settings, results: [keeps(results, "the gate keeps earlier classes")],
    ),
    Experiment(
        name="online_stream",
        title="A stream of {tasks} subsets of {data}, on-line",
        source="The stream of Laborieux et al. 2021 (Figure 6): there 20 epochs a subset.",
        scales={
            "small": changed(_SUBSETS, rules=tuple(SUBSETS)[:2], images=200),
            "medium": _SUBSETS,
            "paper": _SUBSETS,
        },
        arms=arms_of(SUBSETS),
        measure=learning(subsets),
        figures=lambda settings, results: {"arms": final_bars(results)},
        claims=subset_claims,
    ),
    Experiment(
        name="online_long",
        title="A long stream on-line: {tasks} permuted tasks of {data}, {images} images each",
        source="Ours: docs/results/online.md. The forgetting term after BiMU (Cottart et al. 2026).",
        scales={"small": changed(_LONG, tasks=10, images=600, lr=0.02), "medium": _LONG, "paper": _LONG},
        arms=arms_of(LONG),
        measure=learning(permuted),
        figures=long_figures,
        claims=long_claims,
    ),
)
