"""Learning inside Lava: equal to the reference over whole runs, composable by hand, and clear about what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lava.magma.core.run_configs import Loihi2SimCfg

from lava_meta.converters.online import online
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks
from lava_meta.errors import DataError, RunError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.online_learning import LayerSettings, Learner, OnlineRule
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.network import PlasticNetwork
from lava_meta.online_learning.reference import STATE, initial_state
from lava_meta.processes.error_neurons.process import ErrorNeurons
from lava_meta.processes.labelled_source.process import LabelledSource
from lava_meta.processes.metaplastic_dense.process import MetaplasticDense
from lava_meta.processes.runtime import Supervised
from lava_meta.rule import Linear, Tanh2, Towards

pytestmark = pytest.mark.lava


def assert_same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(first, second, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_equal(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]], precision) -> None:
    """To the bit, or in floating point within rounding, with equal signs."""
    if precision != "float":
        assert_same(first, second)
        return
    for a, b in zip(first, second, strict=True):
        for name in STATE:
            np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(a["hidden"] >= 0, b["hidden"] >= 0)


SPIKES = OnlineRule(lr=0.02, activation="spikes", temperature=8.0, class_rate=0.05, grow=Towards(1.0, floor=0.1))
TWO_SIDED = replace(SPIKES, activation="abs_spikes", kappa=1.6)


def stream(n: int, inputs: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = (generator.random((n, inputs)) < 0.3).astype(np.int8)
    return images, generator.integers(0, classes, n)


@pytest.mark.parametrize(
    ("form", "precision", "sizes", "feedback", "lanes", "rule"),
    [
        ("fused", 8, [64, 40, 10], "symmetric", 1, OnlineRule(lr=0.02, memory=500)),
        ("layers", 8, [64, 40, 10], "symmetric", 1, OnlineRule(lr=0.02, memory=500)),
        ("layers", 3, [64, 25, 15, 10], "symmetric", 3, OnlineRule(lr=0.02, thresholds="homeostatic", error="ternary")),
        ("fused", 16, [64, 25, 15, 10], "direct", 2, OnlineRule(lr=0.02, consolidation=Tanh2(1.5), error="margin")),
        ("fused", "float", [64, 25, 15, 10], "symmetric", 2, OnlineRule(lr=0.02, consolidation=Tanh2(1.5))),
        pytest.param(
            *("layers", "float", [64, 20, 10], "direct", 1, OnlineRule(lr=0.02, error="margin")), marks=pytest.mark.slow
        ),
        ("fused", 8, [64, 25, 15, 10], "symmetric", 1, SPIKES),
        ("layers", 8, [64, 25, 15, 10], "symmetric", 2, SPIKES),
        pytest.param("layers", "float", [64, 25, 10], "symmetric", 1, SPIKES, marks=pytest.mark.slow),
        ("fused", 8, [64, 25, 15, 10], "symmetric", 2, TWO_SIDED),
        ("layers", 8, [64, 25, 15, 10], "symmetric", 1, replace(TWO_SIDED, layer_norm=True)),
    ],
)
def test_whole_runs_in_lava_equal_the_twin(form, precision, sizes, feedback, lanes, rule, nothing_left) -> None:
    """Two permuted tasks of 150 digits: every part of the state, to the bit in fixed point, and the outputs."""
    scenario = permuted_tasks(load_dataset("digits"), 2, seed=4)
    settings = {"rule": rule, "precision": precision, "feedback": feedback, "seed": 9, "lanes": lanes}
    reference, lava = (Learner(sizes, backend=backend, form=form, **settings) for backend in ("reference", "lava"))
    expected, history = reference.fit(scenario, images=150), lava.fit(scenario, images=150)
    assert_equal(reference.states, lava.states, precision)
    assert expected.online == history.online
    np.testing.assert_array_equal(expected.accuracy.values, history.accuracy.values)
    images = scenario.tests[0].x
    np.testing.assert_array_equal(reference.predict(images), lava.predict(images))


def test_a_thousand_steps_of_784_512_10_equal_the_twin_to_the_bit(nothing_left) -> None:
    """On random spikes, as sparse as MNIST's; the reference takes 10 ms a step."""
    images, labels = stream(1000, 784, 10)
    images &= stream(1000, 784, 10, seed=1)[0]
    ways = ({"backend": "reference"}, {"form": "fused"}, {"form": "layers"})
    learners = [Learner([784, 512, 10], input_mean=0.09, **way) for way in ways]
    right = []
    for learner in learners:
        with learner:
            right.append(learner._started().learn(images, labels))
    assert right[0] == right[1] == right[2]
    assert_same(learners[0].states, learners[1].states)
    assert_same(learners[0].states, learners[2].states)


@pytest.mark.parametrize(
    ("form", "plastic", "lanes"),
    [("fused", None, 1), ("fused", ("readout",), 2), ("layers", ("readout",), 2), ("layers", ("hidden2",), 1)],
)
def test_a_converted_network_learns_in_lava_as_its_twin_does(form, plastic, lanes, nothing_left) -> None:
    """64-20-15-10 on grey pixels, frozen layers of it below or above."""
    generator = np.random.default_rng(2)
    widths = ((64, 20), (20, 15), (15, 10))
    weights = [generator.normal(size=(n_out, n_in)) for n_in, n_out in widths]
    hidden = tuple(DenseLayer.from_weights(w, generator.integers(-9, 9, len(w))) for w in weights[:2])
    graph = BinaryGraph(hidden, Readout.from_weights(weights[2]), 16, (64,))
    settings = {"plastic": plastic, "lanes": lanes, "strength": 0.05, "form": form, "rule": OnlineRule(lr=0.05)}
    reference, lava = (online(graph, backend=backend, **settings) for backend in ("reference", "lava"))
    images = load_dataset("digits")
    assert reference.fit(images.train, images=150).online == lava.fit(images.train, images=150).online
    assert_same(reference.states, lava.states)
    np.testing.assert_array_equal(reference.predict(images.test.x), lava.predict(images.test.x))


def test_a_network_of_ones_own_in_ten_lines(nothing_left) -> None:
    """The example of docs/online_processes.md: two plastic layers, wired by hand."""
    images, labels = stream(60, 12, 3)

    rule = OnlineRule(lr=0.05, consolidation=Linear(1.0))
    hidden = MetaplasticDense(settings=LayerSettings(12, 8, rule=rule, seed=1, input_mean=0.3))
    readout = MetaplasticDense(settings=LayerSettings(8, 3, readout=True, rule=rule, seed=2))
    source = LabelledSource(images=images, labels=labels)
    error = ErrorNeurons(classes=3, inputs=8)
    source.s_out.connect(hidden.s_in)
    hidden.s_out.connect(readout.s_in)
    readout.s_out.connect(error.s_in)
    source.label_out.connect(error.label_in)
    error.e_out.connect(readout.e_in)
    readout.e_out.connect(hidden.e_in)
    with Supervised(error, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(60)
        learned = hidden.hidden.get()
        correct = int(error.correct.get()[0])

    settings = [hidden.proc_params["settings"], readout.proc_params["settings"]]
    states = [initial_state(s, np.random.default_rng(s.seed)) for s in settings]
    reference = LocalEngine(PlasticNetwork(settings, states, [None]))
    assert correct == reference.learn(images, labels)
    np.testing.assert_array_equal(learned, states[0]["hidden"])


def alone(**changes) -> tuple[MetaplasticDense, ErrorNeurons, LabelledSource]:
    """A readout of 4 inputs and 2 classes that learns, its error and its source."""
    images, labels = stream(20, 4, 2)
    settings = LayerSettings(4, 2, readout=True, **changes.pop("settings", {}))
    layer = MetaplasticDense(settings=settings)
    error = ErrorNeurons(classes=2, inputs=4, precision=settings.precision)
    source = LabelledSource(images=changes.pop("images", images), labels=changes.pop("labels", labels))
    source.s_out.connect(layer.s_in)
    layer.s_out.connect(error.s_in)
    source.label_out.connect(error.label_in)
    error.e_out.connect(layer.e_in)
    return layer, error, source


def test_vars_are_read_and_changed_between_steps(nothing_left) -> None:
    layer, _, source = alone(settings={"rule": OnlineRule(lr=0.5)})
    with Supervised(layer, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(5)
        layer.learning.set(np.zeros(1))
        before = layer.hidden.get()
        run.steps(5)
        np.testing.assert_array_equal(layer.hidden.get(), before)
        layer.learning.set(np.ones(1))
        layer.hidden.set(np.array([[7.0, -7.0], [0.0, 1.0], [500.0, -500.0], [3.0, 4.0]]))
        np.testing.assert_array_equal(layer.hidden.get()[2], [63, -63])  # clamped to the readout's limit
        np.testing.assert_array_equal(layer.balance.get(), [4, 0])
        layer.learning_rate.set(np.zeros(1))
        source.position.set(np.zeros(1))
        before = layer.hidden.get()
        run.steps(5)
        np.testing.assert_array_equal(layer.hidden.get(), before)
        assert layer.images.get()[0] == 10


@pytest.mark.parametrize(
    ("changes", "tag", "message"),
    [
        ({"labels": np.full(20, 2)}, "fixed_pt", "labels run from 2 to 2"),
        ({"images": np.full((20, 4), 3, np.int8)}, "fixed_pt", "inputs of -1 to 1; got 3 to 3"),
        ({"settings": {"precision": "float"}}, "fixed_pt", "does not run in the form fixed_pt"),
        ({}, "floating_pt", "does not run in the form floating_pt"),
    ],
)
def test_bad_input_ends_the_run_with_its_reason(changes, tag, message, nothing_left) -> None:
    layer, _, _ = alone(**changes)
    with pytest.raises(RunError, match=message), Supervised(layer, Loihi2SimCfg(select_tag=tag)) as run:
        run.steps(3)


def test_an_exhausted_source_says_so(nothing_left) -> None:
    layer, _, _ = alone()
    with pytest.raises(RunError, match="has 20 images"), Supervised(layer, Loihi2SimCfg(select_tag="fixed_pt")) as run:
        run.steps(21)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(DataError, match="at least 1 images"):
        LabelledSource(images=np.zeros((0, 4), np.int8), labels=np.zeros(0, np.int64))


@pytest.mark.parametrize("form", ["fused", "layers"])
def test_a_failure_in_the_middle_keeps_what_was_learned_up_to_the_last_snapshot(form, nothing_left) -> None:
    images, labels = stream(2000, 6, 2)
    labels[1500] = 5
    learner, reference = (
        Learner([6, 2], backend=backend, form=form, input_mean=0.3) for backend in ("lava", "reference")
    )
    with pytest.raises(RunError, match="time step 1501: ValueError: labels run from 5 to 5"), learner:
        learner._started().learn(images, labels)
    reference._started().learn(images[:1000], labels[:1000])
    assert_same(learner.states, reference.states)
