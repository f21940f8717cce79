"""Leaky integrate-and-fire layers as stock Processes: the integers of the fixed-point form, one step later a layer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import stock_steps

from lava_meta.converters.spiking.network import SpikingNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph.bits import pack
from lava_meta.graph.spiking import LIFLayer, SpikingGraph
from lava_meta.loihi.stock.spiking import lif_layer, plan_spiking

pytestmark = pytest.mark.lava


def layer(rng: np.random.Generator, inputs: int, units: int, beta: float = 0.9, threshold: float = 1.0) -> LIFLayer:
    return LIFLayer(
        pack(rng.random((units, inputs)) < 0.5),
        inputs,
        np.full(units, beta, np.float32),
        np.full(units, threshold, np.float32),
        gain=0.5,
        reset="zero",
        reset_delay=False,
    )


def graph(seed: int) -> SpikingGraph:
    rng = np.random.default_rng(seed)
    level = int(rng.choice([1, 16, 255]))
    sizes = [int(size) for size in rng.integers(1, 30, rng.integers(2, 5))]
    layers = [
        layer(rng, a, b, rng.choice([0.001, 0.3, 0.9, 1.0]), 0.5 * rng.integers(0, 4) * (level if i == 0 else 1))
        for i, (a, b) in enumerate(pairwise(sizes))
    ]
    offset = int(rng.integers(0, level)) if level > 1 else 0
    return SpikingGraph(tuple(layers), level, offset, (sizes[0],))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_start_anew_and_equal_the_fixed_point_form(seed):
    net, steps, n = graph(seed), 1 + seed % 5, 4
    images = np.random.default_rng(seed).integers(0, net.max_level + 1, (n, net.n_in))
    expected = net.spikes(images, steps, form="fixed_pt")
    layers = [stock_steps.Layer(mapped) for mapped in plan_spiking(net, steps)]
    out: list[list[np.ndarray]] = [[] for _ in layers]
    for step in range(n * steps + len(layers)):
        x = images[min(step // steps, n - 1)]
        for i, stepped in enumerate(layers):
            for model in stepped.models.values():
                model.time_step = step + 1
            x = stepped.step(x).astype(np.int32)
            if i < step <= i + n * steps:
                out[i].append(x)
    for found, (name, wanted) in zip(out, expected.items(), strict=True):
        assert np.array_equal(np.stack(found).reshape(n, steps, -1).swapaxes(0, 1), wanted), name


def test_in_lava():
    net = graph(21)
    images = np.random.default_rng(0).integers(0, net.max_level + 1, (3, net.n_in))
    expected = net.spikes(images, 4, form="fixed_pt")
    assert any(0 < spikes.mean() < 1 for spikes in expected.values())
    for form, lanes in (("stock", 64), ("fixed_pt", 2)):
        found = SpikingNetwork(net, form=form).spikes(images, 4, lanes=lanes)
        assert list(found) == list(expected)
        for name in expected:
            assert np.array_equal(found[name], expected[name]), (form, name)


def test_what_stock_neurons_cannot_do_is_refused_by_name():
    rng = np.random.default_rng(1)
    good = layer(rng, 6, 3)
    lif_layer("hidden1", good, None)
    some = np.array([0.9, 0.9, 0.8], np.float32)
    for change, options, reason in (
        ({"reset": "subtract"}, {}, "resets by 'subtract'; stock LIF neurons are set to 0"),
        ({"reset_delay": True}, {}, "resets by 'zero' a step late"),
        ({"beta": some}, {}, "several betas or thresholds"),
        ({"threshold": some}, {}, "several betas or thresholds"),
        ({"threshold": np.full(3, 0.6, np.float32)}, {}, r"a threshold of 1\.20312 synapses"),
        ({"beta": np.zeros(3, np.float32)}, {}, "a beta of 0"),
        ({}, {"levels": (0, 255), "offset": 3}, "never starts again: give steps"),
        ({"beta": np.ones(3, np.float32)}, {}, r"potentials fall by \d+ per step, to -inf"),
        ({"beta": np.ones(3, np.float32)}, {"levels": (0, 255), "steps": 10_000}, "Loihi holds -8,388,607"),
        ({}, {"levels": (0, 2**15)}, "the sum of synapses runs from"),
    ):
        arguments = {"levels": None, **options}
        with pytest.raises(ConversionError, match=f"hidden1.*{reason}"):
            lif_layer("hidden1", replace(good, **change), **arguments)
    net = SpikingGraph((replace(good, reset="none"),), 1, 0, (6,))
    with pytest.raises(ConversionError, match="output resets by 'none'"):
        SpikingNetwork(net, form="stock").spikes(np.ones((1, 6), np.uint8), 2)
