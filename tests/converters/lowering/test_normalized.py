"""Features divided by their length: where that is 0, the 1e-12 that is divided by leaves digits to all others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from values import Call, converts, equals_float64

import lava_meta

FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: F.relu(h - 4),
    "ternary": lambda h: torch.sign(h) * (h.abs() > 6),
    "0 and 1": lambda h: (h > 6).to(h.dtype),
    "sums": lambda h: h,
    "reals": lambda h: F.gelu(0.3 * h),
}
LENGTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "normalize": lambda h: F.normalize(h, dim=1),
    "rows": lambda h: F.normalize(h.reshape(-1, 4, 4), dim=2).flatten(1),
    "l1": lambda h: F.normalize(h, p=1.0, dim=1),
    "by hand": lambda h: h / h.pow(2).sum(1, keepdim=True).sqrt().clamp_min(1e-12),
    "mean": lambda h: h / (h * h).mean(1, keepdim=True).sqrt().add(1e-12),
    "turned": lambda h: F.normalize(h.reshape(-1, 4, 4).transpose(1, 2), dim=1).flatten(1),
    # Levels by the greatest of the image, as dynamic quantizers have them; 127.3, so that no value lies between two.
    "dynamic levels": lambda h: torch.round(h / (h.abs().amax(1, keepdim=True).clamp_min(1e-5) / 127.3)),
    "dynamic scale": lambda h: _dynamic(h, h.abs().amax(1, keepdim=True).clamp_min(1e-5) / 127.3),
    "mean size": lambda h: h / h.abs().mean(1, keepdim=True).add(1e-12),
    "greatest": lambda h: h / h.abs().amax(1, keepdim=True).clamp_min(1e-12),
    "deviation": lambda h: (h - h.mean(1, keepdim=True)) / _deviation(h),
    "shares": lambda h: h.abs() / (h.abs().sum(1, keepdim=True) + 1e-8),
    "squashed": lambda h: _squashed(h.reshape(-1, 4, 4)).flatten(1),
}


def _dynamic(h: Tensor, unit: Tensor) -> Tensor:
    return torch.round(h / unit) * unit


def _deviation(h: Tensor) -> Tensor:
    return (h - h.mean(1, keepdim=True)).abs().mean(1, keepdim=True) + 1e-12


def _squashed(v: Tensor) -> Tensor:
    """As capsules are (Sabour et al. 2017)."""
    return (
        (v * v).sum(2, keepdim=True)
        / (1 + (v * v).sum(2, keepdim=True))
        * v
        / ((v * v).sum(2, keepdim=True) + 1e-8).sqrt()
    )


class Cosines(nn.Module):
    def __init__(self, features: str, length: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.length = FEATURES[features], LENGTHS[length]
        self.front, self.body = nn.Linear(64, 32), nn.Linear(32, 16, bias=False)
        self.classes = nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.where(self.front(x.flatten(1)) >= 0, 1.0, -1.0).to(x.dtype)
        sums = F.linear(signs, torch.where(self.body.weight >= 0, 1.0, -1.0).to(x.dtype))
        return 10 * F.linear(self.length(self.features(sums)), F.normalize(self.classes, dim=1))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("features", FEATURES)
def test_cosines(features: str, length: str) -> None:
    model = Cosines(features, length).eval()
    net = lava_meta.convert(model, mean=0.5, std=0.5, input_shape=(1, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8)).astype(np.uint8)
    images[:20] = np.arange(20, dtype=np.uint8)[:, None, None, None] * 13
    with torch.no_grad():
        own = model.double()((torch.from_numpy(images).double() / 255 - 0.5) / 0.5).numpy()
    # Squares of real sums over these, which come near 0, keep fewer digits than lengths do.
    coarse = features == "reals" and length == "squashed"
    np.testing.assert_allclose(net.logits(images), own, rtol=0, atol=1e-4 if coarse else 1e-6)
    assert len(np.unique(own.argmax(axis=1))) > 3
    # Where all are equal, float64 leaves their differences from the mean as noise, which the deviation divides.
    assert coarse or length == "deviation" or not net.parity.unverified


class Sized(nn.Module):
    """Sizes divided by their mean, with nothing added, once and with the levels of a dynamic quantizer behind it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.last = nn.Linear(64, 16), nn.Linear(16, 5)
        with torch.no_grad():
            self.front.weight.mul_(scale)
            self.front.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.front(x.flatten(1)))
        parts = h / h.amax(1, keepdim=True), h / h.mean(1, keepdim=True)
        found: Tensor = self.last(parts[0] + parts[1])
        return found


ROOTS: dict[str, Callable[[Tensor], Tensor]] = {
    "root": lambda h: h * torch.rsqrt((h * h).mean(1, keepdim=True)),
    "reciprocal": lambda h: h * h.abs().mean(1, keepdim=True).reciprocal(),
    "power": lambda h: h * (h * h).sum(1, keepdim=True) ** -0.5,
    "deviation": lambda h: (h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True),
}


@pytest.mark.parametrize("root", ROOTS)
def test_products_with_what_is_infinite_at_0_alone(root: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), Call(ROOTS[root]), nn.Linear(12, 5)).eval()
    equals_float64(model, (1, 8, 8))


@pytest.mark.parametrize(("scale", "close"), [(1.0, 1e-6), (1e-4, 1e-5), (1e-7, 1e-3)])
def test_what_is_divided_by_no_more_than_its_own_sizes(scale: float, close: float) -> None:
    """Sums of any size keep their digits: those of small ones have fewer themselves."""
    model = Sized(scale).eval()
    net = lava_meta.convert(model, mean=0.5, std=0.5, input_shape=(1, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8))
    with torch.no_grad():
        own = model.double()((torch.from_numpy(images).double() / 255 - 0.5) / 0.5).numpy()
    found = net.graph.readout.values(net.graph.sums(images))
    np.testing.assert_allclose(found, own, rtol=0, atol=close)
    assert len(np.unique(own.argmax(axis=1))) > 1


def _levels(x: Tensor, size: Tensor) -> Tensor:
    """Levels by a size that each row has, with an estimator of gradients that is weighted by 1."""
    scaled = x * (8 / (1.0003 * size.clamp_min(1e-5)))
    return (1.0 * (scaled.round().clamp(-8, 7) - scaled).detach() + scaled) * (size.clamp_min(1e-5) / 8)


class Dynamic(nn.Module):
    """Layers as of BitNet: rows divided by the mean of their sizes, levels of each row, and signs as weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.front, self.last = nn.Linear(36, 12), nn.Linear(16, 5)
        self.middle = nn.Parameter(torch.randn(16, 12))

    def levels(self, x: Tensor) -> Tensor:
        x = x / x.abs().mean(1, keepdim=True)
        return _levels(x, x.abs().amax(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.front(self.levels(x.flatten(1))))
        x = torch.relu(F.linear(self.levels(x), self.middle.sign()) * 0.1)
        found: Tensor = self.last(self.levels(x))
        return found


class Median(nn.Module):
    """Levels by the median of sizes, which others may exceed by far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.front, self.norm, self.last = nn.Linear(36, 15), nn.LayerNorm(15), nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.front(x.flatten(1)))
        found: Tensor = self.last(_levels(x, x.abs().median(1, keepdim=True).values))
        return found


@pytest.mark.parametrize("kind", [Dynamic, Median])
def test_levels_of_each_row(kind: type[nn.Module]) -> None:
    model = kind().eval()
    net = lava_meta.convert(model, mean=0.45, std=0.25, input_shape=(1, 6, 6))
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 6, 6))
    with torch.no_grad():
        own = model.double()((torch.from_numpy(images).double() / 255 - 0.45) / 0.25).numpy()
    found = net.graph.readout.values(net.graph.sums(images))
    assert len(np.unique(own.argmax(axis=1))) > 2
    far = np.abs(found - own).max(axis=1) > 1e-5
    assert far.mean() <= 0.01  # a level that float64 rounds to the other side is one of sixteen


def test_a_constant_of_attention_over_equal_signs_on_a_slope() -> None:
    """Twelfths, which fixed point does not hold, are one level, and what is made of them moves with their rounding."""

    def attended(x: Tensor) -> Tensor:
        signs = torch.sign(x + 99)[:, None]
        shares = torch.softmax(signs.transpose(1, 2) @ signs, -1)
        return 1e4 * shares[:, 0] ** 2 + x

    net = converts(attended)
    assert net.parity is not None
    assert not sum(net.parity.ties.values())
