"""Lava's learning engine: its arithmetic equals our reference's bit for bit, alone and in whole learners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import LearningDense
from lava.proc.io.source import RingBuffer

from lava_meta.converters.online import online
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import RunError
from lava_meta.online_learning import LayerSettings, Learner, OnlineRule
from lava_meta.online_learning.learning_engine.synapses import EngineSynapses
from lava_meta.online_learning.reference import STATE
from lava_meta.processes.error_neurons.process import ErrorNeurons
from lava_meta.processes.labelled_source.process import LabelledSource
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.runtime import Supervised
from lava_meta.rule import Constant, Exponential, Linear, Quadratic
from lava_meta.rule.lowering import lower

pytestmark = pytest.mark.lava
STEPS = 120


@pytest.mark.parametrize("precision", ["fixed", "float"])
def test_stock_learning_dense_equals_the_twin_bit_for_bit(precision, nothing_left) -> None:
    """Tags and weights after 120 time steps of random spikes both ways and random traces, beyond 7 bits too."""
    generator = np.random.default_rng(11)
    x, back = generator.random((17, STEPS)) < 0.4, generator.random((6, STEPS)) < 0.2
    y1 = generator.integers(-160, 161, (6, STEPS)) * (generator.random(STEPS) < 0.7)
    y1 = y1 if precision == "fixed" else y1 / 5e3
    traces = {"y1": y1, "y2": np.abs(y1), "y3": generator.integers(0, 4, (6, STEPS))}
    sources = {
        "s_in": RingBuffer(data=x.astype(int)),
        "s_in_bap": RingBuffer(data=back.astype(int)),
        **{f"s_in_{name}": RingBuffer(data=values) for name, values in traces.items()},
    }
    layers = []
    for consolidation, inputs in ((Linear(1.0), "spikes"), (Quadratic(1.0), "signs"), (Constant(), "signs")):
        rule = lower(consolidation, precision=precision, inputs=inputs)
        tags = generator.integers(-255, 256, (6, 17)) if precision == "fixed" else generator.normal(size=(6, 17))
        dense = LearningDense(
            weights=np.where(tags >= 0, 128, -128),
            tag_1=tags,
            learning_rule=Loihi3FLearningRule(dw=rule.dw, dt=rule.dt, x1_tau=1, t_epoch=1, rng_seed=5),
        )
        for port, source in sources.items():
            source.s_out.connect(getattr(dense, port))
        layers.append((rule, dense, EngineSynapses(rule, tags, seed=5), tags))
    with Supervised(
        layers[0][1], Loihi2SimCfg(select_tag="fixed_pt" if precision == "fixed" else "floating_pt")
    ) as run:
        run.steps(STEPS)
        for rule, dense, reference, tags in layers:
            for t in range(STEPS):
                reference.step(x[:, t], back[:, t], {name: values[:, t] for name, values in traces.items()})
            np.testing.assert_array_equal(dense.tag_1.get(), reference.tags, err_msg=str(rule.consolidation))
            np.testing.assert_array_equal(dense.weights.get(), reference.weights)
            assert np.abs(reference.tags - tags).max() > 0.1


@pytest.mark.parametrize(
    ("precision", "sizes", "rule"),
    [
        (9, [64, 24, 10], OnlineRule(lr=0.01, consolidation=Quadratic(1.0))),
        pytest.param(
            *(9, [64, 13, 11, 10], OnlineRule(lr=0.02, consolidation=Exponential(2.0), thresholds="homeostatic")),
            marks=pytest.mark.slow,
        ),
        pytest.param("float", [64, 13, 10], OnlineRule(lr=0.02), marks=pytest.mark.slow),
        (9, [64, 13, 10], OnlineRule(lr=0.02, consolidation=Linear(1.0), grow=Linear(1.0))),
        (9, [64, 13, 11, 10], OnlineRule(lr=0.02, activation="spikes", divisive=False, temperature=8.0)),
        ("float", [64, 13, 10], OnlineRule(lr=0.02, activation="abs_spikes", divisive=False, temperature=8.0)),
    ],
)
def test_whole_learners_in_the_engine_equal_their_twins_bit_for_bit(precision, sizes, rule, nothing_left) -> None:
    """Two permuted tasks of 25 digits, up to two hidden layers: every part of the state, the outputs, in floats too."""
    scenario = permuted_tasks(load_dataset("digits"), 2, seed=4)
    settings = {"rule": rule, "precision": precision, "feedback": "direct", "seed": 9, "form": "engine"}
    reference, lava = (Learner(sizes, backend=backend, **settings) for backend in ("reference", "lava"))
    start = [hidden.copy() for hidden in reference.hidden]
    expected, history = reference.fit(scenario, images=25), lava.fit(scenario, images=25)
    for one, other in zip(reference.states, lava.states, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert expected.online == history.online
    for before, hidden in zip(start, lava.hidden, strict=True):
        assert np.abs(hidden - before).max() > 0.01 * max(lava.limits)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [9, "float"])
def test_long_runs_in_the_engine_equal_their_twins_bit_for_bit(precision, nothing_left) -> None:
    """Three permuted tasks of 200 digits, 64-50-10, compiled reference: 3,600 time steps, in blocks."""
    scenario = permuted_tasks(load_dataset("digits"), 3, seed=1)
    settings = {"rule": OnlineRule(lr=0.015), "precision": precision, "feedback": "direct", "form": "engine"}
    reference, lava = (Learner([64, 50, 10], backend=backend, **settings) for backend in ("kernels", "lava"))
    reference.fit(scenario, images=200)
    lava.fit(scenario, images=200, every=120)
    for one, other in zip(reference.states, lava.states, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_readout_of_a_converted_network_learns_in_the_engine(nothing_left) -> None:
    """A frozen front inside Lava, and above it a readout whose synapses are the engine's, equal to the reference."""
    digits = load_dataset("digits")
    before = Learner([64, 30, 10], backend="kernels")
    before.fit(digits.train, images=100)
    settings = {"form": "engine", "precision": 9, "rule": OnlineRule(lr=0.01), "strength": 0.05}
    encoded = replace(digits.train, x=torch.from_numpy(before.encode(digits.train.x)), max_level=1)
    learners = [online(before.graph(), plastic=["readout"], backend=b, **settings) for b in ("reference", "lava")]
    for learner in learners:
        learner.fit(encoded, images=30)
    np.testing.assert_array_equal(learners[0].hidden[0], learners[1].hidden[0])
    assert (learners[0].hidden[0] != online(before.graph(), plastic=["readout"], **settings).hidden[0]).any()


def network(settings: LayerSettings, images: np.ndarray, labels: np.ndarray):
    source = LabelledSource(images=images, labels=labels, steps=max(1, settings.engine_steps))
    layer = MetaplasticDense(settings=settings)
    error = ErrorNeurons(
        classes=settings.n_out,
        inputs=settings.n_in,
        precision=settings.precision,
        steps=max(1, settings.engine_steps),
    )
    source.s_out.connect(layer.s_in)
    layer.s_out.connect(error.s_in)
    source.label_out.connect(error.label_in)
    error.e_out.connect(layer.e_in)
    return layer, error


ENGINE = Loihi2SimCfg(select_tag="fixed_pt", select_sub_proc_model=True)


def test_vars_are_read_and_changed_between_steps_through_the_layer(nothing_left) -> None:
    generator = np.random.default_rng(3)
    images = (generator.random((30, 12)) < 0.4).astype(np.int8)
    settings = LayerSettings(12, 4, readout=True, precision=9, rule=OnlineRule(lr=0.01), input_mean=0.4, engine_steps=5)
    layer, error = network(settings, images, generator.integers(0, 4, 30))
    with Supervised(error, ENGINE) as run:
        run.steps(50)
        tags = layer.hidden.get()
        assert tags.shape == (12, 4)
        assert int(layer.images.get()[0]) == 10
        layer.learning.set(np.zeros(1))
        run.steps(25)
        np.testing.assert_array_equal(layer.hidden.get(), tags)
        layer.hidden.set(np.full((12, 4), -7))
        run.steps(5)
        np.testing.assert_array_equal(layer.balance.get(), np.full(4, -12))
        np.testing.assert_array_equal(layer.hidden.get(), np.full((12, 4), -7))
        layer.learning.set(np.ones(1))
        layer.learning_rate.set(np.zeros(1))
        run.steps(20)
        np.testing.assert_array_equal(layer.hidden.get(), np.full((12, 4), -7))
        layer.learning_rate.set(np.array([0.02]))
        run.steps(25)
        assert (layer.hidden.get() != -7).any()


@pytest.mark.parametrize(
    ("changes", "config", "value", "message"),
    [
        ({"input_mean": 0.3}, ENGINE, -1, "takes inputs of 0 and 1; got -1"),
        ({}, ENGINE, 0, "takes inputs of -1 and 1; got 0"),
        ({"engine_steps": 0}, ENGINE, 1, "give its LayerSettings engine_steps, the number of layers"),
        ({}, Loihi2SimCfg(select_tag="fixed_pt"), 1, "select_sub_proc_model=True"),
        ({}, Loihi2SimCfg(select_tag="floating_pt", select_sub_proc_model=True), 1, "select the tag 'fixed_pt'"),
    ],
)
def test_what_does_not_fit_ends_the_run_with_its_reason(changes, config, value, message, nothing_left) -> None:
    good = {"readout": True, "precision": 9, "rule": OnlineRule(lr=0.01), "engine_steps": 5}
    settings = LayerSettings(6, 3, **{**good, **changes})
    images = np.ones((3, 6), np.int8)
    images[1, 2] = value
    _, error = network(settings, images, np.array([0, 1, 2]))
    with pytest.raises(RunError, match=message), Supervised(error, config) as run:
        run.steps(15)


def test_an_error_that_somebody_wants_from_below_is_refused(nothing_left) -> None:
    rule = OnlineRule(lr=0.01)
    below = MetaplasticDense(settings=LayerSettings(6, 5, precision=9, rule=rule, engine_steps=6))
    above = MetaplasticDense(settings=LayerSettings(5, 3, readout=True, precision=9, rule=rule, engine_steps=6))
    above.e_out.connect(below.e_in)
    with pytest.raises(RunError, match=r"passes no error down.*feedback"), Supervised(above, ENGINE) as run:
        run.steps(6)
