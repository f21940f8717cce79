"""Random small networks of every kind: PyTorch in float64, oracle, kernels and Lava's forms give equal integers.

Sizes around multiples of 64 and of one unit, gains of both signs and zero, biases on which sums tie exactly, inputs all
equal and extreme. A few run here; thousands are marked slow.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.lava import LavaNetwork
from lava_meta.converters.parity.chain import check, domain_images
from lava_meta.graph import BinaryGraph
from lava_meta.graph.packed.network import PackedNetwork
from lava_meta.nn import BinaryConv2d, BinaryLinear, FixedNorm, Pixels, SampleNorm, Sign, TaskBatchNorm

SIZES = (1, 1, 2, 3, 17, 63, 64, 65, 70, 127, 129)
INPUTS = ("8 bits", "4 bits", "16 bits", "scaled", "int8", "int16", "signs", "binarized", "binarized by a norm")
NORMS = ("none", "fixed", "task", "batch", "sample", "layer", "group")
FORMS = ("packed", "floating_pt", "fixed_pt")


def draw(seed: int) -> tuple[nn.Sequential, dict[str, Any], tuple[str, ...]]:
    """A model in eval mode, what its conversion needs to be told, and the kinds that it is made of."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    dense = seed % 3 != 0
    shape = (int(rng.choice(SIZES)),) if dense else (int(rng.integers(1, 4)), *map(int, rng.integers(5, 9, 2)))
    taken = str(rng.choice(INPUTS))
    front = _front(rng, taken, shape)
    used = [taken]
    modules: list[nn.Module] = []
    for _ in range(int(rng.integers(0 if dense else 1, 3))):
        modules += _dense(rng, modules, shape, used) if dense else _conv(rng, modules, shape, used)
    if not dense:
        modules.append(nn.Flatten())
    model = nn.Sequential(*front, *modules)
    images = _inputs(rng, model, shape, taken, 24)
    model.append(BinaryLinear(model(images).shape[1], int(rng.integers(1, 5))))
    _settle(rng, model, images)
    return model.eval(), {"input_shape": shape} | ({"signs": True} if taken == "signs" else {}), tuple(used)


def _front(rng: np.random.Generator, taken: str, shape: tuple[int, ...]) -> list[nn.Module]:
    offset = float(rng.choice([0, 1, 5, 9]))
    return {
        "8 bits": [Pixels(float(rng.integers(0, 256)))],
        "4 bits": [Pixels(offset, max_level=15)],
        "16 bits": [Pixels(offset, max_level=65535)],
        "scaled": [Pixels.standardize(float(rng.choice([0.25, 0.5])), 0.5)],
        "int8": [Pixels(-offset, max_level=127, min_level=-128)],
        "int16": [Pixels(offset, 0.5, 32767, -32768)],
        "signs": [],
        "binarized": [Pixels(float(rng.integers(0, 256))), Sign()],
        "binarized by a norm": [
            Pixels(100),
            nn.BatchNorm1d(shape[0]) if len(shape) == 1 else nn.BatchNorm2d(shape[0]),
            Sign(),
        ],
    }[taken]


def _norm(rng: np.random.Generator, shape: tuple[int, ...], used: list[str]) -> list[nn.Module]:
    units = shape[0]
    kind = str(rng.choice([norm for norm in NORMS if norm != "sample" or len(shape) == 1]))
    used.append(kind)
    groups = [g for g in range(1, units + 1) if units % g == 0]
    return {
        "none": [],
        "fixed": [FixedNorm(float(rng.choice([0.01, 1.0, 3.0])))],
        "task": [TaskBatchNorm(units, statistics="stored")],
        "batch": [nn.BatchNorm1d(units) if len(shape) == 1 else nn.BatchNorm2d(units)],
        "sample": [SampleNorm()],
        "layer": [nn.LayerNorm(shape)],
        "group": [nn.GroupNorm(int(rng.choice(groups)), units)],
    }[kind]


def _dense(rng: np.random.Generator, before: list, shape: tuple[int, ...], used: list[str]) -> list[nn.Module]:
    layers = [module for module in before if isinstance(module, BinaryLinear)]
    units = int(rng.choice(SIZES))
    layer = BinaryLinear(layers[-1].out_features if layers else shape[0], units)
    clip = [nn.Hardtanh()] if rng.random() < 0.3 else []
    return [layer, *_norm(rng, (units,), used), *clip, Sign()]


def _conv(rng: np.random.Generator, before: list, shape: tuple[int, ...], used: list[str]) -> list[nn.Module]:
    inputs = next((m.out_channels for m in reversed(before) if isinstance(m, BinaryConv2d)), shape[0])
    groups = inputs if rng.random() < 0.3 else 1
    units = groups * int(rng.integers(1, 4))
    rows, columns = nn.Sequential(*before)(torch.zeros(2, *shape)).shape[2:]
    kernel, padding = (
        (min(rows, int(rng.integers(1, 4))), min(columns, int(rng.integers(1, 4)))),
        int(rng.integers(0, 2)),
    )
    part: list[nn.Module] = [BinaryConv2d(inputs, units, kernel, int(rng.integers(1, 3)), padding, groups=groups)]
    size = nn.Sequential(*before, part[0])(torch.zeros(2, *shape)).shape[1:]
    if min(size[1:]) > 2 and rng.random() < 0.3:
        part.append(nn.AvgPool2d(2, 1, ceil_mode=bool(rng.random() < 0.5)))
        size = nn.Sequential(*before, *part)(torch.zeros(2, *shape)).shape[1:]
        used.append("means")
    part += _norm(rng, tuple(size), used)
    if min(size[1:]) > 1 and rng.random() < 0.4:
        part.append(nn.MaxPool2d(2, ceil_mode=bool(rng.random() < 0.5)))
        used.append("maxima")
        if rng.random() < 0.3 and not {used[-2]} & {"layer", "group"}:
            part += [nn.BatchNorm2d(units)]
    return [*part, Sign()]


def _inputs(
    rng: np.random.Generator, model: nn.Sequential, shape: tuple[int, ...], taken: str, count: int
) -> torch.Tensor:
    pixels = model[0] if taken != "signs" else None
    low, high = (0, 1) if pixels is None else (pixels.min_level, pixels.max_level)
    drawn = rng.integers(low, high + 1, (count, *shape))
    return torch.from_numpy(drawn if pixels is not None else 2.0 * drawn - 1).float()


def _settle(rng: np.random.Generator, model: nn.Sequential, images: torch.Tensor) -> None:
    """Statistics of `images`; affines on which sums tie often: gains of 0 and both signs, biases of halves."""
    for _ in range(2):
        model.train()(images)
    with torch.no_grad():
        for norm in model:
            pair = (norm.gain, norm.offset) if isinstance(norm, TaskBatchNorm) else None
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
                pair = norm.weight, norm.bias
            if isinstance(norm, (TaskBatchNorm, nn.BatchNorm1d, nn.BatchNorm2d)) and rng.random() < 0.4:
                norm.running_mean.copy_(norm.running_mean.round())
                norm.running_var.fill_(1.0)
            if pair is not None:
                pair[0].copy_(torch.from_numpy(rng.choice([-2.0, -0.7, 0.0, 0.3, 1.0, 1.0], pair[0].shape)))
                pair[1].copy_(torch.from_numpy(rng.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 0.37], pair[1].shape)))


def hard_inputs(graph: BinaryGraph, seed: int, count: int = 24) -> np.ndarray:
    """Random, sparse and two-valued inputs, and some that are all equal: extremes, the middle, any level."""
    images = domain_images(graph, count, seed)
    levels = np.random.default_rng(seed).integers(graph.min_level, graph.max_level + 1, count // 4)
    if not graph.signs:
        images[2 : 2 + len(levels)] = levels[:, None]
    return images


def agree(seed: int, forms: tuple[str, ...], seen: Counter) -> None:
    """One network through PyTorch, oracle, kernels, and `forms` in Lava."""
    model, options, used = draw(seed)
    folded = fold(model, **options)
    graph = folded.graph
    images = hard_inputs(graph, seed)
    parity = check(model, folded, images=images, seed=seed)
    assert parity.exact, (seed, used, parity.mismatches)
    expected = graph.activations(images)
    for lanes in (1, len(images)):
        found = PackedNetwork(graph).activations(graph.check_images(images), lanes=lanes)
        for name, values in expected.items():
            assert np.array_equal(found[name], values), (seed, used, name, lanes)
    for form in forms:
        found = LavaNetwork(graph, form=form).activations(images, lanes=10)
        for name, values in expected.items():
            assert np.array_equal(found[name], values), (seed, used, name, form)
        seen[form] += 1
    seen.update({"networks": 1, "values": sum(map(np.size, expected.values())), "ties": sum(parity.ties.values())})
    seen.update(set(used))
    for value in expected.values():
        seen["signs that vary"] += int((value.min(axis=0) != value.max(axis=0)).sum())


def test_forty_networks_agree() -> None:
    seen: Counter = Counter()
    for seed in range(40):
        agree(seed, (), seen)
    assert {*INPUTS} | {*NORMS} | {"means", "maxima"} <= {*seen}, seen
    assert seen["signs that vary"] > 200


@pytest.mark.lava
@pytest.mark.parametrize("form", FORMS)
def test_two_networks_agree_in_lava(form: str) -> None:
    for seed in range(100, 102):
        agree(seed, (form,), Counter())


PARTS, EACH = 10, 400


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_networks_agree(part: int) -> None:
    seen: Counter = Counter()
    for seed in range(1000 + part * EACH, 1000 + (part + 1) * EACH):
        agree(seed, (), seen)
    print(dict(seen))
    assert seen["networks"] == EACH


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(40))
def test_a_thousand_networks_agree_in_every_form_of_lava(part: int) -> None:
    seen: Counter = Counter()
    for seed in range(10_000 + part * 25, 10_000 + (part + 1) * 25):
        agree(seed, FORMS, seen)
    print(dict(seen))
    assert all(seen[form] == 25 for form in FORMS)


def test_sizes_are_not_only_whole_words() -> None:
    layers = [module for seed in range(1, 90, 3) for module in draw(seed)[0]]
    widths = [layer.out_features for layer in layers if isinstance(layer, BinaryLinear)]
    assert {1, 63, 64, 65} <= {*widths}
    assert math.gcd(*widths) == 1
