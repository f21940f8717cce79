"""The self-check tells a wrong network from a right one, however deep the real values between its layers are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lava_meta
from lava_meta.converters.lowering.acyclic import Read, to_acyclic
from lava_meta.converters.parity.acyclic import check_acyclic
from lava_meta.converters.parity.chain import Parity
from lava_meta.errors import ConversionError
from lava_meta.graph.nodes import Conv, Curve, Node, Threshold, WideWeight
from lava_meta.nn import BinaryConv2d, Sign

GIVEN = {"mean": 0.5, "std": 0.25, "input_shape": (3, 6, 6)}


class Block(nn.Module):
    """A binary convolution and a real one, each with a norm and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.binary = nn.Sequential(
            Sign(), BinaryConv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.PReLU(channels)
        )
        self.real = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.binary(x) + x
        found: torch.Tensor = self.real(x) + x
        return found


def deep(blocks: int, channels: int = 6) -> nn.Module:
    """A network whose interval bounds grow with every block."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)),
        *(Block(channels) for _ in range(blocks)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)),
    )
    for _ in range(8):
        model(4 * torch.rand(16, 3, 6, 6) - 2)  # statistics
    return model.eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return deep(12)


@pytest.fixture(scope="module")
def read(model: nn.Module) -> Read:
    return to_acyclic(model, **GIVEN)


def wrong(node: Node) -> Node:
    """The same with weights, slopes or limits that are off by a hundredth or less."""
    if isinstance(node, Conv):
        values = node.weight.values
        return replace(node, weight=WideWeight(values - values // 512))
    if isinstance(node, Curve):
        return replace(node, slope=node.slope * 1.001)
    assert isinstance(node, Threshold)
    return replace(node, limits=node.limits + 2**34)  # of 2**40 to one


def test_a_deep_real_network_is_verified(model: nn.Module, read: Read) -> None:
    parity = check_acyclic(model, read)
    assert parity.exact
    assert not any(parity.ties.values())
    assert not parity.unverified
    assert max(bound for _, bound in parity.bounds.values()) < 1e-5
    assert "within their bounds" in str(parity)


@pytest.mark.parametrize("kind", [Conv, Curve, Threshold])
@pytest.mark.parametrize("place", [6, -1])
def test_a_wrong_node_is_a_mismatch(model: nn.Module, read: Read, kind: type[Node], place: int) -> None:
    graph = read.lowered.graph
    ends = {Conv: ".real.0.conv", Curve: ".curve2", Threshold: ".threshold"}  # of names
    names = [name for name, node in graph.nodes.items() if isinstance(node, kind) and name.endswith(ends[kind])]
    name = names[place]
    changed = replace(graph, nodes=graph.nodes | {name: wrong(graph.nodes[name])})
    parity = check_acyclic(model, replace(read, lowered=replace(read.lowered, graph=changed)))
    found = [other for other, count in parity.mismatches.items() if count]
    assert found, (name, parity)
    assert found[0].split(".")[0] == name.split(".")[0]  # its own block is the first


class Standardised(nn.Module):
    """Rows without their means, divided by their deviations; the deviation takes the mean off again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(2, keepdim=True)
        return x / (x.std(2, keepdim=True) + 1e-4)


class OfLengthOne(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize("norm", [Standardised(), OfLengthOne()])
def test_divisors_that_are_almost_0_for_no_image_leave_nothing_open(norm: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 8), nn.ReLU(), norm, nn.Flatten(), nn.Linear(24, 4))
    net = lava_meta.convert(model.eval(), mean=0.5, std=0.25, input_shape=(3, 6))
    assert net.parity.exact
    assert all(share < 0.1 for share in net.parity.unverified.values())


class CurvesOfSteps(nn.Module):
    """Gates of a sum that is rounded to 6 binary digits behind the point."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = x + self.second(torch.relu(x))
        x = x + (torch.round(x * 64) / 64 - x).detach()
        found: torch.Tensor = self.last(torch.tanh(x) * torch.sigmoid(x))
        return found


def test_curves_of_levels_are_followed_from_level_to_level() -> None:
    torch.manual_seed(0)
    model = CurvesOfSteps().eval()
    net = lava_meta.convert(model, mean=0.5, std=0.25, input_shape=(6,))
    assert net.parity.exact
    assert not net.parity.unverified
    levels = np.random.default_rng(0).integers(0, 256, (200, 6))
    with torch.no_grad():
        expected = model.double()((torch.from_numpy(levels).double() / 255 - 0.5) / 0.25).numpy()
    assert (np.abs(net.logits(levels) - expected).max(axis=1) < 1e-9).sum() >= 199  # one may tie


class Waves(nn.Module):
    """A sine of a stream whose bounds are thousands of its periods wide, though no image comes near them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(2))
        self.norm, self.last = nn.BatchNorm1d(64), nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        x = torch.nn.functional.prelu(self.norm(x), self.norm.bias)
        values: torch.Tensor = self.last(torch.sin(1e4 * x))
        return values


def test_values_that_bounds_allow_but_are_off_are_mismatches() -> None:
    """A bound wider than the values themselves once passed whatever a network gave."""
    torch.manual_seed(0)
    model = Waves()
    with torch.no_grad():
        nn.init.normal_(model.norm.bias)
        for _ in range(3):
            model(torch.rand(16, 64))
    net = lava_meta.convert(model.eval(), mean=0, std=1, input_shape=(64,), strict=False)
    assert net.parity is not None
    levels = np.random.default_rng(0).integers(0, 256, (50, 64))
    with torch.no_grad():
        theirs = model.double()(torch.from_numpy(levels).double() / 255).numpy()
    assert np.abs(net.logits(levels) - theirs).max() > 0.1 * theirs.std()  # it is off
    assert net.parity.mismatches["readout"]
    with pytest.raises(ConversionError, match="bounds as wide as their spread"):
        lava_meta.convert(model.float(), mean=0, std=1, input_shape=(64,))


class Winner(nn.Module):
    """Which of some values is the greatest, and its features."""

    def __init__(self, *, least: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.least, self.first, self.last = least, nn.Linear(6, 12), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.first(x).view(-1, 3, 4)
        first = rows.sum(2).topk(1, dim=1, largest=not self.least).indices
        values: torch.Tensor = self.last(rows.gather(1, first.unsqueeze(2).expand(-1, -1, 4)).squeeze(1))
        return values


def test_places_are_ties_where_values_are_equal_alone() -> None:
    given = {"mean": 0.5, "std": 0.25, "input_shape": (6,)}
    assert check_acyclic(Winner().eval(), to_acyclic(Winner().eval(), **given)).exact
    other = to_acyclic(Winner(least=True).eval(), **given)
    beside = replace(to_acyclic(Winner().eval(), **given), lowered=other.lowered)
    parity = check_acyclic(Winner().eval(), beside)  # the least is no tie with the greatest
    assert sum(parity.mismatches.values()) > 50


def test_what_cannot_be_told_is_said() -> None:
    """Digits that the model itself loses leave nothing to compare."""

    class Lossy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lossy = self.first(x) + 1e14 - 1e14
            scores: torch.Tensor = self.last(lossy + self.second(x))
            return scores

    torch.manual_seed(0)
    parity = lava_meta.convert(Lossy().eval(), mean=0.5, std=0.25, input_shape=(6,), strict=False).parity
    assert parity is not None
    assert parity.unverified
    name, share = next(iter(parity.unverified.items()))
    assert share > 0.01
    assert f"{name} (" in str(parity)
    assert "unverified" in str(parity)
    assert Parity.from_dict(parity.to_dict()) == parity
