"""The on-line rule on spikes over time, end to end on a few digits."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.experiments.common.experiment import find
from lava_meta.experiments.common.runner import run_experiment
from lava_meta.io.config import override

SMALL = ("seeds=1", "hidden=30", "images=100", "backend=kernels", "tasks=2", "time_steps=1,2")


def test_it_runs_every_number_of_steps_with_the_gate_and_without(tmp_path) -> None:
    experiment = find("online_spiking")
    settings = override(experiment.scales["small"], [*SMALL])
    results = run_experiment(experiment, settings, tmp_path)
    assert list(results.arms) == ["metaplastic, T = 1", "metaplastic, T = 2", "plain, T = 1", "plain, T = 2"]
    for runs in results.arms.values():
        assert runs[0].metrics["ACC"] == pytest.approx(np.mean(runs[0].data["final"]))
        assert runs[0].metrics["images learned a second"] > 0
    assert len(experiment.claims(settings, results)) == 3
    assert list((tmp_path / "figures").glob("*.png"))
    with pytest.raises(ValueError, match="no rule sparse; there are metaplastic, plain"):
        experiment.arms(override(settings, ["rules=sparse"]))
