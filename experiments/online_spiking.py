"""The on-line rule on spikes over time: permuted tasks, rate-coded, with and without the gate, by time steps an image.

    lava-meta experiment online_spiking --scale medium --seeds 3

In every step a pixel spikes with the probability of its brightness; hidden units integrate and fire; the rule learns
at the last step (`lava_meta.online_learning.over_time`). What does it cost, and what does it gain?
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results, Run
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, final_bars, measurement
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.online import SPARSE, permuted
from lava_meta.io.config import Several
from lava_meta.online_learning.over_time_learner import LearnerOverTime
from lava_meta.plotting.figure import Figure


@dataclass(frozen=True)
class SpikingOnlineSettings(OnlineSettings):
    """Arms are the time steps an image, each with the gate and, by the rules, without."""

    time_steps: Several[PositiveInt] = (1, 4, 8)
    steps: PositiveInt = 1  # of an arm
    leak: Annotated[float, Field(ge=0, le=1)] = 0.5
    coding: Literal["rate", "constant"] = "rate"


RULES: Mapping[str, Mapping[str, Any]] = {"metaplastic": {}, "plain": PLAIN}


def arms(settings: SpikingOnlineSettings) -> Mapping[str, SpikingOnlineSettings]:
    """Raises ValueError for an unknown rule."""
    unknown = [name for name in settings.rules if name not in RULES]
    if unknown:
        raise ValueError(f"no rule {', '.join(unknown)}; there are {', '.join(RULES)}")
    return {
        f"{name}, T = {steps}": replace(settings, steps=steps, **RULES[name])
        for name in settings.rules
        for steps in settings.time_steps
    }


def measure(run: Run[SpikingOnlineSettings]) -> Measurement:
    """Learn the tasks once, in order."""
    settings = run.settings
    scenario = permuted(settings, run.seed)
    options = settings.learner_settings(run.seed)
    sizes = [int(np.prod(scenario.shape)), *settings.hidden, scenario.classes]
    learner = LearnerOverTime(sizes, steps=settings.steps, leak=settings.leak, coding=settings.coding, **options)
    history = learner.fit(scenario, images=settings.images, evaluate=settings.every_part)
    found = measurement(learner, history, run.folder)
    test = scenario.tests[0].take(np.arange(min(1000, len(scenario.tests[0]))))
    begun = time.perf_counter()
    learner.predict(test.x)
    rates = {
        "images learned a second": history.images / history.seconds,
        "images classified a second": len(test) / (time.perf_counter() - begun),
    }
    return Measurement({**found.metrics, **rates}, found.data)


def claims(settings: SpikingOnlineSettings, results: Results) -> Sequence[Claim]:
    """The gate helps at every number of steps, and more of them do not hurt."""
    found = []
    if {*RULES} <= {*settings.rules}:
        for steps in settings.time_steps:
            plain, ours = (f"{name}, T = {steps}" for name in ("plain", "metaplastic"))
            text = results.apart("ACC", plain, ours)
            found.append(Claim(f"the gate helps at T = {steps}", text, results.above(ours, plain, "ACC")))
    first, last = (f"{settings.rules[0]}, T = {steps}" for steps in (settings.time_steps[0], settings.time_steps[-1]))
    if first != last:
        text = results.apart("ACC", first, last)
        found.append(Claim("more steps an image are better", text, results.above(last, first, "ACC")))
    return found


def figures(settings: SpikingOnlineSettings, results: Results) -> Mapping[str, Figure]:
    """All arms side by side."""
    return {"arms": final_bars(results)}


_MEDIUM = changed(SpikingOnlineSettings(), images=4000, lr=0.02, every_part=False, **SPARSE)
EXPERIMENT = Experiment(
    name="online_spiking",
    title="Permuted {data} on-line as spikes over time: {tasks} tasks, {images} images each",
    source="Ours: docs/online_spikes.md. 784-512-10, one pass, integers only.",
    scales={
        "small": changed(_MEDIUM, data="digits", images=None, hidden=(256,)),
        "medium": _MEDIUM,
        "paper": changed(_MEDIUM, images=20_000, lr=0.005),
    },
    arms=arms,
    measure=measure,
    figures=figures,
    claims=claims,
)
