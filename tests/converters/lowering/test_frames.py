"""Frames of a series beside the images, on their axis: what is done to each frame is done to each alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from values import Call, equals_float64

from lava_meta.nn import BinaryConv2d

FRAMES, SHAPE = 3, (3, 2, 6, 6)


class EachFrame(nn.Module):
    """Maps of each frame between two layers, and the mean over time of what a readout makes of them."""

    def __init__(self, inner: nn.Module, *, time_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.time_first = inner, time_first
        self.front, self.norm = BinaryConv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.readout = nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.time_first else x
        maps = self.inner(torch.tanh(self.norm(self.front(x.flatten(0, 1)))))
        each = self.readout(maps.flatten(1)).unflatten(0, x.shape[:2])
        return each.mean(0 if self.time_first else 1)


def unlike(norm: nn.GroupNorm) -> nn.GroupNorm:
    """With a gain and a shift for each channel, and signs behind it."""
    nn.init.normal_(norm.weight, 1.0, 0.5)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize(
    "inner",
    [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        Call(lambda x: F.interpolate(x, size=(5, 9), mode="bicubic", align_corners=True)),
        nn.AdaptiveAvgPool2d(4),
        Call(lambda x: x.cumsum(2)),
        unlike(nn.GroupNorm(2, 4)),
        nn.GroupNorm(2, 4, affine=False),
    ],
    ids=["bilinear", "bicubic", "uneven means", "sums so far", "groups", "groups without gains"],
)
def test_what_is_done_to_each_frame(inner: nn.Module, time_first: bool) -> None:
    model = EachFrame(inner, time_first=time_first)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(20, *SHAPE))
    equals_float64(model.eval(), SHAPE, count=32)
