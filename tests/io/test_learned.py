"""A file knows what it learned: models, networks and learners, through training, conversion and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lava_meta
from lava_meta.data import Dataset, Images, load_dataset
from lava_meta.data.scenarios import (
    Scenario,
    all_together,
    dataset_sequence,
    datasets_of,
    one_experience,
    permuted_tasks,
    rebuild,
    split_classes,
    stream_of_subsets,
)
from lava_meta.errors import FormatError
from lava_meta.io.learned import Learned, from_header, to_header
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning import Learner, load_learner
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.rule import Quadratic
from lava_meta.training import TrainSettings, train
from lava_meta.training.model_file import load_model, save_model

DIGITS = load_dataset("digits")
SCENARIOS = [
    permuted_tasks(DIGITS, 3, 5),
    permuted_tasks(DIGITS, 2, 5, first_identity=True),
    permuted_tasks(DIGITS.hold_out(0.1, 3), 2, 5),
    split_classes(DIGITS, ((0, 1), (2, 3, 9))),
    dataset_sequence([DIGITS], pad_to=(12, 10)),
    stream_of_subsets(DIGITS, 4, 7),
    all_together(permuted_tasks(DIGITS, 2, 1)),
    one_experience(permuted_tasks(DIGITS, 3, 5), 2),
]


def same(a: Scenario, b: Scenario) -> bool:
    sets = [(*x.train, *x.tests) for x in (a, b)]
    return a.task_of == b.task_of and all(
        torch.equal(p.x, q.x) and torch.equal(p.y, q.y) and p.name == q.name for p, q in zip(*sets, strict=True)
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_is_rebuilt_from_its_recipe(scenario: Scenario) -> None:
    again = rebuild(json.loads(json.dumps(scenario.recipe)))
    assert again.name == scenario.name
    assert same(again, scenario)
    assert again.checksum() == scenario.checksum()
    assert scenario.recipe is not None
    assert datasets_of(scenario.recipe) == ["digits"]


def test_images_of_ones_own_have_no_recipe() -> None:
    own = Dataset("digits", DIGITS.train, DIGITS.test)
    for scenario in (permuted_tasks(own, 2, 0), all_together(dataset_sequence([own])), one_experience(SCENARIOS[0], 1)):
        assert (scenario.recipe is None) == (scenario.name != "experience 2 of permuted(digits, tasks=3, seed=5)")


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"kind": "permuted"},
        {"kind": "cut", "data": [{"name": "digits"}]},
        {"kind": "permuted", "data": [{"name": "nothing"}], "tasks": 1, "seed": 0},
        {"kind": "permuted", "data": [{"name": "digits"}], "tasks": "x", "seed": 0},
        {"kind": "permuted", "data": [{"name": "digits"}], "tasks": 0, "seed": 0},
        {"kind": "part", "of": SCENARIOS[0].recipe, "index": 3},
        {"kind": "sequence", "data": 3},
    ],
)
def test_a_recipe_that_is_none_is_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="recipe of what was learned"):
        rebuild(recipe)


def test_what_was_learned_goes_from_the_model_to_the_network_and_the_learner(tmp_path: Path) -> None:
    scenario = permuted_tasks(DIGITS, 2, 5)
    model = BinaryMLP.for_images(DIGITS.train, [16], seed=0)
    assert model.learned == ()
    train(model, scenario, TrainSettings(epochs=1, m=3.0, seed=4), progress=False)
    (learned,) = model.learned
    assert learned == Learned(
        scenario=scenario.name,
        recipe=scenario.recipe,
        checksum=scenario.checksum(),
        rule={"kind": "tanh2", "m": 3.0},
        norm="fixed",
        seed=4,
    )
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").learned == (learned,)

    net = lava_meta.convert(load_model(tmp_path / "model.safetensors"))
    net.save(tmp_path / "net.safetensors")
    again = lava_meta.load(tmp_path / "net.safetensors")
    assert isinstance(again, lava_meta.LavaNetwork)
    assert again.learned == net.learned == (learned,)
    assert again.parity == net.parity
    assert again.parity.images == 64
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()

    learner = lava_meta.online(again, rule=Quadratic(T=1.0), backend="kernels", seed=9)
    learner.fit(one_experience(scenario, 1), images=30)
    learner.save(tmp_path / "learner.safetensors")
    first, second = load_learner(tmp_path / "learner.safetensors").learned
    assert first == learned
    assert (second.scenario, second.rule, second.seed) == (
        "experience 2 of permuted(digits, tasks=2, seed=5)",
        {"kind": "quadratic", "T": 1.0},
        9,
    )


def test_a_training_that_goes_on_is_told_once_and_another_beside_it(tmp_path: Path) -> None:
    model = BinaryMLP.for_images(DIGITS.train, [8], seed=0)
    settings = TrainSettings(epochs=1, m=(1.0, 2.0))
    train(model, SCENARIOS[0], settings, tmp_path, progress=False)
    train(model, SCENARIOS[0], settings, tmp_path, resume=True, progress=False)
    assert [one.rule for one in model.learned] == [{"kind": "tanh2", "m": [1.0, 2.0]}]
    train(model, SCENARIOS[3], settings, progress=False)
    assert [one.scenario for one in model.learned] == [SCENARIOS[0].name, SCENARIOS[3].name]


def test_files_that_do_not_say_still_load(tmp_path: Path) -> None:
    net = lava_meta.convert(BinaryMLP([20, 9, 4], seed=0).eval())
    net.graph.save(tmp_path / "net.safetensors")
    old = lava_meta.load(tmp_path / "net.safetensors")
    assert isinstance(old, lava_meta.LavaNetwork)
    assert (old.learned, old.parity) == ((), None)
    assert from_header(None) == ()


def test_fields_of_later_versions_are_left_out_and_others_refused() -> None:
    one = Learned("permuted(mnist)", seed=3)
    assert from_header([{**one.to_dict(), "weather": "fine"}]) == (one,)
    assert from_header(to_header([one, one])) == (one, one)
    for junk in (3, "text", [3], [{}], [{"scenario": 4}], [{"scenario": "x", "seed": "0"}]):
        with pytest.raises(FormatError, match="account of what was learned"):
            from_header(junk)


@pytest.mark.parametrize(("lanes", "precision"), [(1, 8), (3, 8), (1, "float")])
def test_a_learner_that_was_stopped_goes_on_to_the_identical_state(
    lanes: int, precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of a step: the file holds a whole state, and the rest ends where no stop would have."""
    task = one_experience(SCENARIOS[0], 1)

    def fresh() -> Learner:
        return Learner([64, 12, 10], backend="kernels", seed=2, lanes=lanes, precision=precision)

    expected = fresh()
    expected.fit(task)
    learner = fresh()
    learn, calls = LocalEngine.learn, 0

    def stops(self: LocalEngine, x: np.ndarray, labels: np.ndarray) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            learn(self, x[: 60 * lanes], labels[: 60 * lanes])
            self.layers[0].hidden[:] = 0  # as in the middle of a step
            raise KeyboardInterrupt
        return learn(self, x, labels)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "learn", stops)
        with pytest.raises(KeyboardInterrupt):
            learner.fit(task)
    assert learner.under_way == (task.train[0].name, 1000 // lanes * lanes)
    learner.save(tmp_path / "learner.safetensors")
    learner = load_learner(tmp_path / "learner.safetensors")
    history = learner.fit(task)
    assert history.images == len(DIGITS.train) // lanes * lanes - 1000 // lanes * lanes
    assert (learner.under_way, learner.parts_learned, learner.learned) == (None, 1, expected.learned)
    for state, whole in zip(learner.states, expected.states, strict=True):
        for name, values in whole.items():
            assert np.array_equal(state[name], values), name


def test_a_stopped_learner_that_is_given_other_images_begins_them_at_their_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = Learner([64, 10], backend="kernels")
    learner.fit(DIGITS.train, images=50)
    learner.under_way = ("something else", 40)
    other = Images(DIGITS.test.x, DIGITS.test.y, "others", 10, 16)
    assert learner.fit(other).images == len(other)
    assert learner.parts_learned == 3  # the stopped one is left as it is
