"""The whole network in one Process gives the reference's integers, whatever it is wired to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("lava.magma")

from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer as ArraySource

from lava_meta.errors import RunError, RunTimeout
from lava_meta.graph import BinaryGraph, DenseLayer, Graph, Readout
from lava_meta.graph.acyclic import AcyclicGraph, Scores
from lava_meta.graph.conv import Window
from lava_meta.graph.nodes import Add, Conv, Curve, Gather, Linear, Node, Threshold, weight_of
from lava_meta.processes.binary_network.process import BinaryNetwork, StreamedNetwork
from lava_meta.processes.ring import Ring
from lava_meta.processes.runtime import Supervised
from lava_meta.processes.stream.process import PixelSource, Sink, Source

pytestmark = pytest.mark.lava


def network(sizes: tuple[int, ...], max_level: int = 255) -> BinaryGraph:
    """Random weights, thresholds near the middle, both polarities; the second layer is centred."""
    rng = np.random.default_rng(5)
    layers = []
    for i, (a, b) in enumerate(pairwise(sizes[:-1])):
        weight = rng.random((b, a)) < 0.5
        row = np.where(weight, 1, -1).sum(axis=1)
        threshold = row * (max_level // 2) if i == 0 else np.zeros(b)
        polarity = rng.choice(np.array([-1, 1], np.int8), b)
        layers.append(DenseLayer.from_weights(weight, polarity * threshold, polarity, centred=i == 1))
    readout = Readout.from_weights(rng.random((sizes[-1], sizes[-2])) < 0.5)
    return BinaryGraph(tuple(layers), readout, max_level, (sizes[0],))


def residual() -> AcyclicGraph:
    """Real first weights, a binary convolution with a real shortcut around it, a binary head."""
    rng = np.random.default_rng(6)
    one = np.zeros((1, 1, 1, 1), np.int64)
    codes = np.array([-1, 1]).reshape(2, 1, 1, 1)
    window = Window((3, 3), padding=(1, 1))
    nodes: dict[str, Node] = {
        "stem": Conv(("input",), weight_of(rng.integers(-(2**24), 2**24, (16, 9))), window),
        "before": Threshold(("stem",), one, codes),
        "conv": Conv(("before",), weight_of(rng.choice([-1, 1], (16, 144))), window),
        "norm": Curve(("conv",), one, np.full(one.shape, 2.0**21 / 3), np.full(one.shape, 0.5)),
        "sum": Add(("norm", "stem")),
        "after": Threshold(("sum",), one, codes),
        "flat": Gather(("after",), (16 * 20,)),
        "head": Linear(("flat",), weight_of(rng.choice([-1, 1], (10, 16 * 20)))),
    }
    return AcyclicGraph(nodes, "head", Scores(np.ones(10), np.zeros(10)), 255, (1, 4, 5))


def images(graph: Graph, number: int) -> np.ndarray:
    return graph.check_images(np.random.default_rng(1).integers(0, graph.max_level + 1, (number, graph.n_in)))


def run(graph: Graph, pixels: np.ndarray, lanes: int, output: str, source: type = PixelSource) -> np.ndarray:
    """`pixels` through source, network and sink, `lanes` a time step."""
    process = BinaryNetwork(graph=graph, lanes=lanes, output=output)
    steps = len(pixels) // lanes
    given = Ring((lanes, graph.n_in), np.uint8 if source is PixelSource else np.int32, slots=steps)
    taken = Ring(process.out.shape, np.int32, slots=steps)
    start, end = source(ring=given), Sink(ring=taken)
    start.s_out.connect(process.s_in)
    process.out.connect(end.a_in)
    with Supervised(process, Loihi2SimCfg(), timeout=30) as running:
        for batch in pixels.reshape(steps, lanes, -1):
            given.put(batch)
        running.steps(steps)
        return np.concatenate([taken.get() for _ in range(steps)])


@pytest.mark.parametrize(("lanes", "source"), [(1, PixelSource), (5, PixelSource), (5, Source)])
def test_sums(lanes: int, source: type) -> None:
    graph = network((70, 130, 65, 10))
    pixels = images(graph, 20)
    np.testing.assert_array_equal(run(graph, pixels, lanes, "readout", source), graph.sums(pixels))


def test_classes_and_a_hidden_layer_by_name() -> None:
    graph = network((70, 130, 65, 10), max_level=16)
    pixels = images(graph, 12)
    np.testing.assert_array_equal(run(graph, pixels, 4, "classes"), graph.predict(pixels))
    np.testing.assert_array_equal(run(graph, pixels, 4, "hidden2"), graph.activations(pixels)["hidden2"])


@pytest.mark.parametrize("output", ["readout", "classes", "before"])
def test_a_residual_network(output: str) -> None:
    graph = residual()
    pixels = images(graph, 12)
    expected = graph.activations(pixels) | {"classes": graph.predict(pixels)}
    np.testing.assert_array_equal(run(graph, pixels, 4, output), expected[output])


def test_sixteen_bit_pixels() -> None:
    graph = network((70, 64, 10), max_level=1000)
    pixels = images(graph, 12)
    np.testing.assert_array_equal(run(graph, pixels, 3, "readout", Source), graph.sums(pixels))


@pytest.mark.parametrize("value", [-1, 17, 256, 300])
def test_a_pixel_out_of_range_ends_the_run(value: int) -> None:
    graph = network((70, 64, 10), max_level=15)
    pixels = images(graph, 2).astype(np.int32)
    pixels[1, 3] = value
    with pytest.raises(RunError, match=r"max_level|integers 0 to 15"):
        run(graph, pixels, 1, "readout", Source)


def test_float_pixels_from_a_stock_source() -> None:
    """Lava's own source sends floats: whole numbers pass, fractions are refused."""
    graph = network((70, 64, 10))
    pixels = images(graph, 1)
    for data, whole in ((pixels.astype(float), True), (pixels + 0.5, False)):
        process = BinaryNetwork(graph=graph)
        taken = Ring((1, 10), np.int32)
        start, end = ArraySource(data=data[:, :, None]), Sink(ring=taken)
        start.s_out.connect(process.s_in)
        process.out.connect(end.a_in)
        with Supervised(process, Loihi2SimCfg(), timeout=30) as running:
            if whole:
                running.steps(1)
                np.testing.assert_array_equal(taken.get(), graph.sums(pixels))
            else:
                with pytest.raises(RunError, match="unsigned integers 0 to 255"):
                    running.steps(1)


def test_two_sources_are_refused() -> None:
    graph = network((70, 64, 10))
    process = BinaryNetwork(graph=graph)
    rings = [Ring((1, 70), np.uint8) for _ in range(2)]
    for ring in rings:
        ring.put(images(graph, 1))
        PixelSource(ring=ring).s_out.connect(process.s_in)
    with (
        Supervised(process, Loihi2SimCfg(), timeout=30) as running,
        pytest.raises(RunError, match="s_in has 2 sources"),
    ):
        running.steps(1)


@pytest.mark.parametrize("max_level", [16, 1000])
def test_streamed_from_ring_to_rings(max_level: int) -> None:
    graph = network((70, 130, 65, 10), max_level)
    pixels = images(graph, 21)
    inlet = Ring((7, 70), pixels.dtype)
    outlets = {"hidden1": Ring((7, 130), np.int8), "readout": Ring((7, 10), np.int32)}
    process = StreamedNetwork(graph=graph, lanes=7, inlet=inlet, outlets=outlets)
    expected = graph.activations(pixels)
    with Supervised(process, Loihi2SimCfg(), timeout=30) as running:
        for number in (1, 2):  # a run may be continued
            running.start(number)
            for batch in range(number - 1, 2 * number - 1):
                rows = slice(7 * batch, 7 * (batch + 1))
                inlet.put(pixels[rows], running.check)
                for name, ring in outlets.items():
                    np.testing.assert_array_equal(ring.get(running.check), expected[name][rows])
            running.wait()


def test_a_message_of_several_steps_counts_as_so_many() -> None:
    """Messages of 6, 2, 5 and 1 images, at 2 lanes, are 3 + 1 + 3 + 1 time steps."""
    graph = network((70, 130, 65, 10))
    pixels = images(graph, 14)
    inlet, outlet = Ring((6, 70), np.uint8), Ring((6, 10), np.int32)
    process = StreamedNetwork(graph=graph, lanes=2, inlet=inlet, outlets={"readout": outlet})
    parts = np.split(pixels, [6, 8, 13])
    with Supervised(process, Loihi2SimCfg(), timeout=30) as running:
        for part in parts:
            inlet.put(part)
        running.steps(8)
        for part in parts:
            np.testing.assert_array_equal(outlet.get(), graph.sums(part))


def test_a_streamed_pixel_out_of_range_ends_the_run() -> None:
    graph = network((70, 64, 10), max_level=15)
    inlet, outlet = Ring((1, 70), np.uint8), Ring((1, 10), np.int32)
    inlet.put(np.full((1, 70), 16, np.uint8))
    process = StreamedNetwork(graph=graph, lanes=1, inlet=inlet, outlets={"readout": outlet})
    with (
        Supervised(process, Loihi2SimCfg(), timeout=30) as running,
        pytest.raises(RunError, match="larger than max_level, 15"),
    ):
        running.steps(1)


def test_a_stream_that_gets_no_input_is_given_up() -> None:
    graph = network((70, 64, 10))
    inlet, outlet = Ring((1, 70), np.uint8), Ring((1, 10), np.int32)
    process = StreamedNetwork(graph=graph, lanes=1, inlet=inlet, outlets={"readout": outlet})
    with Supervised(process, Loihi2SimCfg(), timeout=0.5) as running, pytest.raises(RunTimeout, match=r"ring\.py"):
        running.steps(1)


@pytest.mark.parametrize(
    ("inlet", "outlets", "reason"),
    [
        (Ring((2, 69), np.uint8), {"readout": Ring((2, 10), np.int32)}, r"not uint8 \(images, 70\)"),
        (Ring((2, 70), np.int32), {"readout": Ring((2, 10), np.int32)}, "holds int32"),
        (Ring((3, 70), np.uint8), {"readout": Ring((3, 10), np.int32)}, "no whole time steps of 2 lanes"),
        (Ring((2, 70), np.uint8), {}, "outlets are missing"),
        (Ring((2, 70), np.uint8), {"hidden3": Ring((2, 10), np.int32)}, "this network has hidden1, readout"),
        (Ring((2, 70), np.uint8), {"readout": Ring((1, 10), np.int32)}, r"has shape \(1, 10\), not \(2, 10\)"),
    ],
)
def test_rings_that_do_not_fit(inlet: Ring, outlets: dict[str, Ring], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        StreamedNetwork(graph=network((70, 64, 10)), lanes=2, inlet=inlet, outlets=outlets)


def test_bad_arguments() -> None:
    graph = network((70, 64, 10))
    with pytest.raises(ValueError, match="lanes is 0"):
        BinaryNetwork(graph=graph, lanes=0)
    with pytest.raises(ValueError, match="hidden1, readout, classes"):
        BinaryNetwork(graph=graph, output="hidden2")
