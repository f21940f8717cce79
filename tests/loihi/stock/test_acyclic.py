"""Networks of any acyclic form in the stock form: equal integers, step for step, and refusals by node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lava.magma")

import random_nodes
import stock_steps

from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph
from lava_meta.graph.acyclic import Scores
from lava_meta.graph.nodes import Curve, Linear, Multiply, weight_of
from lava_meta.loihi.stock import plan
from lava_meta.loihi.stock.acyclic import map_acyclic

pytestmark = pytest.mark.lava


def assert_equal_and_in_range(graph: AcyclicGraph, n: int = 5) -> None:
    images = random_nodes.images(graph, n)
    found, layers = stock_steps.sent(graph, images)
    expected = graph.activations(images)
    assert np.array_equal(found["readout"], expected["readout"])
    for name, coded in map_acyclic(graph).coded.items():
        assert np.array_equal(coded.values(found[name]), expected[name]), name
    for layer in layers:
        for name, part in layer.layer.parts.items():
            assert layer.extremes[name] < (2**15 if part.kind == "LIF" else 2**23)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    assert_equal_and_in_range(random_nodes.graph(seed))


def test_random_graphs_have_every_form() -> None:
    graphs = [random_nodes.graph(seed) for seed in range(40)]
    kinds = {node.kind for graph in graphs for node in graph.nodes.values()}
    assert kinds == {"linear", "conv", "threshold", "curve", "add", "concat", "gather", "pool"}
    layers = [layer for graph in graphs for layer in plan(graph)]
    parts = {name for layer in layers for name in layer.parts}
    assert any(name.startswith("relay") for name in parts)
    assert any(name.startswith("pool") for name in parts)
    assert {graph.signs for graph in graphs} == {True, False}


def _graph(*nodes: Any, **options: Any) -> AcyclicGraph:
    scores = Scores(np.ones(3), np.zeros(3))
    return AcyclicGraph(dict(nodes), nodes[-1][0], scores, options.get("max_level", 255), (8,))


def test_what_stock_neurons_do_not_hold_is_refused_by_node() -> None:
    def linear(source: str, largest: int, units: int = 8) -> Linear:
        weight = np.ones((units, 8), np.int64)
        weight[0, 0] = largest
        return Linear((source,), weight_of(weight))

    line = Curve(("a",), np.zeros((1, 1), np.int64), np.full((1, 1), 0.5), np.zeros((1, 1)))
    whole = replace(line, slope=np.full((1, 1), 2.0))
    out = ("out", linear("b", 1, 3))
    assert plan(_graph(("a", linear("input", 100)), ("b", whole), out))
    for nodes, reasons in (
        ([("b", linear("input", 2**20))], ["b has weights of 22 bits; a synapse of Loihi holds 8"]),
        ([("a", linear("input", 3)), ("b", line)], ["b is a real stream"]),
        ([("a", linear("input", 2**15)), ("b", line)], ["a has weights of 17 bits", "b is a real stream"]),
        ([("b", Multiply(("input", "input"), 0))], ["b multiplies two streams"]),
        (
            [("b", Linear(("input",), weight_of(np.full((8, 8), 16_000))))],
            ["out the sum of neurons runs from 0 to .* Loihi holds"],
        ),
    ):
        graph = _graph(*nodes, out)
        with pytest.raises(ConversionError, match="no stock form: " + ".*; ".join(reasons)):
            plan(graph)
