"""Files written by version 0.1.0 (tests/old_files) still load, compute the same and go on.

They hold digits: a model, a network and a learner of two small layers, and the folder of a run that was stopped after
three of its five checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import lava_meta

OLD = Path(__file__).parent / "old_files"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.fixture(scope="module")
def digits() -> lava_meta.Dataset:
    return lava_meta.load_dataset("digits")


def test_a_network_gives_the_same_classes(digits: lava_meta.Dataset) -> None:
    network = lava_meta.BinaryGraph.load(OLD / "network-0.1.safetensors")
    assert network.predict(digits.test.x[:20].numpy()).tolist() == EXPECTED["classes"]


def test_a_model_converts_to_that_network() -> None:
    from given_models import to_graph

    from lava_meta.training.model_file import load_model

    network = lava_meta.BinaryGraph.load(OLD / "network-0.1.safetensors")
    again = to_graph(load_model(OLD / "model-0.1.safetensors"))
    for (name, ours), (_, theirs) in zip(again.named_layers(), network.named_layers(), strict=True):
        np.testing.assert_array_equal(ours.weight, theirs.weight, err_msg=name)
    for ours, theirs in zip(again.layers, network.layers, strict=True):
        np.testing.assert_array_equal(ours.threshold, theirs.threshold)


def test_a_learner_goes_on_to_the_same_bits(digits: lava_meta.Dataset) -> None:
    learner = lava_meta.load(OLD / "learner-0.1.safetensors")
    images = digits.test.x[:20].numpy()
    assert learner.predict(images).tolist() == EXPECTED["learner"]
    learner.fit(dataclasses.replace(digits.train, x=digits.train.x[50:80], y=digits.train.y[50:80]))
    assert learner.predict(images).tolist() == EXPECTED["learner_after_30_more"]


def test_a_stopped_run_resumes(tmp_path: Path, digits: lava_meta.Dataset) -> None:
    shutil.copytree(OLD / "run-0.1", tmp_path / "run")
    scenario = lava_meta.permuted_tasks(digits, tasks=2, seed=0)
    model = lava_meta.BinaryMLP.for_images(digits.train, hidden=[16, 8], seed=0)
    settings = lava_meta.TrainSettings(epochs=2, m=10.0, batch_size=500)
    result = lava_meta.train(model, scenario, settings, out=tmp_path / "run", resume=True, progress=False)
    # Another processor rounds sums otherwise: a few of 360 images may fall on the other side.
    np.testing.assert_allclose(result.matrix.values, EXPECTED["matrix"], atol=0.02)
