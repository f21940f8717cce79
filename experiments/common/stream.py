"""Learning one data set as a stream of disjoint subsets, never seen again: what the stream experiments share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from lava_meta.data import Dataset
from lava_meta.data.scenarios import stream_of_subsets
from lava_meta.experiments.common.claims import Claim, Verdict, judge
from lava_meta.experiments.common.experiment import Measurement, Results
from lava_meta.experiments.common.figures import band, spread_note, stack
from lava_meta.experiments.common.settings import at_least, changed
from lava_meta.experiments.common.training import TrainingSettings, best_m, load, measured, rule_arms, train_arm
from lava_meta.plotting.figures import STYLE
from lava_meta.plotting.palette import arm_styles

WHOLE = "whole set at once"


@dataclass(frozen=True)
class StreamSettings(TrainingSettings):
    """A data set cut into subsets; one optimizer throughout, as for one long task."""

    data: str = "fashion-mnist"
    subsets: int = 60
    whole: bool = True  # also train on the whole set at once, plain: the upper bound
    reset_moments: bool = False
    evaluate: Literal["epoch", "task"] = "task"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, subsets=1)


T = TypeVar("T", bound=StreamSettings)


def stream_arms(settings: T) -> dict[str, T]:
    """Every rule on the stream, and the whole set at once."""
    arms = rule_arms(settings)
    if settings.whole:
        arms[WHOLE] = changed(settings, rules=("plain",), m=(0.0,), subsets=1)
    return arms


def measure_stream(
    settings: StreamSettings,
    seed: int,
    folder: Path,
    progress: bool,
    make: Callable[..., nn.Module],
    read: Callable[..., Dataset] = load,
) -> Measurement:
    """Train one arm; `data` has the test accuracy after each subset."""
    scenario = stream_of_subsets(read(settings, settings.data, seed), settings.subsets, seed)
    return measured(train_arm(settings, scenario, seed, folder, progress, make)[1])


def stream_figures(settings: StreamSettings, results: Results) -> Mapping[str, Figure]:
    """Test accuracy against subsets seen, a line an arm; the whole set at once as a level."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.7), layout="constrained")
        axis = figure.subplots()
        streams = [label for label in results.arms if label != WHOLE]
        styles = arm_styles(streams)
        lowest = 100.0
        for label in streams:
            values = stack([run.data["accuracies"] for run in results.arms[label]])[..., 0]
            values = values[:, :: settings.epochs]  # before training, and after each subset
            lowest = min(lowest, np.nanmin(values[:, 1:]))  # the untrained network is of no interest
            look = {**styles[label], "markersize": 3.5, "markevery": max(1, settings.subsets // 10)}
            band(axis, np.arange(values.shape[1]), values, label=label, **look)
        if WHOLE in results.arms:
            axis.axhline(results.mean(WHOLE, "ACC"), color="0.3", linestyle="--", linewidth=1, label=WHOLE)
        note = spread_note(results, "band", line=True)
        axis.set(
            xlabel="subsets seen",
            ylabel=f"test accuracy (%){note}",
            xlim=(0, settings.subsets),
            ylim=(lowest - 5, None),
        )
        axis.legend(loc="lower right")
    return {"stream": figure}


def stream_claims(settings: StreamSettings, results: Results) -> Sequence[Claim]:
    """What the paper says of streams: metaplastic above plain, and part of the way to the whole set at once."""
    best = best_m(results)
    plain, ours, bound = (results.mean(label, "ACC") for label in ("m = 0", best, WHOLE))
    # Where the stream costs nothing there is no way to go; NaN, where an arm was not run, fails the comparison too.
    share = (ours - plain) / (bound - plain) if bound - plain > 1 else math.nan
    # More than half of the way, seed by seed, without a quotient: 2 (ours - plain) > whole - plain.
    half = 2 * results.differences(best, "m = 0", "ACC") - results.differences(WHOLE, "m = 0", "ACC")
    said = results.apart("ACC", WHOLE, "m = 0", best)
    return [
        Claim(
            "on a stream the metaplastic network stays above the plain one", said, results.above(best, "m = 0", "ACC")
        ),
        Claim(
            "it comes close to learning the whole set at once (more than half of the way from plain)",
            "no difference to close" if math.isnan(share) else f"{share:.0%} of the way from plain",
            Verdict.NOT_RUN if math.isnan(share) else judge(half, 0.0),
        ),
    ]
