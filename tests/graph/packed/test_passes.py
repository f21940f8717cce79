"""Curves, additions, joins and thresholds that are one loop give the integers of the reference, one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from lava_meta.graph.acyclic import INPUT, READOUT, AcyclicGraph, Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, Concat, Conv, Curve, Gather, Linear, Node, Pool, Threshold, weight_of
from lava_meta.graph.packed.acyclic import PackedAcyclic
from lava_meta.graph.packed.plan import Plan

SIDE = 3


class Streams:
    """A random graph of sums of 16, 32 and 64 bits and of what is between layers, each of it taken by chance.

    Some pass 2^53, and are integers where the others are float64.
    """

    def __init__(self, seed: int, channels: int) -> None:
        self.rng, self.channels = np.random.default_rng([seed, channels]), channels
        self.nodes: dict[str, Node] = {}
        self.widths = {INPUT: 8}
        start = Threshold((INPUT,), np.full((1, 1, 1, 1), 128), np.array([-1, 1]).reshape(2, 1, 1, 1))
        self._add("signs", start, 8)
        most = {"short": 1, "int": 2**14, "long": 2**30, "wide": 2**40, "huge": 2**46}
        for name, size in most.items():
            weight = self.rng.choice([-1, 1], (channels, 8)) if size == 1 else self._integers(size, (channels, 8))
            self._add(name, Conv(("signs" if size == 1 else INPUT,), weight_of(weight), Window((1, 1))), channels)
        for step in range(8):
            self._grow(f"n{step}")

    def graph(self) -> AcyclicGraph:
        name = [*self.nodes][-1]
        size = self.widths[name] * SIDE * SIDE
        nodes = self.nodes | {
            "flat": Gather((name,), (size,)),
            "last": Threshold(("flat",), np.zeros((1, 1), np.int64), np.array([[-1], [1]])),
            "end": Linear(("last",), weight_of(self.rng.choice([-1, 1], (3, size)))),
        }
        return AcyclicGraph(nodes, "end", Scores(np.ones(3), np.zeros(3)), 255, (8, SIDE, SIDE))

    def _add(self, name: str, node: Node, width: int) -> None:
        self.nodes[name], self.widths[name] = node, width

    def _integers(self, most: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(-most, most + 1, shape)

    def _grow(self, name: str) -> None:
        rng, names = self.rng, [*self.nodes][1:]
        source = str(rng.choice(names[-4:]))
        width = self.widths[source]
        most = 2 ** int(rng.choice([4, 12, 34, 44, 51]))
        kind = rng.choice(["curve", "curve", "add", "add", "threshold", "concat"])
        if kind == "curve":
            start = np.sort(self._integers(most, (int(rng.integers(1, 7)), width, 1, 1)), axis=0)
            slope, intercept = rng.uniform(-2, 2, start.shape), self._integers(most, start.shape) / 8
            if rng.random() < 0.5:  # as of a PReLU: from the last start on, what comes in
                slope[-1], intercept[-1] = 1, start[-1]
            self._add(name, Curve((source,), start, slope, intercept), width)
        elif kind == "add":
            others = [other for other in names if self.widths[other] == width]
            self._add(name, Add((source, *map(str, rng.choice(others, int(rng.integers(1, 3)))))), width)
        elif kind == "threshold":
            shape = width, *((SIDE, SIDE) if rng.random() < 0.3 else (1, 1))
            self._add(
                name, Threshold((source,), self._integers(most, (1, *shape)), rng.choice([-1, 1], (2, *shape))), width
            )
        else:
            parts = [source, *map(str, rng.choice(names, int(rng.integers(1, 3))))]
            self._add(name, Concat(tuple(parts)), sum(self.widths[part] for part in parts))


@pytest.mark.parametrize("channels", [3, 8, 64])
@pytest.mark.parametrize("seed", range(5))
def test_random_streams(seed: int, channels: int) -> None:
    """All values together, the readout alone, and each value alone, which leaves the others to be joined."""
    graph = Streams(seed, channels).graph()
    rng = np.random.default_rng(seed)
    x = graph.check_images(rng.integers(0, 256, (3, graph.n_in)))
    packed, expected = PackedAcyclic(graph), graph.activations(x)
    for names in (None, [READOUT], *([name] for name in expected)):
        for name, values in packed.activations(x, names).items():
            np.testing.assert_array_equal(values, expected[name], err_msg=f"{name} of {names}")


def residual(rng: np.random.Generator, blocks: int, channels: int = 8) -> dict[str, Node]:
    """Additions of a stream and of a curve of binary sums, in whose middle a curve serves two joins."""

    def signs(source: str) -> Node:
        limits = rng.integers(-9, 9, (1, channels, 1, 1))
        return Threshold((source,), limits, np.concatenate([-np.ones_like(limits), np.ones_like(limits)]))

    def sums(source: str, width: int = channels) -> Node:
        return Conv((source,), weight_of(rng.choice([-1, 1], (width, channels))), Window((1, 1)))

    def curve(source: str, pieces: int = 1) -> Node:
        start = np.arange(pieces).reshape(-1, 1, 1, 1) * np.ones((1, channels, 1, 1), np.int64)
        return Curve((source,), start, rng.uniform(0.5, 2, start.shape), rng.uniform(-9, 9, start.shape))

    nodes: dict[str, Node] = {"stem": Conv((INPUT,), weight_of(rng.integers(-99, 99, (channels, 8))), Window((1, 1)))}
    stream = "stem"
    for i in range(blocks):
        nodes |= {f"signs{i}": signs(stream), f"sums{i}": sums(f"signs{i}"), f"norm{i}": curve(f"sums{i}")}
        nodes[f"stream{i}"] = Add((f"norm{i}", stream))
        stream = f"stream{i}"
    nodes |= {"between": signs(stream), "bent": curve(stream, 2)}
    for side in ("left", "right"):
        nodes |= {f"{side}sums": sums("between"), f"{side}norm": curve(f"{side}sums")}
        nodes[side] = Add((f"{side}norm", "bent"))
    nodes |= {"joined": Concat(("left", "right")), "pooled": Pool(("joined",), Window((SIDE, SIDE)), "sum")}
    return nodes | {"end": Gather(("pooled",), (2 * channels,))}


def test_what_is_one_step() -> None:
    """Of a residual network: an addition writes over the stream and fires; a curve of it is all that is kept."""
    nodes = residual(np.random.default_rng(0), blocks=2)
    graph = AcyclicGraph(nodes, "end", Scores(np.ones(16), np.zeros(16)), 255, (8, SIDE, SIDE))
    planned = Plan(graph, {"end"}, frozenset()).steps()
    assert [*planned] == [
        *("stem", "signs0", "sums0", "stream0", "signs1", "sums1", "bent", "between"),
        *("leftsums", "rightsums", "joined", "pooled", "end"),
    ]
    assert planned["stream0"].fires == "signs1"
    assert planned["stream0"].over is None, "the stem's sums are no pass"
    assert planned["signs1"].fired
    assert (planned["bent"].of, planned["bent"].fires, planned["bent"].over) == ("stream1", "between", 1)
    assert [part.terms for part in planned["joined"].parts] == [("leftsums", "bent"), ("rightsums", "bent")]
    kept = Plan(graph, {"end", "stream1", "norm0"}, frozenset()).steps()
    assert {"stream1", "norm0", "bent"} <= {*kept}, "what is given out is a step of its own"
    assert kept["bent"].over is None


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_residual_network(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    graph = AcyclicGraph(residual(rng, blocks), "end", Scores(np.ones(16), np.zeros(16)), 255, (8, SIDE, SIDE))
    x = graph.check_images(rng.integers(0, 256, (40, graph.n_in)))
    np.testing.assert_array_equal(PackedAcyclic(graph).sums(x), graph.activations(x)[READOUT])
