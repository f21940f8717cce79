"""Casts to half precision are part of a network, exactly; what is computed in it is named by file and line."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from values import FED, VECTOR, Call, around, drawn, fed, front

import lava_meta
from lava_meta.converters.functions.halves import halves
from lava_meta.converters.recording.half import rounded_to
from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import Curve
from lava_meta.nn import BinaryLinear, Sign

Function = Callable[[Tensor, torch.dtype], Tensor]
TYPES = [torch.float16, torch.bfloat16]
WEIGHT = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(function: Function, half: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return around(Call(lambda x: function(x, half)), shape=VECTOR, front=front(VECTOR))


def held_to_pytorch(model: nn.Module, unlike: nn.Module, shape: tuple[int, ...] = VECTOR) -> lava_meta.LavaNetwork:
    """Values and classes are those of the model in float64, which are not those without the casts."""
    net = lava_meta.convert(model, input_shape=shape, **FED)
    assert net.parity is not None
    assert net.parity.exact
    levels = drawn(shape, 200, 2)
    with torch.no_grad():
        theirs, others = (each.double()(fed(levels)).numpy() for each in (model, unlike))
    assert np.abs(theirs - others).max() > 1e-5
    ours = net.graph.readout.values(net.graph.sums(levels))
    # PyTorch rounds to float32 before, and so takes one value of some thousands to the other side.
    same = np.abs(ours - theirs).max(axis=1) <= 1e-9
    assert same.sum() >= 198
    np.testing.assert_array_equal(net.graph.predict(levels)[same], theirs.argmax(axis=1)[same])
    return net


CASTS: dict[str, Function] = {
    "of levels": lambda x, half: (torch.round(x) / 3).to(half).to(x.dtype),
    "of sums": lambda x, half: x.to(half).to(x.dtype),
    "of streams": lambda x, half: (x.cumsum(1) * x.flip(1)).to(half).to(x.dtype),
    "inside a function": lambda x, half: torch.tanh((x @ WEIGHT.to(x.dtype)).to(half).to(x.dtype) + 1),
    "into levels": lambda x, half: torch.round(64 * (x @ WEIGHT.to(x.dtype)).to(half).to(x.dtype)) / 64,
    "of what is moved": lambda x, half: (x.cumsum(1).flip(1)[:, :6] * x[:, 6:]).to(half).to(x.dtype).repeat(1, 2),
    "twice": lambda x, half: (x.cumsum(1).to(half).to(x.dtype) * 3).to(half).to(x.dtype),
}


@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("cast", CASTS)
def test_casts_round(cast: str, half: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held_to_pytorch(network(CASTS[cast], half), network(CASTS[cast], torch.float64))


@pytest.mark.parametrize("half", TYPES)
def test_images_that_are_rounded(half: torch.dtype) -> None:
    """A chain of binary layers but for that: its first sums are none of the levels any more."""

    def chain(half: torch.dtype) -> nn.Module:
        torch.manual_seed(1)
        layers = BinaryLinear(10, 32), nn.BatchNorm1d(32), Sign(), BinaryLinear(32, 4), nn.BatchNorm1d(4)
        model = nn.Sequential(Call(lambda x: x.to(half).to(x.dtype)), *layers)
        model(fed(drawn(VECTOR, 99, 3)).float())
        return model.eval()

    levels = drawn(VECTOR, 20_000, 2)
    net = lava_meta.convert(chain(half), input_shape=VECTOR, **FED)
    with torch.no_grad():
        theirs, others = (chain(each).double()(fed(levels)).numpy().argmax(axis=1) for each in (half, torch.float64))
    assert (theirs != others).any()
    np.testing.assert_array_equal(net.graph.predict(levels), theirs)


def test_casts_that_change_nothing_add_nothing() -> None:
    plain, cast = (lambda x, half: torch.sign(x + 0.1)), (lambda x, half: torch.sign(x + 0.1).to(half).to(x.dtype))
    nets = [lava_meta.convert(network(each, torch.float16), input_shape=VECTOR, **FED) for each in (plain, cast)]
    assert len(nets[0].graph.nodes) == len(nets[1].graph.nodes)


def test_casts_of_a_model_that_is_in_half_are_none() -> None:
    """Its values are of that type where it casts them."""
    model = network(CASTS["of sums"], torch.bfloat16).bfloat16()
    net = lava_meta.convert(model, input_shape=VECTOR, **FED)
    levels = drawn(VECTOR, 99, 2)
    with torch.no_grad():
        plain = model.double()[:1](fed(levels))
        theirs = model[2:](plain).numpy()
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-9)


def test_values_past_the_greatest_of_the_type() -> None:
    with pytest.raises(ConversionError, match=r"test_half.py:\d+.*NaN or infinity|past the greatest"):
        lava_meta.convert(network(lambda x, half: (1e5 * x.cumsum(1)).half().to(x.dtype), torch.half), **FED)


def _autocast(x: Tensor, half: torch.dtype) -> Tensor:
    with torch.autocast("cpu", half):
        return functional.linear(x, WEIGHT.to(x.dtype)).to(x.dtype)


class _Mixed(nn.Module):
    """A layer that is stored in half precision, and computes in it."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self.layer, self.half_type = nn.Linear(12, 12).to(half), half

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.to(self.layer.weight.dtype)).to(x.dtype)


COMPUTES: dict[str, Function | type[nn.Module]] = {
    "autocast": _autocast,
    "arithmetic": lambda x, half: (x.to(half) * 3 + 1).to(x.dtype),
    "layers": _Mixed,
    "sums": lambda x, half: x + x.sum(1, keepdim=True, dtype=half).to(x.dtype),
    "types of others": lambda x, half: x.type_as(torch.zeros((), dtype=half)).to(x.dtype),
    "memory": lambda x, half: torch.empty(x.shape, dtype=half).copy_(x).to(x.dtype),
}


@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("computes", COMPUTES)
def test_what_is_computed_in_half_is_named(computes: str, half: torch.dtype) -> None:
    made = COMPUTES[computes]
    torch.manual_seed(0)
    layer = made(half) if isinstance(made, type) else Call(lambda x: made(x, half))
    model = around(layer, shape=VECTOR, front=front(VECTOR))
    name = str(half).removeprefix("torch.")
    with pytest.warns(UserWarning, match=rf"test_half.py:\d+, in 1.* computes in {name}.* of 64 images another class"):
        lava_meta.convert(model, input_shape=VECTOR, **FED)


def test_signs_under_autocast_are_exact() -> None:
    """Their sums are whole numbers, which half precision holds."""

    class Inside(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.sign(super().forward(x))
            with torch.autocast("cpu", torch.bfloat16):
                found = functional.linear(x, torch.sign(WEIGHT).to(x.dtype))
            return found.to(x.dtype)

    torch.manual_seed(0)
    model = around(shape=VECTOR, front=Inside(front(VECTOR)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lava_meta.convert(model, input_shape=VECTOR, **FED)


@pytest.mark.parametrize("half", TYPES)
@pytest.mark.parametrize("digits", [6, 12, 26, 40])
def test_curves_that_round_as_pytorch_does(half: torch.dtype, digits: int) -> None:
    """Powers of two, numbers on both sides of them, and halfway between two, of both signs."""
    unit, rng = 2.0**-digits, np.random.default_rng(digits)
    largest = min(2**52, int(60_000 / unit))
    powers = 2 ** np.arange(largest.bit_length() - 1)
    near = powers[:, None] + np.arange(-5, 6)
    halfway = np.concatenate([powers // 2048 * (2048 + k) for k in range(-9, 10)])
    x = np.concatenate([near.reshape(-1), halfway, rng.integers(0, 2**20, 5000) * rng.choice(powers, 5000)])
    x = np.concatenate([x, -x])
    x = x[np.abs(x) <= largest]
    count, number = halves(half, unit, largest, 0)
    x = x[x == (x * unit).astype(np.float32).astype(np.float64) / unit]  # others PyTorch takes to float32 before
    assert len(x) > 1000
    exact = torch.from_numpy(x * unit).to(half).double().numpy()
    np.testing.assert_array_equal(rounded_to(torch.from_numpy(x * unit), half).numpy(), exact)
    found = Curve(("b",), *number)([Curve(("a",), *count)([x])])
    np.testing.assert_allclose(found * unit, exact, rtol=0, atol=unit / 2)
    coarse = np.abs(exact) * torch.finfo(half).eps >= 2 * unit
    np.testing.assert_array_equal(found[coarse] * unit, exact[coarse])
