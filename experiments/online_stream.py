"""Fashion-MNIST as a stream of 60 disjoint subsets, learned on-line: what does a stream cost?

Shown once, a stream is the data set in one order of many, and only consolidation could hurt. Shown five times in a row,
each subset is a small task, which the next ones may push out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lava_meta.data.scenarios import stream_of_subsets
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Experiment, Measurement, Results
from lava_meta.experiments.common.online import (
    PLAIN,
    OnlineSettings,
    arms_of,
    dataset_of,
    final_bars,
    measure_stream,
)
from lava_meta.experiments.common.settings import at_least


@dataclass(frozen=True)
class StreamSettings(OnlineSettings):
    """How often each subset is shown before the next one."""

    passes: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, passes=1)


ROWS = {
    "metaplastic once": {},
    "plain once": PLAIN,
    "metaplastic five times": {"passes": 5},
    "plain five times": {"passes": 5, **PLAIN},
}
_STREAM: dict[str, Any] = {"data": "fashion-mnist", "tasks": 60, "images": None, "every_part": False}
_SETTINGS = StreamSettings(rules=tuple(ROWS), **_STREAM)
_SMALL = StreamSettings(rules=tuple(ROWS)[:2], **{**_STREAM, "images": 200})
SCALES = {"small": _SMALL, "medium": _SETTINGS, "paper": _SETTINGS}


def measure(settings: StreamSettings, seed: int, folder: Path, progress: bool) -> Measurement:
    """Learn the stream."""
    stream = stream_of_subsets(dataset_of(settings, settings.data), settings.tasks, seed)
    parts = [part for part in stream.train for _ in range(settings.passes)]
    repeated = replace(stream, train=parts, task_of=(0,) * len(parts))
    return measure_stream(settings, repeated, seed, folder)


def claims(settings: StreamSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    found = []
    for how, said, by in (
        ("once", "consolidation does not hurt a stream (at most a point)", -1.0),
        ("five times", "it helps if subsets are shown again and again", 0.0),
    ):
        plain, ours = f"plain {how}", f"metaplastic {how}"
        found.append(Claim(said, results.apart("ACC", plain, ours), results.above(ours, plain, "ACC", by)))
    return found


EXPERIMENT: Experiment[StreamSettings] = Experiment(
    name="online_stream",
    title="A stream of {tasks} subsets of {data}, on-line",
    source="The stream of Laborieux et al. 2021 (Figure 6): there 20 epochs a subset.",
    scales=SCALES,
    arms=arms_of(ROWS),  # type: ignore[arg-type]
    measure=measure,
    figures=lambda settings, results: {"arms": final_bars(results)},
    claims=claims,
)
