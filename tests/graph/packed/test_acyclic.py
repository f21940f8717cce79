"""Compiled acyclic graphs give the reference's integers: random graphs, and all kinds of nodes at extreme bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lava_meta.graph.acyclic import INPUT, AcyclicGraph, Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import (
    MOST,
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
    Shape,
    Threshold,
    weight_of,
)
from lava_meta.graph.packed.acyclic import PackedAcyclic

KINDS = (
    "threshold",
    "levels",
    "curve",
    "conv",
    "wide",
    "depthwise",
    "add",
    "multiply",
    "matmul",
    "concat",
    "gather",
    "pool",
)


class Grown:
    """A random graph that grows node by node, each fitting those before it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.max_level = int(rng.choice([1, 15, 255, 1000]))
        self.min_level = int(rng.choice([0, 0, -self.max_level]))
        self.shape: Shape = (int(rng.choice([1, 3, 8])), int(rng.integers(2, 7)), int(rng.integers(2, 7)))
        self.nodes: dict[str, Node] = {}

    def graph(self, output: str, classes: int) -> AcyclicGraph:
        scores = Scores(np.ones(classes), np.zeros(classes))
        return AcyclicGraph(self.nodes, output, scores, self.max_level, self.shape, self.min_level)

    def grow(self, kind: str) -> None:
        """One more node, unless its sums pass 62 bits."""
        source = str(self.rng.choice([INPUT, *self.nodes]))
        shape = self._shape(source)
        node = getattr(self, f"_{kind}")(source, shape)
        name = f"{kind}{len(self.nodes)}"
        self.nodes[name] = node
        try:
            self._ended(name)
        except ValueError as error:
            del self.nodes[name]
            if "62 bits" not in str(error):
                raise

    def end(self) -> AcyclicGraph:
        return self._ended([*self.nodes][-1] if self.nodes else INPUT)

    def _ended(self, name: str) -> AcyclicGraph:
        before = dict(self.nodes)
        shape = self._shape(name, trusted=True)
        size = int(np.prod(shape))
        self.nodes |= {
            "flat": Gather((name,), (size,)),
            "narrow": Threshold(("flat",), np.array([[0]]), np.array([[-1], [1]])),
            "end": Linear(("narrow",), weight_of(self.rng.choice([-1, 1], (3, size)))),
        }
        try:
            graph = self.graph("end", 3)
            _ = graph.placed
        finally:
            self.nodes = before
        return graph

    def _shape(self, name: str, trusted: bool = False) -> Shape:
        shapes = {INPUT: self.shape}
        for other, node in self.nodes.items():
            shapes[other] = node.shape([shapes[source] for source in node.sources])
        return shapes[name]

    def _bounds(self, name: str) -> tuple[int, int]:
        if name == INPUT:
            return self.min_level, self.max_level
        layer = self._ended([*self.nodes][-1]).placed[name]
        return layer.low, layer.high

    def _shared(self, shape: Shape) -> Shape:
        """Numbers for all elements, for each channel, each row, or each element."""
        return [(1, 1, 1), (shape[0], 1, 1), (shape[0], shape[1], 1), shape][self.rng.integers(4)]

    def _around(self, source: str, shape: Any) -> Any:
        low, high = self._bounds(source)
        return self.rng.integers(low - 1, high + 1, shape, endpoint=True)

    def _threshold(self, source: str, shape: Shape) -> Node:
        shared = self._shared(shape)
        return Threshold((source,), self._around(source, (1, *shared)), self.rng.choice([-1, 1], (2, *shared)))

    def _levels(self, source: str, shape: Shape) -> Node:
        shared, steps = self._shared(shape), int(self.rng.integers(0, 5))
        limits = np.sort(self._around(source, (steps, *shared)), axis=0)
        most = int(self.rng.choice([1, 3, 2**20, 2**40]))
        return Threshold((source,), limits, self.rng.integers(-most, most + 1, (steps + 1, *shared)))

    def _curve(self, source: str, shape: Shape) -> Node:
        shared, pieces = self._shared(shape), int(self.rng.integers(1, 5))
        starts = np.sort(self._around(source, (pieces, *shared)), axis=0)
        if self.rng.random() < 0.3:
            return Curve((source,), np.zeros((1, 1, 1, 1), np.int64), np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)))
        slope = self.rng.normal(0, float(self.rng.choice([1e-3, 1.0, 2.0**20])), starts.shape)
        return Curve((source,), starts, slope, self.rng.normal(0, 1e6, starts.shape))

    def _window(self, shape: Shape) -> Window:
        rng = self.rng
        while True:
            kernel = int(rng.integers(1, 4)), int(rng.integers(1, 4))
            padding = int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))
            strides, dilation = rng.integers(1, 3, 2), rng.integers(1, 3, 2)
            after = (int(rng.integers(0, 2)), int(rng.integers(0, 2))) if min(kernel) > 1 else (0, 0)
            window = Window(
                kernel, (int(strides[0]), int(strides[1])), padding, (int(dilation[0]), int(dilation[1])), after=after
            )
            try:
                window.positions(*shape[1:])
                Pool(("x",), window, "sum").shape([shape])
            except ValueError:
                continue
            return window

    def _conv(self, source: str, shape: Shape, values: Any = (-1, 1)) -> Node:
        window = self._window(shape)
        groups = int(self.rng.choice([g for g in (1, 1, 2) if shape[0] % g == 0]))
        units = groups * int(self.rng.choice([1, 5, 8, 64, 70]))
        fan_in = shape[0] // groups * int(np.prod(window.kernel))
        return Conv((source,), weight_of(self.rng.choice(np.array(values), (units, fan_in))), window, groups)

    def _wide(self, source: str, shape: Shape) -> Node:
        most = int(self.rng.choice([1, 127, 2**23, 2**35]))
        return self._conv(source, shape, (-most, 0, most, most // 3))

    def _depthwise(self, source: str, shape: Shape) -> Node:
        window, most = self._window(shape), int(self.rng.choice([1, 2**10, 2**33]))
        values = self.rng.integers(-most, most + 1, (shape[0], int(np.prod(window.kernel))))
        return Conv((source,), weight_of(values), window, shape[0])

    def _alike(self, shape: Shape) -> str:
        return str(self.rng.choice([name for name in (INPUT, *self.nodes) if self._shape(name) == shape]))

    def _add(self, source: str, shape: Shape) -> Node:
        return Add((source, *(self._alike(shape) for _ in range(self.rng.integers(1, 3)))))

    def _multiply(self, source: str, shape: Shape) -> Node:
        return Multiply((source, self._alike(shape)), int(self.rng.integers(0, 20)))

    def _matmul(self, source: str, shape: Shape) -> Node:
        turned, places = f"turned{len(self.nodes)}", np.arange(np.prod(shape)).reshape(shape).transpose(0, 2, 1)
        self.nodes[turned] = Gather((source,), places.shape, places.copy())
        return MatMul((source, turned))

    def _concat(self, source: str, shape: Shape) -> Node:
        return Concat((source, self._alike(shape)))

    def _gather(self, source: str, shape: Shape) -> Node:
        size = int(np.prod(shape))
        index = self.rng.permutation(size).reshape(shape)
        index[self.rng.random(shape) < self.rng.choice([0, 0.1])] = -1
        return Gather((source,), shape, index)

    def _pool(self, source: str, shape: Shape) -> Node:
        return Pool((source,), self._window(shape), str(self.rng.choice(["max", "sum"])))


def check(graph: AcyclicGraph, rng: np.random.Generator, images: int = 5) -> None:
    """All nodes, the sums alone, some nodes, and the classes, for random images and the least and greatest levels."""
    x = rng.integers(graph.min_level, graph.max_level + 1, (images, graph.n_in))
    x[0], x[1] = graph.min_level, graph.max_level
    x = graph.check_images(x)
    expected = graph.activations(x)
    packed = PackedAcyclic(graph, cache=int(rng.choice([2**9, 2**20])))  # small ones make stages of few images
    np.testing.assert_array_equal(packed.sums(x), expected["readout"])
    np.testing.assert_array_equal(packed.predict(x), graph.predict(x))
    for names in (None, [str(name) for name in rng.choice([*graph.nodes], 2)]):
        found = packed.activations(x, names, lanes=2)
        assert names is None or {*found} == {*names}
        for name, values in found.items():
            assert values.dtype == expected[name].dtype
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
def test_random_graphs(seed: int, kinds: list[str]) -> None:
    rng = np.random.default_rng(seed)
    grown = Grown(rng)
    for kind in kinds:
        grown.grow(kind)
    check(grown.end(), rng)


@pytest.mark.parametrize("inputs", [8, 63, 64, 65, 130])
@pytest.mark.parametrize("units", [1, 32, 64, 96])
def test_signs_at_the_borders_of_words(inputs: int, units: int) -> None:
    rng = np.random.default_rng(inputs)
    image = (inputs, 3, 4)
    nodes: dict[str, Node] = {
        "signs": Threshold((INPUT,), rng.integers(0, 256, (1, *image)), rng.choice([-1, 1], (2, *image))),
        "sums": Conv(("signs",), weight_of(rng.choice([-1, 1], (units, inputs * 9))), Window((3, 3), padding=(1, 1))),
        "fires": Threshold(("sums",), rng.integers(-20, 20, (1, units, 3, 4)), rng.choice([-1, 1], (2, units, 3, 4))),
        "flat": Gather(("fires",), (units * 12,)),
        "end": Linear(("flat",), weight_of(rng.choice([-1, 1], (4, units * 12)))),
    }
    check(AcyclicGraph(nodes, "end", Scores(np.ones(4), np.zeros(4)), 255, image), rng)


@pytest.mark.parametrize("limit", [2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**62, -(2**63), 2**63 - 1])
def test_limits_at_the_ends_of_types(limit: int) -> None:
    """Sums of 32 bits against limits beyond them; sums of 64 bits that meet theirs exactly."""
    rng = np.random.default_rng(0)
    for size in (1, 2**22, 2**31, 2**50):
        nodes: dict[str, Node] = {
            "sums": Linear((INPUT,), weight_of(np.diag([size, -size, size - 1, 1]))),
            "signs": Threshold(("sums",), np.array([[limit]]), np.array([[-1], [1]])),
            "end": Linear(("signs",), weight_of(rng.choice([-1, 1], (3, 4)))),
        }
        check(AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), 255, (4,)), rng)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127), (-254, 1), (-1, 254), (0, 256), (-32768, 32767)])
@pytest.mark.parametrize("most", [1, 127, 128, 2**24, 2**30, 2**40])
def test_levels_and_weights_at_the_ends_of_types(low: int, high: int, most: int) -> None:
    rng = np.random.default_rng(most)
    weight = rng.choice([-most, most - 1, most, 1], (6, 72))
    nodes: dict[str, Node] = {
        "sums": Conv((INPUT,), weight_of(weight), Window((3, 3), padding=(2, 1))),
        "flat": Gather(("sums",), (6 * 7 * 5,)),
        "narrow": Curve(("flat",), np.zeros((1, 1), np.int64), np.full((1, 1), 2.0**-30), np.zeros((1, 1))),
        "end": Linear(("narrow",), weight_of(rng.integers(-9, 9, (3, 6 * 7 * 5)))),
    }
    check(AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), high, (8, 5, 5), low), rng)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-200, 55)])
def test_limits_at_the_very_sums(low: int, high: int) -> None:
    """Signs of units of 1 to 42 bits that the leading bits of weights cannot tell, and of those that they can."""
    rng = np.random.default_rng(high)
    weight = rng.integers(-(2**42), 2**42, (70, 72)) >> rng.integers(0, 42, (70, 1))
    sums = Conv((INPUT,), weight_of(weight), Window((3, 3), padding=(2, 1)))
    image = rng.integers(low, high + 1, (5, 8, 5, 5))
    limits = sums([image])[rng.integers(5)] + rng.integers(0, 2, (1, 70, 7, 5))
    nodes: dict[str, Node] = {
        "sums": sums,
        "signs": Threshold(("sums",), limits, rng.choice([-1, 1], (2, 70, 1, 1)) * np.ones((1, 1, 7, 5), np.int64)),
        "flat": Gather(("signs",), (70 * 7 * 5,)),
        "end": Linear(("flat",), weight_of(rng.choice([-1, 1], (3, 70 * 7 * 5)))),
    }
    graph = AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), high, (8, 5, 5), low)
    x = graph.check_images(image.reshape(5, -1))
    np.testing.assert_array_equal(
        PackedAcyclic(graph).activations(x, ["signs"])["signs"], graph.activations(x)["signs"]
    )


def test_streams_of_62_bits() -> None:
    """Sums, curves and additions that come near to the bound of all integers."""
    rng = np.random.default_rng(3)
    wide = MOST // 256 // 16
    nodes: dict[str, Node] = {
        "sums": Linear((INPUT,), weight_of(rng.integers(-wide, wide, (4, 4)))),
        "same": Curve(("sums",), np.zeros((1, 1), np.int64), np.ones((1, 1)), np.zeros((1, 1))),  # rounds past 53 bits
        "more": Add(("sums", "same", "sums")),
        "narrow": Threshold(("more",), np.array([[-5], [0], [wide]]), np.array([[0], [1], [2], [3]])),
        "end": Linear(("narrow",), weight_of(rng.integers(-9, 9, (3, 4)))),
    }
    check(AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), 255, (4,)), rng)


@pytest.mark.parametrize("kept", [[], ["left"]])
def test_sums_side_by_side(kept: list[str]) -> None:
    """Additions with a curve on one side, on either side or on both, that are written where they are joined."""
    rng = np.random.default_rng(6)

    def curve(source: str) -> Node:
        tables = rng.normal(0, 4, (2, 2, 12, 1, 1))
        return Curve((source,), np.sort(rng.integers(-9, 9, (2, 12, 1, 1)), axis=0), *tables)

    nodes: dict[str, Node] = {
        "sums": Conv((INPUT,), weight_of(rng.integers(-9, 9, (12, 8))), Window((1, 1))),
        "far": Conv((INPUT,), weight_of(rng.integers(-(2**40), 2**40, (12, 8))), Window((1, 1))),
        **{name: curve("sums") for name in ("one", "two", "three", "four")},
        "left": Add(("one", "far")),
        "right": Add(("far", "two")),
        "both": Add(("three", "four")),
        "joined": Concat(("left", "far", "right", "both", "sums")),
        "flat": Gather(("joined",), (60 * 6,)),
        "signs": Threshold(("flat",), np.zeros((1, 1), np.int64), np.array([[-1], [1]])),
        "end": Linear(("signs",), weight_of(rng.choice([-1, 1], (3, 60 * 6)))),
    }
    graph = AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), 255, (8, 2, 3))
    x = graph.check_images(rng.integers(0, 256, (5, graph.n_in)))
    found, expected = PackedAcyclic(graph).activations(x, ["joined", "readout", *kept]), graph.activations(x)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_what_is_written_over_is_wanted_no_more() -> None:
    """A stream that two additions and the output of a third take stays what it was."""
    rng = np.random.default_rng(4)

    def curve(source: str, slope: float) -> Node:
        return Curve((source,), np.zeros((1, 1), np.int64), np.full((1, 1), slope), np.full((1, 1), 0.25))

    nodes: dict[str, Node] = {
        "first": Linear((INPUT,), weight_of(rng.integers(-(2**40), 2**40, (16, 16)))),
        "one": curve("first", 0.5),
        "same": Curve(("first",), np.zeros((1, 1), np.int64), np.ones((1, 1)), np.zeros((1, 1))),
        "two": Add(("one", "same")),
        "view": Gather(("two",), (16, 1, 1)),
        "three": Add(("two", "first")),
        "back": Gather(("view",), (16,)),
        "four": Add(("three", "back")),
        "signs": Threshold(("four",), np.zeros((1, 1), np.int64), np.array([[-1], [1]])),
        "end": Linear(("signs",), weight_of(rng.choice([-1, 1], (3, 16)))),
    }
    check(AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), 255, (16,)), rng)


@pytest.mark.parametrize("bits", [40, 51, 52, 60])
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("channels", [3, 8, 21])
def test_curves_of_any_length(bits: int, pieces: int, channels: int) -> None:
    """Streams on both sides of what vectors convert by an addition."""
    rng = np.random.default_rng([bits, pieces, channels])
    scale = 2 ** (bits - 12)
    start = np.sort(rng.integers(-200, 200, (pieces, channels, 1, 1)), axis=0) * scale
    slope = rng.uniform(-2, 2, start.shape)
    intercept = rng.integers(-(2 ** (bits - 2)), 2 ** (bits - 2), start.shape).astype(np.float64)
    wide = rng.integers(-scale, scale, (channels, channels))
    nodes: dict[str, Node] = {
        "wide": Conv((INPUT,), weight_of(wide // channels), Window((1, 1))),
        "curve": Curve(("wide",), start, slope, intercept),
        "sum": Add(("curve", "wide")),
        "flat": Gather(("sum",), (9 * channels,)),
    }
    graph = AcyclicGraph(nodes, "flat", Scores(np.ones(9 * channels), np.zeros(9 * channels)), 255, (channels, 3, 3))
    x = graph.check_images(rng.integers(0, 256, (4, graph.n_in)))
    found, expected = PackedAcyclic(graph).activations(x, ["curve", "sum"]), graph.activations(x)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
