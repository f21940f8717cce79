"""What differences of values to the greatest or least of their rows are known to be: softmaxes written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from values import equals_float64

import lava_meta
from lava_meta.errors import ConversionError

FRONTS: dict[str, Callable[[Tensor, nn.Linear], Tensor]] = {  # rows that reach twenty below their greatest
    "sums of signs": lambda sign, middle: 10 * middle(sign).view(-1, 2, 8),
    "cumulated": lambda sign, middle: (3 * sign).cumsum(-1).view(-1, 2, 8),
}


class Rows(nn.Module):
    """A function of wide rows, between signs and a readout."""

    def __init__(self, function: Callable[[Tensor], Tensor], front: str = "sums of signs") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.rows = function, FRONTS[front]
        self.front, self.middle, self.readout = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        sign = torch.where(self.front(x) >= 0, 1.0, -1.0).to(x)
        classes: Tensor = self.readout(self.function(self.rows(sign, self.middle)).flatten(1))
        return classes


def _shares(powers: Tensor, dim: int = -1) -> Tensor:
    return powers / powers.sum(dim, keepdim=True)


def _below(x: Tensor, dim: int = -1) -> Tensor:
    return x - x.max(dim, keepdim=True).values


def _by_logarithm(x: Tensor) -> Tensor:
    greatest = x.max(-1)[0]
    total = greatest + torch.log(torch.exp(x - greatest.unsqueeze(-1)).sum(-1))
    return torch.exp(x - total.unsqueeze(-1))


def _attention(x: Tensor) -> Tensor:
    return _shares(_below(x @ x.transpose(1, 2) / 8**0.5).exp()) @ x


def _masked(x: Tensor, number: float) -> Tensor:
    return x + torch.zeros(2, 8).masked_fill(torch.arange(16).view(2, 8) % 3 == 0, number).to(x)


SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "temperature before": lambda x: _shares(_below(x / 2.5).exp()),
    "temperature of both": lambda x: _shares((x / 2.5 - x.amax(-1, True) / 2.5).exp()),
    "temperature behind": lambda x: _shares((_below(x) / 0.1).exp()),
    "powers of two": lambda x: _shares(2 ** _below(x)),
    "squares": lambda x: _shares((-(_below(x) ** 2) / 4).exp()),
    "least": lambda x: _shares((x.amin(-1, True) - x).exp()),
    "greatest before": lambda x: _shares((-(x.amax(-1, True) - x)).exp()),
    "over channels": lambda x: _shares(_below(x, 1).exp(), 1),
    "over maps": lambda x: _shares(_below(x.flatten(1)).exp()).view_as(x),
    "greatest of greatest": lambda x: _shares((x - x.amax(2, True).amax(1, True)).exp().flatten(1)),
    "image by image": lambda x: torch.stack([_shares(_below(row).exp()) for row in x.unbind(1)], 1),
    "mean": lambda x: _below(x).exp() / _below(x).exp().mean(-1, True),
    "reciprocal": lambda x: _below(x).exp() * _below(x).exp().sum(-1, True).reciprocal(),
    "normalized": lambda x: functional.normalize(_below(x).exp(), p=1, dim=-1),
    "with a small number": lambda x: _below(x).exp() / (_below(x).exp().sum(-1, True) + 1e-9),
    "clamped": lambda x: _below(x).exp() / _below(x).exp().sum(-1, True).clamp_min(1e-9),
    "by a logarithm": lambda x: functional.log_softmax(x, -1).exp(),
    "by logarithms": _by_logarithm,
    "by logsumexp": lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)),
    "differences to logsumexp": lambda x: _below(x) - _below(x).exp().sum(-1, True).log(),
    "masked by a number": lambda x: _shares(_below(_masked(x, -1e4)).exp()),
    "masked by infinity": lambda x: _shares(_below(_masked(x, -math.inf)).exp()),
    "masked by values": lambda x: _shares(_below(x.masked_fill(x.roll(1, -1) < x.mean(-1, True), -math.inf)).exp()),
    "masked by full rows": lambda x: _shares(
        _below(torch.where(x < x.mean(-1, True), torch.full_like(x, -math.inf), x)).exp()
    ),
    "attention": _attention,
}


@pytest.mark.parametrize("front", FRONTS)
def test_softmaxes_over_wide_rows(front: str) -> None:
    """The sum of powers is 1 at least, since one of them is that of 0: no bounds of its terms say so."""
    net = equals_float64(Rows(lambda x: _shares(_below(x).exp()), front).eval(), (10,))
    assert max(bound for _, bound in net.parity.bounds.values()) < 1e-6


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmaxes_by_hand(name: str) -> None:
    net = equals_float64(Rows(SOFTMAXES[name]).eval(), (10,))
    assert max(bound for _, bound in net.parity.bounds.values()) < 1e-4


OTHER_ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "of other rows": lambda x: x - x.amax(-1, True).flip(1),
    "of columns as of rows": lambda x: x[..., :2] - x[..., :2].amax(-1).unsqueeze(1),
    "of parts": lambda x: x - x[..., :3].amax(-1, True),
    "of windows that overlap": lambda x: x[..., :6] - x.unfold(-1, 3, 1).amax(-1),
    "scaled otherwise": lambda x: x - x.amax(-1, True) / 2,
    "scaled before": lambda x: x - (x / 2).amax(-1, True),
    "turned round": lambda x: x - (-x).amax(-1, True),
    "least for greatest": lambda x: x - x.amin(-1, True),
    "with what is added": lambda x: x - (x.amax(-1, True) - x.mean(-1, True).abs()),
    "with a constant": lambda x: x - (x.amax(-1, True) + torch.full_like(x[..., :1], -2.0)),
    "padded": lambda x: x - functional.pad(x, (0, 1), value=9.0)[..., 1:].amax(-1, True),
}


@pytest.mark.parametrize("name", OTHER_ENDS)
def test_differences_to_the_ends_of_other_rows_may_pass_zero(name: str) -> None:
    def function(x: Tensor) -> Tensor:
        found = OTHER_ENDS[name](x).flatten(1)
        return functional.pad(found, (0, 16 - found.shape[1]))

    equals_float64(Rows(function).eval(), (10,))


SUMS: dict[str, Callable[[Tensor], Tensor]] = {  # in some of which there is no 1
    "without one": lambda x: _below(x).exp()[..., 1:].sum(-1, True),
    "across rows": lambda x: _below(x).exp().sum(1, True),
    "of all": lambda x: _below(x).exp().sum((1, 2), True),
    "of one twice": lambda x: torch.cat([_below(x).exp()] * 2, -1).sum(-1, True),
    "of different gains": lambda x: (_below(x).exp() * torch.arange(8).to(x)).sum(-1, True),
    "of what lies below": lambda x: _below(x).sum(-1, True),
    "of what is least": lambda x: (_below(x) ** 2 + 3).sum(-1, True),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_functions_of_such_differences(name: str) -> None:
    equals_float64(Rows(lambda x: SUMS[name](x).expand_as(x)).eval(), (10,))


def test_shares_of_rows_whose_greatest_lies_in_others_are_refused() -> None:
    model = Rows(lambda x: _shares((x - x.amax((1, 2), True)).exp()))
    with pytest.raises(ConversionError, match="gives NaN or infinity for values in its bounds"):
        lava_meta.convert(model.eval(), mean=0.5, std=0.25, input_shape=(10,))


@pytest.mark.parametrize("masked", [slice(1, 2), slice(0, 2)])
def test_rows_that_are_masked_throughout_are_refused(masked: slice) -> None:
    mask = torch.zeros(2, 8)
    mask[masked] = -math.inf
    with pytest.raises(ConversionError, match="masks all of a row"):
        lava_meta.convert(
            Rows(lambda x: _shares(_below(x + mask.to(x)).exp())).eval(), mean=0.5, std=0.25, input_shape=(10,)
        )


class Shares(nn.Module):
    """Shares of rows by powers of two and divisions that round down, as integers; or by powers of e, by hand."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.front, self.readout = how, nn.Linear(10, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.round(self.front(x) * 30).clamp(-100, 100).view(-1, 4, 4)
        below = rows.amax(-1).repeat_interleave(4).reshape(-1, 4, 4) - rows
        if self.how == "powers of e":
            halvings = torch.floor(below / 8 / 0.7)
            powers = (1 - (below / 8 - halvings * 0.7) / 2) / 2**halvings
            shares = powers / powers.sum(-1, keepdim=True)
        else:
            halvings = torch.floor(below / 25)
            each = torch.floor(64770 / torch.floor((256 / 2**halvings).sum(-1, keepdim=True)))
            shares = torch.floor(each / 2**halvings) / 256
        return self.readout(shares.flatten(1))


@pytest.mark.parametrize("how", ["powers of e", "powers of two"])
def test_what_lies_below_the_greatest_of_its_row(how: str) -> None:
    """Powers of it in both directions would pass all digits; quotients that are whole would be rounded down."""
    equals_float64(Shares(how).eval(), (10,))
