"""Pooling as PyTorch does it: windows that reach outside, padded means and their divisors, adaptive extents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from given_models import to_graph
from torch import nn

from lava_meta.converters.chain.folding import fold
from lava_meta.converters.nir import to_nir
from lava_meta.converters.parity.chain import check
from lava_meta.errors import ConversionError
from lava_meta.graph.packed.network import PackedNetwork
from lava_meta.loihi.stock.network import plan
from lava_meta.nn import BinaryConv2d, BinaryLinear, Pixels, Sign


def net(conv: nn.Module, *modules: nn.Module, offset: float = 60, shape: tuple[int, int, int]) -> nn.Sequential:
    """One convolution and what stands behind it, norms of both signs, a readout that fits."""
    front = nn.Sequential(Pixels(offset), conv, *modules)
    images = torch.randint(0, 256, (40, *shape))
    for _ in range(3):
        width = front(images).flatten(1).shape[1]
    with torch.no_grad():
        for norm in front:
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.copy_(torch.randn(norm.weight.shape))
                norm.bias.copy_(torch.randn(norm.bias.shape) / 3)
    return nn.Sequential(*front, nn.Flatten(), BinaryLinear(width, 3)).eval()


def drawn(seed: int) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """A mean or a maximum with any options, in a first layer, padded or not."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = (int(rng.integers(1, 3)), int(rng.integers(6, 10)), int(rng.integers(6, 10)))
    conv = BinaryConv2d(shape[0], 4, 3 if seed % 3 else (2, 4), padding=(1, 1) if seed % 3 else "same")  # type: ignore[arg-type]
    kernel, stride = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    options = {"padding": int(rng.integers(0, kernel // 2 + 1)), "ceil_mode": bool(rng.random() < 0.7)}
    if seed % 2:
        pool: nn.Module = nn.MaxPool2d(kernel, stride, dilation=int(rng.integers(1, 3)), **options)
    else:
        override = int(rng.choice([-3, -1, 1, 2, 4, 8])) if rng.random() < 0.4 else None
        included = bool(rng.random() < 0.5)
        pool = nn.AvgPool2d(kernel, stride, count_include_pad=included, divisor_override=override, **options)
    offset = float(rng.choice([0, 60]))
    return net(
        conv, pool, nn.BatchNorm2d(4), Sign(), nn.MaxPool2d(2, ceil_mode=True), offset=offset, shape=shape
    ), shape


@pytest.mark.parametrize("seed", range(36))
def test_pooling_of_any_options_converts_exactly(seed: int) -> None:
    try:
        model, shape = drawn(seed)
    except RuntimeError:  # a window outgrew its image
        pytest.skip("PyTorch does not take this one either")
    folded = fold(model, input_shape=shape)
    graph = folded.graph
    parity = check(model, folded, count=64, seed=seed)
    assert parity.exact, parity.mismatches
    images = np.random.default_rng(seed).integers(0, 256, (20, graph.n_in)).astype(np.uint8)
    found = PackedNetwork(graph).activations(images)
    for name, values in graph.activations(images).items():
        assert np.array_equal(found[name], values), name


def test_the_drawn_nets_have_what_they_are_meant_to_have() -> None:
    layers = []
    for seed in range(36):
        try:
            model, shape = drawn(seed)
        except RuntimeError:
            continue
        layers.append(to_graph(model, input_shape=shape).layers[0])
    assert len(layers) > 27
    assert sum(any(layer.window.after) for layer in layers) > 3
    assert sum(bool(layer.sum_window and any(layer.sum_window.after)) for layer in layers) > 3
    assert sum(bool(layer.sum_window and any(layer.sum_window.padding)) for layer in layers) > 3
    assert sum(any(layer.pools[0].after) for layer in layers if len(layer.pools) > 1) > 3
    assert sum(layer.per_position for layer in layers) > 5


@pytest.mark.parametrize("kind", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
@pytest.mark.parametrize("extent", [1, (2, 3), (None, 1)])
def test_adaptive_pooling_whose_extents_divide(kind: type[nn.Module], extent: object) -> None:
    torch.manual_seed(0)
    model = net(BinaryConv2d(1, 4, 3, padding=1), kind(extent), nn.BatchNorm2d(4), Sign(), shape=(1, 8, 9))
    folded = fold(model, input_shape=(1, 8, 9))
    assert check(model, folded, count=200).exact


def test_adaptive_pooling_of_uneven_windows_is_refused() -> None:
    model = net(BinaryConv2d(1, 4, 3), nn.AdaptiveMaxPool2d(4), Sign(), shape=(1, 8, 8))
    with pytest.raises(ConversionError, match=r"2 \(AdaptiveMaxPool2d\) makes \(4, 4\) of \(6, 6\)"):
        to_graph(model, input_shape=(1, 8, 8))


@pytest.mark.parametrize("divisor", [-3, -1])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("behind", ["max", "batch norm", "group norm", "instance norm", "sign"])
def test_means_with_a_divisor_below_0(behind: str, padding: int, divisor: int) -> None:
    torch.manual_seed(1)
    modules = {
        "max": [nn.MaxPool2d(2), nn.BatchNorm2d(4)],
        "batch norm": [nn.BatchNorm2d(4), nn.MaxPool2d(2)],
        "group norm": [nn.GroupNorm(2, 4)],
        "instance norm": [nn.InstanceNorm2d(4, affine=True)],
        "sign": [],
    }[behind]
    for norm in modules:
        if isinstance(norm, (nn.GroupNorm, nn.InstanceNorm2d)):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    pool = nn.AvgPool2d(2, padding=padding, divisor_override=divisor)
    model = net(BinaryConv2d(1, 4, 3, padding=1), pool, *modules, Sign(), shape=(1, 8, 8))
    assert check(model, fold(model, input_shape=(1, 8, 8)), count=200).exact


def test_pooling_without_a_value_is_refused_by_name() -> None:
    """Windows of padding only, whose maximum is -inf, and a divisor of 0."""
    for extent, pool in ((1, nn.MaxPool2d(2, 1, 1, dilation=2)), (2, nn.MaxPool2d(2, 1, 1, dilation=3))):
        for modules in ((pool, nn.BatchNorm2d(4), Sign()), (nn.BatchNorm2d(4), Sign(), pool)):
            model = net(BinaryConv2d(1, 4, 9 - extent), *modules, shape=(1, 8, 8))
            with pytest.raises(ConversionError, match=r"\(MaxPool2d\) has windows that see nothing but padding"):
                to_graph(model, input_shape=(1, 8, 8))
    model = net(BinaryConv2d(1, 4, 3), pool := nn.AvgPool2d(2), Sign(), shape=(1, 8, 8))
    pool.divisor_override = 0
    with pytest.raises(ConversionError, match=r"2 \(AvgPool2d\) has divisor_override=0"):
        to_graph(model, input_shape=(1, 8, 8))


def test_a_norm_of_the_images_own_behind_uneven_means_is_refused() -> None:
    pool = nn.AvgPool2d(2, padding=1, count_include_pad=False)
    model = net(BinaryConv2d(1, 4, 3), pool, nn.InstanceNorm2d(4), Sign(), shape=(1, 8, 8))
    with pytest.raises(ConversionError, match=r"3 \(InstanceNorm2d\) stands behind means whose windows"):
        to_graph(model, input_shape=(1, 8, 8))


def test_forms_without_such_windows_refuse_them_by_the_layers_name() -> None:
    model = net(BinaryConv2d(1, 4, 3), nn.MaxPool2d(4, ceil_mode=True), Sign(), shape=(1, 8, 8))
    graph = to_graph(model, input_shape=(1, 8, 8))
    with pytest.raises(ConversionError, match="hidden1_pool1 has windows that reach outside"):
        to_nir(graph)
    plan(graph)  # its stock form has them
    model = net(BinaryConv2d(1, 4, 3), nn.AvgPool2d(2, padding=1), Sign(), shape=(1, 8, 8))
    with pytest.raises(ConversionError, match="hidden1 sums over windows that reach outside"):
        plan(to_graph(model, input_shape=(1, 8, 8)))
