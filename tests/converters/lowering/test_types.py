"""Bits and integers of few bits compute as PyTorch does: bits add up to a bit, integers start again past their ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lava_meta.errors import ConversionError
from tests.support.values import converts

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


def test_bits_of_wider_integers_are_refused_by_name() -> None:
    with pytest.raises(ConversionError, match=r"bitwise_xor\) joins the bits of integers of several layers"):
        converts(lambda x: (x.int() ^ x.roll(1, 1).int()).to(x.dtype), norm=False)


def test_equal_numbers_among_values_of_many_integers() -> None:
    """Clamped, many real sums equal one number, which each unit reaches at another integer."""
    converts(lambda x: (x.clamp(-0.5, 0.25) == 0.25).to(x.dtype))
