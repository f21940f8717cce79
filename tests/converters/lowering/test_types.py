"""Bits and integers of few bits compute as PyTorch does: bits add up to a bit, integers start again past their ends."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from values import FED, VECTOR, around, converts, drawn, equals_float64, fed, front

import lava_meta
from lava_meta.errors import ConversionError
from lava_meta.nn import Sign

BITS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b,
    lambda a, b: a.clone().add_(b),
    lambda a, b: torch.stack([a, b]).sum(0, dtype=torch.bool),
    lambda a, b: torch.maximum(a, b),
    lambda a, b: torch.minimum(a, b),
    lambda a, b: a != b,
    lambda a, b: a == b,
    lambda a, b: a > b,
    lambda a, b: ~(a + b) ^ a,
]


@pytest.mark.parametrize("joined", BITS)
def test_bits_of_two_places_make_a_bit(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    converts(lambda x: joined(x > 2, x.roll(1, 1) > 2).to(x.dtype), norm=False)


INTEGERS: list[Callable[[Tensor, Tensor], Tensor]] = [  # of integers -20 to 20, that pass the ends of their types
    lambda a, b: a.to(torch.int8) * 9 + b.to(torch.int8) * 9,
    lambda a, b: a.to(torch.int8) * 9 - b.to(torch.int8) * 9,
    lambda a, b: a.to(torch.int8) * b.to(torch.int8),
    lambda a, b: (a + 20).to(torch.uint8) - (b + 20).to(torch.uint8),
    lambda a, b: torch.stack([a.to(torch.int8) * 9, b.to(torch.int8) * 9]).sum(0, dtype=torch.int8),
    lambda a, b: (a.to(torch.int8) * 9).clone().add_(b.to(torch.int8) * 9),
    lambda a, b: a.to(torch.int16) * 3000,
    lambda a, b: -(a.to(torch.int8) * 16),
    lambda a, b: (a * 30).int().to(torch.int8),
    lambda a, b: 100 - a.to(torch.int8) * 9,
    lambda a, b: a.to(torch.int8) @ torch.full((12, 12), 3, dtype=torch.int8),
]


@pytest.mark.parametrize("joined", INTEGERS)
def test_integers_start_again_past_the_ends_of_their_type(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    converts(lambda x: joined(x, x.roll(1, 1)).to(x.dtype), norm=False)


BITWISE: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.bitwise_xor,
    torch.bitwise_and,
    torch.bitwise_or,
    lambda a, b: a.to(torch.int8) ^ (b * 5).to(torch.int8),
    lambda a, b: (a + 20).to(torch.uint8) & (b * 3 + 60).to(torch.uint8),
    lambda a, b: (a * 700) ^ (b + 30),
    lambda a, b: torch.zeros_like(a).bitwise_xor_(a).bitwise_xor_(b).bitwise_or_(a.roll(1, 1)),
]


@pytest.mark.parametrize("joined", BITWISE)
def test_bits_of_integers_of_two_layers(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Negative ones have the bits of two's complement."""
    converts(lambda x: joined(x.int(), x.roll(1, 1).int()).to(x.dtype), norm=False)


class Hashed(nn.Module):
    """Tables at places that are the exclusive or of numbers, one for each bit that is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.table = torch.randint(0, 16, (2, 6)), nn.Parameter(torch.rand(3, 2, 16) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        bits = (x > 0).long().reshape(-1, 6)
        chosen = torch.einsum("hb,db->bdh", self.numbers, bits)
        place = torch.zeros_like(chosen[0])
        for each in chosen:
            place.bitwise_xor_(each)
        found = [self.table[:, part, place.reshape(-1, 2, 2)[:, part]].permute(1, 0, 2) for part in range(2)]
        return torch.where(torch.stack(found, 2) >= 0, 1.0, -1.0).to(x.dtype).amin(-1).flatten(1)


def test_hashes_of_bits() -> None:
    converts(Hashed())


def test_bits_of_wide_integers_are_refused_by_name() -> None:
    with pytest.raises(ConversionError, match=r"bitwise_xor\) joins the bits of integers of several layers"):
        converts(lambda x: ((x * 9000).int() ^ x.roll(1, 1).int()).to(x.dtype), norm=False)


MIXED: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    lambda x, slopes, table: torch.nn.functional.prelu(x, slopes),
    lambda x, slopes, table: torch.nn.functional.bilinear(x, x, table),
    lambda x, slopes, table: torch.inner(x, table[0]),
    lambda x, slopes, table: torch.tensordot(x, table, ([1], [1])).flatten(1),
]


class Mixed(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("slopes", torch.rand(12))
        self.register_buffer("table", torch.rand(3, 12, 12) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.slopes, self.table)


@pytest.mark.parametrize("mixed", MIXED)
def test_constants_that_stay_float32(mixed: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """PyTorch asks for one type before it tells of these operations; tensors that are no buffers have another."""
    torch.manual_seed(0)
    model = around(Mixed(mixed), shape=VECTOR, front=front(VECTOR))
    given = copy.deepcopy(model)
    for name in ("slopes", "table"):
        setattr(given[1], name, given[1]._buffers.pop(name))
    equals_float64(model, VECTOR, given)


def test_equal_numbers_among_values_of_many_integers() -> None:
    """Clamped, many real sums equal one number, which each unit reaches at another integer."""
    converts(lambda x: (x.clamp(-0.5, 0.25) == 0.25).to(x.dtype))


class Rounded(nn.Module):
    """Weights that the forward rounds to a coarser type; `plain` has them rounded already."""

    def __init__(self, coarse: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.coarse, self.first, self.last = coarse, nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, last = (layer.weight.to(self.coarse).to(x.dtype) for layer in (self.first, self.last))
        return nn.functional.linear(torch.sign(nn.functional.linear(x, first, self.first.bias)), last, self.last.bias)

    def plain(self) -> nn.Module:
        for layer in (self.first, self.last):
            layer.weight.data = layer.weight.data.to(self.coarse).float()
        return nn.Sequential(self.first, Sign(), self.last).double()


@pytest.mark.parametrize("coarse", [torch.float16, torch.bfloat16])
def test_weights_that_the_forward_rounds_to_half_precision(coarse: torch.dtype) -> None:
    model = Rounded(coarse).eval()
    net = lava_meta.convert(model, input_shape=(16,), **FED)
    levels = drawn((16,), 500, 3)
    with torch.no_grad():
        as_they_are = nn.Sequential(copy.deepcopy(model.first), Sign(), copy.deepcopy(model.last)).double()
        rounded, unrounded = model.plain()(fed(levels)).numpy(), as_they_are(fed(levels)).numpy()
    assert np.abs(rounded - unrounded).max() > 1e-4  # the rounding shows
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), rounded, atol=1e-9)
    np.testing.assert_array_equal(net.graph.predict(levels), rounded.argmax(axis=1))


def test_integers_that_are_divided() -> None:
    """PyTorch makes float32 of them, whatever else a model computes in: thirds are levels, and no values in between."""
    net = converts(lambda x: x.int() / 3, norm=False)
    assert net.parity is not None
    assert not net.parity.bounds
    converts(lambda x: torch.sigmoid((4 * x).long() * 0.5).to(x.dtype) + x)
