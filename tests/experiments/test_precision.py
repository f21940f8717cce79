"""The precision study: its arms are the memories it names, it runs and resumes, and its claims follow the figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.experiments import online, precision
from lava_meta.experiments.common.claims import Verdict
from lava_meta.experiments.common.experiment import Measurement, Results, Run
from lava_meta.experiments.common.runner import run_experiment
from lava_meta.io.config import override
from lava_meta.online_learning import Learner, OnlineRule
from lava_meta.rule.measured import consolidation_from_csv

TINY = replace(
    precision.SCALES["small"],
    tasks=2,
    images=60,
    hidden=(12,),
    bits=(5, 8),
    relative_noise=(0.0, 1.0),
    absolute_noise=(0.1,),
    asymmetry=(0.1,),
)


def test_an_arm_is_one_memory() -> None:
    arms = precision.arms(TINY)
    assert list(arms)[:6] == [f"{bits} bits, {how}" for how in ("synapse", "step", "nearest") for bits in (5, 8)]
    assert list(arms)[6:] == ["relative_noise 1", "absolute_noise 0.1", "asymmetry 0.1", "soft_bounds 1", "drift 0.1"]
    for name, arm in arms.items():
        assert len(arm.bits) == len(arm.rounding) == 1
        faults = {fault: getattr(arm, fault) for fault in precision.FAULTS}
        assert sum(value != (0.0,) for value in faults.values()) == (" bits, " not in name)


@pytest.mark.slow
def test_it_runs_and_resumes_and_an_ideal_memory_is_the_learner_of_so_many_bits(tmp_path: Path) -> None:
    few = replace(TINY, rounding=("synapse", "nearest"), soft_bounds=(0.0,), drift=(0.0,))
    results = run_experiment(precision.EXPERIMENT, few, tmp_path / "study")
    again = run_experiment(precision.EXPERIMENT, few, tmp_path / "study", resume=True)
    assert again == results
    changes = ["data=digits", "tasks=2", "images=60", "hidden=12", "bits=5", f"lr={few.lr}", "backend=kernels"]
    settings = override(online.PERMUTED.scales["medium"], changes)
    final = online.PERMUTED.measure(Run(settings, 0, tmp_path / "online")).data["final"]
    assert results.arms["5 bits, synapse"][0].data["final"] == pytest.approx(final, abs=0.01)
    # At 5 bits no step reaches half a level: nothing is ever written, and the accuracy stays that of the start.
    assert results.arms["5 bits, nearest"][0].metrics["ACC"] < 20
    assert (tmp_path / "study" / "figures" / "precision.png").stat().st_size > 10_000
    report = (tmp_path / "study" / "report.md").read_text()
    assert "| relative_noise 1 |" in report
    assert "not told by these runs" in report  # 16 bits were not run


def test_held_out_images_are_tested_and_not_learned(tmp_path: Path) -> None:
    arm = replace(precision.arms(TINY)["8 bits, synapse"], tasks=1, images=5)
    measured = [
        precision.EXPERIMENT.measure(Run(replace(arm, held_out=held_out), 0, tmp_path)).metrics["ACC"]
        for held_out in (True, False)
    ]
    assert measured[0] != measured[1]


def test_the_gate_can_be_a_measured_curve(tmp_path: Path) -> None:
    pulse = np.arange(30)
    rows = [f"{p},{g}" for p, g in zip(pulse, 1 - np.exp(-pulse / 5), strict=True)]
    (tmp_path / "curve.csv").write_text("\n".join(["pulse,conductance", *rows]))
    arm = replace(precision.arms(TINY)["8 bits, synapse"], curve=str(tmp_path / "curve.csv"))
    measured = precision.EXPERIMENT.measure(Run(arm, 0, tmp_path))
    rule = OnlineRule(lr=TINY.lr, consolidation=consolidation_from_csv(tmp_path / "curve.csv", smooth="isotonic"))
    learner = Learner([64, 12, 10], rule, precision=8, backend="kernels", seed=0)
    history = learner.fit(permuted_tasks(load_dataset("digits"), 2, seed=0), images=60)
    assert history.accuracy is not None
    assert measured.data["final"] == pytest.approx(100 * history.accuracy.values[-1], abs=0.01)
    with pytest.raises(FileNotFoundError):
        precision.EXPERIMENT.measure(Run(replace(arm, curve="missing.csv"), 0, tmp_path))


def test_claims_follow_the_figures() -> None:
    known = {Verdict.HOLDS: True, Verdict.FAILS: False, Verdict.NOT_RUN: None}

    def verdicts(found: Results) -> list[bool | None]:
        return [known[claim.verdict] for claim in precision.claims(precision.PrecisionSettings(), found)]

    good = {"8 bits, synapse": 84.0, "16 bits, synapse": 85.0, "5 bits, synapse": 74.0, "drift 0.01": 84.0}
    arms = {name: 2 * [Measurement({"ACC": mean})] for name, mean in good.items()}
    assert verdicts(Results(arms)) == [True, True, None, None, None, None, True]
    arms["16 bits, synapse"] = 2 * [Measurement({"ACC": 90.0})]
    arms["5 bits, synapse"] = 2 * [Measurement({"ACC": 83.0})]
    arms["5 bits, nearest"] = 2 * [Measurement({"ACC": 10.0})]
    assert verdicts(Results(arms)) == [False, False, None, None, True, None, True]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bits": (2,)}, "3 to 16"),
        ({"rounding": ("up",)}, "rounding is 'up'"),
        ({"drift": (1.5,)}, "drift is 1.5"),
        ({"asymmetry": (-2.0,)}, "asymmetry is -2.0"),
        ({"images": 0}, "images is 0"),
    ],
)
def test_settings_that_name_no_memory_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(TINY, **settings)  # type: ignore[arg-type]
