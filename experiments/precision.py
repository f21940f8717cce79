"""How many bits, and how good a memory, does a hidden weight need? Five tasks learned on-line, on many memories.

    lava-meta experiment precision                        # permuted digits, a minute
    lava-meta experiment precision --scale medium         # permuted MNIST, 20,000 images per task

One image at a time, one pass, by the on-line rule (`lava_meta.online_learning`); what counts is the mean accuracy on
all five tasks after the last. Two sweeps of one network:

    bits        3 to 16 bits of hidden weight, each with the three roundings of a step to whole levels: at random with
                a draw per synapse, at random with one draw per step for all synapses (as Lava's learning engine
                draws), to nearest
    faults      8 bits, a draw per synapse, and one fault of an analog memory at a time: noise of a write relative
                to the write or to the range, up and down steps of different size, soft bounds, drift of the stored
                value

The equations are those of `lava_meta.online_learning.device`. Nothing is tuned to an arm: learning rate, gate and range
are those of the reference. To choose them for a memory of your own, on images that are not learned:

    lava-meta experiment precision --scale medium --set held_out=yes --set bits=5 --set lr=0.002

and with the curve of your own device as the gate (`lava_meta.rule.measured`): --set curve=device.csv
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import PositiveInt

from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments.common.claims import Claim, opposite
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.online import OnlineSettings, dataset_of
from lava_meta.experiments.common.settings import Settings, changed
from lava_meta.io.config import OrNone, Several
from lava_meta.online_learning import Device, Learner, OnlineRule, saturation
from lava_meta.online_learning.device import ROUNDINGS
from lava_meta.online_learning.settings import check_precision
from lava_meta.plotting import figures as drawing
from lava_meta.plotting.figure import Figure
from lava_meta.rule import Linear
from lava_meta.rule.measured import consolidation_from_csv

REFERENCE_BITS = 8
FAULTS = {
    "relative_noise": "noise, share of the write",
    "absolute_noise": "noise, share of the range",
    "asymmetry": "asymmetry of up and down",
    "soft_bounds": "soft bounds",
    "drift": "drift in 1,000 images",
}
_MARGIN = 3  # points of accuracy that count as a little
_LABELS = {"synapse": "a draw per synapse", "step": "one draw per step", "nearest": "to nearest"}


@dataclass(frozen=True)
class PrecisionSettings(Settings):
    """What is learned, and the values of each sweep; a fault of 0 is none."""

    data: str = "mnist"
    tasks: PositiveInt = 5
    images: PositiveInt = 20_000  # per task
    hidden: Several[PositiveInt] = (256,)
    lr: float = 0.005
    curve: OrNone[str] = None  # a file of conductance over pulses, smoothed: the gate instead of Linear(1)
    held_out: bool = False  # measure on training images that are not learned: to choose settings
    bits: Several[int] = (3, 4, 5, 6, 8, 12, 16)
    rounding: Several[str] = ROUNDINGS
    relative_noise: Several[float] = (0.3, 1.0, 3.0)
    absolute_noise: Several[float] = (0.01, 0.03, 0.1)
    asymmetry: Several[float] = (0.05, 0.1, 0.3)
    soft_bounds: Several[float] = (0.5, 1.0)
    drift: Several[float] = (0.001, 0.01, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for bits in self.bits:
            check_precision(bits)
        for name in ("rounding", *FAULTS):
            for value in getattr(self, name):
                Device(**{name: value})


# 1,437 harder images per task need larger steps: docs/online.md, "Choosing settings".
SCALES = {
    "small": changed(
        PrecisionSettings(),
        data="digits",
        images=1_437,
        hidden=(128,),
        lr=0.03,
        bits=(3, 5, 8, 16),
        relative_noise=(1.0,),
        absolute_noise=(0.1,),
        asymmetry=(0.1, 0.3),
        soft_bounds=(1.0,),
        drift=(0.1,),
    ),
    "medium": changed(PrecisionSettings(), seeds=1),
    "paper": changed(PrecisionSettings(), hidden=(512,), seeds=5),
}


def arms(settings: PrecisionSettings) -> Mapping[str, PrecisionSettings]:
    """One memory each: its settings hold one value of everything."""
    none: dict[str, Any] = dict.fromkeys(FAULTS, (0.0,))
    found = {
        f"{bits} bits, {rounding}": replace(settings, bits=(bits,), rounding=(rounding,), **none)
        for rounding in settings.rounding
        for bits in settings.bits
    }
    reference = replace(settings, bits=(REFERENCE_BITS,), rounding=("synapse",), **none)
    for fault in FAULTS:
        for value in getattr(settings, fault):
            if value:
                one: dict[str, Any] = {fault: (value,)}
                found[f"{fault} {value:g}"] = replace(reference, **one)
    return found


def measure(run: Run[PrecisionSettings]) -> Measurement:
    """Learn the five tasks on the memory of this arm, by the compiled kernels."""
    settings, seed = run.settings, run.seed
    device = Device(settings.rounding[0], **{fault: getattr(settings, fault)[0] for fault in FAULTS})
    gate = Linear(1.0) if settings.curve is None else consolidation_from_csv(settings.curve, smooth="isotonic")
    dataset = dataset_of(OnlineSettings(held_out=settings.held_out), settings.data)
    scenario = permuted_tasks(dataset, settings.tasks, seed)
    learner = Learner(
        [int(np.prod(scenario.shape)), *settings.hidden, scenario.classes],
        rule=OnlineRule(lr=settings.lr, consolidation=gate),
        precision=settings.bits[0],
        seed=seed,
        backend="kernels",
        # An ideal device is the memory of whole levels, to the bit, and that one runs faster.
        device=None if device == Device() else device,
    )
    history = learner.fit(scenario, images=settings.images)
    assert history.accuracy is not None
    final = [round(float(value), 2) for value in 100 * history.accuracy.values[-1]]
    return Measurement(
        {"ACC": round(float(np.mean(final)), 2), "first task": final[0], "last task": final[-1]},
        {
            "final": final,
            "online": [round(100 * value, 2) for value in history.online],
            "saturated": [round(value, 3) for value in saturation(learner)],
        },
    )


def figures(settings: PrecisionSettings, results: Results) -> Mapping[str, Figure]:
    """Accuracy against bits for each rounding, and against each fault."""
    values = {label: [run.metrics["ACC"] for run in runs] for label, runs in results.arms.items()}
    panels: list[tuple[str, dict[str, list[tuple[float, str]]]]] = [
        (
            "bits of hidden weight",
            {_LABELS[how]: [(bits, f"{bits} bits, {how}") for bits in settings.bits] for how in settings.rounding},
        )
    ]
    clean = (0.0, f"{REFERENCE_BITS} bits, synapse")
    for fault, name in FAULTS.items():
        panels.append((name, {fault: [clean, *((v, f"{fault} {v:g}") for v in getattr(settings, fault))]}))
    return {"precision": drawing.sweeps(panels, values, f"mean accuracy, {settings.tasks} tasks (%)")}


def claims(settings: PrecisionSettings, results: Results) -> Sequence[Claim]:
    """What we say of memories, as far as the arms can tell: who stays within `_MARGIN` points of whom."""
    clean, few = f"{REFERENCE_BITS} bits, synapse", "5 bits, synapse"
    return [
        _claim(results, "8 bits are enough: 16 add little", clean, "16 bits, synapse", within=True),
        _claim(results, "5 bits are not", few, clean, within=False),
        _claim(
            results, "at 8 bits one draw for all synapses of a step costs little", "8 bits, step", clean, within=True
        ),
        _claim(results, "at 5 bits it does not", "5 bits, step", few, within=False),
        _claim(
            results,
            "rounding to nearest stops at 5 bits: steps fall short of half a level",
            "5 bits, nearest",
            few,
            within=False,
        ),
        _claim(results, "up and down steps that differ by 10 % cost accuracy", "asymmetry 0.1", clean, within=False),
        _claim(results, "a drift of 1 % in 1,000 images does not", "drift 0.01", clean, within=True),
    ]


def _claim(results: Results, said: str, arm: str, other: str, *, within: bool) -> Claim:
    near = results.above(arm, other, "ACC", by=-_MARGIN)
    what = "at most" if within else "more than"
    said = f"{said} ({what} {_MARGIN} points)"
    return Claim(said, results.apart("ACC", other, arm), near if within else opposite(near))


EXPERIMENT = Experiment(
    name="precision",
    title="Hidden weights in few bits and in memories with faults: permuted {data}, {tasks} tasks on-line",
    source="ours; memories after Gokmen and Vlasov, Front. Neurosci. 10:333 (2016)",
    scales=SCALES,
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
    headline=("ACC",),
)
