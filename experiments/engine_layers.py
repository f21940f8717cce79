"""Five permuted tasks learned in Lava's own learning engine, hidden layer and readout, beside our form of the rule.

    engine          stock LearningDense, in the engine's integers: 9-bit tags, one draw per step for all synapses
    engine, float   the same in floating point
    ours            8-bit hidden weights, a draw for each synapse
    ... with spikes  units that spike on either side of their threshold
    plain           the engine's integers without the gate

The error reaches the hidden layer through fixed signs in all of them. `small` is digits, 64-100-10, inside Lava;
`medium` is MNIST, 784-512-10, 20,000 images per task, by the reference implementation of Lava's arithmetic, which ends
in the same state: in Lava an image of this size takes about a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lava_meta.experiments.common.claims import Claim, between
from lava_meta.experiments.common.experiment import Experiment, Results
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, arms_of, keeps, learning, part_curves
from lava_meta.experiments.common.settings import changed
from lava_meta.experiments.online import permuted

FORMS: dict[str, dict[str, Any]] = {
    "engine": {"form": "engine", "bits": 9},
    "engine, float": {"form": "engine", "bits": None},
    "ours": {},
}
# Of fixed thresholds, as a chip's neurons have them; the rate was chosen on held-out digits.
SPIKES: dict[str, Any] = {"activation": "abs_spikes", "kappa": 1.6, "divisive": False, "temperature": 10.0, "lr": 0.005}
ROWS = {
    **FORMS,
    "plain": {**FORMS["engine"], **PLAIN},
    "engine with spikes": {**FORMS["engine"], **SPIKES},
    "ours with spikes": SPIKES,
}
_SETTINGS = changed(
    OnlineSettings(),
    data="digits",
    images=None,
    hidden=(100,),
    lr=0.01,
    feedback="direct",
    rules=("engine", "ours"),
)
_MNIST = changed(
    _SETTINGS, data="mnist", images=20_000, hidden=(512,), lr=0.005, backend="kernels", rules=("engine", "plain")
)


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


EXPERIMENT = Experiment(
    name="engine_layers",
    title="Permuted {data} learned in Lava's learning engine: {tasks} tasks",
    source="Ours: docs/results/engine.md.",
    # Every phase of a step is a message in Lava: at this many images a run takes two minutes at most.
    scales={"small": changed(_SETTINGS, images=200), "medium": _MNIST, "paper": _MNIST},
    arms=arms_of(ROWS),
    measure=learning(permuted),
    figures=lambda settings, results: {"accuracy_after_each_part": part_curves(results)},
    claims=claims,
)
