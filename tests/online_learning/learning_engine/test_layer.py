"""The reference of a layer in Lava's learning engine: its neurons, its synapses, what it learns and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from online_autograd import readout_step

from lava_meta.converters.online import online
from lava_meta.data import load_dataset
from lava_meta.errors import ConversionError, FormatError
from lava_meta.online_learning import Device, LayerSettings, Learner, OnlineRule, load_learner
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.learning_engine.layer import EngineNeurons
from lava_meta.online_learning.learning_engine.synapses import EngineSynapses
from lava_meta.online_learning.reference import FixedLayer, initial_state
from lava_meta.rule import Constant, Exponential, Linear, Quadratic, metaplastic_update
from lava_meta.rule.lowering import lower


def state_of(settings: LayerSettings) -> dict[str, np.ndarray]:
    return initial_state(settings, np.random.default_rng(settings.seed))


@pytest.mark.parametrize("precision", ["fixed", "float"])
@pytest.mark.parametrize("inputs", ["spikes", "signs"])
@pytest.mark.parametrize("both", [False, True])
def test_a_whole_image_at_once_is_its_time_steps_one_by_one(precision, inputs, both) -> None:
    """60 images; the weights that the steps end with are the signs of the tags before the last one."""
    generator = np.random.default_rng(7)
    rule = lower(Quadratic(1.0), precision=precision, inputs=inputs, both=both)
    tags = generator.integers(-5, 6, (6, 15)) + (0.5 if precision == "float" else 0)
    whole, single, compiled = (EngineSynapses(rule, tags, seed=4, compiled=c) for c in (False, False, True))
    none = {name: np.zeros(6) for name in ("y1", "y2", "y3")}
    for _ in range(60):
        x = generator.random(15) < 0.4
        y1 = generator.integers(-127, 128, 6) * generator.integers(0, 2, 6)
        y1 = y1 if precision == "fixed" else y1 / 2000
        traces = {"y1": y1, "y2": np.abs(y1), "y3": np.where(y1 == 0, 0, generator.integers(2, 4, 6))}
        before = whole.tags.copy()
        units, columns = whole.learn(x, traces, steps=5)
        compiled.learn(x, traces, steps=5)
        assert set(np.flatnonzero((whole.tags != before).any(axis=1))) <= set(units)
        assert set(np.flatnonzero((whole.tags != before).any(axis=0))) <= set(columns)
        for moment in range(1, 6):
            single.step(x, np.full(6, moment == 1), traces if moment == 5 else none)
        np.testing.assert_array_equal(whole.tags, single.tags)
        np.testing.assert_array_equal(whole.tags, compiled.tags)
        np.testing.assert_array_equal(single.weights, np.where(before >= 0, 128, -128))
    assert np.abs(whole.tags - tags).max() > 0.3


@pytest.mark.parametrize(
    ("consolidation", "grow"),
    [
        (Constant(), None),
        (Linear(1.0), None),
        (Quadratic(1.0), None),
        (Linear(1.0), Linear(1.0)),
        (Quadratic(1.0), Quadratic(1.0)),
    ],
)
def test_one_image_is_torch_autograd_with_the_straight_through_estimator(consolidation, grow) -> None:
    """A readout: h - lr * dL/dw, gated as declared, L the cross-entropy of w x / sqrt(n); 15 millionths decay."""
    generator = np.random.default_rng(4)
    gates = {"consolidation": consolidation, "grow": grow}
    rule = OnlineRule(lr=0.3, readout_limit=1.0, dead_zone=0.0, init_width=0.5, **gates)
    settings = LayerSettings(20, 5, readout=True, precision="float", rule=rule, engine_steps=5)
    layer = make_layer(settings, state_of(settings))
    x = generator.choice(np.array([-1, 1], np.int8), (1, 20))
    before = layer.hidden / settings.full_range

    step = readout_step(before, x, 3, 0.3)
    expected = metaplastic_update(before, step, consolidation, grow)

    error = ClassError("softmax", 5, 20, "float", 0.0)(layer.forward(x), np.array([3]))
    layer.backward(error, pass_down=False)
    np.testing.assert_allclose(layer.hidden / settings.full_range, expected, atol=1e-5)
    assert np.abs(expected - before).max() > 0.05


def test_the_neurons_are_those_of_any_other_layer() -> None:
    """Outputs and the state of the neurons over 50 images, with the hidden weights of one handed to the other."""
    generator = np.random.default_rng(2)
    settings = LayerSettings(40, 8, precision=9, rule=OnlineRule(lr=0.01), input_mean=0.3, engine_steps=6)
    layer = make_layer(settings, state_of(settings))
    other = FixedLayer(replace(settings, engine_steps=0), {n: v.copy() for n, v in layer.state.items()})
    for _ in range(50):
        x = (generator.random((1, 40)) < 0.3).astype(np.int8)
        error = generator.integers(-127, 128, (1, 8))
        other.hidden[:] = layer.hidden
        other.refresh()
        np.testing.assert_array_equal(layer.forward(x), other.forward(x))
        for one in (layer, other):
            one.backward(error, pass_down=False)
        for name in ("deviation", "trace", "mean", "images"):
            np.testing.assert_array_equal(layer.state[name], other.state[name])
    np.testing.assert_array_equal(layer.neurons.integer_thresholds().shape, (8,))
    assert np.abs(layer.hidden).max() > 6


def test_traces_are_the_declared_step_in_the_mean() -> None:
    """1,500 images with one error each: the mean of y1 within four standard errors, that of y3 of 2.5."""
    settings = LayerSettings(3, 4, readout=True, precision=9, rule=OnlineRule(lr=0.004, dead_zone=0), engine_steps=5)
    neurons = EngineNeurons(settings, state_of(settings))
    error = np.array([[64, -64, 9, 0]])
    sent = []
    for _ in range(1500):
        neurons.fire(np.zeros(4, np.int64))
        sent.append(neurons.learn(error))
    y1, y3 = (np.array([traces[name] for traces in sent]) for name in ("y1", "y3"))
    wanted = error[0] / 128 * settings.rule.lr * settings.full_range / settings.engine_rule.step
    np.testing.assert_allclose(y1.mean(axis=0), wanted, atol=4 * 0.5 / 1500**0.5)
    assert abs(y3[y1 != 0].mean() - 2.5) < 0.04
    assert (y3[y1 == 0] == 0).all()


@pytest.mark.parametrize("precision", [9, "float"])
def test_digits_are_learned_in_the_engine_form_and_tags_do_not_drift(precision, tmp_path) -> None:
    digits = load_dataset("digits")
    settings = {"rule": OnlineRule(lr=0.01), "precision": precision, "feedback": "direct", "form": "engine"}
    learner = Learner([64, 60, 10], backend="kernels", **settings)
    learner.fit(digits.train, images=700)
    assert learner.accuracy(digits.test) > 0.7  # chance is 0.1
    for hidden, limit in zip(learner.hidden, learner.limits, strict=True):
        assert abs(hidden.mean()) < 0.1 * limit
        assert np.abs(hidden).max() > 0.2 * limit
    learner.save(tmp_path / "learner.safetensors")
    again = load_learner(tmp_path / "learner.safetensors")
    assert again.form == "engine"
    np.testing.assert_array_equal(again.hidden[0], learner.hidden[0])
    for one in (learner, again):
        one.backend = "reference"
        one.fit(digits.train, images=20)
    np.testing.assert_array_equal(again.hidden[0], learner.hidden[0])


@pytest.mark.parametrize(("tag", "whole"), [(-257, True), (255, True), (-258, False), (256, False)])
def test_a_file_holds_all_tags_that_the_engine_can_reach(tag: int, whole: bool, tmp_path) -> None:
    learner = Learner([6, 3], precision=9, form="engine", backend="reference")
    learner.states[0]["hidden"][2, 1] = tag
    learner.save(tmp_path / "learner.safetensors")
    if whole:
        assert load_learner(tmp_path / "learner.safetensors").hidden[0][1, 2] == tag
        return
    with pytest.raises(FormatError, match=f"hidden weight of {tag}, beyond"):
        load_learner(tmp_path / "learner.safetensors")


def test_the_readout_of_a_converted_network_learns_in_the_engine_form() -> None:
    digits = load_dataset("digits")
    before = Learner([64, 60, 10], rule=OnlineRule(lr=0.02), backend="kernels")
    before.fit(digits.train, images=800)
    rule = OnlineRule(lr=0.008, readout_limit=1.0)
    learner = online(
        before.graph(), plastic=["readout"], form="engine", precision=9, rule=rule, backend="reference", strength=0.02
    )
    encoded = before.encode(digits.test.x)
    assert (learner.predict(encoded) == before.predict(digits.test.x)).all()
    train = replace(digits.train, x=torch.from_numpy(before.encode(digits.train.x)), max_level=1)
    learner.fit(train, images=500)
    assert (learner.predict(encoded) == digits.test.y.numpy()).mean() > 0.75


def test_what_the_form_cannot_hold_is_refused_with_what_it_can() -> None:
    good = {"precision": 9, "engine_steps": 5, "rule": OnlineRule(lr=0.005)}
    LayerSettings(4, 3, **good)
    for changes, message in (
        ({"precision": 8}, "precision is 8; the learning engine's tags have 8 bits and a sign: give 9, or 'float'"),
        ({"engine_steps": 4}, "engine_steps is 4; in the learning engine an image takes layers \\+ 4"),
        ({"rule": OnlineRule(lr=0.1)}, r"lr is 0.1: an error of 1 would need a trace of 205, .* at most 0.062"),
        ({"rule": OnlineRule(memory=1000)}, "no memory in the rule"),
        ({"device": Device("nearest")}, "no device"),
        ({"max_level": 255}, "no pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            LayerSettings(4, 3, **{**good, **changes})
    for changes in ({"lanes": 2, "feedback": "direct"}, {"feedback": "symmetric"}):
        with pytest.raises(ValueError, match="one image at a time and passes no error down"):
            Learner([8, 5, 3], precision=9, form="engine", **changes)
    settings = LayerSettings(4, 3, **good)
    layer = make_layer(settings, state_of(settings))
    with pytest.raises(ConversionError, match="one image at a time, not 2 lanes"):
        layer.forward(np.ones((2, 4), np.int8))
    layer.forward(np.ones((1, 4), np.int8))
    with pytest.raises(ConversionError, match="passes no error down"):
        layer.backward(np.zeros((1, 3)))
    with pytest.raises(ConversionError, match="fixed in its strings"):
        layer.set_rule(0.01, 0.5)
    assert not LayerSettings(4, 3, **{**good, "rule": OnlineRule(consolidation=Exponential(3.0))}).engine_rule.exact
