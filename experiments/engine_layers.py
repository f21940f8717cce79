"""Five permuted tasks learned in Lava's own learning engine, hidden layer and readout, beside our form of the rule.

    engine          stock LearningDense, in the engine's integers: 9-bit tags, one draw a step for all synapses
    engine, float   the same in floating point
    ours            8-bit hidden weights, a draw for each synapse
    plain           the engine's integers without the gate

The error reaches the hidden layer through fixed signs in all of them. `small` is digits, 64-100-10, inside Lava;
`medium` is MNIST, 784-512-10, 20,000 images a task, by the twin of Lava's arithmetic, which ends in the same state: in
Lava an image of this size takes about a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lava_meta.data.scenarios import Scenario, permuted_tasks
from lava_meta.experiments.common.claims import Claim, between
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, dataset_of, keeps, stream_experiment

FORMS: dict[str, dict[str, Any]] = {
    "engine": {"form": "engine", "bits": 9},
    "engine, float": {"form": "engine", "bits": None},
    "ours": {},
}
ROWS = {**FORMS, "plain": {**FORMS["engine"], **PLAIN}}
_SETTINGS = OnlineSettings(
    data="digits", images=None, hidden=(100,), lr=0.01, feedback="direct", rules=("engine", "ours")
)
_MNIST = replace(
    _SETTINGS, data="mnist", images=20_000, hidden=(512,), lr=0.005, backend="kernels", rules=("engine", "plain")
)
# Every phase of a step is a message in Lava: at this many images a run takes two minutes at most.
SCALES = {"small": replace(_SETTINGS, images=200), "medium": _MNIST, "paper": _MNIST}


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """The tasks."""
    return permuted_tasks(dataset_of(settings, settings.data), settings.tasks, seed)


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [
        Claim(
            "the learning engine's integers learn as well as our form, to two points",
            results.apart("ACC", "ours", "engine"),
            between(results.differences("engine", "ours", "ACC"), -2.0, 2.0),
        ),
        keeps(results),
    ]


EXPERIMENT = stream_experiment(
    "engine_layers",
    "Permuted {data} learned in Lava's learning engine: {tasks} tasks",
    "Ours: docs/engine.md.",
    SCALES,
    scenario,
    claims,
    ROWS,
)
