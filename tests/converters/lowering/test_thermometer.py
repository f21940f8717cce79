"""Levels that lie on a threshold of the inputs, as of thermometer codes: the comparison goes as in the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lava_meta


class Thermometer(nn.Module):
    """Bits of how many thresholds, which are levels, the inputs (2, 3, 3) reach."""

    def __init__(self, feed: tuple[float, float], reached: Callable[[Tensor, Tensor], Tensor], *, moved: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        mean, std = feed
        self.register_buffer("thresholds", (torch.arange(1, 51, dtype=torch.float64) / 51 - mean) / std)
        self.reached, self.moved = reached, moved
        self.head = nn.Linear(100 if moved else 900, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.moved:
            x = F.max_pool2d(x.flip(1), 2)
        bits = self.reached(x.flatten(1)[:, :, None], self.thresholds.to(x.dtype))
        return self.head(bits.to(x.dtype).flatten(1))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("reached", [torch.gt, torch.ge, lambda x, t: torch.sign(x - t)])
@pytest.mark.parametrize("feed", [(0.0, 1.0), (0.5, 0.5), (0.1307, 0.3081), ([0.485, 0.456], [0.229, 0.224])])
def test_levels_on_a_threshold(
    feed: tuple[float | list[float], float | list[float]], reached: Callable[[Tensor, Tensor], Tensor], moved: bool
) -> None:
    first = tuple(np.ravel(part)[0] for part in feed)
    model = Thermometer(first, reached, moved=moved).eval()
    mean, std = (np.broadcast_to(np.ravel(part), 2).reshape(2, 1, 1) for part in feed)
    net = lava_meta.convert(model, mean=feed[0], std=feed[1], input_shape=(2, 3, 3))
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 3, 3), np.uint8)
    with torch.no_grad():
        own = model.double()(torch.from_numpy((levels / 255 - mean) / std)).numpy()
    np.testing.assert_allclose(net.logits(levels), own, rtol=0, atol=1e-9)
