"""An acyclic graph in Lava: one Process, the same integers as its reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
import random_nodes
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from published_forms import images, made

import lava_meta
from lava_meta.converters import LavaNetwork
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph
from lava_meta.graph.acyclic import Scores
from lava_meta.graph.nodes import Add, Concat, Curve, Linear, Multiply, Node, Threshold, weight_of
from lava_meta.loihi.stock import latencies, plan
from lava_meta.processes.binary_network.process import BinaryNetwork

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("form", ["ReAct", "BinaryNet VGG"])
def test_every_node_in_lava(form: str) -> None:
    model, options = made(form)
    net = lava_meta.convert(model, **options)
    levels = images(form, 70, 3)
    expected = net.graph.activations(levels)
    with net:
        found = net.activations(levels, lanes=16)
        assert np.array_equal(net.predict(levels), net.graph.predict(levels))
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_wired_to_other_processes() -> None:
    model, options = made("DenseNet")
    graph = lava_meta.convert(model, **options).graph
    levels = images("DenseNet", 3, 4)
    pixels = Source(data=levels.reshape(3, 1, -1).transpose(1, 2, 0).astype(np.int32))
    network = BinaryNetwork(graph=graph, lanes=1)
    sink = Sink(shape=(1, graph.n_out), buffer=3)
    pixels.s_out.connect(network.s_in)
    network.out.connect(sink.a_in)
    try:
        network.run(RunSteps(3), Loihi2SimCfg(select_tag="floating_pt"))
        found = sink.data.get()
    finally:
        network.stop()
    assert np.array_equal(found[0].T, graph.sums(levels))


@pytest.mark.parametrize("form", ["floating_pt", "fixed_pt"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_process_per_node(form: str, seed: int) -> None:
    graph = random_nodes.graph(seed)
    levels = random_nodes.images(graph, 10)
    net = LavaNetwork(graph, form=form)
    found = net.activations(levels, lanes=4)
    assert all(np.array_equal(found[name], values) for name, values in graph.activations(levels).items())


def test_nodes_of_several_sources_and_every_kind() -> None:
    """Products, real streams, and a sum and a concatenation of three sources; a binary readout of levels."""
    shared = (1, 1)
    nodes: dict[str, Node] = {
        "a": Linear(("input",), weight_of(RNG.integers(-9, 10, (6, 8)))),
        "line": Curve(("a",), np.array([[-5], [3]]), np.array([[0.3], [1.7]]), np.array([[2.0], [-1.0]])),
        "product": Multiply(("a", "line"), 2),
        "sum": Add(("a", "line", "product")),
        "all": Concat(("sum", "a", "line")),
        "levels": Threshold(("all",), np.full(shared, 3), np.array([[-2], [1]])),
        "out": Linear(("levels",), weight_of(RNG.choice([-1, 1], (3, 18)))),
    }
    graph = AcyclicGraph(nodes, "out", Scores(np.ones(3), np.zeros(3)), 255, (8,))
    levels = RNG.integers(0, 256, (7, 8))
    net = LavaNetwork(graph, form="fixed_pt")
    found = net.activations(levels, lanes=3)
    assert all(np.array_equal(found[name], values) for name, values in graph.activations(levels).items())


@pytest.mark.parametrize("seed", [0, 4])
def test_stock_processes_in_lava(seed: int) -> None:
    graph = random_nodes.graph(seed)
    levels = random_nodes.images(graph, 5)
    expected = graph.activations(levels)
    net = LavaNetwork(graph, form="stock")
    found = net.activations(levels)
    assert list(found)[-1] == "readout"
    assert len(found) > 2
    assert all(np.array_equal(values, expected[name]) for name, values in found.items())
    assert np.array_equal(lava_meta.run(LavaNetwork(graph), levels, "loihi-sim"), graph.predict(levels))


def test_the_stock_form_wired_to_other_processes() -> None:
    graph = random_nodes.graph(0)
    levels = random_nodes.images(graph, 4).reshape(4, -1)
    steps = latencies(plan(graph))["readout"]
    net = LavaNetwork(graph, form="stock")
    source = Source(data=levels.T.astype(np.int32))
    process = net.process()
    sink = Sink(shape=(1, graph.n_out), buffer=4 + steps)
    source.s_out.reshape((1, graph.n_in)).connect(process.s_in)
    process.out.connect(sink.a_in)
    source.run(RunSteps(num_steps=4 + steps), net.run_config("loihi-sim"))
    found = sink.data.get()[0].T[steps:]
    source.stop()
    assert np.array_equal(found, graph.sums(levels))
    with pytest.raises(ConversionError, match="form='stock'"):
        LavaNetwork(graph).run_config("loihi-sim")
