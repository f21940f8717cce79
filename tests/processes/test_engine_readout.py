"""The rule in Lava's own learning engine: equal to its twin and to the declared rule, and it learns a readout."""

from __future__ import annotations

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer

from lava_meta.data import load_dataset
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryMLP
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.learning_engine import engine_rule, engine_step
from lava_meta.processes.engine_readout.process import STEPS, EngineReadout
from lava_meta.processes.runtime import Supervised
from lava_meta.rule import Consolidation, Constant, Exponential, Linear, Quadratic, Tanh2, metaplastic_update

RULES = [Linear(64.0), Linear(16.0), Quadratic(8.0), Constant()]


def learn(tag: np.ndarray, x: np.ndarray, labels: np.ndarray, consolidation: Consolidation, lr: float):
    """Tags and how many were right, from Lava."""
    readout = EngineReadout(tag=tag, rule=engine_rule(consolidation), lr=lr)
    RingBuffer(data=np.repeat(x, STEPS, axis=0).T.astype(int)).s_out.connect(readout.s_in)
    RingBuffer(data=np.repeat(labels, STEPS)[None]).s_out.connect(readout.label_in)
    with Supervised(readout, Loihi2SimCfg(select_tag="floating_pt")) as run:
        run.steps(STEPS * len(x))
        return readout.tag.get(), int(readout.correct.get()[0])


def twin(tag: np.ndarray, x: np.ndarray, labels: np.ndarray, consolidation: Consolidation, lr: float):
    """The same without Lava."""
    rule, error = engine_rule(consolidation), ClassError("softmax", len(tag), tag.shape[1], "float")
    right = 0
    for image, label in zip(x, labels, strict=True):
        sums = (np.where(tag >= 0, 1, -1) @ image)[None]
        right += int(sums[0].argmax() == label)
        tag = engine_step(tag, image, lr * error(sums, np.array([label]))[0].astype(np.float64), rule)
    return tag, right


@pytest.mark.parametrize("consolidation", RULES, ids=str)
def test_the_twin_is_the_declared_rule_but_for_the_decay_of_a_trace(consolidation) -> None:
    generator = np.random.default_rng(3)
    tag = generator.uniform(-7, 7, (4, 30))
    x, step = generator.integers(0, 2, 30), generator.normal(size=4)
    expected = metaplastic_update(tag, step[:, None] * x[None, :], consolidation)
    np.testing.assert_allclose(engine_step(tag, x, step, engine_rule(consolidation)), expected, atol=2e-4)


@pytest.mark.lava
@pytest.mark.parametrize("consolidation", RULES, ids=str)
def test_the_engine_equals_its_twin(consolidation, nothing_left) -> None:
    generator = np.random.default_rng(1)
    tag = generator.uniform(-3, 3, (5, 20))
    x, labels = generator.integers(0, 2, (25, 20)), generator.integers(0, 5, 25)
    got, right = learn(tag, x, labels, consolidation, lr=0.7)
    expected, expected_right = twin(tag, x, labels, consolidation, lr=0.7)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(got >= 0, expected >= 0)
    assert right == expected_right
    assert np.abs(got - tag).max() > 0.5


@pytest.mark.lava
def test_a_readout_learns_in_the_engine_on_features_of_a_frozen_network(nothing_left) -> None:
    """The hidden signs of a random binary layer, as spikes; 400 digits once, then 360 others."""
    digits = load_dataset("digits")
    model = BinaryMLP.for_images(digits.train, (128,), seed=0).eval()

    def features(images) -> np.ndarray:
        first = list(model)[:4]  # flat pixels, their mean taken off, binary weights, the fixed scale
        x = images.float()
        for module in first:
            x = module(x)
        return (x.detach().numpy() >= 0).astype(int)

    generator = np.random.default_rng(0)
    tag = generator.uniform(0.1, 1, (10, 128)) * generator.choice([-1, 1], (10, 128))
    chosen = generator.permutation(len(digits.train))[:400]
    tag, _ = learn(tag, features(digits.train.x[chosen]), digits.train.y[chosen].numpy(), Linear(64.0), lr=1.0)
    classes = (features(digits.test.x) @ np.where(tag >= 0, 1, -1).T).argmax(axis=1)
    assert (classes == digits.test.y.numpy()).mean() > 0.7


def test_rules_that_the_engine_cannot_express_are_named_with_the_nearest() -> None:
    for consolidation, message in (
        (Tanh2(1.0), "cannot express Tanh2.*Quadratic"),
        (Exponential(1.0), "Linear"),
        (Linear(48.0), "powers of two"),
        (Linear(128.0), "1, 2, ..., 64"),
        (Quadratic(16.0), "1, 2, ..., 8"),
    ):
        with pytest.raises(ConversionError, match=message):
            engine_rule(consolidation)
    with pytest.raises(ValueError, match="nowhere 0"):
        EngineReadout(tag=np.zeros((2, 3)), rule=engine_rule(Linear(64.0)), lr=1.0)
