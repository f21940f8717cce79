"""Hidden units that spike, and class neurons that know how often their class came."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_meta import convert
from lava_meta.converters.online import online
from lava_meta.data import load_dataset
from lava_meta.data.scenarios import permuted_tasks, split_classes
from lava_meta.errors import ConversionError, FormatError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.io.sealed import LEARNER, read_sealed, write_sealed
from lava_meta.online_learning import LayerSettings, Learner, OnlineRule, load_learner
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.online_learning.class_errors import ClassError
from lava_meta.online_learning.forms import make_layer
from lava_meta.online_learning.reference import STATE, initial_state
from lava_meta.rule import Towards

SPIKES = OnlineRule(lr=0.03, activation="spikes", temperature=8.0, class_rate=0.05, grow=Towards(1.0, floor=0.1))
TWO_SIDED = replace(SPIKES, activation="abs_spikes", kappa=1.6)
NORMED = replace(TWO_SIDED, layer_norm=True, kappa=1.25)
BOTH = pytest.mark.parametrize("rule", [SPIKES, TWO_SIDED], ids=["spikes", "abs_spikes"])
ALL = pytest.mark.parametrize("rule", [SPIKES, TWO_SIDED, NORMED], ids=["spikes", "abs_spikes", "layer_norm"])


def layer_of(precision: Any, *, compiled: bool = False, rule: OnlineRule = SPIKES, **changes: Any) -> Any:
    settings = LayerSettings(60, 40, precision=precision, rule=rule, input_mean=0.3, **changes)
    return make_layer(settings, initial_state(settings, np.random.default_rng(1)), compiled=compiled)


def images(n: int, inputs: int = 60, max_level: int = 1, seed: int = 0) -> np.ndarray:
    """From nearly dark to nearly bright ones."""
    generator = np.random.default_rng(seed)
    share = generator.uniform(0.02, 0.9, (n, 1))
    return generator.integers(1, max_level + 1, (n, inputs)) * (generator.random((n, inputs)) < share)


def assert_same(first: Any, second: Any) -> None:
    for name in STATE:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


# The units.


@ALL
@pytest.mark.parametrize(("precision", "max_level"), [("float", 1), ("float", 16), (8, 1), (8, 200)])
def test_units_spike_by_the_written_equation(precision: Any, max_level: int, rule: OnlineRule) -> None:
    """In float64, by nothing of the library; integers may differ where a unit is at its threshold within 2**-9."""
    layer = layer_of(precision, max_level=max_level, rule=rule)
    x = images(50, max_level=max_level)
    unit = 2 ** (max_level - 1).bit_length()
    weight = np.where(layer.hidden >= 0, 1.0, -1.0)
    share = x / unit
    distance = share @ weight - 0.3 * max_level / unit * weight.sum(0)
    spread = np.sqrt(np.maximum(1.0, (share**2).sum(1) - share.sum(1) ** 2 / 60))
    if rule == NORMED:
        sums = share @ weight
        distance = sums - sums.mean(1, keepdims=True)
        spread = np.sqrt(sums.var(1) + 2.0**-20 / unit**2)
    scale = layer.state["deviation"] / (1 if precision == "float" else 4096)
    share = distance / spread[:, None]
    above = (share if rule == SPIKES else np.abs(share)) - rule.kappa * scale

    fired = layer.forward(x)
    assert set(np.unique(fired)) == {0, 1}
    assert 0.05 < fired.mean() < (0.3 if rule != NORMED else 0.4)
    clear = np.abs(above) > 2**-9
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(fired[clear], (above >= 0)[clear])

    error = np.ones((50, 40), np.float32 if precision == "float" else np.int32)
    inside = layer.neurons.windowed(error, layer._distance)
    border = np.abs(np.abs(above) - 5 / 8 * scale) < 2**-8
    slope = np.where(distance < 0, -1, 1) if rule != SPIKES else 1  # an output rises or falls with the distance
    np.testing.assert_array_equal(inside[~border], (slope * (np.abs(above) <= 5 / 8 * scale))[~border])
    layer.forward(x[:1])
    layer.backward(error[:1], pass_down=False)
    followed = scale if rule == NORMED else scale + (np.abs(distance / spread[:, None]) - scale)[0] / 256
    np.testing.assert_allclose(layer.state["deviation"] / (1 if precision == "float" else 4096), followed, atol=2**-10)


@ALL
@pytest.mark.parametrize("bits", [3, 8, 16])
@pytest.mark.parametrize("max_level", [1, 255])
def test_the_compiled_layer_equals_the_reference_to_the_bit(bits: int, max_level: int, rule: OnlineRule) -> None:
    layers = [
        layer_of(bits, compiled=compiled, max_level=max_level, seed=bits, rule=rule) for compiled in (False, True)
    ]
    generator = np.random.default_rng(bits)
    for i in range(60):
        x = images(2, max_level=max_level, seed=i)
        error = generator.integers(-4000, 4000, (2, 40)).astype(np.int32)
        out = [(layer.forward(x), layer.backward(error)) for layer in layers]
        np.testing.assert_array_equal(out[0][0], out[1][0])
        np.testing.assert_array_equal(out[0][1], out[1][1])
    assert_same(layers[0].state, layers[1].state)


@pytest.mark.parametrize(("activation", "kappa"), [("spikes", 1.25), ("abs_spikes", 1.25), ("abs_spikes", 0.0)])
def test_compiled_units_decide_as_the_reference_at_the_edge_of_a_layer_norm(activation: str, kappa: float) -> None:
    """Sums small enough that many are beside an edge, and so large that their squares pass 64 bits."""
    rule = replace(NORMED, activation=activation, kappa=kappa)
    generator = np.random.default_rng(0)
    reference, compiled = (layer_of(8, compiled=fast, rule=rule, max_level=255).neurons for fast in (False, True))
    for largest in (2, 30, 10**4, 10**6):
        u = generator.integers(-largest, largest + 1, (500, 40)).astype(np.int32)
        x = np.zeros((500, 60), np.int16)
        np.testing.assert_array_equal(reference.distance(u, x), compiled.distance(u, x))


@pytest.mark.parametrize("seed", range(12))
def test_the_loop_over_images_equals_the_reference_to_the_bit(seed: int) -> None:
    """Over settings drawn at random: all states, and how many images were known before."""
    generator = np.random.default_rng(seed)

    def one_of(*choices: Any) -> Any:
        return choices[generator.integers(len(choices))]

    changes: dict[str, Any] = one_of({}, {"centring": False}, {"divisive": False}, {"kappa": 0.0}, {"memory": 64})
    rule = replace(one_of(OnlineRule(lr=0.03), SPIKES, TWO_SIDED, NORMED), **changes)
    options = {
        "precision": one_of(3, 8, 16),
        "inputs": one_of("spikes", "pixels"),
        "lanes": one_of(1, 3),
        "max_level": one_of(16, 255),
        "plastic": one_of(None, ("readout",)),
        "input_mean": 0.2,
        "seed": seed,
    }
    sizes = [64, *one_of((), (30,), (30, 20)), 10]
    x = images(240, 64, options["max_level"], seed).astype(np.uint8)
    labels = generator.integers(0, 10, len(x))
    learners = [Learner(sizes, rule, backend=backend, **options) for backend in ("reference", "kernels")]
    known = [learner._started().learn(learner.encode(x), labels) for learner in learners]
    assert known[0] == known[1]
    for reference, compiled in zip(learners[0].states, learners[1].states, strict=True):
        assert_same(reference, compiled)


@pytest.mark.parametrize("activation", ["spikes", "abs_spikes"])
def test_the_compiled_float_layer_equals_the_reference(activation: str) -> None:
    rule = OnlineRule(lr=0.03, activation=activation)
    layers = [layer_of("float", compiled=compiled, rule=rule) for compiled in (False, True)]
    generator = np.random.default_rng(0)
    for i in range(60):
        error = generator.normal(size=(2, 40)).astype(np.float32)
        for layer in layers:
            layer.forward(images(2, seed=i))
            layer.backward(error, pass_down=False)
    assert type(layers[0]) is not type(layers[1])
    assert_same(layers[0].state, layers[1].state)


@ALL
def test_integers_stay_inside_the_widths_that_are_stated(rule: OnlineRule) -> None:
    """Dark, full and single-pixel images: a normalised distance has 24 bits of 12 fraction bits."""
    layer = layer_of(8, rule=rule)
    x = np.stack([np.zeros(60), np.ones(60), np.eye(60)[0]]).astype(np.int64)
    layer.forward(x)
    assert np.abs(layer._distance).max() < 2**23


def test_a_readout_synapse_steps_only_if_its_unit_spiked() -> None:
    settings = LayerSettings(40, 5, readout=True, rule=SPIKES)
    layer = make_layer(settings, initial_state(settings, np.random.default_rng(0)), compiled=True)
    x = (np.arange(40) % 3 == 0).astype(np.int16)[None]
    before = layer.hidden.copy()
    for _ in range(20):
        layer.forward(x)
        layer.backward(np.full((1, 5), 100, np.int32))
    changed = (layer.hidden != before).any(axis=1)
    np.testing.assert_array_equal(changed, x[0] == 1)


# The error.


def test_the_error_is_the_gradient_of_the_cross_entropy_of_what_is_expected() -> None:
    generator = np.random.default_rng(0)
    q = generator.dirichlet(np.full(10, 2.0)).astype(np.float32)
    sums, label = generator.integers(-40, 40, (200, 10)).astype(np.int32), generator.integers(0, 10, 200)
    for i in range(200):
        logits = torch.tensor(sums[i] / 8 + np.log(q.astype(np.float64)), requires_grad=True)
        torch.nn.functional.cross_entropy(logits, torch.tensor(label[i])).backward()
        one = {"temperature": 8.0, "class_rate": 0.05}
        real = ClassError("softmax", 10, 512, "float", 0.0, trace=q.copy(), **one)(sums[i, None], label[i, None])
        np.testing.assert_allclose(real[0], logits.grad.numpy(), atol=1e-6)
        whole = np.rint(q * 2**16).astype(np.int32)
        fixed = ClassError("softmax", 10, 512, 8, 0.0, trace=whole, **one)(sums[i, None], label[i, None])
        # Half a level of T log q is a sixteenth of p (1 - p), and the table's upper 12 bits of q add to it.
        assert np.abs(fixed - 128 * real).max() <= 5


@pytest.mark.parametrize(("precision", "one"), [("float", 1.0), (8, 2**16)])
def test_the_trace_follows_how_often_classes_come(precision: Any, one: float) -> None:
    settings = LayerSettings(512, 4, readout=True, precision=precision, rule=SPIKES)
    trace = initial_state(settings, np.random.default_rng(0))["trace"]
    np.testing.assert_allclose(trace / one, 0.25)
    error = ClassError("softmax", 4, 512, precision, class_rate=0.05, trace=trace)
    expected = np.full(4, 0.25)
    for label in np.random.default_rng(1).choice(4, 300, p=[0.6, 0.3, 0.1, 0.0]):
        error(np.zeros((1, 4), np.int32), np.array([label]))
        expected += 0.05 * (np.eye(4)[label] - expected)
    np.testing.assert_allclose(trace / one, expected, atol=1e-6 if precision == "float" else 5e-4)
    assert trace.min() >= 0


def test_a_class_that_does_not_come_is_not_pushed_away() -> None:
    error = ClassError("softmax", 3, 512, 8, class_rate=0.05, trace=np.array([2**15, 2**15, 0], np.int32))
    pushed = error(np.array([[0, 0, 20]], np.int32), np.array([0]))[0]
    assert pushed.tolist() == [-64, 64, 0]


def test_an_error_that_follows_classes_needs_a_trace() -> None:
    with pytest.raises(ValueError, match=r"class_rate is 0\.1"):
        ClassError("softmax", 3, 10, class_rate=0.1)


# The learner.


@ALL
def test_it_resumes_to_the_identical_state_and_kernels_equal_the_reference(tmp_path: Path, rule: OnlineRule) -> None:
    stream = permuted_tasks(load_dataset("digits"), 2, seed=0)
    learners = [
        Learner([64, 30, 20, 10], rule, seed=1, backend=backend, lanes=2) for backend in ("reference", "kernels")
    ]
    for learner in learners:
        learner.fit(stream.train[0], images=100)
        learner.save(tmp_path / "first.safetensors")
        learner.fit(stream.train[1], images=100)
    resumed = load_learner(tmp_path / "first.safetensors")
    assert resumed.rule == rule
    resumed.fit(stream.train[1], images=100)
    for states in zip(*(learner.states for learner in (*learners, resumed)), strict=True):
        assert_same(states[0], states[1])
        assert_same(states[0], states[2])
    assert resumed.states[-1]["trace"].min() > 0
    classes = [learner.predict(stream.tests[0].x) for learner in learners]
    np.testing.assert_array_equal(*classes)
    assert learners[0].accuracy(stream.tests[0]) == (classes[0] == stream.tests[0].y.numpy()).mean()


def test_a_trace_that_no_learning_gives_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "learner.safetensors"
    Learner([64, 10], SPIKES, backend="kernels").save(path)
    header, tensors = read_sealed(path, LEARNER, range(3))
    tensors["layer1.trace"] = np.full(10, -1, np.int32)
    write_sealed(path, header, tensors)
    with pytest.raises(FormatError, match="trace of its classes"):
        load_learner(path)


@pytest.mark.parametrize("precision", [8, "float"])
def test_classes_that_come_in_pairs_are_learned_with_spikes_and_a_trace_only(precision: Any) -> None:
    digits = load_dataset("digits")
    stream = split_classes(digits, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)])
    ends = {}
    for rule in (OnlineRule(lr=0.03), OnlineRule(lr=0.03, activation="spikes", temperature=10, class_rate=0.05)):
        learner = Learner([64, 300, 10], rule, precision=precision, backend="kernels")
        learner.fit(stream, evaluate=False)
        ends[rule.activation] = learner.accuracy(digits.test)
    assert ends["spikes"] > ends["signs"] + 0.1


# Spikes above fixed thresholds, as networks of signs.

FIXED = replace(SPIKES, divisive=False)


@ALL
@pytest.mark.parametrize("precision", [8, "float"])
@pytest.mark.parametrize("inputs", ["spikes", "pixels"])
def test_a_learner_converts_to_a_network_of_signs_of_equal_classes(
    precision: Any, inputs: str, rule: OnlineRule
) -> None:
    """Also where a sum is exactly at its threshold, which integers are in some percent of the cases."""
    digits = load_dataset("digits")
    fixed = replace(rule, divisive=False)
    learner = Learner([64, 60, 40, 10], fixed, precision=precision, inputs=inputs, backend="kernels")
    learner.fit(digits.train, images=400)
    pixels = np.concatenate([digits.test.x.numpy(), np.zeros((1, 1, 8, 8), np.uint8)])
    own = LocalEngine(learner.net).classes(learner.encode(pixels))
    assert len(np.unique(own)) > 7
    np.testing.assert_array_equal(convert(learner).graph.predict(learner.encode(pixels)), own)
    np.testing.assert_array_equal(learner.predict(pixels), own)
    layer = make_layer(learner.net.settings[0], learner.net.states[0])
    sums = layer._sums(learner.encode(pixels).astype(np.int64))
    units = learner.graph().layers[0].fires(np.tile(sums, layer.settings.edges))  # of each edge one
    fires = units.reshape(len(pixels), -1, 60).sum(axis=1)
    np.testing.assert_array_equal(fires, layer.forward(learner.encode(pixels).astype(np.int64)))


@pytest.mark.parametrize("precision", [8, "float"])
@pytest.mark.parametrize("activation", ["spikes", "abs_spikes"])
@pytest.mark.parametrize("edge", [1.0, 1.25])
def test_a_layer_norm_is_decided_without_rounding(edge: float, activation: str, precision: Any) -> None:
    """In rationals, by nothing of the library; half of the sums 1, half -1 have a deviation of 1: a tie but for eps."""
    rule = replace(NORMED, activation=activation, kappa=1.0)
    settings = LayerSettings(60, 40, precision=precision, rule=rule)
    layer = make_layer(settings, initial_state(settings, np.random.default_rng(0)))
    layer.state["deviation"][:] = edge * (1 if precision == "float" else 4096)
    u = np.concatenate([np.tile([1, -1], 20)[None], np.random.default_rng(1).integers(-30, 30, (300, 40))])
    fired = layer.neurons.above(layer.neurons.distance(u.astype(np.int32), u)) >= 0
    for sums, found in zip(u.tolist(), fired, strict=True):
        mean = Fraction(sum(sums), 40)
        variance = Fraction(sum(s * s for s in sums), 40) - mean**2 + Fraction(1, 2**20)
        beyond = [(s - mean) ** 2 >= Fraction(edge) ** 2 * variance for s in sums]
        both = activation == "abs_spikes"
        assert found.tolist() == [b and (both or s > mean) for b, s in zip(beyond, sums, strict=True)]
    assert not fired[0].any()
    assert fired[1:].any(axis=0).all()


def test_a_unit_whose_edges_meet_spikes_once() -> None:
    """A unit that never saw a distance has a deviation of 0: both edges are its threshold."""
    learner = Learner([64, 20, 10], replace(TWO_SIDED, divisive=False), backend="kernels")
    learner.states[0]["deviation"][:] = 0
    x = images(30, 64)
    own = LocalEngine(learner.net).sums(x)
    graph = learner.graph()
    np.testing.assert_array_equal(graph.readout.scale * graph.sums(x) + graph.readout.offset, own)


@pytest.mark.parametrize("precision", [8, "float"])
def test_a_converted_network_that_counts_spikes_goes_on_learning_as_one(precision: Any) -> None:
    digits = load_dataset("digits")
    learner = Learner([64, 60, 40, 10], FIXED, precision=precision, inputs="pixels", backend="kernels")
    learner.fit(digits.train, images=100)
    second = online(convert(learner), rule=FIXED, precision=precision, backend="kernels")
    np.testing.assert_array_equal(second.predict(digits.test.x), learner.predict(digits.test.x))
    before = second.accuracy(digits.test)
    second.fit(digits.train)
    assert second.accuracy(digits.test) > before + 0.2


# Refusals.


def test_what_has_fixed_thresholds_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"relative to the spread of each image .*divisive=True"):
        Learner([64, 20, 10], SPIKES, backend="kernels").graph()
    generator = np.random.default_rng(0)
    graph = BinaryGraph(
        (DenseLayer.from_weights(generator.normal(size=(20, 64)), generator.integers(-9, 9, 20)),),
        Readout.from_weights(generator.normal(size=(10, 20))),
        16,
        (64,),
    )
    with pytest.raises(ConversionError, match="readout of the converted network does not count spikes"):
        online(graph, rule=SPIKES, backend="kernels")
    halves = {"scale": np.full(10, 0.5), "offset": graph.readout.row_sums() / 2}
    counts = replace(graph, readout=Readout.from_weights(graph.readout.weight, **halves))
    for rule, how in ((SPIKES, "divisive"), (replace(FIXED, layer_norm=True), "layer_norm")):
        with pytest.raises(ConversionError, match=f"{how}=True"):
            online(counts, rule=rule, backend="kernels")
    assert online(counts, rule=FIXED, backend="kernels").net.spiking
    assert online(graph, rule=SPIKES, plastic=["readout"], backend="kernels").net.spiking is False
    with pytest.raises(ConversionError, match="fire on one side"):
        online(counts, rule=TWO_SIDED, backend="kernels")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "spike"}, "activation is 'spike'"),
        ({"kappa": -1}, "kappa is -1"),
        ({"temperature": 0}, "temperature is 0"),
        ({"class_rate": 0.9}, "class_rate is 0.9"),
        ({"activation": "spikes", "thresholds": "homeostatic"}, "must be 'balanced'"),
        ({"activation": "abs_spikes", "thresholds": "homeostatic"}, "must be 'balanced'"),
        ({"layer_norm": True}, "layer_norm is for units that spike"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineRule(**changes)


def test_the_learning_engine_says_that_it_has_neither() -> None:
    for rule in (OnlineRule(activation="spikes"), OnlineRule(activation="abs_spikes"), OnlineRule(class_rate=0.02)):
        with pytest.raises(ValueError, match="activation='signs' or divisive=False, and class_rate=0"):
            LayerSettings(10, 5, precision=9, rule=rule, engine_steps=6)
