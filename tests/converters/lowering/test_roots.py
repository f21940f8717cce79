"""Roots at 0, where they are steeper than anywhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lava_meta

SHAPE = (1, 6, 6)
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "signs": lambda h: torch.sign(h),
    "spikes": lambda h: (h > 0).to(h.dtype),
    "levels": lambda h: torch.round(h.clamp(0, 1) * 3) / 3,
    "reals": F.relu,
}


class Generalized(nn.Module):
    """Generalized mean pooling: the p-th root of the mean of p-th powers, which are 1e-18 where nothing is active."""

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.power, self.last = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Parameter(torch.tensor(3.0)),
            nn.Linear(8, 4),
        )
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(self.front(x) - 0.8).clamp(min=1e-6).pow(self.power)
        found: Tensor = self.last(F.avg_pool2d(h, 6).pow(1 / self.power).flatten(1))
        return found


@pytest.mark.parametrize("features", FEATURES)
def test_generalized_means(features: str) -> None:
    model = Generalized(FEATURES[features]).eval()
    net = lava_meta.convert(model, mean=0.5, std=0.5, input_shape=SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (200, *SHAPE))
    images[:20] = 128  # nothing is active
    with torch.no_grad():
        own = model.double()((torch.from_numpy(images).double() / 255 - 0.5) / 0.5).numpy()
    # The third root of fixed point's least numbers is some 1e-6.
    np.testing.assert_allclose(net.graph.readout.values(net.graph.sums(images)), own, atol=1e-5)
