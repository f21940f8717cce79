"""MNIST learned on-line two classes at a time, one readout for all, no label of a task at test, no rehearsal.

The hardest setting for a local rule: while two classes are shown, the readout is told ten thousand times that no other
class occurs. It is here to be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lava_meta.data.scenarios import Scenario, split_classes
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, dataset_of, keeps, stream_experiment

ROWS = {"metaplastic": {}, "plain": PLAIN, "margin error": {"error": "margin"}, "ternary error": {"error": "ternary"}}
_SETTINGS = OnlineSettings(images=None, rules=tuple(ROWS))
SCALES = {"small": replace(_SETTINGS, images=1000), "medium": _SETTINGS, "paper": _SETTINGS}
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """The pairs of classes."""
    return split_classes(dataset_of(settings, settings.data), PAIRS)


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [keeps(results, "the gate keeps earlier classes")]


EXPERIMENT = stream_experiment(
    "online_split",
    "Split {data} on-line, two classes at a time",
    "The sequence of Zenke et al. 2017 with one readout (class-incremental), one pass.",
    SCALES,
    scenario,
    claims,
    ROWS,
)
