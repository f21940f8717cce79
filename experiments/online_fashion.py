"""MNIST, then Fashion-MNIST, learned on-line inside Lava: two data sets that share their labels and their pixels.

Permuted tasks differ in where their pixels lie; these two use the same ones for other things, so that the second moves
the very synapses of the first. The gate must close earlier than for permuted tasks: exponential, m = 4, chosen on
held-out images. With the linear gate MNIST is lost, as the arm of that name shows. That Fashion-MNIST has more than
twice as many spikes is not the reason: held out (seed 0), the linear gate kept MNIST at 38.5 %, with thresholds
balanced for each image at 29.6, with homeostatic ones at 33.5, with a hundred spikes in every image at 43.7; this gate
at 79.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lava_meta.data.scenarios import Scenario, dataset_sequence
from lava_meta.experiments.common.claims import Claim
from lava_meta.experiments.common.experiment import Results
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, dataset_of, keeps, stream_experiment

ROWS: dict[str, dict[str, Any]] = {
    "metaplastic": {},
    "plain": PLAIN,
    "linear gate": {"gate": "linear", "gate_at": 1.0},
    "homeostatic thresholds": {"thresholds": "homeostatic"},
    "1024 hidden units": {"hidden": (1024,)},
    "the reverse": {"data": "fashion-mnist"},
}
_SETTINGS = OnlineSettings(gate="exponential", gate_at=4.0)
SCALES = {
    "small": replace(_SETTINGS, images=5000, lr=0.01),
    "medium": replace(_SETTINGS, rules=tuple(ROWS)),
    "paper": replace(_SETTINGS, rules=tuple(ROWS)),
}


def scenario(settings: OnlineSettings, seed: int) -> Scenario:
    """Both data sets, `settings.data` first."""
    other = "mnist" if settings.data == "fashion-mnist" else "fashion-mnist"
    return dataset_sequence([dataset_of(settings, name) for name in (settings.data, other)])


def claims(settings: OnlineSettings, results: Results) -> Sequence[Claim]:
    """What is claimed."""
    return [keeps(results, "the gate keeps MNIST while Fashion-MNIST is learned")]


EXPERIMENT = stream_experiment(
    "online_fashion",
    "MNIST and Fashion-MNIST, one after the other, on-line",
    "The sequence of Laborieux et al. 2021 (Figure 3), here in one pass of 20,000 images each.",
    SCALES,
    scenario,
    claims,
    ROWS,
)
