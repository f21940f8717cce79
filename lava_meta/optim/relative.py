"""A metaplasticity that follows the hidden weights: `m` counts in medians of |h| of the layer.

    f(h) = sech(m * h / median)**2,    median: of |h| over the layer, before each step

With a fixed m the gates close as |h| grows, and the longer a training, the fewer weights can be moved. Here they depend
on a weight's place among those of its layer: whatever the rate and the number of steps, half of a layer's weights have
gates above sech(m)**2.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lava_meta.rule import Tanh2

_SAMPLE = 4096  # weights, at equal distances: the median is within 2 percentiles, at the cost of a small torch call
_SMALLEST = 1e-12  # of medians: weights that are all 0 have gates of 1 anyway


def relative_tanh2(m: float, hidden: Tensor) -> Tanh2:
    """The gate of shrinking steps with `m` in 1/(median of |h|). hidden: the layer's weights, of any shape."""
    weights = hidden.detach().reshape(-1)
    median = weights[_places(len(weights)).to(weights.device)].abs().median().item()
    return Tanh2(m / max(median, _SMALLEST))


@cache
def _places(weights: int) -> Tensor:
    return torch.linspace(0, weights - 1, min(weights, _SAMPLE), dtype=torch.float64).long()
