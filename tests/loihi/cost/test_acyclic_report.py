"""The report of networks of any form: counts against brute force, and every node that does not fit with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_nodes
from published_forms import images, made

import lava_meta
from lava_meta.converters import LavaNetwork
from lava_meta.graph import AcyclicGraph
from lava_meta.graph.nodes import Conv, Linear
from lava_meta.loihi.cost import GraphReport
from lava_meta.loihi.stock import plan


def operations(graph: AcyclicGraph, name: str, x: np.ndarray) -> int:
    """Products of an input and a weight that are not 0, of one image, one by one; a sign of -1 is no spike."""
    node, (shape,) = graph.nodes[name], graph.placed[name].input_shapes
    assert isinstance(node, (Linear, Conv))
    signs = (np.abs(x) == 1).all()
    total = 0
    for place in range(x.size):
        alone = np.zeros(x.size, np.int64)
        alone[place] = (x[place] > 0) if signs else (x[place] != 0)
        if isinstance(node, Conv):
            sums = node.convolve(alone.reshape(1, *shape), np.where(node.weight.values == 0, 0, 1))
        else:
            sums = alone @ np.where(node.weight.values == 0, 0, 1).T
        total += int(sums.sum())
    return total


@pytest.mark.parametrize("seed", [0, 3])
def test_counts_beside_brute_force(seed: int) -> None:
    graph = random_nodes.graph(seed)
    levels = random_nodes.images(graph, 1)
    report = LavaNetwork(graph).report("loihi2", levels, labels=graph.predict(levels))
    values = graph.activations(levels) | {"input": levels.reshape(1, -1)}
    for row in report.nodes:
        node, layer = graph.nodes[row.node], graph.placed[row.node]
        if not isinstance(node, (Linear, Conv)):
            assert (row.synapses, row.weight_bits, row.operations) == (0, None, 0)
            continue
        assert row.synapses == node.weight.values.size
        assert row.operations == node.weight.fan_in * layer.n_out
        assert row.effective_operations == operations(graph, row.node, values[node.sources[0]][0])
        span = 2 ** (row.state_bits - 1)
        assert -span <= layer.low
        assert layer.high < span or layer.low >= 0
    assert report.neurobench["Classification Accuracy"] == 1.0
    assert report.refused == {}
    # What is placed is the stock form.
    layers = plan(graph)
    assert [row.layer for row in report.placed.layers] == [layer.name for layer in layers]
    matrices = [part.arguments.get("weights") for layer in layers for part in layer.parts.values()]
    stored = sum(m.nnz if hasattr(m, "nnz") else m.size for m in matrices if m is not None)
    assert report.placed.totals.synapses == stored


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    model, options = made("Bi-Real")
    net = lava_meta.convert(model, **options)
    report: Any = net.report("loihi2", images("Bi-Real", 3, 0))
    assert isinstance(report, GraphReport)
    assert report.placed is None
    assert "weights of 46 bits" in report.refused["conv1.conv"]
    assert "is a real stream" in report.refused["layers.0.curve"]
    assert "Loihi holds -8,388,607" in report.refused["layers.0.add"]
    assert "layers.0.conv.conv" not in report.refused
    for reason in report.refused.values():
        assert reason in str(report)
    assert f"{len(report.refused)} have no stock form" in repr(report)
    assert report._repr_html_().count("<tr>") == len(report.nodes) + 1
    report.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.pdf", "report.png", "report.txt"]


def test_options_that_are_for_chains() -> None:
    graph = random_nodes.graph(0)
    levels = random_nodes.images(graph, 1)
    for options, match in (({"plastic": {"conv0": 8}}, "layers that learn"), ({"weight_bits": 4}, "weight_bits is 4")):
        with pytest.raises(ValueError, match=match):
            LavaNetwork(graph).report("loihi2", levels, **options)
