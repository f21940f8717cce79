"""Networks of any acyclic form in NIR: its equations give every node's integers, and they come back to the bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import random_nodes
import torch
from published_forms import images, made
from torch.nn import functional as F

import lava_meta
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.nir import from_nir, to_nir
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph
from lava_meta.graph.acyclic import Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, Curve, Linear, Multiply, Pool, Threshold, weight_of


def reference(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """NIR's equations, written from its documentation: every node's output."""
    values: dict[str, np.ndarray] = {}
    waiting = dict(graph.nodes)
    while waiting:
        for name, node in [*waiting.items()]:
            sources = [source for source, target in graph.edges if target == name]
            if not {*sources} <= {*values}:
                continue
            del waiting[name]
            values[name] = x.astype(np.float64) if isinstance(node, nir.Input) else _one(node, values, sources)
    return values


def _one(node: Any, values: dict[str, np.ndarray], sources: list[str]) -> np.ndarray:
    x = sum((values[source] for source in sources[1:]), start=values[sources[0]])
    if isinstance(node, nir.Conv2d):
        weight, bias = (torch.from_numpy(np.asarray(part, np.float64)) for part in (node.weight, node.bias))
        padding = node.padding if isinstance(node.padding, str) else tuple(map(int, node.padding))
        stride, dilation = (tuple(map(int, part)) for part in (node.stride, node.dilation))
        return F.conv2d(torch.from_numpy(x), weight, bias, stride, padding, dilation).numpy()
    if isinstance(node, nir.SumPool2d):
        kernel, stride, padding = (tuple(map(int, p)) for p in (node.kernel_size, node.stride, node.padding))
        return F.avg_pool2d(torch.from_numpy(x), kernel, stride, padding, divisor_override=1).numpy()
    if isinstance(node, nir.Flatten):
        return x.reshape(len(x), -1)
    if isinstance(node, (nir.Affine, nir.Linear)):
        return x @ node.weight.T.astype(np.float64) + getattr(node, "bias", 0)
    if isinstance(node, nir.Scale):
        return x * node.scale
    if isinstance(node, nir.Threshold):
        return (x > node.threshold).astype(np.float64)
    assert isinstance(node, nir.Output)
    return x


def assert_computes_and_comes_back(graph: AcyclicGraph, levels: np.ndarray, path: Path) -> None:
    nir.write(path, to_nir(graph))
    found = reference(nir.read(path), levels.reshape(-1, *graph.input_shape))
    expected = graph.activations(levels)
    for name, values in expected.items():
        if name in found:
            assert np.array_equal(found[name].reshape(len(levels), -1), values), name
    assert np.array_equal(found["output"], graph.readout.values(expected["readout"]))
    assert from_nir(path).graph.to_bytes() == graph.to_bytes()


def test_random_graphs(tmp_path: Path) -> None:
    refused: list[str] = []
    kinds = set()
    for seed in range(60):
        graph = random_nodes.graph(seed)
        try:
            assert_computes_and_comes_back(graph, random_nodes.images(graph, 4), tmp_path / "graph.nir")
        except ConversionError as refusal:
            refused.append(str(refusal))
        else:
            kinds |= {node.kind for node in graph.nodes.values()}
    assert kinds == {"linear", "conv", "threshold", "curve", "add", "concat", "gather", "pool"}
    assert len(refused) < 40
    for reason in refused:
        assert "takes the greatest of more than two levels" in reason or "moves whole channels" in reason


@pytest.mark.parametrize("form", ["NiN", "ternary", "paper dense"])
def test_published_forms(form: str, tmp_path: Path) -> None:
    model, options = made(form)
    net = lava_meta.convert(model, **options)
    levels = images(form, 20, 0)
    assert_computes_and_comes_back(net.graph, levels, tmp_path / "net.nir")
    again = lava_meta.from_nir(tmp_path / "net.nir")
    assert np.array_equal(again.graph.predict(levels), net.graph.predict(levels))


def _graph(nodes: dict[str, Any]) -> AcyclicGraph:
    return AcyclicGraph(nodes, "out", Scores(np.ones(3), np.zeros(3)), 255, (8,))


def test_a_value_twice_and_max_pooling_of_two_levels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sign = Threshold(("input",), np.full((1, 1, 1, 1), 90), np.array([-2, 5]).reshape(2, 1, 1, 1))
    nodes = {
        "sign": sign,
        "most": Pool(("sign",), Window((2, 2), (2, 2), (1, 1)), "max"),
        "twice": Add(("most", "most")),
    }
    flat = {
        "flat": random_nodes.flattened("twice", (2, 3, 4)),
        "out": Linear(("flat",), weight_of(rng.integers(-9, 9, (3, 24)))),
    }
    graph = AcyclicGraph(nodes | flat, "out", Scores(np.ones(3), np.zeros(3)), 255, (2, 5, 6))
    assert_computes_and_comes_back(graph, rng.integers(0, 256, (9, 2, 5, 6)), tmp_path / "graph.nir")


def test_what_nir_has_no_node_for_is_refused_by_node() -> None:
    weight = weight_of(np.ones((3, 8), np.int64))
    line = Curve(("input",), np.zeros((1, 1), np.int64), np.full((1, 1), 0.5), np.zeros((1, 1)))
    for node, reason in (
        (line, "a is a real stream, which rounds"),
        (Multiply(("input", "input"), 0), "a is a multiply, which no node of NIR computes"),
        (Linear(("input",), weight_of(np.full((8, 8), 2**43))), "a has numbers of up to"),
    ):
        with pytest.raises(ConversionError, match=reason):
            to_nir(_graph({"a": node, "out": Linear(("a",), weight)}))
    with pytest.raises(ValueError, match="time_step is for chains"):
        to_nir(_graph({"out": Linear(("input",), weight)}), time_step=1e-4)


def test_altered_nodes_are_refused() -> None:
    graph = random_nodes.graph(1)
    for change in ("weight", "edge", "structure"):
        written = to_nir(graph)
        if change == "weight":
            name = next(name for name in written.nodes if name.endswith(":fires1"))
            written.nodes[name].threshold[...] += 0.25
        elif change == "edge":
            del written.edges[-2]
        else:
            written.metadata["structure"] = written.metadata["structure"][:-9]
        with pytest.raises(ConversionError):
            from_nir(written)


# Graphs of other programs.


def branched(rng: np.random.Generator) -> nir.NIRGraph:
    """Two paths that join in a sum, of real weights."""
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])),
        "conv": nir.Conv2d((6, 6), rng.normal(size=(4, 2, 3, 3)), 1, 1, 1, 1, rng.normal(size=4)),
        "fires": nir.Threshold(np.full((4, 6, 6), 20.0)),
        "inner": nir.Conv2d((6, 6), rng.choice([-1.0, 1.0], (4, 4, 3, 3)), 1, 1, 1, 1, np.zeros(4)),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "sign": nir.Threshold(np.full((4, 3, 3), 0.3)),
        "flat": nir.Flatten({"input": np.array([4, 3, 3])}, start_dim=0),
        "out": nir.Affine(rng.normal(size=(3, 36)), rng.normal(size=3)),
        "output": nir.Output(np.array([3])),
    }
    edges = [*pairwise(["input", "conv", "fires", "inner", "pool", "sign", "flat", "out", "output"]), ("fires", "pool")]
    return nir.NIRGraph(nodes, edges)


def test_branches_of_other_programs(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    graph = branched(rng)
    nir.write(tmp_path / "other.nir", graph)
    net = lava_meta.from_nir(tmp_path / "other.nir", max_level=255)
    levels = rng.integers(0, 256, (200, 2, 6, 6))
    module = reference_module(graph, levels)
    assert np.array_equal(net.graph.predict(levels), module.argmax(axis=1))
    assert np.abs(net.graph.readout.values(net.graph.sums(levels)) - module).max() < 1e-6
    assert net.parity.exact


def reference_module(graph: nir.NIRGraph, levels: np.ndarray) -> np.ndarray:
    values = {"input": torch.from_numpy(levels.astype(np.float64))}
    conv, inner, out = (graph.nodes[name] for name in ("conv", "inner", "out"))
    first = F.conv2d(values["input"], torch.from_numpy(conv.weight), torch.from_numpy(conv.bias), padding=1)
    fires = (first > 20).double()
    joined = F.conv2d(fires, torch.from_numpy(inner.weight), padding=1) + fires
    sign = (F.avg_pool2d(joined, 2) > 0.3).double().flatten(1)
    return (sign @ torch.from_numpy(out.weight).T + torch.from_numpy(out.bias)).numpy()


def test_branches_that_are_no_network_without_memory() -> None:
    rng = np.random.default_rng(0)
    graph = branched(rng)
    graph.edges.append(("inner", "fires"))
    with pytest.raises(ConversionError, match="lies on a cycle"):
        from_nir(graph, max_level=255)
    graph = branched(rng)
    graph.nodes["sign"] = nir.LIF(*(np.ones((4, 3, 3)) for _ in range(5)))
    with pytest.raises(ConversionError, match="neurons with memory: pass time_step"):
        from_nir(graph, max_level=255)
    with pytest.raises(ConversionError, match="max_level"):
        from_nir(branched(rng))
    assert isinstance(from_nir(branched(rng), max_level=1), LavaNetwork)
