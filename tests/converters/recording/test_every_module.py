"""Modules in lists, tuples and dictionaries, which PyTorch's `double()`, `eval()` and `parameters()` do not reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from values import FED, drawn, equals_double, fed

import lava_meta
from lava_meta.converters.recording.every_module import every_module
from lava_meta.errors import ConversionError


class Block(nn.Module):
    """A convolution that keeps the signs of its weights as its weights, a PReLU and a shortcut."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.conv, self.bend = nn.Conv2d(4, 4, 3, padding="same"), nn.PReLU()
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data = torch.where(self.conv.weight >= 0, 1.0, -1.0)
        found: Tensor = self.bend(self.norm(self.conv(torch.sign(x)))) + x
        return found


class Hidden(nn.Module):
    """Blocks that are listed, or not."""

    def __init__(self, held: Any, *, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 4, 3), nn.Linear(64, 5)
        self.blocks = held([Block(norm=norm), Block(norm=norm)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks.values() if isinstance(self.blocks, dict) else self.blocks:
            x = block[0](x) if isinstance(block, tuple) else block(x)
        found: Tensor = self.last(x.flatten(1))
        return found


HELD = {
    "list": list,
    "tuple": tuple,
    "dictionary": lambda blocks: {"first": blocks[0], "then": blocks[1]},
    "tuples in a list": lambda blocks: [(blocks[0], 1), (blocks[1], 2)],
}


@pytest.mark.parametrize("held", HELD)
def test_modules_that_are_not_listed_convert_and_stay_as_they_were(held: str) -> None:
    model = Hidden(HELD[held]).eval()
    before = [own.weight.clone() for own in every_module(model).values() if isinstance(own, nn.Conv2d)]
    assert len(before) == 3
    net = lava_meta.convert(model, input_shape=(2, 6, 6), **FED)
    after = [own.weight for own in every_module(model).values() if isinstance(own, nn.Conv2d)]
    assert all(map(torch.equal, before, after))
    assert all(own.dtype == torch.float32 for own in after)
    levels = drawn((2, 6, 6), 100, 3)
    listed = Hidden(nn.ModuleList).double()
    with torch.no_grad():
        for block in listed.blocks:
            block.conv.weight.copy_(torch.where(block.conv.weight >= 0, 1.0, -1.0))
            block.forward = lambda x, own=block: own.bend(own.conv(torch.sign(x))) + x
        theirs = listed(fed(levels)).numpy()
    assert len(np.unique(theirs.argmax(1))) > 2
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-6)


def test_norms_in_a_list_that_eval_does_not_reach_are_refused_by_their_place() -> None:
    model = Hidden(list, norm=True)
    with torch.no_grad():
        model(fed(drawn((2, 6, 6), 50, 1)).float())
    with pytest.raises(ConversionError, match=r"blocks\[0\].norm \(BatchNorm2d\).*an nn.ModuleList"):
        lava_meta.convert(model.eval(), input_shape=(2, 6, 6), **FED)
    for block in model.blocks:
        block.eval()
    net = lava_meta.convert(model, input_shape=(2, 6, 6), **FED)
    levels = drawn((2, 6, 6), 60, 3)
    with torch.no_grad():
        theirs = model(fed(levels).float()).numpy()
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(levels)), theirs, atol=1e-4)


def test_places_of_modules() -> None:
    """Each once, wherever it was found first; a ring of them ends."""
    model = nn.Sequential(nn.Linear(2, 2))
    inner = nn.Sequential(nn.ReLU())
    inner.parents = [model]
    model.own = {"inner": [inner]}
    model.images = list(range(20_000))
    assert list(every_module(model)) == ["", "0", "own['inner'][0]", "own['inner'][0].0"]


class Made(nn.Module):
    """Weights that were made of parameters when the module was, in lists and dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(72, 8), nn.Linear(8, 5)
        self.made = [{"signs": torch.sign(nn.Parameter(torch.randn(8, 8)))}]

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.sign(self.first(x.flatten(1)))
        found: Tensor = self.last(signs @ self.made[0]["signs"].to(x.dtype))
        return found


def test_weights_in_lists_that_copy_refuses() -> None:
    equals_double(Made().eval(), (2, 6, 6), 3)
