"""The packed kernels give the reference's integers: every hidden sign, every sum and every class, on any network."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.packed import network as packed
from lava_meta.graph.packed.network import LANES, PackedNetwork

WIDTHS = (1, 2, 3, 7, 31, 63, 64, 65, 100, 127, 128, 129, 200)
HUGE = 2**62  # a threshold that no sum reaches: a constant unit


def random_layer(rng: np.random.Generator, n_in: int, n_out: int, first: bool, max_level: int) -> DenseLayer:
    """Thresholds where the sums are (so that ties happen), and some units constant, of both signs."""
    weight = rng.random((n_out, n_in)) < rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
    row = np.where(weight, 1, -1).sum(axis=1)
    centred = bool(rng.random() < 0.3)
    polarity = rng.choice(np.array([-1, 1], np.int8), n_out)
    if first:
        middle = row * (max_level // 2)
        spread = 1 + int(max_level * np.sqrt(n_in) / 4)
    else:
        middle = np.zeros(n_out, np.int64)
        spread = 1 + int(np.sqrt(n_in))
    d = middle + rng.integers(-spread, spread + 1, n_out)
    if centred:
        d = n_out * d - d.sum()
    threshold = polarity * d
    constant = rng.random(n_out)
    threshold[constant < 0.05] = HUGE
    threshold[constant > 0.95] = -HUGE
    return DenseLayer.from_weights(weight, threshold, polarity, centred=centred)


def random_graph(rng: np.random.Generator) -> BinaryGraph:
    max_level = int(rng.choice([1, 2, 15, 16, 100, 255, 256, 1000, 65535]))
    n_in = int(rng.choice(WIDTHS))
    sizes = [n_in, *(int(rng.choice(WIDTHS)) for _ in range(rng.integers(0, 4)))]
    layers = [random_layer(rng, a, b, i == 0, max_level) for i, (a, b) in enumerate(pairwise(sizes))]
    classes = int(rng.choice([1, 2, 10, 64, 65]))
    readout = Readout.from_weights(
        rng.random((classes, sizes[-1])) < 0.5,
        rng.choice([-0.5, 0.0, 1.0, 0.125], classes),
        rng.integers(-2, 3, classes).astype(np.float64),
    )
    return BinaryGraph(tuple(layers), readout, max_level, (n_in,))


def random_images(rng: np.random.Generator, graph: BinaryGraph) -> np.ndarray:
    """Random, all zero, all at the maximum, and black-and-white images."""
    shape = (int(rng.integers(1, 6)), graph.n_in)
    images = rng.integers(0, graph.max_level + 1, shape)
    edges = np.array([np.zeros(graph.n_in), np.full(graph.n_in, graph.max_level)], np.int64)
    return np.concatenate([images, edges, graph.max_level * rng.integers(0, 2, shape)])


def assert_equal(graph: BinaryGraph, images: np.ndarray) -> None:
    network = PackedNetwork(graph)
    pixels = graph.check_images(images)
    expected = graph.activations(pixels)
    for lanes in (1, len(pixels) // 2 + 1, LANES):  # alone; a batch and the rest; all together
        found = network.activations(pixels, lanes=lanes)
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name}, {lanes} lanes")
    np.testing.assert_array_equal(network.sums(pixels), expected["readout"])
    np.testing.assert_array_equal(network.predict(pixels), graph.predict(pixels))


@pytest.mark.parametrize("products_from", [1, LANES + 1])
def test_a_thousand_random_networks(products_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With either form of the first layer."""
    monkeypatch.setattr(packed, "PRODUCTS_FROM", products_from)
    rng = np.random.default_rng(2021)
    ties = 0
    for _ in range(1000):
        graph = random_graph(rng)
        images = random_images(rng, graph)
        assert_equal(graph, images)
        if graph.layers:
            first = graph.layers[0]
            s = images @ np.where(first.weight, 1, -1).T
            d = graph.layers[0].n_out * s - s.sum(axis=1, keepdims=True) if first.centred else s
            ties += int((first.polarity * d == first.threshold).sum())
    assert ties > 50, "the networks drawn must put exact ties to the test"


@pytest.mark.parametrize("centred", [False, True])
def test_wide_layers_and_more_images_than_lanes(centred: bool) -> None:
    rng = np.random.default_rng(7)
    sizes = (784, 700, 520)
    layers = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        weight = rng.random((b, a)) < 0.5
        row = np.where(weight, 1, -1).sum(axis=1)
        threshold = 33 * row if i == 0 else np.zeros(b, np.int64)
        layers.append(DenseLayer.from_weights(weight, 0 * threshold if centred else threshold, None, centred=centred))
    graph = BinaryGraph(tuple(layers), Readout.from_weights(rng.random((10, 520)) < 0.5), 255, (1, 28, 28))
    assert_equal(graph, rng.integers(0, 256, (2 * LANES + 3, 1, 28, 28), dtype=np.uint8))


def test_the_arrays_take_little_more_than_the_bits() -> None:
    rng = np.random.default_rng(0)
    weight = rng.random((1024, 1024)) < 0.5
    graph = BinaryGraph(
        (DenseLayer.from_weights(weight, np.zeros(1024)),), Readout.from_weights(weight[:10]), 255, (1024,)
    )
    assert PackedNetwork(graph).nbytes < 1.2 * sum(layer.bits.nbytes for _, layer in graph.named_layers())


def test_read_only_and_strided_images() -> None:
    rng = np.random.default_rng(3)
    graph = random_graph(rng)
    pixels = graph.check_images(random_images(rng, graph))
    frozen = pixels.copy()
    frozen.setflags(write=False)
    network = PackedNetwork(graph)
    np.testing.assert_array_equal(network.sums(frozen), graph.sums(pixels))
    np.testing.assert_array_equal(network.sums(pixels[::-1]), graph.sums(pixels[::-1]))


def test_wrong_images_are_refused() -> None:
    readout = Readout.from_weights(np.ones((3, 5)))
    network = PackedNetwork(BinaryGraph((), readout, 16, (5,)))
    with pytest.raises(ValueError, match=r"expected uint8 \(n, 5\)"):
        network.sums(np.zeros((2, 4), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        network.sums(np.zeros((2, 5), np.int64))
    with pytest.raises(ValueError, match="larger than max_level, 16"):
        network.sums(np.full((2, 5), 32, np.uint8))


@pytest.mark.slow
def test_a_machine_without_wide_vectors_gives_the_same() -> None:
    """The same kernels compiled for the plainest processor of this kind."""
    test = f"{os.path.abspath(__file__)}::test_a_thousand_random_networks"
    plain = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", test]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
