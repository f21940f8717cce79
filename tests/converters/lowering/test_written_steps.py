"""Operations that are several simpler ones, and functions of values that PyTorch computes in one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from values import FED, MAP, VECTOR, Call, around, converts, equals_float64

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.nn import BinaryLinear, Sign

SIGNS = torch.where(torch.arange(180) % 7 < 3, 1.0, -1.0).reshape(3, 12, 5)  # a matrix for each of three groups


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, :5].cumprod(1),
        lambda x: x.view(-1, 4, 3).prod(2),
        lambda x: torch.sign(x + 0.01).view(-1, 3, 4).prod(1, keepdim=True),
        lambda x: x[:, :5].logcumsumexp(1),
        lambda x: x / x.norm(p=float("inf"), dim=1, keepdim=True),
        lambda x: x / x.norm(p=1, dim=1, keepdim=True),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x.view(-1, 3, 4).norm(p=3, dim=2),
        lambda x: x.view(-1, 3, 4).norm(p=-float("inf"), dim=2),
        lambda x: (x > 0.1).to(x.dtype).view(-1, 3, 4).norm(p=0, dim=2),
        lambda x: F.pairwise_distance(x.view(-1, 3, 4), torch.linspace(-1, 1, 4, dtype=x.dtype)),
        lambda x: torch.baddbmm(x[:, :9].reshape(-1, 3, 3), x.view(-1, 3, 4), x.view(-1, 4, 3), beta=0.5, alpha=0.25),
        lambda x: torch.baddbmm(torch.ones(3, 1, 5).to(x), x.expand(3, -1, -1), SIGNS.to(x)).sum(0),
        lambda x: F.scaled_dot_product_attention(*3 * [torch.sign(x + 0.01).view(-1, 3, 4)]),
        lambda x: F.scaled_dot_product_attention(*3 * [x.view(-1, 3, 4)], is_causal=True),
        lambda x: torch.addmm(torch.ones(5).to(x), x, torch.linspace(-1, 1, 60).to(x).view(12, 5), beta=2, alpha=0.5),
        lambda x: torch.lerp(x[:, :6], x[:, 6:], 0.3),
        lambda x: torch.lerp(x[:, :6], x[:, 6:], torch.sigmoid(x[:, 3:9])),
        lambda x: torch.addcmul(x[:, :4], x[:, 4:8], x[:, 8:], value=0.5),
        lambda x: torch.addcdiv(x[:, :4], x[:, 4:8], 1 + x[:, 8:].abs(), value=0.5),
        lambda x: torch.clamp(x[:, :6], min=x[:, 6:] - 1, max=x[:, 6:] + 1),
        lambda x: torch.clamp(x[:, :6], max=x[:, 6:]),
        lambda x: torch.hypot(x[:, :6], x[:, 6:]),
        lambda x: torch.logaddexp(x[:, :6], x[:, 6:]),
        lambda x: (lambda s, m: (x - m) / (s + 0.1))(*torch.std_mean(x, 1, keepdim=True)),
        lambda x: (lambda v, m: (x - m) * torch.rsqrt(v + 0.1))(*torch.var_mean(x, 1, correction=0, keepdim=True)),
        lambda x: (lambda a, b: (x - a) / ((b - a).square() + 1))(*torch.aminmax(x, dim=1, keepdim=True)),
        lambda x: (x > 0).view(-1, 3, 4).count_nonzero(2).to(x.dtype),
        lambda x: ((x > 0).view(-1, 3, 4).any(1) | (x > -1).view(-1, 3, 4).all(1, keepdim=True)[:, 0]).to(x.dtype),
        lambda x: torch.nan_to_num(x.view(-1, 3, 4)).nansum(2),
        lambda x: torch.rsub(x[:, :6], x[:, 6:], alpha=2),
        lambda x: torch.fmax(x[:, :6], x[:, 6:]) + torch.fmin(x[:, :6], x[:, 6:]),
        lambda x: torch.copysign(x[:, :6], x[:, 6:]) + torch.xlogy(x[:, :6], 1 + x[:, 6:].abs()),
        lambda x: ((4 * x).round().to(torch.int32) // 3 + (4 * x).round().to(torch.int32) % 3).to(x.dtype),
        lambda x: torch.einsum("bgk,gkd->bgd", x.view(-1, 3, 4), torch.linspace(-1, 1, 24).to(x).view(3, 4, 2)),
        lambda x: torch.einsum("gdk,bgk->bgd", torch.linspace(-1, 1, 24).to(x).view(3, 2, 4), x.view(-1, 3, 4)),
        lambda x: x[:, :6].masked_fill(x[:, 6:] < 0, -2.0),
        lambda x: torch.softmax(x[:, :6].masked_fill(x[:, 6:] < x[:, 6:].amax(1, keepdim=True), -torch.inf), 1),
        lambda x: torch.softmax(torch.where(x[:, :6] < x[:, 6:], x[:, :6], -1e9), 1),
        nn.RReLU(),
        nn.RMSNorm(12),
    ],
)
def test_a_row_of_values(function: Any) -> None:
    converts(function, VECTOR)


@pytest.mark.parametrize("layer", [nn.LocalResponseNorm(3), nn.LocalResponseNorm(4, 0.1, 0.75, 1.0), nn.LPPool2d(2, 2)])
def test_maps(layer: nn.Module) -> None:
    converts(layer, MAP)


def test_minus_infinity_is_known_before_a_softmax() -> None:
    with pytest.raises(ConversionError, match="minus infinity in the place of values, which only a softmax may follow"):
        converts(lambda x: 1 / x[:, :6].masked_fill(x[:, 6:] < 0, -torch.inf), VECTOR)


def test_tables_at_numbers_that_are_sums() -> None:
    """Numbers of rows are whole where they are sums of several layers, too."""
    torch.manual_seed(1)
    bits = torch.tensor([2, 2, 4, 8, 16, 32, 64, 128])
    table, line = torch.randn(257, 3), torch.randn(257)

    def looked_up(x: torch.Tensor) -> torch.Tensor:
        number = ((x[:, :8] > 0).long() * bits).sum(1) + (x[:, 8] > x[:, 9]).long() - 1
        number = number.clamp_min(0)
        return torch.cat([table.to(x)[number], line.to(x)[number].unsqueeze(1), F.embedding(number, table.to(x))], 1)

    converts(looked_up, VECTOR)


def test_parts_that_are_written() -> None:
    def written(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, :, 2:4, ::2] = 0.5
        x[:, 0] *= 2
        x[:, 1:3].add_(1)
        x[:, 3, 1] = x[:, 4, 2]
        x[:, 4].zero_()
        return x

    converts(written, MAP)


def test_an_operation_in_a_form_that_is_not_known_is_named() -> None:
    with pytest.raises(ConversionError, match="is not supported as it is used here"):
        converts(lambda x: x - x.median(), VECTOR)


@pytest.mark.parametrize(
    "planes",
    [
        lambda x: (x.to(torch.uint8) >> torch.arange(8, dtype=torch.uint8).view(8, 1, 1)) & 1,
        lambda x: torch.cat([x.long() // 2**k % 2 for k in range(8)], 1),
        lambda x: torch.cat([(x.int() & 2**k).ne(0) for k in range(8)], 1),
    ],
)
def test_planes_of_the_bits_of_pixels(planes: Any) -> None:
    """As binarized networks take their inputs that have no real first layer."""
    torch.manual_seed(0)
    kernels = torch.randn(6, 8, 3, 3).sign()
    first = Call(lambda x: F.conv2d(2 * planes(x).to(x.dtype) - 1, kernels.to(x.dtype)))
    model = nn.Sequential(first, nn.BatchNorm2d(6), Sign(), nn.Flatten(), nn.Linear(96, 3))
    levels = torch.randint(0, 256, (60, 1, 6, 6))
    model(levels.float())  # statistics
    net = lava_meta.convert(model.eval(), raw=True, input_shape=(1, 6, 6))
    with torch.no_grad():
        theirs = copy.deepcopy(model).double()(levels.double()).numpy()
    np.testing.assert_allclose(net.logits(levels.numpy()), theirs, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (((4 * x).round().long().unsqueeze(-1) >> torch.arange(3)) & 1).to(x.dtype),
        lambda x: (((4 * x).round().long().flip(1)[:, None] & torch.tensor([[1], [2], [5]])) << 1).to(x.dtype),
        lambda x: ((x > 0).long() ^ torch.arange(12)).to(x.dtype),
    ],
)
def test_bits_of_integers(function: Any) -> None:
    converts(function, VECTOR)


def test_a_root_mean_square_without_a_smallest_number() -> None:
    """Squares of sums of signs have bounds that do not fall below 0, where a root of them would be none."""
    torch.manual_seed(0)
    front = nn.Sequential(nn.Linear(10, 24), nn.BatchNorm1d(24), Sign())
    layers = BinaryLinear(24, 24), nn.BatchNorm1d(24), nn.RMSNorm(24), Sign(), BinaryLinear(24, 24), nn.RMSNorm(24)
    equals_float64(around(*layers, shape=VECTOR, front=front), VECTOR)


@pytest.mark.parametrize(
    "quotient",
    [
        lambda h: h // 4,
        lambda h: torch.div(h, 7, rounding_mode="trunc"),
        lambda h: torch.div(h, 2.5, rounding_mode="floor"),
        lambda h: h.long() // 7,
        lambda h: h.long() >> 2,
    ],
)
def test_whole_quotients_of_wide_sums(quotient: Any) -> None:
    """Steps without end, of sums in thousands: a curve with as many pieces was followed to within 0.9."""
    torch.manual_seed(0)
    front = nn.Linear(10, 24, bias=False)
    front.weight.data.sign_()
    layer = Call(lambda x: quotient(x).to(x.dtype))
    model = nn.Sequential(front, layer, nn.Linear(24, 4)).eval()
    net = lava_meta.convert(model, input_shape=VECTOR, raw=True)
    images = np.random.default_rng(0).integers(0, 256, (500, 10), dtype=np.uint8)
    with torch.no_grad():
        theirs = model.double()(torch.from_numpy(images).double()).numpy()
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(images)), theirs, atol=1e-5)
    assert not net.parity.unverified


class InEightBits(nn.Module):
    """Rounds its weights, or its sums, to floating point of 8 bits."""

    def __init__(self, *, sums: bool) -> None:
        super().__init__()
        self.weight, self.sums = nn.Parameter(torch.randn(8, 10)), sums

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sums:
            return F.linear(x, self.weight).to(torch.float8_e4m3fn).to(x.dtype)
        return F.linear(x, self.weight.to(torch.float8_e4m3fn).to(x.dtype))


def test_weights_of_eight_bits_are_the_rounded_ones() -> None:
    torch.manual_seed(0)
    model = InEightBits(sums=False)
    net = lava_meta.convert(around(model, Sign(), shape=VECTOR, front=nn.Identity()), input_shape=VECTOR, **FED)
    first = next(layer for name, layer in net.graph.named_layers() if name.endswith("linear"))
    weight, rounded = first.node.weight.values, model.weight.detach().to(torch.float8_e4m3fn).double().numpy()
    unit = rounded[:, :1] / weight[:, :1]  # of each row
    np.testing.assert_allclose(weight * unit, rounded, rtol=1e-12)


def test_sums_in_eight_bits_are_refused() -> None:
    model = around(InEightBits(sums=True), Sign(), shape=VECTOR, front=nn.Identity())
    with pytest.raises(ConversionError, match="rounds to floating point of 8 bits: write its levels"):
        lava_meta.convert(model, input_shape=VECTOR, **FED)


def test_a_model_of_no_layers() -> None:
    with pytest.raises(ConversionError, match="no layer with weights"):
        lava_meta.convert(nn.Sequential().eval(), input_shape=VECTOR, **FED)
