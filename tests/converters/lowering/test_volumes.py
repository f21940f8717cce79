"""Networks of volumes, (channels, depth, rows, columns): videos and scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from values import Call, around, drawn, equals_float64

import lava_meta
from lava_meta.converters.recording.calling import floats_in
from lava_meta.graph.nodes import BinaryWeight, Conv
from lava_meta.nn import Sign

SHAPE = (2, 5, 7, 6)


class BinaryConv3d(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, torch.where(self.weight >= 0, 1.0, -1.0), self.bias)


class BinaryConvTranspose3d(nn.ConvTranspose3d):
    def forward(self, x: Tensor) -> Tensor:
        signs = torch.where(self.weight >= 0, 1.0, -1.0)
        others = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose3d(x, signs, self.bias, *others)


def front(*, signs: bool) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(2, 6, 2, padding=(1, 0, 1)), nn.BatchNorm3d(6), *([Sign()] if signs else []))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (1, 3, 2), "stride": (2, 1, 3)},
        {"kernel_size": (2, 3, 1), "stride": (1, 3, 1), "dilation": (2, 1, 3), "groups": 3, "padding": (1, 2, 0)},
        {"kernel_size": (2, 4, 3), "padding": "same", "bias": False},
        {"kernel_size": 1},
    ],
)
def test_convolutions(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = around(BinaryConv3d(6, 9, **options), nn.BatchNorm3d(9), Sign(), shape=SHAPE, front=front(signs=True))
    net = equals_float64(model, SHAPE)
    binary = [node for node in net.graph.nodes.values() if isinstance(node, Conv)][1]
    assert isinstance(binary.weight, BinaryWeight)
    assert binary.weight.bits.shape[0] == 9  # written once, for all frames


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": (2, 1, 2), "padding": (1, 0, 1), "output_padding": (1, 0, 1)},
        {"kernel_size": (2, 3, 2), "groups": 2, "dilation": (1, 2, 1), "padding": (0, 2, 0), "bias": False},
    ],
)
def test_transposed_convolutions(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = around(BinaryConvTranspose3d(6, 4, **options), shape=SHAPE, front=front(signs=True))
    equals_float64(model, SHAPE)


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool3d(2),
        nn.MaxPool3d((1, 3, 2), stride=(1, 2, 2), padding=(0, 1, 1), ceil_mode=True),
        nn.MaxPool3d(2, stride=1, dilation=(2, 1, 2)),
        nn.AvgPool3d((2, 1, 3), stride=2),
        nn.AvgPool3d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool3d(3, stride=2, padding=(1, 1, 0), ceil_mode=True, count_include_pad=False),
        nn.AvgPool3d(2, divisor_override=5),
        nn.AdaptiveAvgPool3d(1),
        nn.AdaptiveAvgPool3d((3, 2, 7)),
        nn.AdaptiveAvgPool3d((4, None, 3)),
        nn.AdaptiveMaxPool3d((4, 5, 6)),
        nn.LPPool3d(1, 2),
    ],
)
def test_pooling(pool: nn.Module, signs: bool) -> None:
    torch.manual_seed(0)
    model = around(pool, shape=SHAPE, front=front(signs=signs))
    equals_float64(model, SHAPE)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sequential(nn.ReplicationPad3d(1), nn.ConstantPad3d((0, 1, 2, 0, 1, 1), 0.5), nn.ReflectionPad3d(1)),
        nn.Upsample(scale_factor=2),
        nn.Upsample(size=(4, 9, 11), mode="trilinear"),
        nn.Upsample(size=(4, 9, 11), mode="trilinear", align_corners=True),
        nn.GroupNorm(3, 6),
        nn.InstanceNorm3d(6, affine=True, track_running_stats=True),
        Call(lambda x: x.mean((3, 4)) + x.amax((3, 4))),
        Call(lambda x: x.permute(0, 2, 1, 3, 4).flatten(0, 1).sum(1).unflatten(0, (len(x), -1))),  # frame by frame
    ],
)
def test_what_else_is_done_to_volumes(layer: nn.Module) -> None:
    torch.manual_seed(0)
    equals_float64(around(layer, shape=SHAPE, front=front(signs=False)), SHAPE)


def test_a_mean_for_each_channel_and_one_channel_that_goes_unsaid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 6, 3), Sign(), BinaryConv3d(6, 4, 2), nn.Flatten(), nn.Linear(96, 3)).eval()
    mean, std = (0.4, 0.5), (0.2, 0.25)
    net = lava_meta.convert(model, mean=mean, std=std, input_shape=SHAPE)
    levels = drawn(SHAPE, 40, 3)
    shift, scale = (torch.tensor(each).double().reshape(1, 2, 1, 1, 1) for each in (mean, std))
    exact = model.double()
    with torch.no_grad(), floats_in(torch.float64):
        theirs = exact((torch.from_numpy(levels).double() / 255 - shift) / scale)
    np.testing.assert_allclose(net.logits(levels), theirs.numpy(), atol=1e-6)
    one = nn.Sequential(nn.Conv3d(1, 4, 3), Sign(), nn.Flatten(), nn.Linear(4 * 27, 3)).eval()
    net = lava_meta.convert(one, mean=0.5, std=0.25, input_shape=(1, 5, 5, 5))
    images = drawn((1, 5, 5, 5), 7, 4)
    np.testing.assert_array_equal(net.graph.predict(images[:, 0]), net.graph.predict(images))


def test_real_weights_are_rounded() -> None:
    torch.manual_seed(0)
    layers = BinaryConv3d(6, 4, 3), nn.BatchNorm3d(4), Sign()
    model = around(*layers, shape=SHAPE, front=front(signs=True))
    net = lava_meta.convert(model, mean=0.5, std=0.25, input_shape=SHAPE, bits=4, images=drawn(SHAPE, 20, 3))
    first = next(node for node in net.graph.nodes.values() if isinstance(node, Conv))
    assert np.abs(first.weight.values).max() == 7  # of 4 bits


class Residual(nn.Module):
    """A block of a real stream beside binary convolutions, over space and then over time, and a gate of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Sequential(Sign(), BinaryConv3d(6, 6, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(6))
        self.time = nn.Sequential(Sign(), BinaryConv3d(6, 6, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(6))
        self.gate = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.time(self.space(x))
        return F.hardtanh(x * torch.sigmoid(self.gate(x.mean((2, 3, 4))))[:, :, None, None, None])


def test_a_network_of_videos_runs_saves_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = Residual(), nn.MaxPool3d((1, 2, 2)), Sign(), BinaryConv3d(6, 4, 3), nn.AdaptiveAvgPool3d(1)
    net = equals_float64(around(*layers, shape=SHAPE, front=front(signs=False)), SHAPE)
    levels = drawn(SHAPE, 9, 3)
    with net:
        np.testing.assert_array_equal(net.predict(levels, lanes=4), net.graph.predict(levels))
    net.save(tmp_path / "net.safetensors")
    loaded = lava_meta.load(tmp_path / "net.safetensors")
    assert isinstance(loaded, lava_meta.LavaNetwork)
    np.testing.assert_array_equal(loaded.graph.sums(levels), net.graph.sums(levels))
