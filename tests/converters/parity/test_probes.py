"""Every threshold is probed: one that is off by one is found, wherever it stands, and a tie is no mismatch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.parity.chain import Parity, check
from lava_meta.graph import BinaryGraph
from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, Sign


def made(*front: nn.Module, shape: tuple[int, ...] = (50,), most: int = 255, least: int = 0) -> nn.Sequential:
    """A network of two hidden layers behind `front`, with gains of both signs."""
    torch.manual_seed(0)
    width = nn.Sequential(*front, nn.Flatten())(torch.zeros(2, *shape)).shape[1]
    model = nn.Sequential(
        *(*front, nn.Flatten(), BinaryLinear(width, 24), nn.BatchNorm1d(24), Sign()),
        *(BinaryLinear(24, 20), nn.BatchNorm1d(20), Sign(), BinaryLinear(20, 4)),
    )
    for norm in model:
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
    inputs = torch.randint(least, most + 1, (100, *shape)).float()
    for _ in range(20):
        model(inputs if isinstance(front[0] if front else None, Pixels) else inputs / most)
    return model.eval()


def convolution(**options: Any) -> list[nn.Module]:
    return [BinaryConv2d(3, 6, 3, **options), nn.BatchNorm2d(6), nn.MaxPool2d(2), Sign()]


IMAGE: dict[str, Any] = {"shape": (3, 7, 8)}
MODELS: dict[str, tuple[nn.Sequential, dict[str, Any]]] = {
    "levels": (made(Pixels(33)), {}),
    "normalised": (made(), {"mean": 0.2, "std": 0.4}),
    "16 bits": (made(most=65535), {"mean": 0.485, "std": 0.229, "max_level": 65535}),
    "signed": (made(Pixels(2.5, 0.3, 127, -128), most=127, least=-128), {}),
    "binarized": (made(Pixels(), nn.BatchNorm1d(50), Sign()), {}),
    "convolution": (made(Pixels(40), *convolution(), **IMAGE), {"input_shape": (3, 7, 8)}),
    "padded": (
        made(*convolution(padding=1, stride=2), **IMAGE),
        {"mean": (0.2, 0.5, 0.7), "std": 0.4, "input_shape": (3, 7, 8)},
    ),
    "groups": (
        made(*convolution(padding=(0, 1), groups=3), **IMAGE),
        {"mean": (0.2, 0.5, 0.7), "std": 0.4, "input_shape": (3, 7, 8)},
    ),
}


def moved(graph: BinaryGraph, layer: int, unit: int, by: int) -> BinaryGraph:
    """The graph with one threshold of a layer moved; -1 for the inputs'."""
    old: Any = graph.binarize if layer < 0 else graph.layers[layer]
    threshold = old.threshold.copy()
    threshold.reshape(-1)[unit] += by
    new = replace(old, threshold=threshold)
    if layer < 0:
        return replace(graph, binarize=new)
    return replace(graph, layers=(*graph.layers[:layer], new, *graph.layers[layer + 1 :]))


@pytest.mark.parametrize("name", MODELS)
def test_a_threshold_that_is_off_by_one_is_found(name: str) -> None:
    """Moved by 2 where sums are of signs, all even or all odd. There is one image, so that the probes find it."""
    model, options = MODELS[name]
    folded = fold(model, **options)
    graph = folded.graph
    image = np.full((1, graph.n_in), (graph.min_level + graph.max_level) // 2).astype(graph.dtype)
    assert check(model, folded, images=image).exact
    rng = np.random.default_rng(0)
    for layer in range(-1 if graph.binarize is not None else 0, len(graph.layers)):
        size = (graph.layers[layer] if layer >= 0 else graph.binarize).threshold.size  # type: ignore[union-attr]
        of_levels = layer <= 0 and (layer < 0 or graph.binarize is None)
        for unit in rng.choice(size, 6, replace=False):
            for by in (1, -1) if of_levels else (2, -2):
                wrong = replace(folded, graph=moved(graph, layer, unit, by))
                parity = check(model, wrong, images=image)
                assert sum(parity.mismatches.values()) >= 1, (layer, unit, by)


def test_scales_of_float32_are_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(784, 400), nn.BatchNorm1d(400), Sign(), BinaryLinear(400, 3))
    for _ in range(5):
        model((torch.rand(300, 784) - 0.485) / 0.229)
    model.eval()
    folded, rounded = (
        fold(model, max_level=65535, mean=kind(0.485), std=kind(0.229)) for kind in (np.float64, np.float32)
    )
    differ = int((folded.graph.layers[0].threshold != rounded.graph.layers[0].threshold).sum())
    assert differ > 0
    assert check(model, replace(folded, graph=rounded.graph)).mismatches["hidden1"] >= differ
    parity = check(model, folded)
    assert parity.exact
    assert parity.ties["hidden1"] == 0


def test_a_value_that_float64_cannot_tell_from_zero_is_a_tie() -> None:
    """A mean of 51 levels: sums of 51 R are 0, or what rounding leaves of it; no other is near."""
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(100, 64), Sign(), BinaryLinear(64, 3)).eval()
    folded = fold(model, mean=0.2, std=0.3)
    graph = folded.graph

    def moved_by(levels: int) -> Parity:
        wrong = replace(graph.layers[0], threshold=graph.layers[0].threshold + levels)
        return check(model, replace(folded, graph=replace(graph, layers=(wrong,))))

    row = graph.layers[0].row_sums()  # type: ignore[union-attr]
    assert (graph.layers[0].threshold == 51 * row).sum() > 32
    assert moved_by(1).ties["hidden1"] > 32  # 51 R itself is left out
    assert moved_by(2).mismatches["hidden1"] >= 64  # 51 R + 1 too
    assert moved_by(-1).mismatches["hidden1"] > 32
