"""MNIST, then Fashion-MNIST, learned on-line inside Lava: two data sets that share their labels and their pixels.

The second differs from the first in every way, so the gate must close earlier than for permuted tasks: an exponential
one, m = 4. With the linear gate MNIST is lost, an arm says how far; nor is it the pixels' mean that differs, two arms
say: thresholds that follow the running mean, and images of one brightness (as many spikes in each) do not help much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lava_meta.experiments.common.experiment import Claim, Results
from lava_meta.experiments.common.online import PLAIN, OnlineSettings, dataset_of, keeps, stream_experiment
from lava_meta.streams import Scenario, dataset_sequence

ROWS = {
    "metaplastic": {},
    "plain": PLAIN,
    "linear gate": {"gate": "linear", "gate_at": 1.0},
    "homeostatic thresholds": {"thresholds": "homeostatic"},
    "1024 hidden units": {"hidden": (1024,)},
    "the reverse": {"data": "fashion-mnist"},
}
_SETTINGS = OnlineSettings(gate="exponential", gate_at=4.0)
SCALES = {
    "small": replace(_SETTINGS, seeds=1, images=5000, lr=0.01),
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
    "MNIST, then Fashion-MNIST, on-line",
    "The sequence of Laborieux et al. 2021 (Figure 3), here in one pass of 20,000 images each.",
    SCALES,
    scenario,
    claims,
    ROWS,
)
