"""The nodes of an acyclic graph beside plain arithmetic, its file, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lava_meta.errors import FormatError
from lava_meta.graph import AcyclicGraph, BinaryGraph, load_graph
from lava_meta.graph.acyclic import Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    Add,
    Concat,
    Conv,
    Curve,
    Gather,
    Linear,
    MatMul,
    Multiply,
    Node,
    Pool,
    Threshold,
    exact_product,
    weight_of,
)
from lava_meta.graph.packed.compiled import compiled
from lava_meta.io.sealed import read_container, sealed_bytes

RNG = np.random.default_rng(0)


def wide(units: int, fan_in: int, bits: int = 20) -> Any:
    return weight_of(RNG.integers(-(2**bits), 2**bits + 1, (units, fan_in)))


def signs(units: int, fan_in: int) -> Any:
    return weight_of(RNG.choice([-1, 1], (units, fan_in)))


def network() -> AcyclicGraph:
    """One of every node, joined again after it parted."""
    limits = np.sort(RNG.integers(-500, 500, (3, 4, 1, 1)), axis=0)
    nodes: dict[str, Node] = {
        "c1": Conv(("input",), wide(4, 18, 6), Window((3, 3), padding=(1, 1))),
        "levels": Threshold(("c1",), limits, RNG.integers(-3, 4, (4, 4, 1, 1))),
        "signs": Threshold(
            ("c1",),
            np.zeros((1, 4, 5, 6), np.int64),
            np.array([-1, 1]).reshape(2, 1, 1, 1) * np.ones((2, 4, 5, 6), np.int64),
        ),
        "c2": Conv(("signs",), signs(4, 18), Window((3, 3), padding=(1, 1), dilation=(1, 1)), groups=2),
        "c3": Conv(("levels",), signs(4, 9), Window((3, 3), padding=(1, 1)), groups=4),
        "line": Curve(
            ("c2",),
            np.array([[[[-99]]], [[[0]]]]),
            np.array([[[[0.5]]], [[[3.25]]]]),
            np.array([[[[1.0]]], [[[-7.5]]]]),
        ),
        "sum": Add(("line", "c3")),
        "product": Multiply(("sum", "c2"), 3),
        "across": Gather(("c3",), (4, 6, 5), np.arange(120).reshape(4, 5, 6).transpose(0, 2, 1).copy()),
        "matches": MatMul(("c2", "across")),
        "both": Concat(("product", "signs")),
        "pool": Pool(("both",), Window((2, 2), (2, 2)), "max"),
        "mean": Pool(("pool",), Window((2, 3), (2, 3)), "sum"),
        "turned": Gather(("mean",), (9,), np.array([3, 2, 1, 0, 7, 6, 5, 4, -1])),
        "out": Linear(("turned",), wide(3, 9)),
    }
    return AcyclicGraph(nodes, "out", Scores(np.array([1.0, -2.0, 0.5]), np.array([0.0, 3.0, 1.0])), 255, (2, 5, 6))


def plain(graph: AcyclicGraph, image: Any) -> dict[str, Any]:
    """Every node's integers of one image, element by element in Python's integers."""
    values: dict[str, Any] = {"input": image.astype(object)}
    for name, node in graph.nodes.items():
        shape = graph.placed[name].output_shape
        x = [values[source] for source in node.sources]
        y = np.empty(shape, object)
        for place in np.ndindex(*shape):
            y[place] = _element(node, x, place)
        values[name] = y
    return values


def _element(node: Node, x: list[Any], place: tuple[int, ...]) -> int:
    if isinstance(node, Linear):
        return sum(int(w) * int(v) for w, v in zip(node.weight.values[place[0]], x[0], strict=True))
    if isinstance(node, (Conv, Pool)):
        unit, i, j = place
        window = node.window
        shares = x[0].shape[0] // node.groups if isinstance(node, Conv) else 1
        group = unit // (len(node.weight.values) // node.groups) if isinstance(node, Conv) else unit
        seen = []
        for c in range(group * shares, (group + 1) * shares):
            for ky in range(window.kernel[0]):
                for kx in range(window.kernel[1]):
                    row = i * window.stride[0] - window.padding[0] + ky * window.dilation[0]
                    column = j * window.stride[1] - window.padding[1] + kx * window.dilation[1]
                    inside = 0 <= row < x[0].shape[1] and 0 <= column < x[0].shape[2]
                    seen.append(int(x[0][c, row, column]) if inside else None)
        if isinstance(node, Conv):
            return sum(int(w) * (v or 0) for w, v in zip(node.weight.values[unit], seen, strict=True))
        present = [v for v in seen if v is not None]
        return max(present) if node.how == "max" else sum(present)
    if isinstance(node, Add):
        return int(x[0][place]) + int(x[1][place])
    if isinstance(node, Multiply):
        return round(int(x[0][place]) * int(x[1][place]) / 2**node.shift)
    if isinstance(node, MatMul):
        return sum(int(a) * int(b) for a, b in zip(x[0][place[:-1]], x[1][..., place[-1]][place[0]], strict=True))
    if isinstance(node, Concat):
        return int(np.concatenate(x)[place])
    if isinstance(node, Gather):
        assert node.index is not None
        return int(x[0].reshape(-1)[node.index[place]]) if node.index[place] >= 0 else 0
    value = int(x[0][place])
    if isinstance(node, Threshold):
        shared = [
            np.broadcast_to(part, (len(part), *x[0].shape))[(slice(None), *place)] for part in (node.limits, node.codes)
        ]
        return int(shared[1][int((value >= shared[0]).sum())])
    assert isinstance(node, Curve)
    start, slope, intercept = (part.reshape(-1) for part in (node.start, node.slope, node.intercept))
    piece = max(0, int((start <= value).sum()) - 1)
    return round(slope[piece] * (value - int(start[piece])) + intercept[piece])


def test_every_node_beside_plain_arithmetic() -> None:
    graph = network()
    images = RNG.integers(0, 256, (5, 2, 5, 6)).astype(np.uint8)
    found = graph.activations(images)
    for image, row in zip(images, range(5), strict=True):
        expected = plain(graph, image)
        for name in graph.nodes:
            assert [int(v) for v in found[name][row]] == [int(v) for v in expected[name].reshape(-1)], name
    classes = graph.readout.classes(graph.sums(images))
    assert np.array_equal(graph.predict(images), classes)


def test_the_compiled_form() -> None:
    graph = network()
    images = graph.check_images(RNG.integers(0, 256, (20, 2, 5, 6)).astype(np.uint8))
    fast, clear = compiled(graph), graph.activations(images)
    for lanes in (1, 7, 64):
        found = fast.activations(images, lanes=lanes)
        assert {*found} == {*clear}
        for name, values in clear.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values), name
    assert np.array_equal(fast.predict(images), graph.predict(images))


def test_bounds_hold() -> None:
    graph = network()
    extremes = np.stack([np.zeros((2, 5, 6)), np.full((2, 5, 6), 255), *RNG.integers(0, 2, (40, 2, 5, 6)) * 255])
    found = graph.activations(extremes.astype(np.uint8))
    for name, layer in graph.named_layers():
        assert layer.low <= found[name].min()
        assert found[name].max() <= layer.high
    assert graph.reach()["out"] >= np.abs(found["out"]).max()


@pytest.mark.parametrize(("x_bits", "w_bits"), [(8, 1), (30, 20), (50, 8), (8, 50), (30, 30)])
def test_wide_products_are_exact(x_bits: int, w_bits: int) -> None:
    x = RNG.integers(-(2**x_bits), 2**x_bits, (3, 4, 5))
    weight = RNG.integers(-(2**w_bits), 2**w_bits, (6, 5))
    expected = x.astype(object) @ weight.T.astype(object)
    assert (exact_product(x, weight) == expected).all()


def test_a_file(tmp_path: Path) -> None:
    graph, path = network(), tmp_path / "net.safetensors"
    graph.save(path, {"said": "so"})
    again, notes = load_graph(path)
    assert isinstance(again, AcyclicGraph)
    assert notes == {"said": "so"}
    assert again.to_bytes() == graph.to_bytes()
    images = RNG.integers(0, 256, (3, 2, 5, 6)).astype(np.uint8)
    assert np.array_equal(again.sums(images), graph.sums(images))
    assert len(graph.summary()) == len(graph.named_layers())
    with pytest.raises(FormatError, match="version 4"):
        BinaryGraph.load(path)


def _altered(change: Any) -> bytes:
    import json

    metadata, tensors = read_container(network().to_bytes())
    header = json.loads(metadata["lava_meta"])
    change(header, tensors)
    return sealed_bytes(header, tensors)


def _set(header: dict[str, Any], node: str, field: str, value: Any) -> None:
    next(entry for entry in header["nodes"] if entry["name"] == node)[field] = value


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h, t: h["nodes"].reverse(), "does not stand before it"),
        (lambda h, t: _set(h, "sum", "sources", ["sum", "c3"]), "does not stand before it"),
        (lambda h, t: _set(h, "c2", "groups", 3), "do not part into 3 groups"),
        (lambda h, t: _set(h, "c2", "groups", "2"), "groups of c2 is '2'"),
        (lambda h, t: _set(h, "pool", "how", "least"), "pools by 'least'"),
        (lambda h, t: _set(h, "pool", "kind", "loop"), "loop"),
        (lambda h, t: _set(h, "turned", "out", [2**40]), "cannot be read|index"),
        (lambda h, t: _set(h, "c1", "window", {"kernel": [3, 3], "padding": [2**30, 1]}), "makes .* values|reaches"),
        (lambda h, t: h["nodes"].append(h["nodes"][0]), "two nodes have one name"),
        (lambda h, t: h.update(output="nowhere"), "reads 3 classes from 'nowhere'"),
        (lambda h, t: h.update(max_level=-1), "max_level"),
        (lambda h, t: t.update({"turned.index": t["turned.index"] + 20}), "reaches past"),
        (lambda h, t: t.update({"line.slope": t["line.slope"] * np.nan}), "not finite"),
        (lambda h, t: t.update({"levels.limits": t["levels.limits"][::-1]}), "limits fall"),
        (lambda h, t: t.update({"out.weight": t["out.weight"].astype(np.int64) * 2**40}), "62 bits"),
        (lambda h, t: t.pop("c1.weight"), "c1.weight"),
        (lambda h, t: t.update({"readout.scale": np.full(3, np.inf)}), "not finite"),
    ],
)
def test_a_file_that_was_made_up(change: Any, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        AcyclicGraph.load(_altered(change))


def test_nodes_that_do_not_fit() -> None:
    scores = Scores(np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"a \(linear\) sums 7 inputs, but gets \(8,\)"):
        AcyclicGraph({"a": Linear(("input",), signs(3, 7))}, "a", scores, 255, (8,))
    with pytest.raises(ValueError, match="needs at least one node"):
        AcyclicGraph({}, "a", scores, 255, (8,))
    with pytest.raises(ValueError, match="are no names of nodes"):
        AcyclicGraph({"input": Linear(("input",), signs(3, 8))}, "input", scores, 255, (8,))


def test_bounds_of_a_convolution_at_its_borders() -> None:
    """One bound for each channel gives what the same bound for each pixel gives, summed position by position."""
    rng = np.random.default_rng(0)
    for case in range(60):
        groups = int(rng.integers(1, 3))
        channels, units = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 4))
        kernel, stride, padding, dilation = (
            (int(a), int(b)) for a, b in (rng.integers(low, 3 + low, 2) for low in (1, 1, 0, 1))
        )
        weight = rng.choice([-1, 1] if case % 2 else [-3, 0, 2], (units, channels // groups * kernel[0] * kernel[1]))
        node = Conv(("a",), weight_of(weight), Window(kernel, stride, padding, dilation), groups)
        low = rng.integers(-5, 1, (channels if case % 3 else 1, 1, 1))
        high = low + rng.integers(0, 6, low.shape)
        shape = (channels, int(rng.integers(7, 10)), int(rng.integers(7, 10)))
        wide = np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy()
        for found, expected in zip(node.bounds([(low, high)], [shape]), node.bounds([wide], [shape]), strict=True):
            np.testing.assert_array_equal(found, expected)
