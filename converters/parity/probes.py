"""Every threshold of a converted network, probed: inputs whose sum is the threshold itself, and the integer below it.

Random images seldom come near a threshold. So each unit gets two inputs of its own, made for its weights: one whose
integer sum is the least at which it fires, one whose sum is the greatest at which it does not. They go through the
model's own scaling, the unit's weights and the model's own norm, in float64, and its sign is compared.

A sum may fall on the other side where float64 itself rounds: there, and only there, `Sums.slack` tells how far the
model's value may be off, and the sign at both ends of that interval says whether it is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lava_meta.converters.chain.folding import decided, fires, through
from lava_meta.converters.chain.reading import Front, Stage
from lava_meta.converters.chain.scale import InputScale, scale_of
from lava_meta.converters.chain.sums import Sums
from lava_meta.converters.feed import Feed
from lava_meta.graph import BinaryGraph
from lava_meta.graph.conv import ConvLayer
from lava_meta.graph.dense import DenseLayer

_CHUNK = 2**21  # inputs made at a time


@dataclass(frozen=True)
class Probed:
    """What probing one layer saw."""

    count: int  # probes: up to two a threshold; those that no input reaches are left out
    wrong: int  # units on the wrong side, outside float64's rounding
    ties: int  # units on the other side within it


@dataclass(frozen=True)
class First:
    """What stands before a first layer that takes levels."""

    front: Front
    feed: Feed
    scale: InputScale
    shape: tuple[int, ...]  # of an image

    @classmethod
    def of(cls, graph: BinaryGraph, front: Front, feed: Feed) -> First | None:
        """None where the first layer takes signs."""
        if graph.signs or graph.binarize is not None:
            return None
        return cls(front, feed, InputScale.of(feed, front, graph.input_shape), graph.input_shape)


def has_thresholds(layer: DenseLayer | ConvLayer) -> bool:
    """Whether its thresholds are numbers, not statistics of the image."""
    return layer.norm is None and not (isinstance(layer, DenseLayer) and layer.centred)


def probe(graph: BinaryGraph, front: Front, stages: Sequence[Stage], feed: Feed, seed: int) -> dict[str, Probed]:
    """Probe the thresholds of all layers, and of binarized inputs, by their names in `BinaryGraph.named_layers`.

    Layers whose thresholds are statistics of the image are left out, and those behind average pooling.

    Args:
        graph: the network.
        front: what precedes the first layer of the model in float64, as `reading.read` gives it.
        stages: its layers, likewise.
        feed: how levels become the model's input.
        seed: of the order in which the inputs of a sum are raised.
    """
    found = {}
    if graph.binarize is not None:
        found["inputs"] = _probe_inputs(graph, front, feed)
    rng, first = np.random.default_rng(seed), First.of(graph, front, feed)
    for i, (layer, stage) in enumerate(zip(graph.layers, stages, strict=False)):
        averages = isinstance(layer, ConvLayer) and layer.sum_window is not None
        if has_thresholds(layer) and not averages:
            found[f"hidden{i + 1}"] = _probe_layer(layer, stage, first if i == 0 else None, rng)
    return found


def ties(layer: DenseLayer | ConvLayer, stage: Stage, scale: InputScale | None, sums: NDArray[Any]) -> NDArray[Any]:
    """Where float64's rounding of the model may decide the sign of these integer sums, booleans (n, n_out).

    Of a layer with thresholds. Behind pooling, where the window's result depends on such a sum.
    """
    made = Sums.of(stage, layer, scale)
    slack, values = made.slack(stage), made.values(sums)
    low, high = (decided(stage, values + moved) for moved in (-slack, slack))
    least, most = low & high, low | high
    for pool in layer.pools if isinstance(layer, ConvLayer) else ():
        least, most = pool.signs(least), pool.signs(most)
    undecided: NDArray[Any] = least != most
    return undecided.reshape(len(sums), -1)


def _probe_inputs(graph: BinaryGraph, front: Front, feed: Feed) -> Probed:
    """Two images: every input at its threshold, and every one below."""
    made = graph.binarize
    assert made is not None
    polarity = made.polarity.astype(np.int64)
    levels = np.stack([polarity * made.threshold, polarity * (made.threshold - 1)])
    reached = (levels >= feed.min_level) & (levels <= feed.max_level)
    images = np.clip(levels, feed.min_level, feed.max_level)
    values = through("the input", front.modules, feed(images.reshape(2, *graph.input_shape).astype(np.float64)))
    wrong = (made.fires(images) != fires(front.sign)(values).reshape(2, -1)) & reached
    return Probed(int(reached.sum()), int(wrong.sum()), 0)


def _probe_layer(layer: DenseLayer | ConvLayer, stage: Stage, first: First | None, rng: np.random.Generator) -> Probed:
    """Two inputs for each threshold: of a dense unit, of a channel, or of a channel at each position."""
    inside = _inside(layer)
    order = rng.permutation(inside.shape[1])
    rank = np.empty(inside.shape, np.int64)
    rank[:, order] = inside[:, order].cumsum(axis=1) - 1
    polarity, threshold = layer.polarity.astype(np.int64)[:, None], layer.threshold.reshape(layer.polarity.size, -1)
    shape = (2, *threshold.shape)
    ours, values, reached = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape, bool)
    packed, own = layer.weight, stage.weight
    step = max(1, _CHUNK // inside.size)
    for begin in range(0, len(threshold), step):
        some = slice(begin, begin + step)
        weight = packed[some]
        for side, below in enumerate((0, 1)):
            sums = polarity[some] * (threshold[some] - below)
            away = polarity[some] * (1 - 2 * below)  # where sums of signs are one further on, for their parity
            levels, reached[side, some] = _levels(weight, inside, rank, sums, away, first)
            integers = np.einsum("uf,upf->up", np.where(weight, 1, -1), levels * inside)
            ours[side, some] = polarity[some] * integers >= threshold[some]
            seen = levels if first is None else _seen(layer, first, levels, range(len(threshold))[some])
            values[side, some] = np.einsum("uf,upf->up", np.where(own[some], 1.0, -1.0), seen * inside)
    made = Sums.of(stage, layer, scale_of(stage, None if first is None else first.scale))
    if stage.behind_steps:
        made = made.shared() if isinstance(layer, ConvLayer) and not layer.per_position else made
        values = np.stack([made.values(side.reshape(layer.threshold.shape)).reshape(side.shape) for side in values])
    slack = made.slack(stage)
    theirs, low, high = (
        decided(stage, (values + moved).reshape(2, *layer.threshold.shape)).reshape(shape)
        for moved in (0.0, -slack, slack)
    )
    wrong, tie = reached & (ours != theirs), low != high
    return Probed(int(reached.sum()), int((wrong & ~tie).sum()), int((wrong & tie).sum()))


def _inside(layer: DenseLayer | ConvLayer) -> NDArray[Any]:
    """Which inputs a sum has, booleans (positions, fan-in): at each position with a threshold of its own.

    One that all share is probed where the most inputs lie on the image.
    """
    if isinstance(layer, DenseLayer):
        return np.ones((1, layer.n_in), bool)
    channels = layer.input_shape[0] // layer.groups
    views = layer.window.views(np.ones((1, channels, *layer.input_shape[1:]), bool))
    inside = views.transpose(0, 2, 3, 1, 4, 5).reshape(-1, layer.fan_in)
    return inside if layer.per_position else inside[[inside.sum(axis=1).argmax()]]


def _levels(
    weight: NDArray[Any],
    inside: NDArray[Any],
    rank: NDArray[Any],
    sums: NDArray[Any],
    away: NDArray[Any],
    first: First | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Levels, or signs, (units, positions, fan-in) that sum to `sums`, and where that can be.

    From the least sum, inputs are raised to their greatest one after the other, by `rank`. Signs rise by 2: sums of
    the other parity move `away` by 1.
    """
    low, high = (-1, 1) if first is None else (first.feed.min_level, first.feed.max_level)
    rise = np.where(weight, 1, 0) @ inside.T.astype(np.int64)
    terms = inside.sum(axis=1)
    above = sums - (low * rise - high * (terms - rise))
    if first is None:
        above = above + away * (above % 2)
    span = high - low
    raised = np.clip(above[..., None] - span * rank, 0, span)
    return np.where(weight[:, None], low + raised, high - raised), (above >= 0) & (above <= span * terms)


def _seen(layer: DenseLayer | ConvLayer, first: First, levels: NDArray[Any], units: range) -> NDArray[Any]:
    """What the model's first layer sees of these levels (units, positions, fan-in), float64, by the model's own front.

    The inputs of a convolution's sum go through it as an image of the kernel's extents.
    """
    flat = levels.reshape(-1, levels.shape[2]).astype(np.float64)
    if isinstance(layer, DenseLayer):
        seen = through("the input", first.front.modules, first.feed(flat.reshape(-1, *first.shape)))
        return seen.reshape(levels.shape)
    images = np.tile(flat, layer.groups).reshape(-1, layer.input_shape[0], *layer.window.kernel)
    seen = through("the input", first.front.modules, first.feed(images))
    seen = seen.reshape(len(units), -1, layer.groups, levels.shape[2])
    group = np.array(units) // (layer.channels // layer.groups)
    return seen[np.arange(len(units)), :, group]
