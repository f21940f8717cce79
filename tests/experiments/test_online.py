"""The on-line experiments, each end to end on a few digits."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lava_meta.data import Images, load_dataset
from lava_meta.data.scenarios import Experiences, Scenario, permuted_tasks
from lava_meta.errors import DataError
from lava_meta.experiments.common.experiment import find
from lava_meta.experiments.common.jobs import read_measurement
from lava_meta.experiments.common.online import OnlineSettings, dataset_of, learning
from lava_meta.experiments.common.runner import run_experiment
from lava_meta.experiments.online_neighbours import OTHERS, OURS, network
from lava_meta.io.config import override
from lava_meta.online_learning import load_learner

SMALL = ("seeds=1", "data=digits", "hidden=30", "lr=0.03", "images=100", "backend=kernels")
_ARMS = "reference,floating point,5 bits,grey pixels,direct feedback,frozen hidden layer"
CASES = {
    "online_permuted_mnist": (f"rules={_ARMS}", "tasks=2", "images=20"),
    "online_digits": ("tasks=2",),
    "online_split": (),
    "online_stream": ("tasks=3",),
    "online_long": ("tasks=7",),
    "online_after_torch": ("epochs=1",),
    "engine_layers": ("tasks=2", "images=40"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_runs_and_leaves_what_it_promises(name, tmp_path) -> None:
    experiment = find(name)
    settings = override(experiment.scales["small"], [*SMALL, *CASES[name]])
    results = run_experiment(experiment, settings, tmp_path)
    for label, runs in results.arms.items():
        assert len(runs) == 1
        assert 0 <= runs[0].metrics["ACC"] <= 100, label
        assert runs[0].metrics["ACC"] == pytest.approx(np.mean(runs[0].data["final"]))
    assert len(experiment.claims(settings, results)) >= 1
    assert (tmp_path / "report.md").is_file()
    assert list((tmp_path / "figures").glob("*.png"))
    learner = load_learner(next(tmp_path.glob("runs/*/seed0/learner.safetensors")))
    assert learner.parts_learned >= 1
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["lr"] == 0.03


def test_a_run_that_is_stopped_goes_on_to_the_same_result(tmp_path) -> None:
    """Ctrl-C as the second of three tasks begins: the first is not learned again."""
    experiment = find("online_digits")
    settings = override(experiment.scales["small"], [*SMALL, "tasks=3", "rules=metaplastic"])
    asked: list[int] = []

    def stops(settings: OnlineSettings, seed: int) -> Scenario:
        whole = permuted_tasks(load_dataset("digits"), 3, seed)

        def task(index: int) -> Images:
            asked.append(index)
            if asked == [0, 1]:
                raise KeyboardInterrupt
            return whole.train[index]

        return replace(whole, train=Experiences(3, task))

    stopped = replace(experiment, measure=learning(stops))
    with pytest.raises(KeyboardInterrupt):
        run_experiment(stopped, settings, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "runs" / "metaplastic" / "seed0" / "checkpoint.safetensors").is_file()
    run_experiment(stopped, settings, tmp_path / "stopped", resume=True)
    run_experiment(experiment, settings, tmp_path / "whole")
    for file in ("learner.safetensors", "accuracy.json"):
        one, other = ((tmp_path / name / "runs/metaplastic/seed0" / file).read_bytes() for name in ("stopped", "whole"))
        assert one == other
    found = [read_measurement(tmp_path / name / "runs/metaplastic/seed0/result.json") for name in ("stopped", "whole")]
    assert found[0].data == found[1].data
    assert not (tmp_path / "stopped" / "runs" / "metaplastic" / "seed0" / "checkpoint.safetensors").exists()


def test_what_it_knows_and_the_labels_that_it_asks_for(tmp_path) -> None:
    experiment = find("online_uncertainty")
    small = [*SMALL, "images=300", "samples=3", "shares=0.2,0.5"]
    results = run_experiment(experiment, override(experiment.scales["small"], small), tmp_path)
    known = results.arms["all labels"][0].metrics
    assert known["AUC entropy, drawn"] > 60  # shuffled digits; chance is 50
    assert known["ACC, drawn"] > 30
    for arm in ("unsure", "random"):
        assert len(results.arms[arm][0].data["accuracies"]) == 2
    assert (tmp_path / "figures" / "uncertainty.png").is_file()
    assert len(experiment.claims(override(experiment.scales["small"], small), results)) == 1


def test_the_rule_beside_others_on_the_same_images(tmp_path) -> None:
    experiment = find("online_neighbours")
    settings = override(experiment.scales["small"], ["seeds=1", "tasks=2", "hidden=24", "train_images=60"])
    results = run_experiment(experiment, settings, tmp_path)
    assert list(results.arms) == [*OURS, *OTHERS]
    for way, (run,) in results.arms.items():
        assert run.metrics["ACC"] == pytest.approx(100 * np.mean(run.data["accuracies"][-1]), abs=0.01), way
    assert len(experiment.claims(settings, results)) == 3
    with pytest.raises(ValueError, match="no way magic; there are layer norm"):
        experiment.arms(override(settings, ["ways=magic"]))


def test_the_network_of_full_precision_has_the_memory_of_our_hidden_weights() -> None:
    experiment = find("online_neighbours")
    way = "full precision of the same memory"
    settings = experiment.arms(experiment.scales["medium"])[way]
    model = network(settings, permuted_tasks(load_dataset("digits"), 1, seed=0), 0)
    ours, theirs = 8 * (64 * 512 + 512 * 10), 32 * sum(values.numel() for values in model.parameters())
    assert 0.97 * ours < theirs <= ours


def test_a_new_readout_learns_on_a_converted_network_in_each_form(tmp_path) -> None:
    experiment = find("engine_readout")
    settings = override(experiment.scales["small"], [*SMALL, "epochs=1", "lr=0.01"])
    results = run_experiment(experiment, settings, tmp_path)
    assert list(results.arms) == ["engine", "engine, float", "ours"]
    for arm in results.arms:
        assert results.mean(arm, "known images") > 30, arm  # chance is 10
    assert load_learner(next(tmp_path.glob("runs/*/seed0/known_images.safetensors"))).plastic == ("readout",)
    assert len(experiment.claims(settings, results)) == 1
    assert (tmp_path / "figures" / "accuracy.png").is_file()


def test_held_out_images_come_from_the_training_images_and_are_not_learned() -> None:
    whole = dataset_of(OnlineSettings(), "digits")
    held = dataset_of(OnlineSettings(held_out=True), "digits")
    assert (held.test.x == whole.train.x[-len(whole.test) :]).all()
    assert (held.train.x == whole.train.x[: -len(whole.test)]).all()


@pytest.mark.slow
def test_fashion_follows_mnist_and_the_other_way_round(tmp_path) -> None:
    experiment = find("online_fashion")
    settings = override(
        experiment.scales["small"], ["images=50", "hidden=20", "backend=kernels", "rules=metaplastic,the reverse"]
    )
    try:
        results = run_experiment(experiment, settings, tmp_path)
    except DataError as missing:
        pytest.skip(str(missing))
    for label, first in (("metaplastic", "mnist"), ("the_reverse", "fashion-mnist")):
        accuracy = json.loads((tmp_path / "runs" / label / "seed0" / "accuracy.json").read_text())
        assert accuracy["names"][0].startswith(first)
    assert len(results.arms) == 2


def test_an_unknown_arm_is_named() -> None:
    experiment = find("online_permuted_mnist")
    with pytest.raises(ValueError, match="no arm quantum; there are all, reference"):
        experiment.arms(override(experiment.scales["small"], ["rules=quantum"]))
