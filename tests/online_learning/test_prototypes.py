"""Class neurons that learn what their own images look like, above a frozen hidden layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lava_meta import BinaryMLP, TrainSettings, convert, train
from lava_meta.converters.online import online
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import split_classes
from lava_meta.online_learning import Learner, OnlineRule
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.reference import STATE
from lava_meta.rule import Constant

PROTOTYPES = OnlineRule(lr=0.002, consolidation=Constant(), readout_limit=1.0, error="prototype")
PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
OPTIONS = {"plastic": ("readout",), "seed": 2}


@pytest.mark.parametrize(("precision", "one"), [("float", -1.0), (8, -127)])
def test_the_error_is_of_the_label_alone(precision: Any, one: float) -> None:
    error = ClassError("prototype", 4, 100, precision)(
        np.array([[90, -5, 3, 0], [0, 0, 0, 0]], np.int32), np.array([2, 0])
    )
    assert error.tolist() == [[0, 0, one, 0], [one, 0, 0, 0]]


def test_a_class_neuron_has_the_signs_of_its_images_mean_in_whatever_order_they_come() -> None:
    digits = load_dataset("digits")
    pairs, mixed = (
        Learner([64, 50, 10], PROTOTYPES, precision="float", backend="kernels", **OPTIONS) for _ in range(2)
    )
    start = pairs.hidden[1]
    mixed.fit(digits.train)
    pairs._meet(digits.train)
    pairs.fit(split_classes(digits, PAIRS), evaluate=False)
    np.testing.assert_allclose(pairs.hidden[1], mixed.hidden[1], atol=1e-5)

    x = mixed.encode(digits.train.x).astype(float)
    w = np.where(mixed.hidden[0] >= 0, 1.0, -1.0)
    sign = np.where(x @ w.T >= x.mean() * w.sum(axis=1), 1.0, -1.0)
    sums = np.array([sign[digits.train.y.numpy() == c].sum(axis=0) for c in range(10)])
    np.testing.assert_allclose(mixed.hidden[1], start + 0.002 * sums, atol=1e-4)


@pytest.mark.parametrize("form", ["fused", "layers"])
@pytest.mark.lava
def test_all_forms_end_in_the_same_bits(form: str) -> None:
    digits = load_dataset("digits")
    learners = [
        Learner([64, 30, 10], PROTOTYPES, backend=backend, form=form, lanes=2, **OPTIONS)
        for backend in ("reference", "kernels", "lava")
    ]
    for learner in learners:
        learner.fit(digits.train, images=200)
    for learner in learners[1:]:
        for expected, found in zip(learners[0].states, learner.states, strict=True):
            for name in STATE:
                np.testing.assert_array_equal(expected[name], found[name], err_msg=name)


@pytest.mark.parametrize("form", ["fused", "engine"])
def test_classes_that_come_in_pairs_are_all_kept(form: str) -> None:
    digits = load_dataset("digits")
    stream = split_classes(digits, PAIRS)
    options = {"form": form, "precision": 9, "feedback": "direct", "backend": "kernels"}
    kept = Learner([64, 300, 10], PROTOTYPES, **options, **OPTIONS)
    lost = Learner([64, 300, 10], replace(PROTOTYPES, error="softmax"), **options, **OPTIONS)
    for learner in (kept, lost):
        learner.fit(stream, evaluate=False)
    assert kept.accuracy(digits.test) > 0.7 > 0.5 > lost.accuracy(digits.test)


def test_hidden_layers_that_would_learn_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden1, hidden2 would learn: give plastic=\('readout',\)"):
        Learner([64, 30, 20, 10], PROTOTYPES)


def test_what_is_no_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="activation must be 'signs', not 'spikes'"):
        replace(PROTOTYPES, activation="spikes")
    with pytest.raises(ValueError, match="the readout sees pixels: give hidden units"):
        Learner([64, 10], PROTOTYPES)


def test_above_a_converted_network_that_stays_as_it_is() -> None:
    """Its hidden layer was learned on all classes; the new readout sees them in pairs."""
    digits = load_dataset("digits")
    model = BinaryMLP.for_images(digits.train, hidden=[100], seed=0)
    train(model, digits, TrainSettings(epochs=5, m=0.0))
    learner = online(convert(model.eval()), plastic=("readout",), rule=PROTOTYPES, strength=0.01, backend="kernels")
    learner.fit(split_classes(digits, PAIRS), evaluate=False)
    assert learner.accuracy(digits.test) > 0.85
