"""A learner from a converted network: the same integers at the start, frozen layers for good, the same file back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import lava_meta
from lava_meta.converters.online import online
from lava_meta.data import Dataset, load_dataset
from lava_meta.errors import ConversionError
from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.norm import GroupNorm
from lava_meta.nn import BinaryConvNet, BinaryMLP
from lava_meta.online_learning import Learner, OnlineRule, load_learner
from lava_meta.online_learning.reference import STATE


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def random_graph(seed: int, max_level: int = 16) -> BinaryGraph:
    """64-20-15-10 with thresholds of all kinds, inverted and constant units."""
    generator = np.random.default_rng(seed)
    layers = []
    for n_in, n_out, reach in ((64, 20, 8 * max_level), (20, 15, 6)):
        threshold = generator.integers(-reach, reach, n_out)
        threshold[:2] = 2**40, -(2**40)
        polarity = generator.choice(np.array([-1, 1], np.int8), n_out)
        layers.append(DenseLayer.from_weights(generator.normal(size=(n_out, n_in)), threshold, polarity))
    return BinaryGraph(tuple(layers), Readout.from_weights(generator.normal(size=(10, 15))), max_level, (64,))


@pytest.mark.parametrize("precision", ["float", 3, 8, 16])
@pytest.mark.parametrize("plastic", [None, ("readout",), ("hidden2",), ("hidden1", "readout")])
def test_it_computes_what_the_network_computes_and_frozen_layers_go_on_doing_so(digits, precision, plastic) -> None:
    graph = random_graph(seed=3)
    learner = online(
        graph, plastic=plastic, precision=precision, strength=0.02, backend="kernels", rule=OnlineRule(lr=0.05)
    )
    images = digits.test.x.numpy().reshape(-1, 64)
    before, start = graph.activations(images), dict(learner.graph().named_layers())
    for name, values in learner.graph().activations(images).items():
        np.testing.assert_array_equal(values, before[name])
    learner.fit(digits.train, images=150)
    after = learner.graph()
    names = list(start)
    changed = {name for name, layer in after.named_layers() if (layer.bits != start[name].bits).any()}
    assert changed == set(plastic or names)
    for name in names[: names.index((plastic or names)[0])]:
        np.testing.assert_array_equal(after.activations(images)[name], before[name])


@pytest.mark.parametrize("precision", ["float", 8])
@pytest.mark.parametrize("norm", ["fixed", "layer"])
def test_a_model_brings_its_hidden_weights(digits, precision, norm) -> None:
    model = BinaryMLP.for_images(digits.train, (30,), norm, seed=3).eval()
    plastic = None if norm == "fixed" else ("readout",)
    learner = online(model, plastic=plastic, precision=precision, backend="kernels")
    net = lava_meta.convert(model)
    np.testing.assert_array_equal(learner.predict(digits.test.x), net.graph.predict(digits.test.x))
    for hidden, name in zip(learner.hidden, learner.names, strict=True):
        weight = model.binary_layers()[name].weight.detach().numpy()
        np.testing.assert_array_equal(hidden >= 0, weight >= 0)
        order = np.argsort(weight.ravel())
        assert (np.diff(hidden.ravel()[order].astype(np.float64)) >= 0).all()
    if norm == "fixed":  # its thresholds are the mean pixel times the sum of weights, and stay so
        pixel = round(model.settings["pixel_mean"])
        assert round(learner.input_mean * 16) == pixel
        learner.fit(digits.train, images=100)
        (layer,) = learner.graph().layers
        expected = pixel * np.where(layer.weight, 1, -1).sum(axis=1)
        assert np.abs(layer.threshold - expected).max() <= 1


def test_convolutions_stay_frozen_below_a_readout_that_learns(digits) -> None:
    model = BinaryConvNet((1, 8, 8), (8,), 10, pixel_mean=4.9, pixel_std=6.0, max_level=16, seed=0).eval()
    graph = lava_meta.convert(model).graph
    learner = online(graph, plastic="readout", backend="kernels")
    np.testing.assert_array_equal(learner.predict(digits.test.x), graph.predict(digits.test.x))
    before = learner.accuracy(digits.test)
    learner.fit(digits.train)
    assert learner.accuracy(digits.test) > before + 0.3
    with pytest.raises(ConversionError, match="hidden1 is a convolution"):
        online(graph)


@pytest.mark.parametrize("plastic", [None, ("readout",)])
def test_it_is_saved_with_its_frozen_layers_and_resumes_to_the_identical_state(digits, plastic, tmp_path) -> None:
    whole, half = (online(random_graph(5), plastic=plastic, backend="kernels", seed=2) for _ in range(2))
    parts = [digits.train, digits.test]
    whole.fit(parts, images=200)
    half.fit(parts[:1], images=200)
    half.save(tmp_path / "learner.safetensors")
    resumed = lava_meta.load(tmp_path / "learner.safetensors")
    assert isinstance(resumed, Learner)
    resumed.fit(parts[1:], images=200)
    for a, b in zip(whole.states, resumed.states, strict=True):
        for name in STATE:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    np.testing.assert_array_equal(whole.predict(digits.test.x), resumed.predict(digits.test.x))
    resumed.save(tmp_path / "again.safetensors")
    whole.save(tmp_path / "whole.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert load_learner(tmp_path / "again.safetensors", backend="reference").backend == "reference"


def test_units_of_0_and_1_go_on_learning_as_two_units_that_spike(digits) -> None:
    model = BinaryMLP.for_images(digits.train, (30, 20), activation="abs_step", seed=3).eval()
    net = lava_meta.convert(model)
    with pytest.raises(ConversionError, match=r"rule=OnlineRule\.sparse\(divisive=False\)"):
        online(net, model=model)
    learner = online(net, model=model, rule=OnlineRule.sparse(divisive=False), backend="kernels")
    np.testing.assert_array_equal(learner.predict(digits.test.x), model(digits.test.x.float()).argmax(dim=1).numpy())
    weight = model.binary_layers()["hidden2"].weight.detach().numpy()
    rising, falling = np.split(learner.hidden[1] >= 0, 2)
    np.testing.assert_array_equal(rising, np.tile(weight, (1, 2)) >= 0)
    np.testing.assert_array_equal(falling, ~rising)
    learner.fit(digits.train, images=100)


def test_what_cannot_learn_is_named(digits) -> None:
    graph = random_graph(0)
    scaled = BinaryGraph(graph.layers, Readout(graph.readout.bits, 15, np.linspace(1, 2, 10), np.zeros(10)), 16, (64,))
    deep = BinaryGraph(graph.layers, graph.readout, 1000, (64,))
    layer = graph.layers[1]
    centred = DenseLayer(layer.bits, 20, layer.threshold, layer.polarity, centred=True)
    normed = BinaryGraph((graph.layers[0], centred), graph.readout, 16, (64,))
    biases = GroupNorm(1, np.ones(15), np.ones(15), Fraction(1), Fraction(0), np.zeros(0, np.int64))
    spread = replace(layer, threshold=0 * layer.threshold, polarity=np.ones(15, np.int8), norm=biases)
    for network, error, message, changes in (
        (scaled, ConversionError, "batch norm", {}),
        (deep, ConversionError, "0 to 1000: freeze it", {}),
        (normed, ConversionError, "hidden2 has a layer norm", {}),
        (replace(normed, layers=(graph.layers[0], spread)), ConversionError, "hidden2 has a layer norm", {}),
        (graph, ValueError, "name one or more of hidden1, hidden2, readout", {"plastic": ("hidden3",)}),
        (graph, ValueError, "strength", {"strength": 0.0}),
        (graph, ValueError, "takes pixels", {"inputs": "spikes"}),
        (graph, ConversionError, "another model", {"model": BinaryMLP.for_images(digits.train, (20, 15), seed=1)}),
        (graph, ConversionError, "2 binary layers", {"model": BinaryMLP.for_images(digits.train, (20,), seed=1)}),
        (graph, TypeError, "sizes, or", {"sizes": [64, 10]}),
        ("net.safetensors", TypeError, "cannot learn from a str", {}),
        (None, TypeError, "sizes, or", {}),
    ):
        with pytest.raises(error, match=message):
            online(network, **changes)
    online(normed, plastic="readout", backend="reference").fit(digits.train, images=3)
