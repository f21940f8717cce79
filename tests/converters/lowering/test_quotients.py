"""Quotients of two values of the images, rounded to whole numbers: many are whole, and no rounding may move them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from values import MAP, converts

ROUNDED: list[Callable[[Tensor, Tensor], Tensor]] = [  # of integers, the second at least 1
    lambda a, b: torch.floor(a / b),
    lambda a, b: torch.ceil(a / b),
    lambda a, b: torch.trunc(a / b),
    lambda a, b: torch.round(a / b),
    lambda a, b: torch.floor((0.25 * a) / (0.5 * b)),
    lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    lambda a, b: torch.div(a.int(), -b.int(), rounding_mode="floor"),
    lambda a, b: a.int() // b.int(),
    lambda a, b: a % -b,
    lambda a, b: torch.fmod(a, b),
    lambda a, b: a.int() % b.int(),
]


@pytest.mark.parametrize("rounded", ROUNDED)
def test_rounded_quotients_of_two_values(rounded: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = converts(lambda x: rounded(x, x.roll(1, 1).abs() + 1).to(x.dtype), norm=False)
    assert net.parity is not None
    assert not any(net.parity.ties.values())


def test_remainders_of_real_values() -> None:
    converts(lambda x: torch.remainder(x, x.roll(1, 1).abs() + 1.7))


@pytest.mark.parametrize(
    "scaled",
    [
        lambda x: (x - x.amin(1, True)) / (x.amax(1, True) - x.amin(1, True) + 1e-3),
        lambda x: (x - x.min(1, True)[0]) / (x.max(1, True)[0] - x.min(1, True)[0] + 1e-3),
        lambda x: (lambda ends: x / (ends.max - ends.min + 1e-3))(torch.aminmax(x, dim=1, keepdim=True)),
    ],
)
def test_rows_between_their_least_and_greatest(scaled: Callable[[Tensor], Tensor]) -> None:
    """The distance of the two is never negative, though both may be anything: what divides by it has bounds."""
    net = converts(scaled, norm=False)
    assert net.parity is not None
    assert not net.parity.unverified


def test_logarithms_of_sums_over_several_dimensions() -> None:
    converts(lambda x: x - x.logsumexp((1, 3), keepdim=True), MAP)
    converts(lambda x: x.logsumexp((-1, 2)), MAP)


def test_cross_products() -> None:
    converts(lambda x: torch.linalg.cross(x.view(-1, 4, 3), x.view(-1, 4, 3).roll(1, 1)))
    converts(lambda x: torch.cross(x.view(-1, 3, 4), torch.linspace(-1, 1, 12).to(x).view(1, 3, 4), dim=1))
