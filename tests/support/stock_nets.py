"""Random networks for the tests of stock forms: any sizes, thresholds in and beyond what sums reach."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from lava_meta.graph import BinaryGraph, DenseLayer, Readout
from lava_meta.graph.conv import ConvLayer, Pool, Window
from lava_meta.graph.inputs import Binarize

LEVELS = (1, 16, 255, 1000)


def dense_graph(seed: int) -> BinaryGraph:
    """One to three hidden layers of up to 60 units, two in five of them centred."""
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 60, rng.integers(2, 5))]
    domain, level = _domain(rng, sizes[0])
    layers = []
    for i, (inputs, units) in enumerate(pairwise(sizes)):
        centred = bool(rng.random() < 0.4)
        spread = (level if i == 0 else 1) * inputs**0.5 * (units if centred else 1)
        threshold = rng.normal(0, spread, units) if rng.random() < 0.7 else np.zeros(units)
        threshold = np.rint(threshold).astype(np.int64)
        if rng.random() < 0.1:  # constant units
            threshold[0] = rng.choice([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
        weight, polarity = rng.normal(size=(units, inputs)), rng.choice([-1, 1], units)
        layers.append(DenseLayer.from_weights(weight, threshold, polarity, centred=centred))
    readout = Readout.from_weights(rng.normal(size=(5, sizes[-1])))
    return BinaryGraph(tuple(layers), readout, input_shape=(sizes[0],), **domain)


def conv_graph(seed: int) -> BinaryGraph:
    """One or two convolutions with random windows, groups, sums and poolings, and at times a dense layer."""
    rng = np.random.default_rng(seed)
    shape = first = (int(rng.integers(1, 4)), *_pair(rng, 5, 9))
    domain, level = _domain(rng, int(np.prod(first)))
    layers: list[ConvLayer | DenseLayer] = []
    for i in range(rng.integers(1, 3)):
        layers.append(_conv(rng, shape, level if i == 0 else 1))
        shape = layers[-1].output_shape
    width = int(np.prod(shape))
    if rng.random() < 0.5:
        layers.append(DenseLayer.from_weights(rng.normal(size=(12, width)), np.zeros(12)))
        width = 12
    return BinaryGraph(tuple(layers), Readout.from_weights(rng.normal(size=(5, width))), input_shape=first, **domain)


def images(graph: BinaryGraph, n: int, seed: int = 0) -> np.ndarray:
    """Random inputs, among them all the least and all the greatest."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(graph.min_level, graph.max_level + 1, (n, *graph.input_shape))
    pixels[1], pixels[-2] = graph.min_level, graph.max_level
    return np.where(pixels == 0, 1, pixels) if graph.signs else pixels


def _domain(rng: np.random.Generator, n_in: int) -> tuple[dict[str, Any], int]:
    """What a network takes, as arguments of `BinaryGraph`, and the greatest input of the first layer."""
    kind, level = rng.choice(["pixels", "pixels", "features", "signs", "binarized"]), int(rng.choice(LEVELS))
    if kind == "signs":
        return {"min_level": -1, "max_level": 1, "signs": True}, 1
    least = -int(rng.integers(1, 200)) if kind == "features" or rng.random() < 0.2 else 0
    if kind != "binarized":
        return {"min_level": least, "max_level": level}, level
    threshold = rng.integers(least - 1, level + 2, n_in)
    binarize = Binarize(threshold, rng.choice(np.array([-1, 1], np.int8), n_in))
    return {"min_level": least, "max_level": level, "binarize": binarize}, 1


def _pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    a, b = rng.integers(low, high + 1, 2)
    return int(a), int(b)


def _conv(rng: np.random.Generator, shape: tuple[int, ...], level: int) -> ConvLayer:
    while True:  # until the windows fit
        groups = int(rng.choice([g for g in (1, 2, 3) if shape[0] % g == 0]))
        channels = groups * int(rng.integers(1, 4))
        weight = rng.normal(size=(channels, shape[0] // groups, *_pair(rng, 1, 3)))
        summed = Window(_pair(rng, 1, 2), _pair(rng, 1, 2), dilation=_pair(rng, 1, 2)) if rng.random() < 0.4 else None
        options = {
            "stride": _pair(rng, 1, 2),
            "padding": _pair(rng, 0, 2),
            "after": _pair(rng, 0, 2) if rng.random() < 0.3 else (0, 0),
            "dilation": _pair(rng, 1, 2),
            "groups": groups,
            "sum_window": summed,
            "pools": tuple(_pool(rng, channels) for _ in range(rng.integers(0, 3))),
        }
        try:
            plain = ConvLayer.from_weights(weight, shape, np.zeros(channels), rng.choice([-1, 1], channels), **options)
            sums = plain.sums_shape if rng.random() < 0.4 else (channels, 1, 1)
            threshold = np.rint(rng.normal(0, level * plain.most_terms**0.5, sums)).astype(np.int64)
            return ConvLayer.from_weights(weight, shape, threshold, plain.polarity, **options)
        except ValueError:
            continue


def _pool(rng: np.random.Generator, channels: int) -> Pool:
    return Pool(
        _pair(rng, 1, 2),
        _pair(rng, 1, 2),
        _pair(rng, 0, 1) if rng.random() < 0.3 else (0, 0),
        _pair(rng, 1, 2),
        after=_pair(rng, 0, 2) if rng.random() < 0.3 else (0, 0),
        every=tuple(channel for channel in range(channels) if rng.random() < 0.4),
    )
