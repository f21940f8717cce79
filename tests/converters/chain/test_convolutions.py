"""Conversion of convolutional networks is exact to the model in float64, at borders, ties and inverted gains too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edges import assert_two_signs_a_unit
from given_models import to_graph
from torch import nn

from lava_meta import convert
from lava_meta.converters.chain.folding import fold, prepare
from lava_meta.converters.parity.chain import check, domain_images, model_activations
from lava_meta.errors import ConversionError
from lava_meta.graph import AcyclicGraph, BinaryGraph
from lava_meta.graph.conv import ConvLayer
from lava_meta.nn import (
    AbsStep,
    BinaryConv2d,
    BinaryConvNet,
    BinaryLinear,
    FixedNorm,
    Pixels,
    SampleNorm,
    Sign,
    TaskBatchNorm,
    recalibrate,
)
from lava_meta.nn.networks import Norm


def _pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    first, second = rng.integers(low, high, 2)
    return int(first), int(second)


def _norm(rng: np.random.Generator, channels: int) -> nn.Module:
    choice = rng.integers(4)
    if choice == 0:
        return FixedNorm(float(rng.random()) + 0.01)
    if choice == 1:
        return TaskBatchNorm(channels, tasks=2)
    return nn.BatchNorm2d(channels) if choice == 2 else nn.Identity()


def _block(rng: np.random.Generator, channels: int) -> tuple[list[nn.Module], int]:
    """A convolution with any options, norms and pooling before its sign, perhaps pooling behind it."""
    groups = 2 if channels % 2 == 0 and rng.random() < 0.5 else 1
    units = groups * int(rng.integers(1, 4))
    conv = BinaryConv2d(
        channels,
        units,
        _pair(rng, 1, 4),
        stride=_pair(rng, 1, 3),
        padding=_pair(rng, 0, 3),
        dilation=_pair(rng, 1, 3),
        groups=groups,
    )
    block: list[nn.Module] = [conv]
    if rng.random() < 0.3:
        block.append(nn.AvgPool2d(_pair(rng, 1, 3), stride=1, divisor_override=1 if rng.random() < 0.5 else None))
    block.append(_norm(rng, units))
    if rng.random() < 0.6:
        block += [nn.MaxPool2d(2, stride=_pair(rng, 1, 3), padding=int(rng.integers(2))), _norm(rng, units)]
    block += [nn.Hardtanh(), nn.Dropout2d(0.5), Sign()] if rng.random() < 0.5 else [Sign()]
    if rng.random() < 0.3:
        block.append(nn.MaxPool2d((1, 2), stride=1))
    return block, units


def random_net(seed: int) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """One or two convolutions and one or two dense layers on small images; norms amid the sums, of both signs and 0."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    while True:
        shape = (int(rng.integers(1, 5)), *_pair(rng, 8, 14))
        modules: list[nn.Module] = [Pixels(offset=int(rng.integers(0, 200)))]
        channels = shape[0]
        for _ in range(int(rng.integers(1, 3))):
            block, channels = _block(rng, channels)
            modules.append(nn.Sequential(*block))
        modules.append(nn.Flatten())
        model = nn.Sequential(*modules)
        images = torch.from_numpy(rng.integers(0, 256, (16, *shape)))
        try:
            width = model(images).shape[1]
        except RuntimeError:  # a window outgrew its image: draw again
            continue
        if rng.random() < 0.5:
            model.extend([BinaryLinear(width, 5), nn.BatchNorm1d(5), Sign()])
            width = 5
        model.append(BinaryLinear(width, 3))
        for _ in range(2):
            model.train()(images)
        recalibrate(model, images)
        for norm in model.modules():
            if isinstance(norm, (TaskBatchNorm, nn.BatchNorm2d, nn.BatchNorm1d)):
                gain, offset = (norm.gain, norm.offset) if isinstance(norm, TaskBatchNorm) else (norm.weight, norm.bias)
                with torch.no_grad():
                    gain.copy_(torch.randn(gain.shape))
                    gain[torch.rand(gain.shape) < 0.15] = 0.0
                    offset.copy_(torch.randint(-1, 2, offset.shape).float() / 2)
        return model.eval(), shape


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_convert_exactly(seed: int) -> None:
    model, shape = random_net(seed)
    folded = fold(model, input_shape=shape)
    parity = check(model, folded, count=48, seed=seed)
    assert parity.exact, parity.mismatches


def test_the_random_networks_have_what_they_are_meant_to_have() -> None:
    layers, varied = [], 0
    for seed in range(60):
        model, shape = random_net(seed)
        graph = to_graph(model, input_shape=shape)
        layers += [layer for layer in graph.layers if isinstance(layer, ConvLayer)]
        signs = graph.activations(domain_images(graph, 16, seed))["hidden1"]
        varied += int((signs.min(axis=0) != signs.max(axis=0)).mean() > 0.3)
    assert varied > 30
    for what in (
        [layer.per_position for layer in layers],
        [(layer.polarity == -1).any() for layer in layers],
        [layer.groups > 1 for layer in layers],
        [layer.sum_window is not None for layer in layers],
        [any(pool.every for pool in layer.pools) for layer in layers],
        [len(layer.pools) == 2 for layer in layers],
        [layer.window.kernel[0] != layer.window.kernel[1] for layer in layers],
        [layer.window.dilation != (1, 1) and layer.window.stride != (1, 1) for layer in layers],
    ):
        assert sum(what) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_a_binary_conv_net_converts_without_a_word_about_its_images(seed: int) -> None:
    model = BinaryConvNet((2, 12, 11), (5, 6), 4, pixel_mean=33.3, seed=seed).eval()
    folded = fold(model)
    graph = folded.graph
    assert graph.input_shape == (2, 12, 11)
    assert [layer.output_shape for _, layer in graph.named_layers()] == [(5, 6, 5), (6, 3, 2), (4,)]
    parity = check(model, folded, count=128, seed=seed)
    assert parity.exact
    assert parity.own == {"hidden1": 0, "hidden2": 0, "readout": 0}


def of_steps(rng: np.random.Generator, shape: tuple[int, ...], norm: str) -> nn.Sequential:
    """Two convolutions and a dense layer of units of 0 and 1, at padded borders, some behind means."""
    modules: list[nn.Module] = [Pixels(offset=int(rng.integers(0, 200)))]
    channels = shape[0]
    for _ in range(2):
        units = int(rng.integers(1, 6))
        modules.append(BinaryConv2d(channels, units, _pair(rng, 1, 4), stride=_pair(rng, 1, 3), padding=1))
        if rng.random() < 0.3:
            modules.append(nn.AvgPool2d(2, stride=1))
        channels = units
        kinds = {
            "fixed": [FixedNorm(float(rng.random()) * (0.02 if len(modules) < 4 else 1.0) + 0.01)],
            "whole": [nn.GroupNorm(1, units, affine=False)],
            "batch": [nn.BatchNorm2d(units)],
            "gains": [FixedNorm(0.3), nn.GroupNorm(1, units)],
        }
        around = [[nn.MaxPool2d(2, stride=1, padding=1)], []] if rng.random() < 0.7 else [[], []]
        before, behind = around if norm in ("fixed", "batch") and rng.random() < 0.5 else around[::-1]
        modules += [*before, *kinds[norm], *behind, AbsStep(0.7)]
    width = nn.Sequential(*modules, nn.Flatten()).eval()(torch.zeros(1, *shape)).shape[1]
    readout = [BinaryLinear(width, 7), SampleNorm(), AbsStep(), BinaryLinear(7, 3)]
    model = nn.Sequential(*modules, nn.Flatten(), *readout)
    model.train()(torch.from_numpy(rng.integers(0, 256, (32, *shape))).float())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.weight is not None:
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(rng.choice([-1.5, 0.0, 0.8, 1.2], module.weight.shape)))
    return model.eval()


@pytest.mark.parametrize("norm", ["fixed", "whole", "batch", "gains"])
@pytest.mark.parametrize("seed", range(6))
def test_convolutions_of_units_of_0_and_1_become_channels_of_signs(norm: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = (int(rng.integers(1, 3)), *_pair(rng, 9, 13))
    model = of_steps(rng, shape, norm).double().requires_grad_(False)
    folded = fold(model, input_shape=shape)
    parity = check(model, folded, count=64, seed=seed)
    assert parity.exact, parity
    assert_two_signs_a_unit(model, folded.graph, rng.integers(0, 256, (100, *shape)), layers=3)


def test_units_of_0_and_1_with_groups_or_pooling_behind_are_no_channels_of_signs() -> None:
    """Maxima of their two signs would be two where they are one; these go as any function of the sums."""
    shape = (2, 8, 8)

    def model(*between: nn.Module, groups: int = 1) -> nn.Module:
        torch.manual_seed(0)
        first = [Pixels(90), BinaryConv2d(2, 4, 3, padding=1), FixedNorm(0.004), *between]
        rest = [BinaryConv2d(4, 4, 3, padding=1, groups=groups), FixedNorm(0.2), Sign(), nn.Flatten()]
        width = nn.Sequential(*first, *rest)(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(*first, *rest, BinaryLinear(width, 3)).eval()

    for made in (
        model(AbsStep(), nn.MaxPool2d(2)),
        model(AbsStep(), nn.AvgPool2d(2)),
        model(AbsStep(), groups=2),
    ):
        net = convert(made, input_shape=shape)
        assert isinstance(net.graph, AcyclicGraph)
        assert net.parity is not None
        assert net.parity.exact


@pytest.mark.parametrize("norm", ["fixed", "layer"])
def test_a_binary_conv_net_of_units_of_0_and_1_is_a_chain(norm: Norm) -> None:
    model = BinaryConvNet((2, 12, 11), (5, 6), 4, norm, activation="abs_step", hidden=(9,), pixel_mean=33.3, seed=0)
    net = convert(model.eval())
    assert isinstance(net.graph, BinaryGraph)
    assert net.parity is not None
    assert net.parity.exact
    assert [layer.output_shape for _, layer in net.graph.named_layers()] == [(10, 6, 5), (12, 3, 2), (18,), (4,)]
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 12, 11))
    assert np.array_equal(net.graph.predict(images), model.double()(torch.from_numpy(images)).argmax(dim=1).numpy())


def test_the_border_of_the_first_layer_has_the_thresholds_derived_by_hand() -> None:
    """A padded pixel is the level `offset`, so that position q fires from offset * (sum of its weights inside) on."""
    model = BinaryConvNet((1, 6, 6), (3,), 2, pixel_mean=40, seed=1).eval()
    layer = to_graph(model).layers[0]
    weight = np.where(model[1].weight.detach().numpy() >= 0, 1, -1)
    assert layer.threshold.shape == (3, 6, 6)
    assert (layer.threshold[:, 2, 3] == 40 * weight.sum(axis=(1, 2, 3))).all()
    assert (layer.threshold[:, 0, 0] == 40 * weight[:, 0, 1:, 1:].sum(axis=(1, 2))).all()
    assert (layer.threshold[:, 5, 2] == 40 * weight[:, 0, :2].sum(axis=(1, 2))).all()


def test_hidden_and_unpadded_layers_have_one_threshold_a_channel() -> None:
    model = nn.Sequential(
        *(Pixels(30), BinaryConv2d(1, 2, 3), Sign(), BinaryConv2d(2, 3, 3, padding=1), Sign()),
        *(nn.Flatten(), BinaryLinear(48, 2)),
    ).eval()
    folded = fold(model, input_shape=(1, 6, 6))
    graph = folded.graph
    assert [layer.threshold.shape for layer in graph.layers] == [(2, 1, 1), (3, 1, 1)]
    assert check(model, folded, count=200).exact


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("gain", [1.0, -1.0, 0.0])
def test_ties_under_pooling_fire_as_in_the_model(gain: float, behind: bool) -> None:
    """Sums of exactly 0 at a threshold of exactly 0, with a norm that rises, falls, or is flat, around the pooling."""
    torch.manual_seed(3)
    norm, pool = nn.BatchNorm2d(4), nn.MaxPool2d(2)
    middle = [pool, norm] if behind else [norm, pool]
    model = nn.Sequential(
        *(Pixels(8, max_level=16), BinaryConv2d(1, 4, 2), Sign(), BinaryConv2d(4, 4, (2, 3)), *middle, Sign()),
        *(nn.Flatten(), BinaryLinear(16, 3)),
    ).eval()
    norm.num_batches_tracked += 1
    with torch.no_grad():
        norm.weight.fill_(gain)
    folded = fold(model, input_shape=(1, 6, 7))
    graph = folded.graph
    layer = graph.layers[1]
    assert layer.pools[0].every == (tuple(range(4)) if behind and gain < 0 else ())
    images = domain_images(graph, 300, 0)
    sums = layer.sums(graph.activations(images)["hidden1"])
    assert (sums == 0).mean() > 0.05
    assert check(model, folded, images=images).exact


@pytest.mark.parametrize("seed", range(8))
def test_normalised_floats_of_several_channels(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(BinaryConv2d(3, 4, 3, padding=1, stride=2), nn.BatchNorm2d(4), nn.Hardtanh(), Sign()),
        *(BinaryConv2d(4, 5, (3, 1), padding=(1, 0)), nn.MaxPool2d(2), nn.BatchNorm2d(5), Sign()),
        *(nn.Flatten(), BinaryLinear(20, 4), nn.BatchNorm1d(4)),
    )
    for _ in range(4):
        model(torch.randn(64, 3, 8, 8))
    with torch.no_grad():
        for norm in (model[1], model[6]):
            norm.weight.copy_(torch.randn(norm.weight.shape))
            norm.bias.copy_(torch.randn(norm.bias.shape) / 3)
    model.eval()
    folded = fold(model, mean=0.4734, std=0.2516, input_shape=(3, 8, 8))
    graph = folded.graph
    assert graph.layers[0].per_position
    parity = check(model, folded, count=200, seed=seed)
    assert parity.exact, parity.mismatches


def test_a_module_that_stands_twice_is_read_twice() -> None:
    sign, pool = Sign(), nn.MaxPool2d(2)
    model = nn.Sequential(
        *(Pixels(9), BinaryConv2d(1, 3, 3, padding=1), pool, sign, BinaryConv2d(3, 3, 3, padding=1), pool, sign),
        *(nn.Flatten(), BinaryLinear(12, 2)),
    ).eval()
    folded = fold(model, input_shape=(1, 8, 8))
    graph = folded.graph
    assert [len(layer.pools) for layer in graph.layers] == [1, 1]
    assert check(model, folded, count=100).exact


@pytest.mark.parametrize("behind", [[], [nn.Hardtanh()], [FixedNorm(0.3), nn.Dropout()]], ids=len)
def test_flatten_may_stand_before_the_sign(behind: list[nn.Module]) -> None:
    torch.manual_seed(0)
    conv, norm, last = BinaryConv2d(1, 4, 3), nn.BatchNorm2d(4), BinaryLinear(36, 5)
    usual = nn.Sequential(Pixels(90), conv, norm, nn.MaxPool2d(2), Sign(), nn.Flatten(), last)
    usual(torch.randint(0, 256, (50, 1, 8, 8)))
    early = nn.Sequential(Pixels(90), conv, norm, nn.MaxPool2d(2), nn.Flatten(), *behind, Sign(), last).eval()
    folded, expected = fold(early, input_shape=(1, 8, 8)), to_graph(usual.eval(), input_shape=(1, 8, 8))
    assert (folded.graph.layers[0].threshold == expected.layers[0].threshold).all()
    assert check(early, folded, count=100).exact


def test_the_activations_compared_are_the_models_own() -> None:
    """The walk over the modules gives what hooks on the model's own forward see."""
    model, shape = random_net(5)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, *shape)))
    clone = prepare(model)
    seen: list[torch.Tensor] = []
    for module in clone.modules():
        if isinstance(module, Sign):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    logits = clone(images.double())
    found = model_activations(prepare(model), images.double())
    assert np.array_equal(found["readout"], logits.detach().numpy())
    assert len(found) == len(seen) + 1


def _seq(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(Pixels(), *modules).eval()


def _conv(padding: int | str = 0) -> BinaryConv2d:
    return BinaryConv2d(1, 2, 3, padding=padding)  # type: ignore[arg-type]


TAIL = (Sign(), nn.Flatten(), BinaryLinear(72, 2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_seq(_conv(), Sign(), BinaryLinear(6, 2)), r"3 \(BinaryLinear\) follows 1 \(BinaryConv2d\) without a Flatten"),
        (_seq(_conv(), nn.Flatten(), nn.BatchNorm1d(72), *TAIL), "norms every position behind Flatten"),
        (_seq(_conv(), Sign(), nn.Flatten(2), BinaryLinear(36, 2)), "start_dim=2"),
        (_seq(nn.Flatten(), _conv(), *TAIL), r"2 \(BinaryConv2d\) takes images, but what comes before it is flat"),
        (_seq(BinaryLinear(8, 8), Sign(), _conv(), *TAIL), "but what comes before it is flat"),
        (_seq(_conv()), "a network ends with BinaryLinear"),
        (_seq(_conv(), Sign(), nn.AvgPool2d(2), nn.Flatten(), BinaryLinear(18, 2)), "its means are no signs"),
        (_seq(_conv(), FixedNorm(0.1), nn.AvgPool2d(2), *TAIL), r"behind 2 \(FixedNorm\).*directly behind"),
        (_seq(_conv(), nn.MaxPool2d(2, return_indices=True), *TAIL), "return_indices"),
        (_seq(_conv(), SampleNorm(), *TAIL), r"2 \(SampleNorm\) norms rows of an image"),
        (_seq(_conv(), Sign(), nn.Conv2d(2, 2, 3), *TAIL), "has weights other than .*; train with .*BinaryConv2d"),
        (_seq(_conv(), nn.ReLU(), *TAIL), r"2 \(ReLU\) is not supported"),
        (_seq(BinaryLinear(64, 8), nn.MaxPool2d(2), Sign(), BinaryLinear(8, 2)), "pooling goes before Flatten"),
        (_seq(_conv(), nn.BatchNorm2d(2), *TAIL), r"2 \(BatchNorm2d\) has no running statistics"),
        (_seq(_conv(), TaskBatchNorm(3, affine="none", statistics="stored"), *TAIL), "no statistics for task index 0"),
        (_seq(_conv(), nn.MaxPool2d(7), *TAIL), r"does not fit its input \(1, 8, 8\): a window of \(7, 7\)"),
        (_seq(_conv(), Sign(), nn.Flatten(), BinaryLinear(70, 2)), r"takes 70 inputs, but gets \(2, 6, 6\)"),
        (_seq(BinaryConv2d(3, 2, 3), *TAIL), r"takes 3 channels, but gets \(1, 8, 8\); images are \(channels"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        to_graph(model, input_shape=(1, 8, 8))


def test_a_norm_of_other_channels_is_refused_by_name() -> None:
    model = _seq(_conv(), nn.BatchNorm2d(5), *TAIL)
    model[2].num_batches_tracked += 1
    with pytest.raises(ConversionError, match=r"2 \(BatchNorm2d\) does not take what 1 \(BinaryConv2d\) gives"):
        to_graph(model, input_shape=(1, 8, 8))


def test_a_scale_for_each_channel_is_refused() -> None:
    model = nn.Sequential(BinaryConv2d(3, 2, 3), *TAIL).eval()
    with pytest.raises(ConversionError, match="std scales each channel by a number of its own"):
        to_graph(model, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), input_shape=(3, 8, 8))


def test_the_extent_of_images_must_be_known_and_in_order() -> None:
    model = _seq(BinaryConv2d(3, 2, 3), *TAIL)
    with pytest.raises(ConversionError, match=r"pass input_shape=\(channels, rows, columns\)"):
        to_graph(model)
    with pytest.raises(ConversionError, match=r"takes 3 channels, but gets \(8, 8, 3\)"):
        to_graph(model, input_shape=(8, 8, 3))
    with pytest.raises(ConversionError, match=r"gets \(192,\)"):
        to_graph(model, input_shape=(192,))
    graph = to_graph(model, input_shape=(3, 8, 8))
    with pytest.raises(ValueError, match=r"expected \(n, 3, 8, 8\)"):
        graph.predict(np.zeros((2, 8, 8, 3), np.uint8))
