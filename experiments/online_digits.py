"""Five permuted tasks of digits learned on-line inside Lava: seconds, with data that come along.

lava-meta demo --online
"""

from __future__ import annotations

from collections.abc import Sequence

from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.online import OnlineSettings, dataset_of, keeps, stream_experiment

_SETTINGS = OnlineSettings(data="digits", images=None, hidden=(1024,), lr=0.03)
SCALES = {"small": _SETTINGS, "medium": _SETTINGS, "paper": _SETTINGS}


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """The tasks."""
    return permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [keeps(results)]


EXPERIMENT = stream_experiment(
    "online_digits",
    "Permuted {data} on-line: {tasks} tasks, one pass",
    "Ours: docs/online.md.",
    SCALES,
    scenario,
    claims,
)
