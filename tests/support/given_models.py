"""A small network as users write it, for tests of what is done with a model as it was given."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lava_meta.converters.chain.folding import fold
from lava_meta.graph import BinaryGraph
from lava_meta.nn import BinaryLinear, Sign


def to_graph(model: nn.Module, **given: Any) -> BinaryGraph:
    """What a chain of binary layers becomes."""
    return fold(model, **given).graph


def network(*sign: nn.Module, behind: tuple[nn.Module, ...] = (), seed: int = 0) -> nn.Sequential:
    """784-64-10 on floats 0 to 1, with a batch norm that has seen images, in eval mode."""
    torch.manual_seed(seed)
    model = nn.Sequential(BinaryLinear(784, 64), nn.BatchNorm1d(64), *(sign or (Sign(),)), BinaryLinear(64, 10))
    model.extend(behind)
    model(torch.rand(99, 784))
    return model.eval()


def plain(seed: int = 0) -> nn.Sequential:
    """The same of PyTorch's own linear layers, whose weights a parametrization is to make binary."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), Sign(), nn.Linear(64, 10))
