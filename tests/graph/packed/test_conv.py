"""Packed convolutions give the reference's integers, for any window, pooling, grouping and border."""

from __future__ import annotations

import numpy as np

from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.packed.network import PackedNetwork

SEED = 44
HUGE = 2**62  # a threshold that no sum reaches


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    """Two numbers, low to high."""
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def fits(window: Window, shape: tuple[int, ...]) -> bool:
    try:
        return min(window.positions(*shape[-2:])) > 0
    except ValueError:
        return False


def random_window(rng: np.random.Generator, shape: tuple[int, ...], padded: bool) -> Window:
    while True:
        kernel = pair(rng, 1, 4)
        padding = (int(rng.integers(0, kernel[0] + 1)), int(rng.integers(0, kernel[1] + 1))) if padded else (0, 0)
        after = pair(rng, 0, 2) if padded and rng.random() < 0.3 else (0, 0)
        window = Window(kernel, pair(rng, 1, 3), padding, pair(rng, 1, 2), after=after)
        if fits(window, shape):
            return window


def random_layer(rng: np.random.Generator, shape: tuple[int, ...], level: int | None) -> ConvLayer:
    """Thresholds where the sums are, some constant units; for pixels (`level`) often one for every position."""
    groups = int(rng.choice([g for g in (1, 1, 1, 2, 3) if shape[0] % g == 0]))
    channels = groups * int(rng.choice([1, 3, 20, 64, 65]))
    window = random_window(rng, shape, padded=True)
    sums = (channels, *window.positions(*shape[1:]))
    sum_window = random_window(rng, sums, padded=bool(rng.random() < 0.5)) if rng.random() < 0.3 else None
    final = sums if sum_window is None else (channels, *sum_window.positions(*sums[1:]))
    pools, size = [], final
    for _ in range(rng.integers(0, 3)):
        drawn = random_window(rng, size, padded=True)
        every = tuple(int(c) for c in np.flatnonzero(rng.random(channels) < 0.4))
        pools.append(Pool(drawn.kernel, drawn.stride, drawn.padding, drawn.dilation, every, after=drawn.after))
        size = (channels, *drawn.positions(*size[1:]))
    weight = rng.random((channels, shape[0] // groups, *window.kernel)) < 0.5
    terms = weight[0].size * (1 if sum_window is None else int(np.prod(sum_window.kernel)))
    spread = 1 + int(np.sqrt(terms) * (level or 1) / 2)
    whole = level is not None and rng.random() < 0.5
    threshold = rng.integers(-spread, spread + 1, final if whole else (channels, 1, 1))
    constant = rng.random(channels)
    threshold[constant < 0.05] = HUGE
    threshold[constant > 0.95] = -HUGE
    polarity = rng.choice(np.array([-1, 1], np.int8), channels)
    return ConvLayer.from_weights(
        weight,
        shape,
        threshold,
        polarity,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        after=window.after,
        groups=groups,
        sum_window=sum_window,
        pools=tuple(pools),
    )


def random_graph(rng: np.random.Generator) -> BinaryGraph:
    max_level = int(rng.choice([1, 16, 255, 1000]))
    shape: tuple[int, ...] = (int(rng.choice([1, 2, 3, 6])), *pair(rng, 3, 9))
    input_shape = shape
    layers: list[ConvLayer | DenseLayer] = []
    for i in range(rng.integers(1, 4)):
        layers.append(random_layer(rng, shape, max_level if i == 0 else None))
        shape = layers[-1].output_shape
    width = int(np.prod(shape))
    if rng.random() < 0.5:
        weight = rng.random((70, width)) < 0.5
        centred = bool(rng.random() < 0.5)
        polarity = rng.choice(np.array([-1, 1], np.int8), 70)
        layers.append(DenseLayer.from_weights(weight, rng.integers(-3, 4, 70), polarity, centred=centred))
        width = 70
    readout = Readout.from_weights(rng.random((10, width)) < 0.5)
    return BinaryGraph(tuple(layers), readout, max_level, input_shape)


def test_three_hundred_random_networks() -> None:
    rng = np.random.default_rng(SEED)
    seen = {"groups": 0, "sum window": 0, "pools": 0, "border": 0}
    for _ in range(300):
        graph = random_graph(rng)
        pixels = graph.check_images(rng.integers(0, graph.max_level + 1, (3, graph.n_in)))
        pixels[0] = graph.max_level
        expected, found = graph.activations(pixels), PackedNetwork(graph).activations(pixels)
        assert list(found) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name} of {graph}")
        for layer in graph.layers:
            if isinstance(layer, ConvLayer):
                seen["groups"] += layer.groups > 1
                seen["sum window"] += layer.sum_window is not None
                seen["pools"] += len(layer.pools)
                seen["border"] += layer.per_position
    assert min(seen.values()) > 30, f"the networks drawn must put everything to the test: {seen}"
