"""The on-line rule on spikes over time: against its equations, the rule without time, the kernels, and Lava."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lava_meta import load_dataset
from lava_meta.data import Images
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.online_learning import LayerSettings, Learner, OnlineRule, threshold_drift
from lava_meta.online_learning.over_time import FloatOverTime
from lava_meta.online_learning.over_time_learner import LearnerOverTime
from lava_meta.online_learning.over_time_network import layer_over_time
from lava_meta.online_learning.reference import STATE, initial_state
from lava_meta.rule import Towards

STEPS = 4
ONE_SIDED = OnlineRule.sparse(lr=0.03, grow=Towards(1.0, floor=0.1))
RULES = {"one-sided": ONE_SIDED, "two-sided": OnlineRule.two_sided(lr=0.03, divisive=False)}


def assert_same(first: list[Any], second: list[Any]) -> None:
    for one, other in zip(first, second, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def digits(images: int) -> Images:
    train = load_dataset("digits").train
    return train.take(np.arange(images))


def layer_of(precision: Any, rule: OnlineRule, *, compiled: bool = False, steps: int = STEPS) -> Any:
    settings = LayerSettings(60, 40, precision=precision, rule=rule, input_mean=0.3, max_level=steps)
    return layer_over_time(settings, initial_state(settings, np.random.default_rng(1)), 0.75, compiled=compiled)


def trains(n: int, steps: int = STEPS, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, steps, 60)) < 0.3).astype(np.uint8)


@pytest.mark.parametrize("rule", RULES)
def test_a_layer_does_what_is_written(rule: str) -> None:
    """In float64, by nothing of the library but the sums of weights."""
    layer = layer_of("float", RULES[rule])
    assert isinstance(layer, FloatOverTime)
    two_sided, divisive, kappa = rule == "two-sided", RULES[rule].divisive, RULES[rule].kappa
    x = trains(30)
    weight = np.where(layer.hidden >= 0, 1.0, -1.0)
    scale = layer.state["deviation"].astype(float)
    v, near, sizes, wanted = np.zeros((30, 40)), np.zeros((30, 40)), np.zeros((30, 40)), []
    for step in range(STEPS):
        now = x[:, step].astype(float)
        spread = np.sqrt(np.maximum(1.0, now.sum(1) - now.sum(1) ** 2 / 60)) if divisive else np.ones(30)
        v = 0.75 * v + (now @ weight - 0.3 * weight.sum(0)) / spread[:, None]
        beyond = (np.abs(v) if two_sided else v) - kappa * scale
        sign = np.where(v < 0, -1, 1) if two_sided else 1
        near += sign * (np.abs(beyond) <= 5 / 8 * scale)
        sizes += np.abs(v)
        wanted.append(beyond >= 0)
        v = np.where(beyond >= 0, 0, v)
    spikes = layer.forward(x)
    np.testing.assert_array_equal(spikes, np.stack(wanted, axis=1))
    assert 0.05 < spikes.mean() < 0.7
    before = {name: layer.state[name].astype(float) for name in ("hidden", "deviation", "trace")}
    error = np.random.default_rng(2).normal(size=(1, 40)).astype(np.float32)
    layer.forward(x[:1])
    layer.backward(error, pass_down=False)
    size, d = sizes[0] / STEPS, error[0] * near[0] / STEPS
    np.testing.assert_allclose(layer.state["deviation"], before["deviation"] + (size - scale) / 256, rtol=1e-5)
    np.testing.assert_allclose(layer.state["trace"], d / 128, atol=1e-6)
    step = -0.03 * np.outer(x[0].sum(0) / STEPS, d - d / 128)
    h = before["hidden"]
    grow, shrink = (1 - 0.9 * np.abs(h) if rule == "one-sided" else 1.0), 1 - np.abs(h)
    gated = h + np.where(np.sign(step) == -np.where(h >= 0, 1, -1), shrink, grow) * step
    np.testing.assert_allclose(layer.hidden, gated, atol=1e-5)
    assert np.abs(layer.hidden - h).max() > 1e-3


@pytest.mark.parametrize(("precision", "backend"), [(8, "kernels"), ("float", "reference")])
@pytest.mark.parametrize("rule", [*RULES.values(), OnlineRule.two_sided(layer_norm=True)])
def test_one_time_step_is_the_rule_without_time_to_the_bit(rule: OnlineRule, precision: Any, backend: str) -> None:
    options = {"rule": rule, "precision": precision, "backend": backend, "seed": 3}
    plain = Learner([64, 30, 20, 10], **options)
    over_time = LearnerOverTime([64, 30, 20, 10], steps=1, coding="constant", **options)
    tasks = permuted_tasks(load_dataset("digits"), 2, 0)
    histories = [learner.fit(tasks, images=150) for learner in (plain, over_time)]
    assert_same(plain.states, over_time.states)
    np.testing.assert_array_equal(histories[0].accuracy.values, histories[1].accuracy.values)


@pytest.mark.parametrize("rule", [*RULES.values(), OnlineRule.two_sided(lr=0.03, layer_norm=True, kappa=1.25)])
@pytest.mark.parametrize("bits", [3, 8, 16])
def test_the_compiled_layer_equals_the_reference_to_the_bit(bits: int, rule: OnlineRule) -> None:
    layers = [layer_of(bits, rule, compiled=compiled) for compiled in (False, True)]
    assert type(layers[0]) is not type(layers[1])
    generator = np.random.default_rng(bits)
    for i in range(30):
        x = trains(2, seed=i)
        error = generator.integers(-4000, 4000, (2, 40)).astype(np.int32)
        spikes = [layer.forward(x) for layer in layers]
        np.testing.assert_array_equal(*spikes)
        np.testing.assert_array_equal(*(layer.backward(error) for layer in layers))
    assert_same([layers[0].state], [layers[1].state])
    assert 0.02 < spikes[0].mean() < 0.8


@pytest.mark.lava
@pytest.mark.parametrize("rule", RULES)
def test_lava_ends_in_the_bits_of_the_reference(rule: str) -> None:
    learners = [
        LearnerOverTime([64, 30, 10], RULES[rule], steps=8, backend=backend, lanes=2)
        for backend in ("reference", "kernels", "lava")
    ]
    images = digits(120)
    for learner in learners:
        learner.fit(images)
    assert_same(learners[0].states, learners[1].states)
    assert_same(learners[0].states, learners[2].states)
    np.testing.assert_array_equal(learners[0].predict(images.x), learners[2].predict(images.x))


def test_it_learns_and_more_steps_carry_more_of_an_image() -> None:
    """Rate-coded digits: one draw of a pixel says less than eight."""
    data = load_dataset("digits")
    found = {}
    for steps in (1, 8):
        learner = LearnerOverTime([64, 100, 10], OnlineRule.sparse(lr=0.05), steps=steps, backend="kernels")
        learner.fit(data.train)
        found[steps] = learner.accuracy(data.test)
    assert found[8] > found[1] + 0.03
    assert found[8] > 0.85


def test_spikes_are_drawn_with_the_brightness_of_the_pixels() -> None:
    images = digits(300)
    learner = LearnerOverTime([64, 10], steps=16, max_level=16, backend="kernels")
    drawn = learner.encode(images.x).reshape(300, 16, 64)
    assert set(np.unique(drawn)) == {0, 1}
    np.testing.assert_array_equal(drawn, learner.encode(images.x).reshape(300, 16, 64))
    share = np.asarray(images.x).reshape(300, 64) / 16
    assert np.abs(drawn.mean(axis=1) - share).max() < 0.6
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), share.mean(axis=0), atol=0.03)
    assert (drawn[:, :, 0] == 0).all() if share[:, 0].max() == 0 else True
    np.testing.assert_allclose(learner.encoding.meet(images).input_mean, share.mean(), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 3}, "steps is 3; it is a power of two up to 128"),
        ({"steps": 2.0}, "steps is 2.0"),
        ({"leak": 1.5}, "leak is 1.5"),
        ({"leak": "half"}, "leak is 'half'"),
        ({"front": object()}, "no front of frozen ones"),
        ({"coding": "latency"}, "coding is 'latency'; choose one of rate, constant"),
        ({"rule": OnlineRule()}, r"units over time fire or are silent.*OnlineRule.sparse\(\)"),
        ({"form": "layers"}, "in one Process"),
        ({"inputs": "pixels"}, "inputs is 'pixels'; over time they are spikes"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LearnerOverTime([64, 30, 10], backend="kernels", **options)


def test_predictions_are_classes_alone() -> None:
    learner = LearnerOverTime([64, 30, 10], backend="kernels")
    with pytest.raises(TypeError, match="predicts classes alone, without uncertainty"):
        learner.predict(digits(3).x, uncertainty=True)
    assert replace(learner.encoding, mean=0.5).input_mean == 0.5
    assert learner.predict(np.zeros((0, 64), np.uint8)).shape == (0,)
    for pixel in (-5, 300):
        with pytest.raises(ValueError, match="as often as they are bright, from 0 to max_level = 255"):
            learner.predict(np.full((3, 64), pixel))
    with pytest.raises(TypeError, match=r"binary networks, not at that of LearnerOverTime"):
        LearnerOverTime([64, 10], ONE_SIDED, backend="kernels").fit(digits(9), probes=[threshold_drift()])
