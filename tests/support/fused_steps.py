"""The clear optimizers beside the fused ones: what fused steps are tested with, on the CPU and on a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lava_meta.nn import mark_binary
from lava_meta.rule import Constant, Exponential, Linear, Quadratic, Table, Tanh2, Towards

FUNCTIONS = [
    Constant(),
    Tanh2(4.0),
    Exponential(3.0),
    Linear(0.5),
    Quadratic(0.5),
    Towards(0.5, 0.3),
    Towards(0.5, 0.01, 2.0),
    Table([0, 0.2, 1], [1, 0.3, 0.1]),
]


def both(make: Any, options: dict[str, Any], h: torch.Tensor, steps: int, seed: int) -> list[torch.Tensor]:
    """The weights after equal gradients, clear and fused."""
    generator = torch.Generator().manual_seed(seed)
    grads = [torch.randn(h.shape, generator=generator) for _ in range(steps)]
    found = []
    for fused in (False, True):
        parameter = mark_binary(nn.Parameter(h.clone()))
        optimizer = make([parameter], fused=fused, **options)
        for gradient in grads:
            parameter.grad = gradient.clone()
            optimizer.step()
        found.append(parameter.detach())
    return found
